"""What an owner understands from other processes (what the API asks of it is in ``owner.requests``)."""

from __future__ import annotations

from actorrt.kernel.message import LANE_SUPERVISION, Address, Message, Record
from actorrt.wire.records import ActorInfo, DeathCause, RefInfo, Result, TaskOutcome


# ---- from raylets
class LeaseGranted(Message):
    """One worker for one of the requests of ``class_id``."""

    class_id: int
    lease_id: int
    worker: Address
    worker_id: bytes
    node_id: bytes
    pid: int
    accelerator_ids: dict[str, tuple[str, ...]] = {}


class LeasesRedirected(Message):
    """``count`` requests of ``class_id`` are better asked at ``raylet`` (send them there with ``hops``)."""

    class_id: int
    count: int
    raylet: Address
    hops: int


class LeasesRefused(Message):
    """``count`` requests can never be met: their tasks fail with an error of ``kind``."""

    class_id: int
    count: int
    kind: str
    text: str


class LeaseRecalled(Message):
    """Others wait for this worker: return the lease when its pushed tasks are done, take no linger."""

    lease_id: int


class LeasedWorkerDied(Message):
    """The leased worker's process ended (the raylet knows how)."""

    LANE = LANE_SUPERVISION
    lease_id: int
    worker: Address
    cause: DeathCause


# ---- from workers
class TasksDone(Message):
    """Outcomes of tasks pushed under ``PushTasks`` or ``PushCalls``."""

    outcomes: tuple[TaskOutcome, ...]


class ItemsYielded(Message):
    """Items of a streaming task, as (index, result); every one comes before the task's outcome."""

    task_id: bytes
    items: tuple[tuple[int, Result], ...]


class TasksReturned(Message):
    """These tasks were not started and never will be by that worker; push them elsewhere."""

    task_ids: tuple[bytes, ...]


class CallsRefused(Message):
    """The worker is not (or no longer) that incarnation of the actor; the calls were not started."""

    actor_id: bytes
    incarnation: int
    task_ids: tuple[bytes, ...]


# ---- between owners
class GetObjects(Message):
    """The sender wants the value (or failure) of these objects of ours, once ready: ``ObjectsReady``."""

    object_ids: tuple[bytes, ...]


class DropGets(Message):
    """The sender no longer waits for these."""

    object_ids: tuple[bytes, ...]


class ObjectsReady(Message):
    """Values of objects the sender owns; pairs of id and result."""

    objects: tuple[tuple[bytes, Result], ...]


class BorrowersAdded(Message):
    """These objects of ours are now also held by ``borrower`` (sent by whoever handed the refs to it)."""

    refs: tuple[RefInfo, ...]
    borrower: str


class BorrowersRemoved(Message):
    """The sender no longer holds these objects of ours (with multiplicity)."""

    object_ids: tuple[bytes, ...]


class HoldsCounted(Message):
    """The sender counts us as a holder of ``count`` of its objects. To be ignored: what it is for is to be sent.

    If the process is gone, the sender finds that out, also when the two never had a connection before.
    """

    count: int


class CancelOwned(Message):
    """The sender (a borrower) asks to cancel the task that makes this object of ours."""

    object_id: bytes
    force: bool = False
    recursive: bool = True


# ---- from object managers
class CopiesAdded(Message):
    """The node ``holder`` has copies of these objects of ours now (keys as in ``wire.records.Stored``)."""

    keys: tuple[bytes, ...]
    holder: str


class CopiesRemoved(Message):
    """The node ``holder`` has them no longer."""

    keys: tuple[bytes, ...]
    holder: str


class LocateObject(Message):
    """Who has this object of ours? Answered with ``objects.messages.ObjectLocated``."""

    key: bytes


class VerifyObjects(Message):
    """The node ``holder`` has these objects of ours: those we do not know are answered with ``FreeObjects``."""

    keys: tuple[bytes, ...]
    holder: str


# ---- from the GCS
class ActorChanged(Message):
    """News of an actor this owner subscribed to."""

    info: ActorInfo


class Published(Message):
    """A message of a pub/sub channel."""

    channel: str
    data: bytes


class NodeChanged(Message):
    """A node died (or joined): for error texts and for giving up on its leases."""

    LANE = LANE_SUPERVISION
    node_id: bytes
    raylet: Address
    alive: bool
    text: str = ""


# ---- operator
class ObjectReference(Record):
    """What an owner knows of one object (``owner.references``)."""

    object_id: bytes
    size_bytes: int
    """0 while it is not known."""
    state: str
    """PENDING, INLINE, STORED, FAILED; BORROWED when somebody else owns it."""
    kinds: dict[str, int]
    """Holds by kind: LOCAL_REFERENCE, USED_BY_PENDING_TASK, CAPTURED_IN_OBJECT, BORROWED_BY, ACTOR_HANDLE, ..."""
    owner: str
    detail: str = ""
    """Of PENDING the name of the task, of FAILED the kind of failure."""
    holders: tuple[str, ...] = ()
    """Nodes that have it (process addresses)."""
    borrowers: tuple[str, ...] = ()
    """Some of the processes that hold it (``kinds`` has their number)."""


class GetReferences(Message):
    """(R: References) For ``actorrt memory``: the largest objects this process knows."""

    references_max: int = 0


class References(Message):
    """Answer, largest first."""

    raylet: str
    """Of the node this process belongs to."""
    entries: tuple[ObjectReference, ...] = ()
    omitted: int = 0
    """Objects there are besides."""
    tasks_pending: int = 0


# ---- from the raylet's log collector
class LogLines(Message):
    """Output of a worker for this driver."""

    name: str
    pid: int
    node: str
    is_stderr: bool
    lines: tuple[str, ...]
    dropped: int = 0
    """Lines left out because the driver could not keep up."""
