"""What the GCS understands. Requests (R) are answered with the message named; the rest are facts or commands."""

from __future__ import annotations

from actorrt.kernel.message import LANE_CONTROL, LANE_SUPERVISION, Address, Message
from actorrt.wire.records import ActorInfo, ActorSpec, DeathCause, JobConfig, NodeInfo, NodeLoad


# ---- nodes
class RegisterNode(Message):
    """(R: NodeRegistered) A node process joins."""

    node: NodeInfo


class NodeRegistered(Message):
    """Answer: the nodes known now (also sent as ``raylet.messages.ClusterChanged`` from then on)."""

    nodes: tuple[NodeInfo, ...]
    loads: tuple[NodeLoad, ...]
    jobs: tuple[JobConfig, ...] = ()


class LoadReported(Message):
    """A node's available resources and pending demand; doubles as its heartbeat."""

    LANE = LANE_SUPERVISION
    load: NodeLoad


class DrainNode(Message):
    """(R: Done) A node leaves by intent (``remove_node``, shutdown)."""

    LANE = LANE_CONTROL
    node_id: bytes
    text: str = "removed"


class ListNodes(Message):
    """(R: NodeList)."""


class NodeList(Message):
    """Answer."""

    nodes: tuple[NodeInfo, ...]
    loads: tuple[NodeLoad, ...]


# ---- jobs
class RegisterJob(Message):
    """(R: JobRegistered) A driver joins at the node of ``raylet``. ``job.job_id`` is empty: the GCS numbers jobs."""

    job: JobConfig
    raylet: Address


class JobRegistered(Message):
    """Answer: the job as recorded, and the node the driver is on."""

    job: JobConfig
    node_id: bytes


class FinishJob(Message):
    """(R: Done) The job ended (its driver said so, or was seen gone)."""

    LANE = LANE_SUPERVISION
    job_id: bytes
    text: str = "finished"


class GetJob(Message):
    """(R: JobList) One job (also a finished one) or, with an empty id, all."""

    job_id: bytes = b""


class JobList(Message):
    """Answer: configurations, and which of them have finished (by id)."""

    jobs: tuple[JobConfig, ...]
    finished: tuple[bytes, ...] = ()


# ---- key-value store and functions
class KvPut(Message):
    """(R: KvAnswer, ``found`` says whether the key was new) ``overwrite=False`` keeps an existing value."""

    namespace: str
    key: bytes
    value: bytes
    overwrite: bool = True


class KvGet(Message):
    """(R: KvAnswer)."""

    namespace: str
    key: bytes


class KvDelete(Message):
    """(R: KvAnswer, ``found`` says whether it was there)."""

    namespace: str
    key: bytes


class KvKeys(Message):
    """(R: KvKeyList)."""

    namespace: str
    prefix: bytes = b""


class KvAnswer(Message):
    """Answer."""

    found: bool
    value: bytes = b""


class KvKeyList(Message):
    """Answer, sorted."""

    keys: tuple[bytes, ...]


class ExportFunction(Message):
    """A function or class, pickled by value, under the hash of its bytes. Sent once per job and owner, no answer."""

    job_id: bytes
    key: bytes
    name: str
    pickled: bytes


class GetFunction(Message):
    """(R: FunctionFound) Waits until the function has been exported (the export may be on its way), or the job ends."""

    job_id: bytes
    key: bytes


class FunctionFound(Message):
    """Answer."""

    name: str
    pickled: bytes


# ---- actors
class CreateActor(Message):
    """(R: ActorRegistered, or RequestFailed ActorAlreadyExistsError) Register and place an actor.

    ``get_if_exists``: an actor of this name is returned instead. ``ready=False``: its arguments are not there yet
    (DEPENDENCIES_UNREADY); the same message with ``ready=True`` follows and starts it.
    """

    spec: ActorSpec
    get_if_exists: bool = False
    ready: bool = True


class ActorRegistered(Message):
    """Answer. ``created`` is False when an existing actor was found."""

    info: ActorInfo
    created: bool = True


class GetNamedActor(Message):
    """(R: ActorRegistered, or RequestFailed ActorNotFoundError)."""

    name: str
    namespace: str


class ListActors(Message):
    """(R: ActorList) All actors known, dead ones included while they are remembered."""

    alive_only: bool = False


class ActorList(Message):
    """Answer."""

    actors: tuple[ActorInfo, ...]


class SubscribeActor(Message):
    """Tell the sender (an owner) of this actor's changes from now on, and of its present state at once.

    An id the GCS does not know is answered with a DEAD ``ActorChanged``.
    """

    actor_id: bytes


class UnsubscribeActor(Message):
    """No more news of this actor."""

    actor_id: bytes


class KillActor(Message):
    """(R: Done, or RequestFailed ActorHandleNotFoundError) End the actor (``no_restart=False``: only its process).

    In the normal lane, because it must not overtake the ``CreateActor`` of the same sender.
    """

    actor_id: bytes
    no_restart: bool = True
    kind: str = "killed"
    text: str = "killed by actorrt.kill()"


class ActorOutOfScope(Message):
    """The owner holds no handle any more; the actor ends after the calls already pushed to it."""

    actor_id: bytes


class ActorStarted(Message):
    """A worker finished the actor's ``__init__`` (from its raylet)."""

    actor_id: bytes
    incarnation: int
    worker: Address
    worker_id: bytes
    node_id: bytes
    pid: int


class ActorStartFailed(Message):
    """The actor could not be created there: ``__init__`` raised, or no worker could be had.

    ``retry`` is True when another node should be tried (lost race for resources).
    """

    actor_id: bytes
    incarnation: int
    cause: DeathCause
    retry: bool = False


class ActorDied(Message):
    """The actor's worker process ended (from its raylet)."""

    actor_id: bytes
    incarnation: int
    cause: DeathCause


# ---- pub/sub
class Subscribe(Message):
    """Send ``owner.messages.Published`` of this channel to the sender until it unsubscribes or goes."""

    channel: str


class Unsubscribe(Message):
    """Stop."""

    channel: str


class Publish(Message):
    """Hand ``data`` to the subscribers of ``channel``."""

    channel: str
    data: bytes


# ---- operator
class GetStatus(Message):
    """(R: Status) Everything ``actorrt status`` shows."""


class Status(Message):
    """Answer."""

    cluster_id: bytes
    nodes: tuple[NodeInfo, ...]
    loads: tuple[NodeLoad, ...]
    jobs: tuple[JobConfig, ...]
    actors: dict[str, int]
    """Number of actors by state."""
    uptime_s: float
    pending_actors: tuple[ActorInfo, ...] = ()


class StopCluster(Message):
    """(R: Done) Every node ends."""

    LANE = LANE_CONTROL


# ---- timers of the GCS itself
class HealthDue(Message):
    """Time to look for silent nodes."""


class PlacementDue(Message):
    """Time to try the pending actors again."""


class ViewDue(Message):
    """Time to send the loads that changed to all raylets."""
