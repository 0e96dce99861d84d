"""Channels inside one process: for embedded clusters and tests.

The same frames, the same bounds, the same endings as between processes, so that nothing works only until it is remote.
In particular a receiver never shares memory with the sender: mutable frames and views are copied when they are
delivered, which is this transport's moment of writing.

A ``Hub`` is one little world of names, so that two test clusters in one process do not meet. The transports of a hub
may belong to different loops on different threads. Each end of a connection owns an inbox; ``send`` appends to the
other end's and wakes its loop once per burst.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Final

from actorrt.transports.base import Accept, Frame, Frames, Handler, Limits
from actorrt.transports.errors import BadAddress, Closed, Overflow, PeerGone, TooLarge
from actorrt.transports.framing import check_sizes, flat
from actorrt.transports.loopside import LoopSide

SCHEME: Final = "inproc"
MESSAGES_PER_TURN_MAX: Final = 4096
"""Handed over in one go; a longer inbox continues in the loop's next turn."""


def parse_address(address: str) -> str:
    """``inproc://name`` -> the name."""
    prefix = f"{SCHEME}://"
    name = address.removeprefix(prefix)
    if name == address or not name:
        raise BadAddress(f"expected {prefix} and a name, got {address!r}")
    return name


class Hub:
    """Who listens under which name. Used from the threads of all its transports."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, InprocListener] = {}

    def __repr__(self) -> str:
        return f"<Hub {sorted(self._listeners)}>"

    def add(self, name: str, listener: InprocListener) -> None:
        with self._lock:
            if name in self._listeners:
                raise BadAddress(f"cannot listen at {SCHEME}://{name}: it is taken")
            self._listeners[name] = listener

    def remove(self, name: str, listener: InprocListener) -> None:
        with self._lock:
            if self._listeners.get(name) is listener:
                del self._listeners[name]

    def find(self, name: str) -> InprocListener | None:
        with self._lock:
            return self._listeners.get(name)


class InprocChannel:
    """One end. ``_lock`` guards this end's inbox and states; no thread ever holds the locks of two ends."""

    __slots__ = (
        "_bytes_max",
        "_closing",
        "_ended",
        "_handler",
        "_inbox",
        "_inbox_bytes",
        "_inbox_end",
        "_limits",
        "_lock",
        "_other",
        "_peer",
        "_side",
        "_transport",
        "_waking",
    )

    def __init__(self, transport: InprocTransport, peer: str, handler: Handler | None) -> None:
        self._transport = transport
        self._side = transport._side
        self._limits = transport._limits
        self._peer = peer
        self._handler = handler
        self._other: InprocChannel | None = None
        self._lock = threading.Lock()
        self._inbox: deque[tuple[list[Frame], int]] = deque()
        self._inbox_bytes = 0
        self._inbox_end: Exception | None = None
        """Set once nothing more will come: what to end with when the inbox is empty."""
        self._waking = False
        self._closing = False
        self._ended = False
        self._bytes_max = self._limits.message_bytes_max

    def __repr__(self) -> str:
        state = "closed" if self._ended else "closing" if self._closing else "open"
        return f"<InprocChannel {state} to {self._peer}, {self.pending_bytes} bytes pending>"

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def pending_bytes(self) -> int:
        other = self._other
        return 0 if other is None else other._inbox_bytes

    def set_message_bytes_max(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max

    def send(self, frames: Frames) -> None:
        flats = [flat(frame) for frame in frames]
        assert flats, "a message has at least one frame"
        size_bytes = sum(map(len, flats))
        limits = self._limits
        check_sizes(len(flats), size_bytes, bytes_max=limits.message_bytes_max, frames_max=limits.frames_max)
        other = self._other
        if other is None or self._closing or self._inbox_end is not None:
            raise Closed(f"the channel to {self._peer} is closed")
        other._put(flats, size_bytes, limits)

    def close(self) -> None:
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._inbox.clear()
            self._inbox_bytes = 0
        other = self._other
        if other is not None:
            other._no_more(PeerGone(f"{other._peer} closed the connection"))
        self._side.soon(self._end_closed)

    # ------------------------------------------------------------------------------------------- called by other end

    def _put(self, frames: list[Frame], size_bytes: int, limits: Limits) -> None:
        """``limits`` are the sender's: the bound is on what *it* has not got rid of."""
        with self._lock:
            if self._closing or self._inbox_end is not None:
                raise Closed(f"{self._transport!r} closed the connection")
            if self._inbox_bytes + size_bytes > limits.queue_bytes_max or len(self._inbox) >= limits.queue_messages_max:
                raise Overflow(
                    f"the peer reads too slowly: {len(self._inbox)} messages of {self._inbox_bytes} bytes wait, "
                    f"the limits are {limits.queue_messages_max} and {limits.queue_bytes_max}"
                )
            self._inbox.append((frames, size_bytes))
            self._inbox_bytes += size_bytes
            if self._waking:
                return
            self._waking = True
        if not self._side.soon(self._drain):
            self._gone()
            raise Closed(f"the event loop of {self._transport!r} is closed")

    def _no_more(self, reason: Exception) -> None:
        """End with ``reason`` once the inbox is empty."""
        with self._lock:
            if self._inbox_end is None:
                self._inbox_end = reason
            if self._waking:
                return
            self._waking = True
        self._side.soon(self._drain)  # a closed loop has nobody left to tell

    def _gone(self) -> None:
        """This end's loop was closed under it: all that is left to do is to tell the other end."""
        with self._lock:
            self._closing = self._ended = True
            self._inbox.clear()
            self._inbox_bytes = 0
        if self._other is not None:
            self._other._no_more(PeerGone("the peer's event loop is closed"))

    # ------------------------------------------------------------------------------------------------- own loop only

    def _drain(self) -> None:
        batch: list[list[Frame]] = []
        reason: Exception | None = None
        with self._lock:
            self._waking = False
            if self._ended or self._closing:
                return
            inbox = self._inbox
            while inbox and len(batch) < MESSAGES_PER_TURN_MAX:
                frames, size_bytes = inbox[0]
                if size_bytes > self._bytes_max:
                    if not batch:
                        reason = TooLarge(f"a message of {size_bytes} bytes is over the limit of {self._bytes_max}")
                    break  # else: whoever receives the batch may raise the limit
                del inbox[0]
                self._inbox_bytes -= size_bytes
                batch.append([frame if isinstance(frame, bytes) else bytes(frame) for frame in frames])
            if reason is None:
                if inbox:
                    self._waking = True
                else:
                    reason = self._inbox_end
            waking = self._waking
        if batch:
            assert self._handler is not None
            self._side.received(self._handler, self, batch)
        if reason is not None:
            self._end(reason)
        elif waking:
            self._side.loop.call_soon(self._drain)

    def _accepted(self, listener: InprocListener) -> None:
        """The first thing that happens at the listening end: find a handler or refuse."""
        transport = self._transport
        if listener._closed or len(transport._channels) >= transport._limits.channels_max:
            self._end(Closed(f"{listener!r} does not accept"))
            return
        transport._channels[self] = None
        try:
            self._handler = listener._accept(self)
        except Exception as error:  # noqa: BLE001 - a bug in accept must not reach whoever runs the loop
            self._side.loop.call_exception_handler({"message": f"{listener!r}: accept raised", "exception": error})
            self._end(Closed("accept raised"))

    def _end_closed(self) -> None:
        self._end(Closed(f"the channel to {self._peer} was closed on this side"))

    def _end(self, reason: Exception) -> None:
        with self._lock:
            if self._ended:
                return
            if self._closing:
                reason = Closed(f"the channel to {self._peer} was closed on this side")
            self._closing = self._ended = True
            self._inbox.clear()
            self._inbox_bytes = 0
        if self._other is not None:
            self._other._no_more(PeerGone(f"{self._other._peer} closed the connection"))
        self._transport._channels.pop(self, None)
        if self._handler is not None:
            self._side.closed(self._handler, self, reason)


class InprocListener:
    def __init__(self, transport: InprocTransport, name: str, accept: Accept) -> None:
        self._transport = transport
        self._name = name
        self._accept = accept
        self._closed = False

    def __repr__(self) -> str:
        return f"<InprocListener {self.address}{' closed' if self._closed else ''}>"

    @property
    def address(self) -> str:
        return f"{SCHEME}://{self._name}"

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport._hub.remove(self._name, self)
            self._transport._listeners.pop(self, None)


class InprocTransport:
    """Channels within one process, addresses ``inproc://name``; only transports of the same hub meet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits, hub: Hub) -> None:
        self._side = LoopSide(loop)
        self._limits = limits
        self._hub = hub
        # Insertion-ordered, so that close() ends channels in the order they were made.
        self._channels: dict[InprocChannel, None] = {}
        self._listeners: dict[InprocListener, None] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<InprocTransport {len(self._listeners)} listeners, {len(self._channels)} channels>"

    @property
    def schemes(self) -> tuple[str, ...]:
        return (SCHEME,)

    def listen(self, address: str, accept: Accept) -> InprocListener:
        if self._closed:
            raise Closed("the transport is closed")
        name = parse_address(address)
        listener = InprocListener(self, name, accept)
        self._hub.add(name, listener)
        self._listeners[listener] = None
        return listener

    def connect(self, address: str, handler: Handler) -> InprocChannel:
        if self._closed:
            raise Closed("the transport is closed")
        name = parse_address(address)
        near = InprocChannel(self, address, handler)
        far: InprocChannel | None = None
        listener = self._hub.find(name)
        if len(self._channels) >= self._limits.channels_max:
            reason = f"{address} not dialled: {self._limits.channels_max} channels are open"
        elif listener is None:
            reason = f"cannot connect to {address}: nobody listens"
        else:
            reason = f"cannot connect to {address}: the event loop of its listener is closed"
            far = InprocChannel(listener._transport, f"a client of {address}", None)
            far._other = near
        self._channels[near] = None
        if far is None or listener is None:
            self._refuse(near, reason)
            return near
        near._other = far
        accepting, end = listener, far
        if not far._side.soon(lambda: end._accepted(accepting)):
            self._refuse(near, reason)
        return near

    def _refuse(self, near: InprocChannel, reason: str) -> None:
        """As between processes, the news comes a moment later, and what is sent until then is taken and lost."""
        near._other = nobody = InprocChannel(self, near._peer, None)
        nobody._waking = True  # so that nothing ever drains it
        self._side.loop.call_soon(near._no_more, PeerGone(reason))

    def close(self) -> None:
        self._closed = True
        for listener in list(self._listeners):
            listener.close()
        for channel in list(self._channels):
            channel.close()
            channel._end_closed()

    def abandon(self) -> None:
        self._closed = True  # no descriptors
