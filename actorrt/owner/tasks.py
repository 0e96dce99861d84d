"""Records of the owner: tasks, templates, objects, waiters, leased workers.

Slotted: there may be hundreds of thousands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from actorrt.kernel.message import Address
from actorrt.wire.records import Buffer, DeathCause, Failure, LeaseSpec, RefInfo, Result, TaskTemplate

WAITING = 0
"""Some arguments are not there yet."""
QUEUED = 1
"""Ready to be pushed."""
PUSHED = 2
"""At a worker, no outcome yet."""
ENDED = 3

STATE_NAMES = ("WAITING", "QUEUED", "PUSHED", "ENDED")


class Template:
    """What all tasks of one function (or actor method) with the same options share."""

    __slots__ = ("average_s", "lease_key", "lease_spec", "max_retries", "spec")

    def __init__(self, spec: TaskTemplate, lease_spec: LeaseSpec | None, lease_key: bytes = b"") -> None:
        self.spec = spec
        self.lease_spec = lease_spec
        self.lease_key = lease_key
        """Equal for templates that can share leased workers."""
        self.max_retries = spec.max_retries
        self.average_s = -1.0
        """Smoothed duration; negative while unknown."""


class Task:
    """One submitted task or actor call. Made by the submitting thread, then touched by the machine alone."""

    __slots__ = (
        "actor_id",
        "alone",
        "arguments",
        "attempt",
        "buffers",
        "cancelled",
        "dependency_ids",
        "expected_s",
        "missing",
        "parent_task_id",
        "refs",
        "retries_left",
        "returns",
        "state",
        "task_id",
        "template",
        "worker",
    )

    def __init__(
        self,
        task_id: bytes,
        template: Template,
        arguments: bytes,
        buffers: tuple[Buffer, ...] = (),
        dependency_ids: tuple[RefInfo, ...] = (),
        refs: tuple[RefInfo, ...] = (),
        actor_id: bytes = b"",
        parent_task_id: bytes = b"",
    ) -> None:
        self.task_id = task_id
        self.template = template
        self.arguments = arguments
        self.buffers = buffers
        self.dependency_ids = dependency_ids
        self.refs = refs
        self.actor_id = actor_id
        self.parent_task_id = parent_task_id
        self.state = WAITING
        self.missing = 0
        self.attempt = 0
        self.retries_left = template.max_retries
        self.cancelled = False
        self.returns: tuple[bytes, ...] = ()
        self.worker: LeasedWorker | None = None
        """The leased worker that has it in hand (PUSHED tasks; never set for actor calls)."""
        self.expected_s = 0.0
        """What it counts for in its worker's ``expected_s``."""
        self.alone = False
        """It may have killed a worker: nothing else is in that worker's hands while it runs again."""

    @property
    def origin(self) -> str:
        """What kind of maker it is of its results (see ``lineage.REASONS``)."""
        if self.actor_id:
            return "actor"
        if self.template.spec.is_streaming:
            return "stream"
        return "task" if self.template.max_retries else "once"

    def __repr__(self) -> str:
        return f"Task({self.task_id.hex()}, {self.template.spec.name}, {STATE_NAMES[self.state]})"


class Waiter:
    """Somebody waits for ``needed`` of some objects. ``wake`` is what the performer calls; the machine never does."""

    __slots__ = ("done", "fail_fast", "needed", "object_ids", "places", "wake")

    def __init__(
        self, object_ids: tuple[RefInfo, ...], needed: int, wake: Callable[[], None] | Any, *, fail_fast: bool = False
    ) -> None:
        self.object_ids = object_ids
        self.needed = needed
        self.wake = wake
        self.fail_fast = fail_fast
        self.done = False
        self.places = 0
        """Records it is registered with."""


class SharedState:
    """What an object record needs only when its ref has left, or came from, another process."""

    __slots__ = ("borrowers", "getters", "owner", "registered", "requested")

    def __init__(self, owner: str = "") -> None:
        self.owner = owner
        """Process that owns the object; empty when it is ours."""
        self.borrowers: dict[str, int] = {}
        """Ours: holds per process. May be negative for a moment: removals can overtake additions by a third party."""
        self.getters: list[Address] = []
        """Ours: owners that wait for the value."""
        self.registered = 0
        """Borrowed: how often its owner counts us."""
        self.requested = False
        """Borrowed: we asked for the value."""


class ObjectRecord:
    """One object this process knows: owned (``shared`` None or without owner) or borrowed."""

    __slots__ = ("dependents", "lineage", "local", "pins", "result", "shared", "task", "waiters")

    def __init__(self, task: Task | None = None, local: int = 0) -> None:
        self.result: Result | None = None
        self.local = local
        """ObjectRef instances in this process."""
        self.pins = 0
        """Holds by pending tasks and by values of ours that contain the ref."""
        self.lineage = 0
        """Finished tasks with this argument that may have to run again: they hold the record, not the value."""
        self.task = task
        """The task that makes it, while that is pending."""
        self.waiters: list[Waiter] | None = None
        self.dependents: list[Task | PendingActor] | None = None
        self.shared: SharedState | None = None


class PendingActor:
    """An actor whose creation waits for its arguments."""

    __slots__ = ("dependency_ids", "failure", "missing", "spec")

    def __init__(self, spec: Any, dependency_ids: tuple[bytes, ...]) -> None:
        self.spec = spec
        self.dependency_ids = dependency_ids
        self.missing = 0
        self.failure: Failure | None = None


class LeasedWorker:
    """A worker this owner may push to."""

    __slots__ = (
        "accelerator_ids",
        "address",
        "alone",
        "death",
        "death_s",
        "expected_s",
        "idle_since_s",
        "in_flight",
        "last_outcome_s",
        "lease_id",
        "lost_s",
        "node_id",
        "pid",
        "raylet",
        "recalled",
        "scheduling_class",
        "taken_back",
    )

    def __init__(
        self,
        lease_id: int,
        address: Address,
        raylet: Address,
        node_id: bytes,
        pid: int,
        scheduling_class: SchedulingClass,
        now: float,
        accelerator_ids: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.accelerator_ids = accelerator_ids or {}
        self.lease_id = lease_id
        self.address = address
        self.raylet = raylet
        self.node_id = node_id
        self.pid = pid
        self.scheduling_class = scheduling_class
        self.in_flight: dict[bytes, Task] = {}
        """In push order; the first is the one the worker runs (or ran when it died)."""
        self.expected_s = 0.0
        """Work in flight, by average durations."""
        self.idle_since_s = now
        self.last_outcome_s = now
        self.recalled = False
        self.taken_back = False
        """Asked to return what it has not started; nothing is pushed until it has answered with an outcome."""
        self.alone = False
        """It works on a task that must have no neighbours (``Task.alone``)."""
        self.lost_s = -1.0
        """When its connection was lost; negative while it is not."""
        self.death: DeathCause | None = None
        """It is dead, says its raylet; kept until the last it said has been read (or ``death_s`` is long ago)."""
        self.death_s = 0.0

    @property
    def usable(self) -> bool:
        """Whether more work may be pushed to it."""
        return not (self.recalled or self.taken_back or self.alone or self.lost_s >= 0 or self.death is not None)

    def became_idle(self, now: float) -> None:
        """Nothing is in its hands any more."""
        self.expected_s = 0.0
        self.idle_since_s = now
        self.taken_back = False
        self.alone = False


class SchedulingClass:
    """Tasks that can share leased workers: same job, resources, strategy, labels, environment, whereabouts of data."""

    __slots__ = ("class_id", "key", "queue", "raylet", "requested", "spec", "workers")

    def __init__(self, class_id: int, key: bytes, spec: LeaseSpec, raylet: Address) -> None:
        self.class_id = class_id
        self.key = key
        self.spec = spec
        self.raylet = raylet
        """Who is asked first."""
        self.queue: deque[Task] = deque()
        self.workers: dict[tuple[str, int], LeasedWorker] = {}
        """By (raylet process, lease id)."""
        self.requested: dict[Address, int] = {}
        """Outstanding lease requests per raylet."""
