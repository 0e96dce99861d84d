"""The contract of every transport: move *frames*, know nothing of what they mean.

A *message* is a non-empty sequence of *frames* (bytes-like objects, each of which may be empty). A transport promises,
per channel and direction:

* **Ordered.** Messages arrive in the order in which ``send`` was called (calls from several threads are ordered by
  the moment each ``send`` took the channel's lock).
* **At most once, whole or not at all.** No message is duplicated, split, merged or truncated; frame boundaries are
  kept.
* **Bounded.** At most ``Limits.queue_bytes_max`` bytes and ``Limits.queue_messages_max`` messages wait to be written;
  ``send`` raises ``Overflow`` beyond, and ``TooLarge`` for one message over ``Limits.message_bytes_max``. A peer that
  announces more than the limit is disconnected before memory for it is taken.
* **Prompt PeerGone.** When the peer's process dies, ``Handler.closed`` is called with ``PeerGone`` at once where the
  kernel tells (stream sockets), within ``Limits.heartbeat_timeout_s`` where only silence tells.
* **One end.** ``Handler.closed`` is called exactly once per channel, on the loop thread, after the last
  ``Handler.received``; also after a local ``close()`` (then with ``Closed``).

It does **not** promise delivery, acknowledgement, or anything across a reconnect: requests carry ids, receivers
deduplicate. It never blocks the caller, starts no thread of its own that outlives ``close``, and leaves no socket
file.

Threads: a transport belongs to one event loop. ``connect``, ``listen`` and ``Transport.close`` run on that loop's
thread; ``received`` and ``closed`` are called there. ``Channel.send`` and ``Channel.close`` may be called from *any*
thread: ``send`` writes directly to the operating system from the calling thread when nothing is queued before it (that
saves a thread hand-off, the largest cost of a one-at-a-time call), else it queues, and the loop writes the rest.

Frames passed to ``send`` must not be changed until they are written; frames passed to ``received`` are owned by the
receiver and may be read-only views of one larger buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Frame: TypeAlias = bytes | bytearray | memoryview
Frames: TypeAlias = Sequence[Frame]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Every bound a transport enforces."""

    message_bytes_max: int = 8 << 30
    """All frames of one message together."""
    frames_max: int = 65_536
    """Frames in one message."""
    queue_bytes_max: int = 16 << 30
    """Bytes that wait to be written on one channel. Views are queued, not copies."""
    queue_messages_max: int = 1_000_000
    """Messages that wait to be written on one channel."""
    heartbeat_interval_s: float = 1.0
    heartbeat_timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    channels_max: int = 65_536
    """Channels open at once in one transport; further peers are refused."""


class Channel(Protocol):
    """One connection to one peer endpoint."""

    @property
    def peer(self) -> str:
        """The peer's address as dialled, or a description of who dialled us; for logs only."""

    def send(self, frames: Frames) -> None:
        """Queue or write one message (any thread).

        A message sent before the connection stands is queued and goes first once it does.

        Raises:
            Closed: the channel is closed or its peer is gone.
            TooLarge: the message is over ``Limits.message_bytes_max`` or ``frames_max``.
            Overflow: the queue is full.
        """

    def close(self) -> None:
        """Write what the operating system takes at once, drop the rest, close (any thread, idempotent)."""

    def set_message_bytes_max(self, bytes_max: int) -> None:
        """Change the limit for *incoming* messages (loop thread): small before the peer has proved who it is."""

    @property
    def pending_bytes(self) -> int:
        """Bytes queued and not yet written."""


class Handler(Protocol):
    """Who is told what happens on a channel. Both methods are called on the loop thread and must not raise."""

    def received(self, channel: Channel, messages: list[list[Frame]]) -> None:
        """One or more whole messages, in order (as many as one read brought)."""

    def closed(self, channel: Channel, reason: Exception) -> None:
        """The channel ended: ``PeerGone``, ``Closed`` (local), or ``TooLarge`` (the peer broke the limit)."""


Accept: TypeAlias = Callable[[Channel], Handler]
"""Called on the loop thread for each incoming connection; returns its handler."""


class Listener(Protocol):
    """A bound endpoint."""

    @property
    def address(self) -> str:
        """The address peers can dial (a wildcard port is resolved)."""

    def close(self) -> None:
        """Stop accepting and remove the endpoint's socket file; accepted channels live on. Loop thread, idempotent."""


class Transport(Protocol):
    """A way to reach endpoints of certain address schemes."""

    @property
    def schemes(self) -> tuple[str, ...]:
        """Address schemes this transport serves, e.g. ``("unix",)``."""

    def listen(self, address: str, accept: Accept) -> Listener:
        """Bind. Raises ``BadAddress`` when the address is malformed or taken."""

    def connect(self, address: str, handler: Handler) -> Channel:
        """Start connecting and return at once; failure is reported through ``handler.closed(PeerGone)``.

        Raises ``BadAddress`` when the address is malformed.
        """

    def close(self) -> None:
        """Close every channel and listener (loop thread, idempotent); each handler still gets its ``closed``."""

    def abandon(self) -> None:
        """In a forked child, and nowhere else: let go of the descriptors it has inherited.

        Else the parent's peers would not see its end as long as the child lives. Touches neither the loop (the child
        shares its epoll set) nor any peer; the transport is unusable afterwards.
        """
