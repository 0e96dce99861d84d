"""ZeroMQ: the transport between nodes, and the default between processes.

One DEALER per outgoing channel, one ROUTER per listener. libzmq carries *chunks* of each channel's byte stream (the
framing of ``framing.py``, so small messages that wait together travel together, and a large one never makes libzmq hold
more than a chunk of it). What plain ZeroMQ patterns lack for our contract is added here, each with little:

* **An end.** ZeroMQ reconnects silently and tells nobody. Here a lost connection ends the channel: the socket monitor
  reports it by file descriptor, and the first chunk of a connection says (``ZMQ_SRCFD``) which descriptor it came by,
  so the ROUTER's side knows which channel ended. Reconnecting is put off so far that it never happens; not forbidden
  with -1, because libzmq then drops what has arrived but was not yet read.
* **A beginning.** A DEALER sends ``HELLO`` first; that is what makes the ROUTER's side call ``accept``.
* **A goodbye.** A ROUTER cannot drop one peer, so it sends an empty chunk; the DEALER's side then disconnects.
* **A bound in bytes.** High-water marks count messages. A sender may have ``WINDOW_BYTES`` unacknowledged; the
  receiver acknowledges when it has *taken* half of it. High-water marks are set above what the window allows: libzmq
  never refuses a chunk and never stops reading (which would let its heartbeats time out on a peer that is merely busy).

Sockets are not thread-safe: each (``zeromq_channel.Pump``) has a lock, held by ``send`` from any thread and by the
loop's reading alike. The socket's FD is edge-triggered, and *any* call may consume the edge, so whoever sent looks at
ZMQ_EVENTS afterwards and wakes the loop if there is something to read.

A ROUTER cannot be unbound without cutting its accepted connections (libzmq makes them children of the listener). So a
closed listener keeps its port until its last channel ends and says goodbye to newcomers; the ipc file goes at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from typing import Final

import zmq

from actorrt.transports.base import Accept, Handler, Limits
from actorrt.transports.errors import BadAddress, Closed, PeerGone, TransportError
from actorrt.transports.unix import claim_path, file_identity, remove_file
from actorrt.transports.unix import parse_address as parse_unix_address
from actorrt.transports.zeromq_channel import CHUNK_COST_BYTES, Pump, ZeromqChannel, ZeromqCore, milliseconds

logger = logging.getLogger("actorrt.transports")

HELLO: Final = b"actorrt-zeromq-1"
READ_TURN_BYTES_MAX: Final = 4 << 20
DYING_TURNS_MAX: Final = 64
"""Turns of reading after a connection was lost before its channel ends even if others keep the socket busy."""
RECONNECT_NEVER_MS: Final = 2**31 - 1
LISTEN_BACKLOG: Final = 1024

_TCP: Final = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[\w.\-]+|\*):(?P<port>\d{1,5}|\*)")
_DEALER_EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_ROUTER_EVENTS: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED


def check_address(address: str, *, listen: bool) -> str | None:
    """Raise ``BadAddress`` unless ``address`` can be dialled (or bound); returns the path of an ipc address."""
    if address.startswith("ipc://"):
        return parse_unix_address("unix" + address.removeprefix("ipc"))
    match = _TCP.fullmatch(address)
    if match is None:
        raise BadAddress(f"expected tcp://host:port or ipc:// and an absolute path, got {address!r}")
    port = 0 if match["port"] == "*" else int(match["port"])
    if port > 65535:
        raise BadAddress(f"a port is at most 65535, got {address!r}")
    if not listen and (port == 0 or match["host"] == "*"):
        raise BadAddress(f"wildcards can be listened at but not dialled: {address!r}")
    return None


class _Dealer(Pump):
    """The dialling end: one socket, one channel."""

    def __init__(self, transport: ZeromqTransport, channel: ZeromqChannel, address: str) -> None:
        super().__init__(transport, zmq.DEALER, _DEALER_EVENTS, address)
        self._channel = channel
        self._lost: PeerGone | None = None
        limits = self.limits
        try:
            self.socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_NEVER_MS)
            self.socket.setsockopt(zmq.CONNECT_TIMEOUT, milliseconds(limits.connect_timeout_s))
            self.socket.connect(address)
            self.socket.send(HELLO, zmq.NOBLOCK)
        except BaseException:
            self._release()
            raise
        self._deadline = self.side.loop.call_later(limits.connect_timeout_s, self._timed_out)
        self.start()

    def stop(self) -> None:
        self._deadline.cancel()
        super().stop()

    def dismiss(self, routing_id: bytes) -> None:
        """Nothing to say: ``ended`` disconnects."""

    def ended(self, channel: ZeromqChannel) -> None:
        del channel
        self.stop()

    def _timed_out(self) -> None:
        address, timeout_s = self._channel.peer, self.limits.connect_timeout_s
        self._channel._end(PeerGone(f"cannot connect to {address}: no answer in {timeout_s} s"))

    def _event(self, kind: int, value: int) -> None:
        del value
        if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._deadline.cancel()
        elif self._lost is None:
            peer = self._channel.peer
            what = f"cannot connect to {peer}" if kind == zmq.EVENT_CLOSED else f"the connection to {peer} was lost"
            self._lost = PeerGone(f"{what} ({zmq.Event(kind).name})")
            self.side.loop.call_soon(self.read)

    def read(self) -> None:
        channel = self._channel
        reason: TransportError | None = None
        more = True
        taken_bytes = 0
        with self.lock:
            self._read_awaited = False
            if self.closed:
                return
            try:
                while taken_bytes < READ_TURN_BYTES_MAX and not channel._parser.held:
                    parts = self.socket.recv_multipart(zmq.NOBLOCK)
                    taken_bytes += len(parts[0]) + CHUNK_COST_BYTES
                    if len(parts) == 1 and parts[0]:
                        channel._take(self, parts[0])
                    elif len(parts) == 1:
                        reason = PeerGone(f"{channel.peer} closed the connection")
                        break
                    else:
                        channel._control(self, parts)
            except zmq.Again:
                more = False
            except TransportError as error:
                reason = error
        channel._deliver()
        if reason is not None:
            channel._end(reason)
        elif more:
            self.side.loop.call_soon(self.read)
        elif self._lost is not None:
            channel._end(self._lost)


class ZeromqListener(Pump):
    """A bound ROUTER and the channels of those who dialled it."""

    def __init__(self, transport: ZeromqTransport, address: str, accept: Accept) -> None:
        self._listeners = transport._listeners
        super().__init__(transport, zmq.ROUTER, _ROUTER_EVENTS, address)
        self._accept = accept
        self._listening = True
        self._channels: dict[bytes, ZeromqChannel] = {}
        # By descriptor, every connection libzmq has accepted and not yet reported lost; with its channel once that
        # connection has said hello.
        self._connections: dict[int, ZeromqChannel | None] = {}
        self._dying: dict[ZeromqChannel, int] = {}
        path = check_address(address, listen=True)
        try:
            self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self.socket.setsockopt(zmq.BACKLOG, LISTEN_BACKLOG)
            if path is not None:
                claim_path(path, address)
            self.socket.bind(_bind_form(address))
            if path is not None:
                os.chmod(path, 0o600)  # noqa: PTH101 - paths are strings here
            self._file = None if path is None else (path, file_identity(path))
        except (zmq.ZMQError, OSError) as error:
            self._release()
            raise BadAddress(f"cannot listen at {address}: {error}") from error
        except BadAddress:
            self._release()
            raise
        bound = self.socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self._address = bound.rstrip(b"\0").decode() if path is None else address
        self.start()

    def __repr__(self) -> str:
        return f"<ZeromqListener {self._address}{'' if self._listening else ' closed'}, {len(self._channels)} channels>"

    @property
    def address(self) -> str:
        return self._address

    def close(self) -> None:
        if self._listening:
            self._listening = False
            if self._file is not None:
                remove_file(*self._file)
            self._stop_if_unused()

    def ended(self, channel: ZeromqChannel) -> None:
        self._channels.pop(channel._routing_id, None)
        self._stop_if_unused()

    def _stop_if_unused(self) -> None:
        if not self._listening and not self._channels:
            self.stop()
            self._listeners.pop(self, None)

    def dismiss(self, routing_id: bytes) -> None:
        """Tell a peer to go. Under the lock."""
        try:
            self.socket.send_multipart([routing_id, b""], zmq.NOBLOCK)
        except zmq.ZMQError:
            return  # it went by itself

    def _event(self, kind: int, value: int) -> None:
        if kind == zmq.EVENT_ACCEPTED:
            self._connections[value] = None
            return
        known = value in self._connections
        channel = self._connections.pop(value, None)
        if channel is not None:
            self._dying[channel] = 0
            self.side.loop.call_soon(self.read)
        elif known:
            # Not ZeroMQ, or nothing we understood: libzmq drops such peers without a word.
            logger.warning("%s: a connection was refused or left before it had greeted as ours do", self._address)

    def read(self) -> None:
        born: list[ZeromqChannel] = []
        # Channels with news, in order of their first, and what ends them if anything does.
        touched: dict[ZeromqChannel, TransportError | None] = {}
        more = True
        taken_bytes = 0
        with self.lock:
            self._read_awaited = False
            if self.closed:
                return
            try:
                # A newcomer stops the turn: its next chunks are judged by the limit that accept() may set.
                while taken_bytes < READ_TURN_BYTES_MAX and not born:
                    routing_id = self.socket.recv(zmq.NOBLOCK)
                    channel = self._channels.get(routing_id)
                    if channel is None:
                        self._take_from_stranger(routing_id, born)
                        taken_bytes += CHUNK_COST_BYTES
                    else:
                        taken_bytes += self._take_from(channel, touched)
            except zmq.Again:
                more = False
        for channel in born:
            self._introduce(channel)
        for channel, reason in touched.items():
            channel._deliver()
            if reason is not None:
                channel._end(reason)
        if more and not self.closed:
            self.side.loop.call_soon(self.read)
        self._end_dying(more=more)

    def _take_from(self, channel: ZeromqChannel, touched: dict[ZeromqChannel, TransportError | None]) -> int:
        """The rest of a known peer's message. Under the lock."""
        parts = self.socket.recv_multipart(zmq.NOBLOCK)
        chunk = parts[0]
        if touched.setdefault(channel) is None:
            try:
                if len(parts) == 1 and chunk:
                    channel._take(self, chunk)
                else:
                    channel._control(self, parts)
            except TransportError as error:
                touched[channel] = error
        return len(chunk) + CHUNK_COST_BYTES

    def _take_from_stranger(self, routing_id: bytes, born: list[ZeromqChannel]) -> None:
        """The rest of a message whose sender has no channel (yet, or any more). Under the lock."""
        frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
        first = frames[0]
        transport = self._transport
        welcome = self._listening and len(transport._channels) < self.limits.channels_max
        if not welcome or len(frames) > 1 or first.bytes != HELLO:
            if self._connections.get(_descriptor_of(first), self) is None:  # else it had a channel, which has ended
                logger.warning("%s: a ZeroMQ peer was refused: it does not greet as ours do", self._address)
            self.dismiss(routing_id)
            return
        # Its connection was reported as accepted before anything came through it, so after this look at the monitor
        # we know of it; unless it was lost since, and reported as that too.
        self.watch()
        descriptor = _descriptor_of(first)
        channel = ZeromqChannel(transport, f"descriptor {descriptor} at {self._address}", None)
        channel._pump = self
        channel._routing_id = routing_id
        if descriptor in self._connections:
            former = self._connections[descriptor]
            if former is not None:  # its end must have been reported between: the descriptor is used again
                self._dying[former] = DYING_TURNS_MAX
            self._connections[descriptor] = channel
        else:
            self._dying[channel] = 0
        self._channels[routing_id] = channel
        transport._channels[channel] = None
        born.append(channel)

    def _introduce(self, channel: ZeromqChannel) -> None:
        try:
            channel._handler = self._accept(channel)
        except Exception as error:  # noqa: BLE001 - a bug in accept must not end the listener
            self.side.loop.call_exception_handler({"message": f"{self!r}: accept raised", "exception": error})
            channel._end(Closed("accept raised"))

    def _end_dying(self, *, more: bool) -> None:
        """End the channels whose connection was lost, now that all they had sent is read (or enough turns passed)."""
        for channel, turns in list(self._dying.items()):
            if more and turns < DYING_TURNS_MAX:
                self._dying[channel] = turns + 1
            else:
                del self._dying[channel]
                channel._end(PeerGone(f"{channel.peer} closed the connection"))


def _descriptor_of(frame: zmq.Frame) -> int:
    """Connection a frame came through; -1 when libzmq does not know (any more)."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def _bind_form(address: str) -> str:
    """How libzmq spells "any free port": with an asterisk."""
    return address[:-1] + "*" if address.startswith("tcp://") and address.endswith(":0") else address


class ZeromqTransport(ZeromqCore):
    """Channels over ZeroMQ, addresses ``ipc:///absolute/path`` and ``tcp://host:port``.

    ``context`` may be shared with other users of ZeroMQ in the process; one that is given is not terminated here.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: Limits, context: zmq.Context[zmq.Socket[bytes]] | None = None
    ) -> None:
        super().__init__(loop, limits, context)
        self._listeners: dict[ZeromqListener, None] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<ZeromqTransport {len(self._listeners)} listeners, {len(self._channels)} channels>"

    @property
    def schemes(self) -> tuple[str, ...]:
        return ("ipc", "tcp")

    def listen(self, address: str, accept: Accept) -> ZeromqListener:
        if self._closed:
            raise Closed("the transport is closed")
        check_address(address, listen=True)
        try:
            listener = ZeromqListener(self, address, accept)
        except zmq.ZMQError as error:  # out of sockets or descriptors
            raise BadAddress(f"cannot listen at {address}: {error}") from error
        self._listeners[listener] = None
        return listener

    def connect(self, address: str, handler: Handler) -> ZeromqChannel:
        if self._closed:
            raise Closed("the transport is closed")
        check_address(address, listen=False)
        channel = ZeromqChannel(self, address, handler)
        reason = ""
        if len(self._channels) >= self._limits.channels_max:
            reason = f"{address} not dialled: {self._limits.channels_max} channels are open"
        else:
            try:
                channel._pump = _Dealer(self, channel, address)
            except zmq.ZMQError as error:
                reason = f"cannot connect to {address}: {error}"
        self._channels[channel] = None
        if reason:
            self._side.loop.call_soon(channel._end, PeerGone(reason))
        return channel

    def close(self) -> None:
        self._closed = True
        for listener in list(self._listeners):
            listener.close()
        for channel in list(self._channels):
            channel.close()
            channel._end_closed()
        if self._own_context and self._context is not None:
            context, self._context = self._context, None
            context.term()  # waits for its thread to flush what close() left, LINGER_MS at most

    def abandon(self) -> None:
        """A child keeps libzmq's descriptors, which are nobody's to close; heartbeats tell of the parent's end then."""
        self._closed = True
