"""Unix stream sockets: the shortest way between two processes of one machine.

No asyncio streams: a raw non-blocking socket, ``add_reader``/``add_writer``, and a lock per channel, because ``send``
writes from whatever thread calls it as long as nothing waits before it. The kernel tells at once when a peer dies, so
there are no heartbeats here.

Reading goes through one receive buffer per transport (only the loop's thread reads), and straight into its own buffer
for a large message. A turn of the loop reads a bounded amount from one channel, so a flood does not starve the others.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
import sys
import threading
from typing import Final

from actorrt.transports.base import Accept, Frame, Frames, Handler, Limits
from actorrt.transports.errors import BadAddress, Closed, Overflow, PeerGone, TransportError
from actorrt.transports.framing import BUFFERS_MAX, Outbox, Parser, pack
from actorrt.transports.loopside import LoopSide

SCHEME: Final = "unix"
PATH_BYTES_MAX: Final = 103 if sys.platform == "darwin" else 107
"""What sockaddr_un holds, less the terminating zero."""
RECEIVE_BUFFER_BYTES: Final = 256 << 10
READ_TURN_BYTES_MAX: Final = 4 << 20
WRITE_TURN_BYTES_MAX: Final = 4 << 20
WRITE_CALL_BYTES_MAX: Final = 1 << 20
JOIN_WRITE_BYTES_MAX: Final = 256 << 10
SOCKET_BUFFER_BYTES: Final = 256 << 10
"""Asked for of the kernel. What fits the processor's cache is fastest: 1 MiB gave half the throughput."""
BACKLOG: Final = 1024
ACCEPTS_PER_TURN_MAX: Final = 64
ACCEPT_PAUSE_S: Final = 0.1
"""After accept() failed for want of descriptors: the pending connection would wake the loop again at once."""
CONNECT_RETRY_S: Final = 0.002
"""While the listener's backlog is full (a Unix socket then refuses with EAGAIN instead of waiting)."""

_BUSY: Final = (BlockingIOError, InterruptedError)


def parse_address(address: str) -> str:
    """``unix:///absolute/path`` -> the path."""
    prefix = f"{SCHEME}://"
    path = address.removeprefix(prefix)
    if path == address or not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise BadAddress(f"expected {prefix} and an absolute path, got {address!r}")
    path_bytes = len(os.fsencode(path))
    if path_bytes > PATH_BYTES_MAX:
        raise BadAddress(
            f"the socket path is {path_bytes} bytes long, the operating system allows {PATH_BYTES_MAX}: {path!r}"
        )
    return path


def claim_path(path: str, address: str) -> None:
    """Make sure nobody listens at ``path``, and remove what a dead listener left there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadAddress(f"cannot listen at {address}: {error}") from error
    if not stat.S_ISSOCK(mode):
        raise BadAddress(f"cannot listen at {address}: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            pass
        except OSError as error:  # EAGAIN: so alive that its backlog is full
            raise BadAddress(f"cannot listen at {address}: it is taken ({error})") from error
        else:
            raise BadAddress(f"cannot listen at {address}: it is taken")
    remove_file(path)


def remove_file(path: str, identity: tuple[int, int] | None = None) -> None:
    """Remove a socket file; with ``identity`` only if it is still that one and not a successor's."""
    try:
        if identity is None or file_identity(path) == identity:
            os.unlink(path)  # noqa: PTH108 - paths are strings here
    except FileNotFoundError:
        return


def file_identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _new_socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    _prepare(sock)
    return sock


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)


def _describe_peer(sock: socket.socket, address: str) -> str:
    if not hasattr(socket, "SO_PEERCRED"):
        return f"a client of {address}"
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return f"pid {struct.unpack('3i', credentials)[0]} at {address}"


class UnixChannel:
    """One connected socket. ``_lock`` guards the socket's writing side, the outbox and ``_state``."""

    _CONNECTING: Final = "connecting"
    _OPEN: Final = "open"
    _BROKEN: Final = "broken"  # writing failed; the loop has still to read the rest and say so
    _CLOSING: Final = "closing"  # close() was called; the loop has still to say so
    _CLOSED: Final = "closed"
    _READING: Final = (_OPEN, _BROKEN)

    __slots__ = (
        "_fd",
        "_handler",
        "_limits",
        "_lock",
        "_outbox",
        "_parser",
        "_peer",
        "_side",
        "_sock",
        "_state",
        "_transport",
        "_writer_armed",
    )

    def __init__(self, transport: UnixTransport, sock: socket.socket, peer: str, handler: Handler | None) -> None:
        self._transport = transport
        self._side = transport._side
        self._limits = transport._limits
        self._sock = sock
        self._fd = sock.fileno()
        self._peer = peer
        self._handler = handler
        self._lock = threading.Lock()
        self._outbox = Outbox()
        self._state = self._CONNECTING
        self._writer_armed = False
        self._parser = Parser(bytes_max=self._limits.message_bytes_max, frames_max=self._limits.frames_max)

    def __repr__(self) -> str:
        return f"<UnixChannel {self._state} to {self._peer}, {self.pending_bytes} bytes pending>"

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def pending_bytes(self) -> int:
        return self._outbox.pending_bytes

    def set_message_bytes_max(self, bytes_max: int) -> None:
        self._parser.bytes_max = bytes_max

    # ------------------------------------------------------------------------------------------ writing, any thread

    def send(self, frames: Frames) -> None:
        limits = self._limits
        buffers, size_bytes = pack(frames, bytes_max=limits.message_bytes_max, frames_max=limits.frames_max)
        with self._lock:
            outbox = self._outbox
            if self._state == self._OPEN and not outbox and size_bytes <= limits.queue_bytes_max:
                try:
                    written_bytes = (
                        self._sock.send(buffers[0]) if len(buffers) == 1 else self._sock.sendmsg(buffers[:BUFFERS_MAX])
                    )
                except _BUSY:
                    written_bytes = 0
                except OSError as error:
                    self._writing_failed(error)
                    raise Closed(f"{self._peer} is gone: {error}") from error
                if written_bytes == size_bytes:
                    return
                outbox.push(buffers, size_bytes)
                outbox.advance(written_bytes)
                self._arm_writer()
                return
            if self._state not in (self._OPEN, self._CONNECTING):
                raise Closed(f"the channel to {self._peer} is closed")
            if outbox.pending_bytes + size_bytes > limits.queue_bytes_max or len(outbox) >= limits.queue_messages_max:
                raise Overflow(
                    f"{self._peer} reads too slowly: {len(outbox)} messages of {outbox.pending_bytes} bytes wait, "
                    f"the limits are {limits.queue_messages_max} and {limits.queue_bytes_max}"
                )
            outbox.push(buffers, size_bytes)

    def close(self) -> None:
        with self._lock:
            if self._state in (self._CLOSING, self._CLOSED):
                return
            if self._state == self._OPEN:
                try:
                    self._flush(self._outbox.pending_bytes)
                except OSError:
                    self._outbox.clear()  # the peer was faster; the caller wanted to be rid of it anyway
            self._state = self._CLOSING
        self._side.soon(self._end_closed)

    def _flush(self, bytes_max: int) -> None:
        """Write until the kernel takes no more, or ``bytes_max`` and a little. Under the lock."""
        outbox = self._outbox
        flushed_bytes = 0
        while outbox and flushed_bytes < bytes_max:
            buffers, size_bytes = outbox.peek(WRITE_CALL_BYTES_MAX)
            try:
                if len(buffers) > 1 and size_bytes > JOIN_WRITE_BYTES_MAX:
                    written_bytes = self._sock.sendmsg(buffers)
                else:
                    written_bytes = self._sock.send(buffers[0] if len(buffers) == 1 else b"".join(buffers))
            except _BUSY:
                return
            outbox.advance(written_bytes)
            flushed_bytes += written_bytes
            if written_bytes < size_bytes:
                return

    def _arm_writer(self) -> None:
        """Have the loop write the rest. Under the lock."""
        if not self._writer_armed:
            self._writer_armed = True
            if self._side.is_here():
                self._side.loop.add_writer(self._fd, self._on_writable)
            else:
                self._side.soon(self._add_writer)

    def _writing_failed(self, error: OSError) -> None:
        """No more sending; what the peer said before it went is still to be read. Under the lock."""
        self._state = self._BROKEN
        self._outbox.clear()
        reason = PeerGone(f"{self._peer} is gone: {error}")
        self._side.soon(lambda: self._read_rest(reason))

    # ----------------------------------------------------------------------------------------------- the loop's side

    def _add_writer(self) -> None:
        with self._lock:
            if self._state == self._OPEN:
                self._side.loop.add_writer(self._fd, self._on_writable)

    def _on_writable(self) -> None:
        with self._lock:
            if self._state == self._OPEN:
                try:
                    self._flush(WRITE_TURN_BYTES_MAX)
                except OSError as error:
                    self._writing_failed(error)
            if not self._outbox or self._state != self._OPEN:
                self._side.loop.remove_writer(self._fd)
                self._writer_armed = False

    def _dial(self, path: str, deadline_s: float) -> None:
        """Connect without waiting. A full backlog, the only reason to try again, shows as EAGAIN."""
        if self._state != self._CONNECTING:
            return
        try:
            self._sock.connect(path)
        except _BUSY:
            loop = self._side.loop
            if loop.time() >= deadline_s:
                self._fail_soon(PeerGone(f"{self._peer} does not accept connections"))
            else:
                loop.call_later(CONNECT_RETRY_S, self._dial, path, deadline_s)
        except OSError as error:
            self._fail_soon(PeerGone(f"cannot connect to {self._peer}: {error}"))
        else:
            self._opened()

    def _fail_soon(self, reason: PeerGone) -> None:
        """Not at once: ``connect`` returns the channel before its handler hears of it. Sends are queued till then."""
        self._side.loop.call_soon(self._end, reason)

    def _opened(self) -> None:
        """The socket is connected: start reading, write what was queued meanwhile."""
        with self._lock:
            if self._state != self._CONNECTING:
                return
            self._state = self._OPEN
            if self._outbox:
                self._arm_writer()
        self._side.loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        self._read(READ_TURN_BYTES_MAX)

    def _read_rest(self, reason: PeerGone) -> None:
        """Writing failed with ``reason``: hand over what the peer wrote before, then end."""
        while self._state == self._BROKEN and self._read(READ_TURN_BYTES_MAX):
            pass
        self._end(reason)

    def _read(self, bytes_max: int) -> bool:
        """Read what is there, about ``bytes_max`` at most, and hand it over as one list; False if nothing was there."""
        if self._state not in self._READING:
            return False
        messages: list[list[Frame]] = []
        reason: TransportError | None = None
        parser = self._parser
        buffer, view = self._transport._receive_buffer
        read_bytes = 0
        try:
            while read_bytes < bytes_max:
                vacant = parser.vacant()
                count = self._sock.recv_into(buffer if vacant is None else vacant)
                if count == 0:
                    reason = PeerGone(f"{self._peer} closed the connection")
                    break
                read_bytes += count
                if vacant is None:
                    parser.feed(view[:count], messages)
                    if count < RECEIVE_BUFFER_BYTES or parser.held:
                        break
                else:
                    parser.filled(count, messages)
                    if count < min(len(vacant), RECEIVE_BUFFER_BYTES):
                        break
        except _BUSY:
            pass
        except OSError as error:
            reason = PeerGone(f"{self._peer} is gone: {error}")
        except TransportError as error:
            reason = error
        self._deliver(messages)
        while parser.held and reason is None and self._state in self._READING:
            messages = []
            try:
                parser.feed(b"", messages)
            except TransportError as error:
                reason = error
            self._deliver(messages)
        if reason is not None:
            self._end(reason)
        return read_bytes > 0

    def _deliver(self, messages: list[list[Frame]]) -> None:
        if messages and self._state in self._READING:
            assert self._handler is not None
            self._side.received(self._handler, self, messages)

    def _end_closed(self) -> None:
        self._end(Closed(f"the channel to {self._peer} was closed on this side"))

    def _end(self, reason: Exception) -> None:
        """Release everything and tell the handler, once."""
        with self._lock:
            if self._state == self._CLOSED:
                return
            if self._state == self._CLOSING:  # close() came first, whatever was noticed since
                reason = Closed(f"the channel to {self._peer} was closed on this side")
            self._state = self._CLOSED
            self._outbox.clear()
            if self._fd >= 0:
                self._side.loop.remove_reader(self._fd)
                self._side.loop.remove_writer(self._fd)
            self._sock.close()
        self._transport._channels.pop(self, None)
        if self._handler is not None:
            self._side.closed(self._handler, self, reason)


class UnixListener:
    def __init__(self, transport: UnixTransport, sock: socket.socket, path: str, address: str, accept: Accept) -> None:
        self._transport = transport
        self._side = transport._side
        self._sock = sock
        self._path = path
        self._identity = file_identity(path)
        self._address = address
        self._accept = accept
        self._closed = False
        self._resume: asyncio.TimerHandle | None = None
        self._listen()

    def __repr__(self) -> str:
        return f"<UnixListener {self._address}{' closed' if self._closed else ''}>"

    @property
    def address(self) -> str:
        return self._address

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._resume is not None:
            self._resume.cancel()
        self._side.loop.remove_reader(self._sock.fileno())
        self._sock.close()
        remove_file(self._path, self._identity)
        self._transport._listeners.pop(self, None)

    def _listen(self) -> None:
        self._resume = None
        self._side.loop.add_reader(self._sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            if self._closed:  # by a handler
                return
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._accepted(sock)

    def _pause(self, error: OSError) -> None:
        """Out of descriptors or memory. The connection stays in the backlog; try again in a moment."""
        loop = self._side.loop
        loop.call_exception_handler({"message": f"{self!r} cannot accept, trying again", "exception": error})
        loop.remove_reader(self._sock.fileno())
        self._resume = loop.call_later(ACCEPT_PAUSE_S, self._listen)

    def _accepted(self, sock: socket.socket) -> None:
        transport = self._transport
        if len(transport._channels) >= transport._limits.channels_max:
            sock.close()
            return
        try:
            _prepare(sock)
            peer = _describe_peer(sock, self._address)
        except OSError:  # gone already, before a channel was made of it
            sock.close()
            return
        channel = UnixChannel(transport, sock, peer, None)
        transport._channels[channel] = None
        try:
            channel._handler = self._accept(channel)
        except Exception as error:  # noqa: BLE001 - a bug in accept must not end the listener
            self._side.loop.call_exception_handler({"message": f"{self!r}: accept raised", "exception": error})
            channel._end(Closed("accept raised"))
            return
        channel._opened()


class UnixTransport:
    """Channels over Unix stream sockets, addresses ``unix:///absolute/path``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._side = LoopSide(loop)
        self._limits = limits
        # Insertion-ordered, so that close() ends channels in the order they were made.
        self._channels: dict[UnixChannel, None] = {}
        self._listeners: dict[UnixListener, None] = {}
        buffer = bytearray(RECEIVE_BUFFER_BYTES)
        self._receive_buffer = (buffer, memoryview(buffer))
        self._closed = False

    def __repr__(self) -> str:
        return f"<UnixTransport {len(self._listeners)} listeners, {len(self._channels)} channels>"

    @property
    def schemes(self) -> tuple[str, ...]:
        return (SCHEME,)

    def listen(self, address: str, accept: Accept) -> UnixListener:
        if self._closed:
            raise Closed("the transport is closed")
        path = parse_address(address)
        claim_path(path, address)
        sock = _new_socket()
        try:
            sock.bind(path)
            os.chmod(path, 0o600)  # noqa: PTH101 - before listen(): until then nobody can connect
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise BadAddress(f"cannot listen at {address}: {error}") from error
        listener = UnixListener(self, sock, path, address, accept)
        self._listeners[listener] = None
        return listener

    def connect(self, address: str, handler: Handler) -> UnixChannel:
        if self._closed:
            raise Closed("the transport is closed")
        path = parse_address(address)
        channel = UnixChannel(self, _new_socket(), address, handler)
        if len(self._channels) >= self._limits.channels_max:
            channel._fail_soon(PeerGone(f"{address} not dialled: {self._limits.channels_max} channels are open"))
        else:
            channel._dial(path, self._side.loop.time() + self._limits.connect_timeout_s)
        self._channels[channel] = None
        return channel

    def close(self) -> None:
        self._closed = True
        for listener in list(self._listeners):
            listener.close()
        for channel in list(self._channels):
            channel.close()
            channel._end_closed()

    def abandon(self) -> None:
        self._closed = True
        for listener in self._listeners:
            listener._sock.close()
        for channel in self._channels:
            channel._sock.close()
