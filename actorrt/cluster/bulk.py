"""Bytes of objects between nodes, on connections and threads of their own: a transfer of 10 GB delays no heartbeat.

Theory of operation
-------------------
A bulk connection opens with the handshake of every other connection (``wire.handshake``, each message as a
length-prefixed frame, all of it within ``handshake_timeout_s``); the accepter ends it with an empty frame. From then on
the dialer asks and the accepter answers, in order::

    dialer   -> accepter   key length, offset, length; key          length 0 of the key: "I am done with that object"
    accepter -> dialer     DATA, length; so many bytes              straight from the store to the socket
                           WAITING, 0                               it is being read back from disk; once a second
                           REFUSED, length; text                    the connection ends

The dialer keeps a few requests ahead (its window), and receives straight into the memory of the object that is being
made: the only copies are the kernel's. Sockets block, with timeouts of the kernel, so one call moves a whole chunk
without the interpreter.

``bulk_server`` is the accepter's side, ``bulk_pull`` makes one object from the connections of several sources.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from actorrt.kernel.limits import CONNECT_ATTEMPT_TIMEOUT_S, HANDSHAKE_TIMEOUT_S, HELLO_BYTES_MAX
from actorrt.protocol import PROTOCOL_VERSION
from actorrt.wire.handshake import Handshake, Identity, Role

DATA: Final = 0
WAITING: Final = 1
REFUSED: Final = 2

KEY_BYTES_MAX: Final = 1024
"""As ``store.layout``, which would be a heavy import here."""
TEXT_BYTES_MAX: Final = 1000
"""Of a refusal."""
WAITING_INTERVAL_S: Final = 1.0
LOOK_INTERVAL_S: Final = 0.1
"""How often somebody who waits for a connection looks whether it is still wanted."""

REQUEST: Final = struct.Struct("<HQQ")
ANSWER: Final = struct.Struct("<BQ")
_LENGTH: Final = struct.Struct("<I")
_TIMEVAL: Final = struct.Struct("@ll")


class BulkLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound of bulk transfers."""

    chunk_bytes: int = 4 << 20
    """Asked for at once; what a failed source still owes another one is asked for in such pieces."""
    window_chunks: int = 3
    """Asked for ahead on one connection: so much the kernel may have to buffer."""
    connections_max: int = 64
    """Accepted at a time, each with a thread. More wait in the kernel's queue, and idle ones are ended for them."""
    idle_connections_max: int = 32
    """Dialled, and kept for the next pull."""
    idle_timeout_s: float = 10.0
    """A connection without a request is ended after this time."""
    hold_timeout_s: float = 1.0
    """The server keeps an object pinned for so long between two requests of a connection."""
    progress_timeout_s: float = 10.0
    """A source that sends nothing for so long has failed. (It says so while it reads an object back from disk.)"""
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S
    connect_timeout_s: float = CONNECT_ATTEMPT_TIMEOUT_S
    pull_threads_max: int = 16
    """Sources that are read from at a time; more wait their turn."""
    sources_per_pull_max: int = 4
    """Read from in parallel for one object; the others are kept for when one fails."""


class BulkError(OSError):
    """A source or a peer failed; the text says how."""


class ConnectionLost(BulkError):
    """The other side ended the connection."""


class Source(Protocol):
    """Where the parts of an object come from: a connection to a bulk server, or a store in this process."""

    def request(self, key: bytes, offset: int, length_bytes: int) -> None:
        """Ask for a part. Raises BulkError, OSError."""
        ...

    def receive_into(self, target: memoryview) -> None:
        """The part that was asked for first. Raises BulkError, OSError."""
        ...

    def rest(self) -> None:
        """Nothing more of the last object will be asked for; the source may be kept for another."""
        ...

    def abort(self) -> None:
        """Make whoever uses it fail (from another thread)."""
        ...

    def close(self) -> None: ...


# ------------------------------------------------------------------------------------------------------------- sockets
def set_timeouts(sock: socket.socket, timeout_s: float) -> None:
    """Blocking from now on, with the kernel watching the time: a call for 4 MiB is one call, not forty."""
    sock.settimeout(None)
    seconds = int(timeout_s)
    timeval = _TIMEVAL.pack(seconds, int((timeout_s - seconds) * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def receive_exactly(sock: socket.socket, target: memoryview) -> None:
    """Fill the target. Raises ConnectionLost, and BulkError when nothing came for the socket's timeout."""
    done = 0
    while done < target.nbytes:
        try:
            count = sock.recv_into(target[done:], 0, socket.MSG_WAITALL)
        except BlockingIOError:
            raise BulkError("nothing was received for too long") from None
        if not count:
            raise ConnectionLost("the connection ended")
        done += count


def send_parts(sock: socket.socket, parts: Sequence[bytes | memoryview]) -> None:
    """Send all, without joining it. Raises BulkError when nothing could be sent for the socket's timeout."""
    left = [memoryview(part) for part in parts]
    while left:
        try:
            count = sock.sendmsg(left)
        except BlockingIOError:
            raise BulkError("nothing could be sent for too long") from None
        while left and count >= left[0].nbytes:
            count -= left.pop(0).nbytes
        if count:
            left[0] = left[0][count:]


def _receive_by(sock: socket.socket, count: int, deadline_s: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        sock.settimeout(max(1e-3, deadline_s - time.monotonic()))
        try:
            part = sock.recv(count - len(data))
        except TimeoutError:
            raise BulkError("the handshake took too long") from None
        if not part:
            raise ConnectionLost("the connection ended during the handshake")
        data += part
    return bytes(data)


def send_frame(sock: socket.socket, data: bytes) -> None:
    """Send a message of the handshake."""
    sock.sendall(_LENGTH.pack(len(data)) + data)


def receive_frame(sock: socket.socket, deadline_s: float) -> bytes:
    """Receive a message of the handshake. Raises BulkError when it is too large or late."""
    (length,) = _LENGTH.unpack(_receive_by(sock, _LENGTH.size, deadline_s))
    if length > HELLO_BYTES_MAX:
        raise BulkError(f"a first message of {length} bytes, at most {HELLO_BYTES_MAX} are allowed")
    return _receive_by(sock, length, deadline_s)


def shake_hands(sock: socket.socket, role: Role, identity: Identity, process: str, deadline_s: float) -> None:
    """Prove ourselves and have the other side prove itself. Raises BulkError with the reason."""
    handshake = Handshake(role, identity, process)
    for message in handshake.start():
        send_frame(sock, message)
    while handshake.peer is None and handshake.error is None:
        for message in handshake.receive([receive_frame(sock, deadline_s)]):
            try:
                send_frame(sock, message)
            except ConnectionError:
                if handshake.error is None:  # else we have the reason, and it does not want to hear it
                    raise
    if handshake.error is not None:
        raise BulkError(str(handshake.error)) from handshake.error
    if role is Role.ACCEPTER:
        send_frame(sock, b"")
    elif receive_frame(sock, deadline_s):
        raise BulkError("the other side did not accept our proof")


# ------------------------------------------------------------------------------------------------------------- dialling
def bulk_identity(description: str, cluster_id: bytes, token: bytes) -> Identity:
    """Who we are to the other side of a bulk connection."""
    return Identity(
        description=f"{description} pid={os.getpid()}",
        cluster_id=cluster_id,
        token=token,
        protocol_version=PROTOCOL_VERSION,
        python_version=(sys.version_info.major, sys.version_info.minor),
        random_bytes=os.urandom,
    )


class BulkConnection:
    """The dialer's side of one connection; one thread uses it at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._header = memoryview(bytearray(ANSWER.size))

    def request(self, key: bytes, offset: int, length_bytes: int) -> None:
        """Ask for a part; answered in order."""
        send_parts(self._sock, [REQUEST.pack(len(key), offset, length_bytes) + key])

    def receive_into(self, target: memoryview) -> None:
        """Receive the part that was asked for first."""
        while True:
            receive_exactly(self._sock, self._header)
            status, length = ANSWER.unpack(self._header)
            if status == DATA and length == target.nbytes:
                receive_exactly(self._sock, target)
                return
            if status == REFUSED and length <= TEXT_BYTES_MAX:
                text = bytearray(length)
                receive_exactly(self._sock, memoryview(text))
                raise BulkError(text.decode("utf-8", "replace"))
            if status != WAITING:
                raise BulkError(f"an answer that makes no sense: {status}, {length} bytes")

    def rest(self) -> None:
        """Let the server release the object."""
        send_parts(self._sock, [REQUEST.pack(0, 0, 0)])

    def abort(self) -> None:
        """Wake whoever waits in it; it fails."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side was faster
            return

    def close(self) -> None:
        """End it."""
        self._sock.close()


def is_wanted() -> bool:
    """Whether a connection is still wanted, for those who cannot change their mind."""
    return True


def dial(
    endpoint: str, identity: Identity, limits: BulkLimits, wanted: Callable[[], bool] = is_wanted
) -> BulkConnection:
    """Connect to a bulk server at the first of its comma-joined addresses that can be reached. Raises BulkError.

    ``wanted`` is asked now and then while we wait.
    """
    reason = "it has no address that can be reached from here"
    for address in filter(None, endpoint.split(",")):
        scheme, _, rest = address.partition("://")
        if scheme == "unix" and not Path(rest).exists():
            continue  # of another machine, or of a node that is gone
        try:
            sock = _connect(scheme, rest, limits.connect_timeout_s, wanted)
        except (OSError, ValueError) as error:
            reason = f"{address}: {error}"
            continue
        try:
            deadline_s = time.monotonic() + limits.handshake_timeout_s
            shake_hands(sock, Role.DIALER, identity, f"bulk:{os.urandom(16).hex()}", deadline_s)
            set_timeouts(sock, limits.progress_timeout_s)
        except OSError as error:
            sock.close()
            raise BulkError(f"{address}: {error}") from error  # it will not be nicer at another door
        return BulkConnection(sock)
    raise BulkError(reason)


def _connect(scheme: str, rest: str, timeout_s: float, wanted: Callable[[], bool]) -> socket.socket:
    if scheme == "unix":
        return _connect_to(socket.AF_UNIX, rest, timeout_s, wanted)
    if scheme != "tcp":
        raise BulkError(f"unknown scheme {scheme!r}")
    host, _, port = rest.rpartition(":")
    found = socket.getaddrinfo(host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_STREAM)
    family, _, _, _, target = found[0]
    sock = _connect_to(family, target, timeout_s, wanted)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _connect_to(family: int, target: object, timeout_s: float, wanted: Callable[[], bool]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        deadline_s = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while True:
            try:
                sock.connect(target)  # type: ignore[arg-type] # of that family
                return sock
            except BlockingIOError:  # under way; or (Unix) the queue of the listener is full
                if time.monotonic() > deadline_s:
                    raise BulkError(f"no connection within {timeout_s:g} s") from None
                if not wanted():
                    raise BulkError("not wanted any more") from None
            if family == socket.AF_UNIX:
                time.sleep(LOOK_INTERVAL_S / 10)
            elif poll.poll(LOOK_INTERVAL_S * 1000):
                _raise_failure(sock)
                return sock
    except BaseException:
        sock.close()
        raise


def _raise_failure(sock: socket.socket) -> None:
    failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, os.strerror(failure))


def read_object(
    endpoint: str, key: bytes, size_bytes: int, identity: Identity, limits: BulkLimits | None = None
) -> bytearray:
    """Return the bytes of an object (blocks): for a client that cannot map the segments of the store.

    Raises OSError (BulkError is one). ``identity`` is that of any process of the cluster: see ``bulk_identity``.
    """
    limits = limits or BulkLimits()
    data = bytearray(size_bytes)
    if not size_bytes:
        return data
    view = memoryview(data)
    chunks = [view[start : start + limits.chunk_bytes] for start in range(0, size_bytes, limits.chunk_bytes)]
    connection = dial(endpoint, identity, limits)
    try:
        asked = 0
        for position, chunk in enumerate(chunks):
            while asked < min(len(chunks), position + limits.window_chunks):
                connection.request(key, asked * limits.chunk_bytes, chunks[asked].nbytes)
                asked += 1
            connection.receive_into(chunk)
    finally:
        connection.close()
    return data
