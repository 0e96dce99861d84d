"""What the raylet understands."""

from __future__ import annotations

from actorrt.kernel.message import LANE_CONTROL, LANE_SUPERVISION, Address, Message, Record
from actorrt.wire.records import ActorSpec, DeathCause, JobConfig, LeaseSpec, NodeInfo, NodeLoad


# ---- from owners
class RequestLeases(Message):
    """``count`` more workers are wanted for scheduling class ``class_id`` (a number of the sending owner).

    Each is answered, some time, by one ``owner.messages.LeaseGranted``, or by being counted in one
    ``LeasesRedirected`` or ``LeasesRefused``. ``hops`` counts redirections so far: at ``REDIRECT_HOPS_MAX`` the
    request waits where it is.
    """

    class_id: int
    spec: LeaseSpec
    count: int
    hops: int = 0


class CancelLeases(Message):
    """Up to ``count`` waiting requests of this class are no longer wanted; a grant may already be on its way."""

    class_id: int
    count: int


class ReturnLease(Message):
    """The owner is done with the worker. ``worker_failed``: the owner lost its connection to it."""

    lease_id: int
    worker_failed: bool = False


# ---- from workers
class WorkerReady(Message):
    """A started worker process reports for work (``worker``: its address)."""

    worker_id: bytes
    pid: int
    worker: Address


class WorkerBlocked(Message):
    """The worker's task waits in ``get`` or ``wait``: its CPU may be given to others."""

    LANE = LANE_SUPERVISION
    worker_id: bytes


class WorkerUnblocked(Message):
    """It goes on (its CPU is taken back even if that oversubscribes the node for a while)."""

    LANE = LANE_SUPERVISION
    worker_id: bytes


class WorkerExiting(Message):
    """The worker will end by itself (``exit_actor``, ``max_calls``, out of scope); the reason for the coming exit."""

    LANE = LANE_SUPERVISION
    worker_id: bytes
    cause: DeathCause


class ActorInitialized(Message):
    """The worker finished ``__init__`` (``cause`` None) or it failed."""

    worker_id: bytes
    actor_id: bytes
    incarnation: int
    cause: DeathCause | None = None


class DriverJoined(Message):
    """(R: Done) A driver attaches to this node; when its process is gone, its job is finished."""

    job_id: bytes
    owner: Address


class LogsFlush(Message):
    """(R: Done) Send all output collected so far of this job's workers to its driver, then answer."""

    job_id: bytes


# ---- from the node's object manager
class StoreUsed(Message):
    """So many bytes of the node's object store are in use."""

    used_bytes: int


# ---- from the node's memory monitor
class ProcessMemory(Record):
    """What a process, or a whole process group, has in memory that it shares with nobody."""

    pid: int
    """Of a group: its leader, which is the worker."""
    private_bytes: int
    name: str = ""


class MemoryPressed(Message):
    """More than the threshold of the node's memory is in use. Sent again and again for as long as that is so.

    ``workers`` has the process groups of the node's workers, ``biggest`` the biggest processes of the machine, largest
    first; ``place`` says whose memory it is.
    """

    LANE = LANE_SUPERVISION
    used_bytes: int
    total_bytes: int
    threshold: float
    place: str
    workers: tuple[ProcessMemory, ...] = ()
    biggest: tuple[ProcessMemory, ...] = ()


# ---- from the GCS
class ClusterChanged(Message):
    """Nodes and loads that changed since the last message (full records)."""

    nodes: tuple[NodeInfo, ...] = ()
    loads: tuple[NodeLoad, ...] = ()


class JobStarted(Message):
    """A job's configuration, before any work of it arrives from the GCS."""

    job: JobConfig


class JobFinished(Message):
    """End the workers of this job (detached actors excepted) and drop its requests."""

    LANE = LANE_SUPERVISION
    job_id: bytes


class StartActor(Message):
    """Give this actor a worker of its own and create it there. Answered by
    ``gcs.messages.ActorStarted``/``ActorStartFailed``.

    Waits in the queue for its resources like a lease; ``retry=True`` failures send it elsewhere.
    """

    spec: ActorSpec
    incarnation: int


class StopActor(Message):
    """End the actor's process at once (also one that waits or is being created). ``cause`` is reported with its death.

    ``graceful``: a running one ends after the calls already pushed to it.
    """

    LANE = LANE_CONTROL
    actor_id: bytes
    incarnation: int
    cause: DeathCause
    graceful: bool = False


class StopNode(Message):
    """(R: Done) The node process ends, with everything on it."""

    LANE = LANE_CONTROL
    text: str = ""


# ---- from the pool (completions of the raylet's operations)
class WorkerStarted(Message):
    """The process exists (it will report ``WorkerReady`` itself)."""

    worker_id: bytes
    pid: int


class WorkerStartFailed(Message):
    """No process could be made."""

    worker_id: bytes
    text: str


class WorkerDied(Message):
    """The process has ended; the pool reaped it."""

    LANE = LANE_SUPERVISION
    worker_id: bytes
    cause: DeathCause


class LogsFlushed(Message):
    """The output that ``FlushLogs`` number ``request`` asked for has been sent."""

    request: int


# ---- timers
class ReportDue(Message):
    """Time to report the load to the GCS (on change, and as heartbeat)."""


class SweepDue(Message):
    """Time to end idle workers and look for workers that never reported."""


# ---- operator
class GetNodeStatistics(Message):
    """(R: NodeStatistics)."""


class NodeStatistics(Message):
    """Answer: figures for ``actorrt status`` and tests (``workers`` by state, leases, queue length)."""

    figures: dict[str, int]
    worker_pids: tuple[int, ...] = ()
