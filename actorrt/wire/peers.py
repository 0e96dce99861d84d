"""What a router keeps about other processes: a ``Peer`` per process, a ``Link`` per channel.

Theory of operation
-------------------
A ``Link`` is what a transport talks to: the handler of one channel. It runs the handshake, with a time limit, and
then passes messages on. It tells its *office* (the router's connections) four things, each at most once except
``received``: ``proved`` or ``not_proved``; then ``received`` any number of times, and ``link_closed``. After ``end``
it says nothing more, whatever the channel still brings.

A ``Peer`` begins with the first message to a process or the first channel from it, and ends when it is lost. All
names we used for it lead to the same object; ``names[0]`` is what it calls itself, once it has said so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from actorrt.kernel.errors import InternalError
from actorrt.kernel.limits import HELLO_BYTES_MAX
from actorrt.kernel.message import Address
from actorrt.wire.codec import Frame
from actorrt.wire.handshake import Handshake, ProvedPeer

SOURCES_CACHED_MAX: Final = 64
"""Sender addresses kept per channel; a process has four actors."""


class PeerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A peer at one moment."""

    process: str
    description: str
    channels: int
    """Established ones; 0: being dialled."""
    waiting: int
    """Messages that wait for the connection."""
    pending_bytes: int
    """Bytes that wait to be written."""


class Pipe(Protocol):
    """What a link needs of a channel (``transports.base.Channel``)."""

    @property
    def peer(self) -> str: ...
    @property
    def pending_bytes(self) -> int: ...
    def send(self, frames: Sequence[Frame]) -> None: ...
    def close(self) -> None: ...
    def set_message_bytes_max(self, bytes_max: int) -> None: ...


class Office(Protocol):
    """Where a link reports to."""

    loop: asyncio.AbstractEventLoop

    def say(self, link: Link, messages: list[bytes]) -> None:
        """Send these; a channel that ended meanwhile reports that itself."""

    def proved(self, link: Link, proved: ProvedPeer) -> None:
        """The handshake is over; messages may follow in the same breath."""

    def not_proved(self, link: Link, reason: Exception) -> None:
        """The handshake failed, or the channel ended before it was over."""

    def received(self, link: Link, messages: list[list[Frame]]) -> None:
        """Messages of a proved peer."""

    def link_closed(self, link: Link, reason: Exception) -> None:
        """The channel of a proved peer ended."""


class Peer:
    """Another process, from the first message to it (or its first channel) until it is lost."""

    __slots__ = ("candidates", "description", "dialling", "dying", "links", "lost", "names", "waiting")

    def __init__(self, process: str) -> None:
        self.names = [process]
        self.description = ""
        self.links: list[Link] = []
        """Established channels; the first is the one we send on."""
        self.waiting: deque[list[Frame]] = deque()
        """Encoded messages, until there is a channel."""
        self.candidates: deque[str] = deque()
        """Addresses still to be tried."""
        self.dialling: Link | None = None
        self.dying: asyncio.TimerHandle | None = None
        """Set once a channel ended while others remain."""
        self.lost = False

    def __repr__(self) -> str:
        state = "lost" if self.lost else f"{len(self.links)} channels" if self.links else "being dialled"
        return f"Peer({self.names[0]!r}, {state}, {len(self.waiting)} waiting)"

    def information(self) -> PeerInfo:
        """Figures of this moment."""
        return PeerInfo(
            process=self.names[0],
            description=self.description,
            channels=len(self.links),
            waiting=len(self.waiting),
            pending_bytes=sum(link.pipe.pending_bytes for link in self.links),
        )


class Link:
    """One channel: first a handshake, then messages. Lives on the loop's thread; only ``pipe.send`` is for all
    threads.
    """

    __slots__ = (
        "_office",
        "_timeout",
        "dialled",
        "ended",
        "handshake",
        "peer",
        "pipe",
        "received_count",
        "sent_count",
        "sources",
    )

    pipe: Pipe

    def __init__(self, office: Office, handshake: Handshake, dialled: Peer | None) -> None:
        self._office = office
        self._timeout: asyncio.TimerHandle | None = None
        self.handshake: Handshake | None = handshake
        """None once it is over."""
        self.dialled = dialled
        """Whom we wanted to reach; None when we were dialled."""
        self.peer: Peer | None = None
        """Who it turned out to be."""
        self.ended = False
        self.sources: dict[str, Address] = {}
        self.sent_count = 0
        self.received_count = 0

    def __repr__(self) -> str:
        state = "ended" if self.ended else "opening" if self.handshake is not None else "established"
        return f"Link({self.name!r}, {state})"

    @property
    def name(self) -> str:
        """Who is there, for people."""
        if self.peer is not None:
            return self.peer.names[0]
        return self.pipe.peer if hasattr(self, "pipe") else "a peer"

    def begin(self, pipe: Pipe, timeout_s: float) -> None:
        """Start the handshake on this channel."""
        assert self.handshake is not None
        self.pipe = pipe
        pipe.set_message_bytes_max(HELLO_BYTES_MAX)
        self._timeout = self._office.loop.call_later(timeout_s, self._timed_out, timeout_s)
        self._office.say(self, self.handshake.start())

    def end(self) -> None:
        """Be done with the channel; what it still brings is ignored (idempotent)."""
        self.ended = True
        self._stop_timeout()
        if hasattr(self, "pipe"):
            self.pipe.close()

    def source(self, actor: str) -> Address:
        """Address of an actor of the peer."""
        known = self.sources.get(actor)
        if known is None:
            assert self.peer is not None
            known = Address(self.peer.names[0], actor)
            if len(self.sources) < SOURCES_CACHED_MAX:
                self.sources[actor] = known
        return known

    # ---- called by the transport
    def received(self, channel: Pipe, messages: list[list[Frame]]) -> None:  # noqa: ARG002 - there is only one
        if self.ended:
            return
        if self.handshake is None:
            self._office.received(self, messages)
            return
        for position, frames in enumerate(messages):
            self._office.say(self, self.handshake.receive(frames))
            if self.handshake.error is not None:
                self._office.not_proved(self, self.handshake.error)
                return
            if self.handshake.peer is not None:
                proved, self.handshake = self.handshake.peer, None
                self._stop_timeout()
                self._office.proved(self, proved)
                rest = messages[position + 1 :]
                if rest and not self.ended:
                    self._office.received(self, rest)
                return

    def closed(self, channel: Pipe, reason: Exception) -> None:  # noqa: ARG002 - as above
        if self.ended:
            return
        self.ended = True
        self._stop_timeout()
        if self.handshake is None:
            self._office.link_closed(self, reason)
        else:
            self._office.not_proved(self, reason)

    def _stop_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _timed_out(self, timeout_s: float) -> None:
        self._office.not_proved(self, InternalError(f"no handshake within {timeout_s:g} s"))
