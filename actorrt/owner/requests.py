"""What the API of the same process asks of its owner. These never travel, so they may hold live Python objects."""

from __future__ import annotations

from typing import ClassVar, dataclass_transform

import msgspec

from actorrt.kernel.message import LANE_NORMAL, Message
from actorrt.owner.tasks import Task, Waiter
from actorrt.wire.records import ActorInfo, ActorSpec, RefInfo, Result


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class LocalRequest(msgspec.Struct, frozen=True, tag=False):
    """Base: has a lane like a message, is never encoded."""

    LANE: ClassVar[int] = LANE_NORMAL


class Submit(LocalRequest):
    """New objects (``put``: id and value, with one ObjectRef each), then new tasks and actor calls, in order; with refs
    adopted before and refs released since the last batch.

    One message for all, because a step of the machine costs as much as what it does for one task.
    """

    tasks: list[Task]
    adopted: list[RefInfo] = []
    released: list[bytes] = []
    puts: list[tuple[bytes, Result]] = []


class Release(LocalRequest):
    """ObjectRefs of this process that were dropped (one entry per ObjectRef instance)."""

    object_ids: list[bytes]


class AddRefs(LocalRequest):
    """ObjectRefs made in this process by unpickling (one entry per instance)."""

    refs: list[RefInfo]


class PutObject(LocalRequest):
    """``put``: the object is ours from the start, with one ObjectRef."""

    object_id: bytes
    result: Result


class TakeItem(LocalRequest):
    """The consumer of a stream takes this item: one ObjectRef more, and the stream's own hold goes."""

    object_id: bytes


class DropStream(LocalRequest):
    """The generator of this task was dropped: what it did not take is released."""

    task_id: bytes


class AddWaiter(LocalRequest):
    """Wake ``waiter`` when enough of its objects are ready."""

    waiter: Waiter


class DropWaiter(LocalRequest):
    """Forget it (timed out, or its coroutine was cancelled)."""

    waiter: Waiter


class Renew(LocalRequest):
    """Values with these keys could not be had: find out what their owners have now (each ref is held by the asker)."""

    stale: tuple[tuple[RefInfo, bytes], ...]


class Lend(LocalRequest):
    """A value with these refs is about to be sent to ``borrower``: register it with their owners first."""

    refs: tuple[RefInfo, ...]
    borrower: str


class ReportHeld(LocalRequest):
    """Which of these refs (from a finished task's arguments) does this process still hold?

    The answer goes to ``answer`` (a list), then ``waiter`` is woken. The ones named count as registered from now on.
    """

    refs: tuple[RefInfo, ...]
    answer: list[RefInfo]
    waiter: Waiter


class Cancel(LocalRequest):
    """``cancel(ref)``."""

    object_id: bytes
    owner: str
    force: bool
    recursive: bool


class CancelChildren(LocalRequest):
    """The task ``parent_task_id`` that ran in this process was cancelled recursively: cancel what it submitted."""

    parent_task_id: bytes


class StartActor(LocalRequest):
    """Create an actor of ours once its arguments are there: ``dependencies`` are its top-level refs, in slot order."""

    spec: ActorSpec
    dependencies: tuple[RefInfo, ...]
    refs: tuple[RefInfo, ...]


class WatchActor(LocalRequest):
    """A handle of this actor came to this process; ``info`` if already known."""

    actor_id: bytes
    info: ActorInfo | None = None


class CountHolds(Message):
    """Timer: say to every process that holds objects of ours that it does."""


class Tick(Message):
    """Timer: return idle leases, take back tasks stuck behind a slow one, give up on what nobody reports."""
