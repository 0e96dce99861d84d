"""What a shell did, one structured event per handled message.

Theory of operation
-------------------
A trace is optional: a shell without one pays a single ``is None``. Events go into a ring buffer, so a trace never
grows; older events fall out and are only counted. Each event also enters a running hash (BLAKE2b over the
deterministic msgpack form of name, time, envelope and effects), which covers *every* event since the start, fallen
out or not: two runs of the same seed must end with the same ``digest``, and the first differing ``digest`` in the
events tells where they parted.

Nothing here may depend on addresses of objects or on the order of sets; an operand msgspec cannot encode enters by its
type's name, and by its ``repr`` when its class wrote one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from actorrt.kernel.effects import Effect
from actorrt.kernel.message import Envelope

EVENTS_KEPT_MAX = 10_000


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One handled message."""

    number: int
    """Counts from 1, over the whole trace."""
    actor: str
    now: float
    src: str
    body: str
    """Class name of the message."""
    request_id: int
    effects: tuple[str, ...]
    """Class names of the effects; for ``Send``, ``Reply`` and ``Do`` with the class of what they carry."""
    digest: str
    """The running hash after this event (its first 16 hex digits)."""


class Trace:
    """Ring buffer of events and a running hash. Not thread-safe: one trace per shell, or one simulator for many."""

    __slots__ = ("_count", "_encoder", "_events", "_hash")

    def __init__(self, events_kept_max: int = EVENTS_KEPT_MAX) -> None:
        self._events: deque[Event] = deque(maxlen=events_kept_max)
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_opaque, order="deterministic")
        self._hash = hashlib.blake2b(digest_size=16)
        self._count = 0

    def record(self, actor: str, now: float, envelope: Envelope, effects: Sequence[Effect]) -> None:
        """Note that ``actor`` handled ``envelope`` at ``now`` and answered with ``effects``."""
        self._count += 1
        body = envelope.body
        whole = [actor, now, envelope.src, type(body).__name__, body, envelope.request_id, *map(_parts, effects)]
        self._hash.update(self._encoder.encode(whole))
        self._events.append(
            Event(
                number=self._count,
                actor=actor,
                now=now,
                src=str(envelope.src),
                body=type(body).__name__,
                request_id=envelope.request_id,
                effects=tuple(map(_title, effects)),
                digest=self._hash.copy().hexdigest()[:16],
            )
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """The latest events, oldest first."""
        return tuple(self._events)

    @property
    def count(self) -> int:
        """Events since the start, those that fell out included."""
        return self._count

    @property
    def digest(self) -> str:
        """The running hash over every event since the start."""
        return self._hash.copy().hexdigest()

    def __repr__(self) -> str:
        return f"Trace({self._count} events, {len(self._events)} kept, digest={self.digest[:16]})"


def _carried(effect: Effect) -> Any:
    return getattr(effect, "body", getattr(effect, "operation", None))


def _title(effect: Effect) -> str:
    carried = _carried(effect)
    return type(effect).__name__ if carried is None else f"{type(effect).__name__}({type(carried).__name__})"


def _parts(effect: Effect) -> list[Any]:
    # Struct classes without a tag encode their fields only, so the classes are named beside them.
    return [_title(effect), effect]


def _opaque(value: Any) -> Any:
    kind = type(value)
    # Through Any: mypy thinks that a type's __repr__ is never object's.
    written: Any = kind.__repr__
    if written is object.__repr__:
        return kind.__qualname__
    return [kind.__qualname__, repr(value)]
