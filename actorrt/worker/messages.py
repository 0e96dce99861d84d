"""What a worker understands."""

from __future__ import annotations

from actorrt.kernel.message import LANE_CONTROL, LANE_SUPERVISION, Message
from actorrt.wire.records import ActorSpec, DeathCause, Result, TaskCall, TaskOutcome, TaskTemplate


# ---- from owners
class PushTasks(Message):
    """Run these tasks in order. Each is answered in an ``owner.messages.TasksDone`` or ``TasksReturned``."""

    lease_id: int
    templates: tuple[TaskTemplate, ...]
    calls: tuple[TaskCall, ...]
    accelerator_ids: dict[str, tuple[str, ...]] = {}
    """Devices the lease holds, by resource. A process keeps those of its first lease for life."""


class PushCalls(Message):
    """Run these actor calls; refused with ``CallsRefused`` when this is another incarnation of the actor."""

    actor_id: bytes
    incarnation: int
    templates: tuple[TaskTemplate, ...]
    calls: tuple[TaskCall, ...]


class TakeBack(Message):
    """Give back up to ``count`` tasks of this sender that have not started (the last ones first)."""

    LANE = LANE_CONTROL
    count: int


class CancelTask(Message):
    """Cancel a task or call of this sender; may arrive before the task itself, which is then dropped on arrival."""

    LANE = LANE_CONTROL
    task_id: bytes
    force: bool = False
    recursive: bool = True


# ---- from the raylet
class CreateActorHere(Message):
    """Become this actor."""

    spec: ActorSpec
    incarnation: int
    accelerator_ids: dict[str, tuple[str, ...]] = {}


class ExitWorker(Message):
    """End: at once, or (``graceful``) after the calls already here."""

    LANE = LANE_CONTROL
    graceful: bool = False
    cause: DeathCause | None = None


# ---- from the executor (never travel, but are messages like all others)
class TasksFinished(Message):
    """User code of these tasks ended. ``pushed_by`` is kept by the machine."""

    outcomes: tuple[TaskOutcome, ...]


class ItemsProduced(Message):
    """A streaming task yielded these items, as (index, result)."""

    task_id: bytes
    items: tuple[tuple[int, Result], ...]


class WorksReturned(Message):
    """The executor gave back these tasks unstarted (perhaps none): the answer to ``Return``."""

    task_ids: tuple[bytes, ...]


class Started(Message):
    """The process is set up: report to the raylet."""


class ActorCreated(Message):
    """``__init__`` ended; ``cause`` says why it failed."""

    cause: DeathCause | None = None


class BlockBegan(Message):
    """The running task waits in get or wait."""

    LANE = LANE_SUPERVISION


class BlockEnded(Message):
    """It goes on."""

    LANE = LANE_SUPERVISION


class ExitRequested(Message):
    """User code asked for the end of this worker (``exit_actor``, ``max_calls``, ``cancel(force=True)``)."""

    cause: DeathCause
    exit_code: int = 0
