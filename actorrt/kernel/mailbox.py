"""The bounded queue in front of a machine: three lanes, each first in, first out.

Theory of operation
-------------------
``type(body).LANE`` chooses the lane: control before supervision before normal, so that a cancel or a heartbeat does not
wait behind a hundred thousand results. Within a lane nothing is ever reordered, hence messages of one sender keep their
order there. ``PeerGone`` is the exception: although it concerns supervision it joins the *normal* lane, because it
means "nothing more comes from this peer" and must not overtake what that peer still said. Nor is it ever refused: a
machine that does not hear of a loss waits for ever, and there are no more of them than peers.

Any thread appends; one thread at a time (the shell's driver) takes. Both ends are single ``deque`` operations, so no
lock is needed. Every lane has its own bound: a flood of work cannot keep a control message out. The bound is checked
before the append without a lock, so it may be exceeded by as many messages as there are threads appending at that
moment.
"""

from __future__ import annotations

from collections import deque

from actorrt.kernel.errors import Overloaded
from actorrt.kernel.limits import MAILBOX_MESSAGES_MAX
from actorrt.kernel.message import LANE_CONTROL, LANE_NORMAL, LANE_SUPERVISION, Envelope, PeerGone


class Overflow(Overloaded):
    """A lane of the mailbox is full; the message was not taken."""


class Mailbox:
    """Lanes of envelopes."""

    __slots__ = ("_control", "_lanes", "_messages_max", "_normal", "_supervision")

    def __init__(self, messages_max: int = MAILBOX_MESSAGES_MAX) -> None:
        if messages_max < 1:
            raise ValueError(f"messages_max is {messages_max}, must be at least 1")
        self._messages_max = messages_max
        self._control: deque[Envelope] = deque()
        self._supervision: deque[Envelope] = deque()
        self._normal: deque[Envelope] = deque()
        self._lanes = {
            LANE_CONTROL: self._control,
            LANE_SUPERVISION: self._supervision,
            LANE_NORMAL: self._normal,
        }

    def append(self, envelope: Envelope) -> None:
        """Queue a message (any thread). Raises ``Overflow`` when its lane is full."""
        kind = type(envelope.body)
        if kind is PeerGone:
            self._normal.append(envelope)
            return
        queue = self._lanes[kind.LANE]
        if len(queue) >= self._messages_max:
            raise Overflow(f"{len(queue)} messages wait already, at most {self._messages_max} may")
        queue.append(envelope)

    def pop(self) -> Envelope | None:
        """Take the next message, or None when there is none (one thread at a time)."""
        if self._control:
            return self._control.popleft()
        if self._supervision:
            return self._supervision.popleft()
        if self._normal:
            return self._normal.popleft()
        return None

    @property
    def lanes(self) -> tuple[deque[Envelope], deque[Envelope], deque[Envelope]]:
        """Control, supervision, normal: to see that all are empty without a call. Nobody else appends or takes."""
        return self._control, self._supervision, self._normal

    def __bool__(self) -> bool:
        return bool(self._normal or self._control or self._supervision)

    def __len__(self) -> int:
        return len(self._control) + len(self._supervision) + len(self._normal)

    def __repr__(self) -> str:
        return (
            f"Mailbox(control={len(self._control)}, supervision={len(self._supervision)}, "
            f"normal={len(self._normal)}, messages_max={self._messages_max})"
        )
