"""The accepter's side of bulk transfers: serves objects of the node's store to whoever proves the cluster's token.

Connections are accepted on the loop, which only starts a thread for each; nothing runs until somebody connects. A
thread reads requests one by one and sends what is asked for from the pinned object. Ending a connection is shutting its
socket down: whatever its thread does, it wakes up and ends.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from actorrt.cluster.bulk import (
    ANSWER,
    DATA,
    KEY_BYTES_MAX,
    REFUSED,
    REQUEST,
    TEXT_BYTES_MAX,
    WAITING,
    BulkError,
    BulkLimits,
    ConnectionLost,
    receive_exactly,
    send_parts,
    set_timeouts,
    shake_hands,
)
from actorrt.kernel.clock import call_soon
from actorrt.wire.handshake import Identity, Role

logger = logging.getLogger("actorrt.cluster.bulk")

BACKLOG_MAX = 128
"""Connections the kernel holds for us before they are accepted."""


class OpenedObject(NamedTuple):
    """An object that is pinned for being read."""

    view: memoryview
    release: Callable[[], None]


OpenObject = Callable[[bytes, Callable[[], None]], OpenedObject]
"""Pin the object with this key (blocks); calls its second argument about once a second while it waits. Raises BulkError
for an object that is not there."""


class BulkServer:
    """Listens at ``addresses`` from the start (the loop's thread). ``endpoint`` is what others dial."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        identity: Identity,
        open_object: OpenObject,
        addresses: Sequence[str],
        limits: BulkLimits | None = None,
    ) -> None:
        self._loop = loop
        self._identity = identity
        self._open_object = open_object
        self._limits = limits or BulkLimits()
        self._connections: dict[int, _Connection] = {}
        self._count = 0
        self._accepting = False
        self.closed = False
        self._listeners: list[socket.socket] = []
        endpoints = []
        try:
            for address in addresses:
                listener, endpoint = _listen(address)
                self._listeners.append(listener)
                endpoints.append(endpoint)
        except BaseException:
            self.stop()
            raise
        self.endpoint = ",".join(endpoints)
        self._accept_again()

    def __repr__(self) -> str:
        return f"BulkServer({self.endpoint!r}, connections={len(self._connections)})"

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    # ---- the loop's thread
    def _accept_again(self) -> None:
        if not self._accepting and not self.closed:
            self._accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        if len(self._connections) >= self._limits.connections_max:
            self._pause()  # until one ends; the one that has been idle for longest is asked to
            idle = [connection for connection in self._connections.values() if connection.idle_since_s]
            if idle:
                min(idle, key=lambda connection: connection.idle_since_s).end()
            return
        try:
            sock, _ = listener.accept()
        except OSError as error:
            logger.warning("cannot accept a bulk connection: %s", error)
            return
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._count += 1
        connection = _Connection(self, self._count, sock)
        self._connections[self._count] = connection
        connection.thread.start()

    def left(self, number: int) -> None:
        """A connection has ended (its thread)."""
        call_soon(self._loop, functools.partial(self._forget, number))  # False: the loop is closed, and so are we

    def _forget(self, number: int) -> None:
        self._connections.pop(number, None)
        self._accept_again()

    def stop(self) -> None:
        """Accept no more and end all connections (the loop's thread; does not wait, idempotent)."""
        self.closed = True
        self._pause()
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections.values()):
            connection.end()

    def join(self) -> None:
        """Wait, after ``stop``, until no thread of ours is left."""
        for connection in list(self._connections.values()):
            connection.thread.join()

    # ---- the connections' threads
    def serve(self, connection: _Connection) -> None:
        """Live of one connection."""
        sock = connection.sock
        limits = self._limits
        try:
            shake_hands(
                sock, Role.ACCEPTER, self._identity, self.endpoint, time.monotonic() + limits.handshake_timeout_s
            )
            set_timeouts(sock, limits.progress_timeout_s)
            while self._answer(connection):
                continue
        except ConnectionLost:
            return
        except OSError as error:
            if not self.closed:
                logger.info("a bulk connection ended: %s", error)
        finally:
            connection.release()

    def _answer(self, connection: _Connection) -> bool:
        """One request; False when the connection is to end."""
        sock = connection.sock
        if not connection.wait(self._limits.hold_timeout_s):
            connection.release()
            if not self._accepting:
                return False  # others wait for our place
            connection.idle_since_s = time.monotonic()
            if not connection.wait(self._limits.idle_timeout_s):
                return False
            connection.idle_since_s = 0.0
        header = memoryview(bytearray(REQUEST.size))
        receive_exactly(sock, header)
        key_bytes, offset, length = REQUEST.unpack(header)
        if key_bytes > KEY_BYTES_MAX:
            raise BulkError(f"asked for a key of {key_bytes} bytes")
        key = bytearray(key_bytes)
        receive_exactly(sock, memoryview(key))
        if not key:
            connection.release()
            return True
        try:
            part = self._part(connection, bytes(key), offset, length)
        except BulkError as error:
            text = str(error).encode()[:TEXT_BYTES_MAX]
            send_parts(sock, [ANSWER.pack(REFUSED, len(text)), text])
            return False
        send_parts(sock, [ANSWER.pack(DATA, length), part])
        return True

    def _part(self, connection: _Connection, key: bytes, offset: int, length: int) -> memoryview:
        if connection.key != key or connection.opened is None:
            connection.release()
            waiting = ANSWER.pack(WAITING, 0)
            connection.opened = self._open_object(key, lambda: send_parts(connection.sock, [waiting]))
            connection.key = key
        view = connection.opened.view
        if offset + length > view.nbytes:
            raise BulkError(f"asked for {length} bytes at {offset} of an object of {view.nbytes} bytes")
        return view[offset : offset + length]


class _Connection:
    """One accepted connection, its thread, and the object it reads."""

    def __init__(self, server: BulkServer, number: int, sock: socket.socket) -> None:
        self.sock = sock
        self.idle_since_s = 0.0
        """0: it is not idle."""
        self.key = b""
        self.opened: OpenedObject | None = None
        self._server = server
        self._number = number
        self._ending = False
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name=f"actorrt-bulk-serve-{number}", daemon=True)

    def _run(self) -> None:
        try:
            self._server.serve(self)
        finally:
            with self._lock:
                self.sock.close()
            self._server.left(self._number)

    def wait(self, timeout_s: float) -> bool:
        """Whether there is something to read (or the end) within this time."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def release(self) -> None:
        """The object is not read any more."""
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.release()

    def end(self) -> None:
        """Wake its thread; it ends (any thread)."""
        with self._lock:
            if self.sock.fileno() < 0:
                return
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other side was faster
                return


def _listen(address: str) -> tuple[socket.socket, str]:
    """Return a listening socket and the address it can be dialled at (a port of 0 is chosen now)."""
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    elif scheme == "tcp":
        host, _, port = rest.rpartition(":")
        found = socket.getaddrinfo(host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_STREAM)
        listener = socket.socket(found[0][0], socket.SOCK_STREAM)
    else:
        raise ValueError(f"bulk transfers go over unix:// and tcp://, not {address!r}")
    try:
        listener.setblocking(False)
        if scheme == "unix":
            listener.bind(rest)
            Path(rest).chmod(0o600)
        else:
            listener.bind(found[0][4])
            address = f"tcp://{host}:{listener.getsockname()[1]}"
        listener.listen(BACKLOG_MAX)
    except BaseException:
        listener.close()
        raise
    return listener, address
