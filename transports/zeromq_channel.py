"""What both ends of a ZeroMQ channel have in common: the socket with its monitor, and the byte stream over it.

``zeromq.py`` tells the whole story, and holds the two ends that differ.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import threading
from typing import Final

import zmq

from actorrt.transports.base import Frame, Frames, Handler, Limits
from actorrt.transports.errors import Closed, Overflow, PeerGone, TransportError
from actorrt.transports.framing import Outbox, Parser, pack
from actorrt.transports.loopside import LoopSide

CHUNK_BYTES_MAX: Final = 256 << 10
WINDOW_BYTES: Final = 8 << 20
CHUNK_COST_BYTES: Final = 4096
"""Added to each chunk's bytes in the window's accounting, so that it bounds the number of chunks too."""
HIGH_WATER_CHUNKS: Final = 2 * WINDOW_BYTES // CHUNK_COST_BYTES
LINGER_MS: Final = 200
"""After a local close libzmq may take this long, in its own thread, to hand the kernel what it already has."""
RETRY_S: Final = 0.01

_ACK: Final = struct.Struct("<Q")
_EVENT: Final = struct.Struct("=Hi")
_monitor_numbers = itertools.count()


def milliseconds(duration_s: float) -> int:
    return max(1, round(duration_s * 1000))


class ZeromqCore:
    """What pumps and channels use of their transport."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: Limits, context: zmq.Context[zmq.Socket[bytes]] | None
    ) -> None:
        self._side = LoopSide(loop)
        self._limits = limits
        self._context = context
        self._own_context = context is None
        # Insertion-ordered, so that close() ends channels in the order they were made.
        self._channels: dict[ZeromqChannel, None] = {}

    def _open_context(self) -> zmq.Context[zmq.Socket[bytes]]:
        """Made at first use: a transport that is never used starts no thread."""
        if self._context is None:
            self._context = context = zmq.Context()
            # Per dialled channel: its socket and both ends of its monitor.
            wanted = 3 * self._limits.channels_max + 64
            context.set(zmq.MAX_SOCKETS, min(wanted, int(context.get(zmq.SOCKET_LIMIT))))
        return self._context


class Pump:
    """One zmq socket with its monitor, driven by the loop. ``lock`` guards every use of the socket.

    Subclasses say what chunks and events mean (``_chunk``, ``_event``).
    """

    def __init__(self, transport: ZeromqCore, kind: int, events: int, address: str) -> None:
        self.side = transport._side
        self.limits = transport._limits
        self.lock = threading.Lock()
        self.closed = False
        self._transport = transport
        context = transport._open_context()
        self.socket: zmq.Socket[bytes] = context.socket(kind)
        try:
            self._monitor: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        except zmq.ZMQError:
            self.socket.close(0)
            raise
        try:
            self._configure(address)
            endpoint = f"inproc://actorrt-monitor-{next(_monitor_numbers)}"
            self.socket.monitor(endpoint, events)
            self._monitor.linger = 0
            self._monitor.rcvhwm = 0  # a full monitor would block libzmq's thread; connections bound the events
            self._monitor.connect(endpoint)
        except BaseException:
            self._release()
            raise
        self._fd = self.socket.fileno()
        self._monitor_fd = self._monitor.fileno()
        self._read_awaited = False

    def _configure(self, address: str) -> None:
        socket, limits = self.socket, self.limits
        socket.linger = 0  # for whatever end comes without our close()
        socket.sndhwm = socket.rcvhwm = HIGH_WATER_CHUNKS
        socket.setsockopt(zmq.MAXMSGSIZE, CHUNK_BYTES_MAX)
        socket.setsockopt(zmq.HANDSHAKE_IVL, milliseconds(limits.connect_timeout_s))
        if address.startswith("tcp://"):
            socket.setsockopt(zmq.IPV6, int("[" in address))
            # The kernel tells when a process dies; heartbeats are for hosts and cables. On ipc they would only add
            # a way to lose a peer that is stopped in a debugger.
            silence_s = max(limits.heartbeat_timeout_s - limits.heartbeat_interval_s, limits.heartbeat_interval_s)
            socket.setsockopt(zmq.HEARTBEAT_IVL, milliseconds(limits.heartbeat_interval_s))
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, milliseconds(silence_s))
            socket.setsockopt(zmq.HEARTBEAT_TTL, milliseconds(max(limits.heartbeat_timeout_s, 0.1)))

    def start(self) -> None:
        """Begin to listen to the socket; what happened before is looked at in the loop's next turn."""
        loop = self.side.loop
        loop.add_reader(self._fd, self.read)
        loop.add_reader(self._monitor_fd, self.watch)
        loop.call_soon(self.watch)
        loop.call_soon(self.read)

    def stop(self) -> None:
        """Close (loop thread, idempotent). libzmq flushes what it has, in the background, for ``LINGER_MS``."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self.side.loop.remove_reader(self._fd)
            self.side.loop.remove_reader(self._monitor_fd)
            self._release(LINGER_MS)

    def _release(self, linger_ms: int = 0) -> None:
        # In this order: a monitored socket that is closed with its monitor's reader gone blocks libzmq for good.
        self.socket.disable_monitor()
        self._monitor.close()
        self.socket.close(linger_ms)

    def look(self) -> None:
        """After sending: if that consumed the news of something to read, pass it on. Under the lock."""
        if not self._read_awaited and int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._read_awaited = True
            self.side.soon(self.read)

    def read(self) -> None:
        raise NotImplementedError

    def watch(self) -> None:
        """Take the monitor's events (only ever used on the loop's thread, so no edge is lost)."""
        while not self.closed:
            try:
                event, _endpoint = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._event(*_EVENT.unpack_from(event))

    def _event(self, kind: int, value: int) -> None:
        raise NotImplementedError

    def dismiss(self, routing_id: bytes) -> None:
        """A channel ends for another reason than ``close`` or its peer: let the peer know. Under the lock."""
        raise NotImplementedError

    def ended(self, channel: ZeromqChannel) -> None:
        """The channel is over; release what it holds of the socket."""
        raise NotImplementedError


class ZeromqChannel:
    """One byte stream over a pump. The pump's lock guards socket, outbox, credit and ``_state``."""

    _OPEN: Final = "open"
    _BROKEN: Final = "broken"  # the peer cannot be reached; the loop has still to say so
    _CLOSING: Final = "closing"  # close() was called; the loop has still to say so
    _CLOSED: Final = "closed"

    __slots__ = (
        "_credit_bytes",
        "_handler",
        "_limits",
        "_messages",
        "_outbox",
        "_parser",
        "_peer",
        "_pump",
        "_retrying",
        "_routing_id",
        "_side",
        "_state",
        "_transport",
        "_unacknowledged_bytes",
    )

    def __init__(self, transport: ZeromqCore, peer: str, handler: Handler | None) -> None:
        self._transport = transport
        self._side = transport._side
        self._limits = transport._limits
        self._peer = peer
        self._handler = handler
        self._pump: Pump | None = None
        self._routing_id = b""
        self._state = self._OPEN
        self._outbox = Outbox()
        self._credit_bytes = WINDOW_BYTES
        self._unacknowledged_bytes = 0
        self._retrying = False
        self._messages: list[list[Frame]] = []
        self._parser = Parser(bytes_max=self._limits.message_bytes_max, frames_max=self._limits.frames_max)

    def __repr__(self) -> str:
        return f"<ZeromqChannel {self._state} to {self._peer}, {self.pending_bytes} bytes pending>"

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
        pump = self._pump
        if pump is None:  # not even dialled; the news is on its way, and until then sends are taken and lost
            if self._state != self._OPEN:
                raise Closed(f"the channel to {self._peer} is closed")
            return
        with pump.lock:
            if self._state != self._OPEN:
                raise Closed(f"the channel to {self._peer} is closed")
            outbox = self._outbox
            if outbox.pending_bytes + size_bytes > limits.queue_bytes_max or len(outbox) >= limits.queue_messages_max:
                raise Overflow(
                    f"{self._peer} reads too slowly: {len(outbox)} messages of {outbox.pending_bytes} bytes wait, "
                    f"the limits are {limits.queue_messages_max} and {limits.queue_bytes_max}"
                )
            try:
                if (
                    not outbox
                    and len(buffers) == 1
                    and size_bytes <= CHUNK_BYTES_MAX
                    and size_bytes + CHUNK_COST_BYTES <= self._credit_bytes
                ):
                    try:
                        self._write(pump, buffers[0])
                    except zmq.Again:
                        outbox.push(buffers, size_bytes)
                        self._retry_later()
                else:
                    outbox.push(buffers, size_bytes)
                    self._flush(pump)
            except zmq.ZMQError as error:
                self._writing_failed(error)
                raise Closed(f"{self._peer} is gone: {error}") from error
            pump.look()

    def close(self) -> None:
        pump = self._pump
        if pump is None:
            self._side.soon(self._end_closed)
            return
        with pump.lock:
            if self._state in (self._CLOSING, self._CLOSED):
                return
            if self._state == self._OPEN:
                try:
                    self._flush(pump)
                    if self._routing_id:
                        self._write_control(pump, b"")
                except zmq.ZMQError:
                    self._outbox.clear()  # the peer was faster; the caller wanted to be rid of it anyway
                pump.look()
            self._state = self._CLOSING
        self._side.soon(self._end_closed)

    def _write(self, pump: Pump, chunk: Frame) -> None:
        """Hand one chunk to libzmq. Under the lock; raises ``zmq.Again`` or another ``ZMQError``."""
        if self._routing_id:
            pump.socket.send(self._routing_id, zmq.SNDMORE | zmq.NOBLOCK)
        pump.socket.send(chunk, zmq.NOBLOCK)
        self._credit_bytes -= len(chunk) + CHUNK_COST_BYTES

    def _write_control(self, pump: Pump, payload: bytes) -> None:
        """An empty chunk: a goodbye, or with a payload an acknowledgement. Outside of the window. Under the lock."""
        parts = [b"", payload] if payload else [b""]
        if self._routing_id:
            parts.insert(0, self._routing_id)
        pump.socket.send_multipart(parts, zmq.NOBLOCK)

    def _flush(self, pump: Pump) -> None:
        """Write what the window allows. Under the lock."""
        outbox = self._outbox
        while outbox:
            buffers, size_bytes = outbox.peek(CHUNK_BYTES_MAX)
            if self._credit_bytes < size_bytes + CHUNK_COST_BYTES:
                return  # the next acknowledgement goes on
            try:
                self._write(pump, buffers[0] if len(buffers) == 1 else b"".join(buffers))
            except zmq.Again:
                self._retry_later()
                return
            outbox.advance(size_bytes)

    def _retry_later(self) -> None:
        """Refused by libzmq although the window is not (a peer that breaks the rules). Under the lock."""
        if not self._retrying:
            self._retrying = True
            self._side.soon(self._start_retry)

    def _writing_failed(self, error: zmq.ZMQError) -> None:
        """No more sending; what the peer said before it went is still to be read. Under the lock."""
        self._state = self._BROKEN
        self._outbox.clear()
        reason = PeerGone(f"{self._peer} is gone: {error}")
        self._side.soon(lambda: self._read_rest(reason))

    # ------------------------------------------------------------------------------------------------ own loop only

    def _start_retry(self) -> None:
        self._side.loop.call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        pump = self._pump
        if pump is not None:
            with pump.lock:
                self._retrying = False
                if self._state == self._OPEN:
                    self._go_on(pump)
                    pump.look()

    def _go_on(self, pump: Pump) -> None:
        """Write what waits, if the channel still stands. Under the lock."""
        if self._outbox and self._state == self._OPEN:
            try:
                self._flush(pump)
            except zmq.ZMQError as error:
                self._writing_failed(error)

    def _control(self, pump: Pump, parts: list[bytes]) -> None:
        """An acknowledgement arrived, or nonsense. Under the lock."""
        if len(parts) != 2 or parts[0] or len(parts[1]) != _ACK.size:
            raise PeerGone(f"{self._peer} does not speak our protocol: a control chunk of {len(parts)} parts")
        self._credit_bytes = min(WINDOW_BYTES, self._credit_bytes + _ACK.unpack(parts[1])[0])
        self._go_on(pump)

    def _take(self, pump: Pump, chunk: bytes) -> None:
        """A chunk arrived; its messages are kept until ``_deliver``. Under the lock."""
        self._unacknowledged_bytes += len(chunk) + CHUNK_COST_BYTES
        if self._unacknowledged_bytes >= WINDOW_BYTES // 2 and self._state == self._OPEN:
            payload = _ACK.pack(self._unacknowledged_bytes)
            self._unacknowledged_bytes = 0
            try:
                self._write_control(pump, payload)
            except zmq.ZMQError as error:
                self._writing_failed(error)
        self._parser.feed(chunk, self._messages)

    def _deliver(self) -> None:
        """Hand over what was taken, outside of the lock."""
        parser = self._parser
        while True:
            messages, self._messages = self._messages, []
            if messages and self._state in (self._OPEN, self._BROKEN):
                assert self._handler is not None
                self._side.received(self._handler, self, messages)
            if not parser.held:
                return
            try:
                parser.feed(b"", self._messages)
            except TransportError as error:
                self._end(error)
                return

    def _read_rest(self, reason: PeerGone) -> None:
        if self._pump is not None:
            self._pump.read()
        self._end(reason)

    def _end_closed(self) -> None:
        self._end(Closed(f"the channel to {self._peer} was closed on this side"))

    def _end(self, reason: Exception) -> None:
        """Release everything and tell the handler, once."""
        pump = self._pump
        if pump is None:
            if self._state == self._CLOSED:
                return
            self._state = self._CLOSED
        else:
            with pump.lock:
                if self._state == self._CLOSED:
                    return
                if self._state == self._CLOSING:  # close() came first, whatever was noticed since
                    reason = Closed(f"the channel to {self._peer} was closed on this side")
                elif self._state == self._OPEN:
                    pump.dismiss(self._routing_id)
                    pump.look()
                self._state = self._CLOSED
                self._outbox.clear()
            pump.ended(self)
        self._transport._channels.pop(self, None)
        if self._handler is not None:
            self._side.closed(self._handler, self, reason)
