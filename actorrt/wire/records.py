"""Records that several components carry inside their messages: values, failures, specs of tasks, actors, jobs and
nodes.

User values are opaque here: ``Value.data`` is only ever unpickled by ``worker.executor`` and ``api``.
"""

from __future__ import annotations

from typing import TypeAlias, final

import msgspec

from actorrt.kernel.message import Address, Record

NIL = b""


class Buffer:
    """A large block of bytes that travels as a frame of its own (see ``wire.codec``); never copied on the way."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.nbytes if isinstance(self.data, memoryview) else len(self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Buffer) and bytes(self.data) == bytes(other.data)

    def __hash__(self) -> int:
        return hash(bytes(self.data))

    def __repr__(self) -> str:
        return f"Buffer({len(self)} bytes)"


class RefInfo(Record):
    """An object ref found inside a value: which object, and the process address of its owner."""

    object_id: bytes
    owner: str


class Value(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """A serialised user value: a pickle stream, its out-of-band buffers, and the refs and actor handles inside it.

    ``data`` is a pickle (protocol 5) or one of the one-byte constants of ``wire.values``.
    """

    data: bytes
    buffers: tuple[Buffer, ...] = ()
    refs: tuple[RefInfo, ...] = ()
    actors: tuple[bytes, ...] = ()

    def size_bytes(self) -> int:
        """Bytes of the stream and its buffers."""
        return len(self.data) + sum(len(b) for b in self.buffers)


class Stored(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """A user value that lies in the object stores of nodes. The first bytes of ``key`` are the object's id.

    ``holders`` are process addresses of nodes that had it when this was said; the first made it. ``refs`` as in
    ``Value``.
    """

    key: bytes
    size_bytes: int
    owner: str
    holders: tuple[str, ...]
    refs: tuple[RefInfo, ...] = ()


@final
class Failure(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """Why there is no value. ``kind`` is a class name of ``kernel.errors`` or ``TaskError``.

    For a ``TaskError``, ``cause`` is the pickled user exception (or None when it could not be pickled), ``text`` the
    formatted remote traceback and ``type_name`` the exception's type.
    """

    kind: str
    text: str
    cause: Value | None = None
    type_name: str = ""
    function_name: str = ""
    pid: int = 0
    node_id: bytes = b""
    subject_id: bytes = b""
    """The task, actor or object concerned."""


Result: TypeAlias = Value | Stored | Failure


class DeathCause(Record):
    """How a process, actor or node ended.

    ``kind``: ``exit``, ``signal``, ``killed`` (ray.kill), ``exit_actor``, ``init_failed``, ``out_of_scope``,
    ``job_finished``,
    ``node_died``, ``oom``, ``unschedulable``, ``start_failed``.
    """

    kind: str
    text: str
    pid: int = 0
    exit_code: int = 0
    signal: int = 0
    node_id: bytes = b""
    stderr_tail: tuple[str, ...] = ()
    failure: Failure | None = None
    """For ``init_failed``: the exception of ``__init__``."""


class Strategy(Record):
    """Scheduling strategy: ``DEFAULT``, ``SPREAD``, ``NODE_AFFINITY`` (``node_id``, ``soft``)."""

    kind: str = "DEFAULT"
    node_id: bytes = b""
    soft: bool = False


class Environment(Record):
    """What makes worker processes differ: tasks of different environments never share a process."""

    env_vars: tuple[tuple[str, str], ...] = ()
    serialized: str = ""
    """The user's runtime_env as canonical JSON (``get_runtime_env_string``)."""


class LeaseSpec(Record):
    """What a lease must offer. ``resources`` are fixed-point (1/10000)."""

    job_id: bytes
    resources: dict[str, int]
    strategy: Strategy = Strategy()
    label_selector: tuple[tuple[str, str], ...] = ()
    environment: Environment = Environment()
    name: str = ""
    """Display name for ``actorrt status`` and the explanation of pending work."""
    retriable: bool = True
    """Tasks of it that lose their worker may run again: when memory is short, such workers are ended first."""


class JobConfig(Record):
    """What a worker must know of the job it works for."""

    job_id: bytes
    driver: Address
    namespace: str
    sys_path: tuple[str, ...] = ()
    working_directory: str = ""
    environment: Environment = Environment()
    log_to_driver: bool = True
    driver_pid: int = 0
    entrypoint: str = ""
    start_time_s: float = 0.0


class ActorSpec(msgspec.Struct, frozen=True, array_like=True):
    """Everything needed to create an actor, also again after its process died."""

    actor_id: bytes
    job_id: bytes
    owner: Address
    class_key: bytes
    class_name: str
    arguments: Value
    dependencies: tuple[Result, ...] = ()
    """Values of the refs passed as top-level arguments, in slot order."""
    name: str = ""
    namespace: str = ""
    detached: bool = False
    max_restarts: int = 0
    max_task_retries: int = 0
    max_concurrency: int = 1
    concurrency_groups: tuple[tuple[str, int], ...] = ()
    is_async: bool = False
    out_of_order: bool = False
    resources: dict[str, int] = {}
    """Held for the actor's life."""
    placement_resources: dict[str, int] = {}
    """Needed on the node at placement."""
    strategy: Strategy = Strategy()
    label_selector: tuple[tuple[str, str], ...] = ()
    environment: Environment = Environment()
    handle_data: bytes = b""
    """Pickled description for handles (method names and options), see ``api.actors``."""


class ActorInfo(msgspec.Struct, frozen=True, array_like=True):
    """The directory's view of an actor. ``state``: see ``gcs.actors``."""

    actor_id: bytes
    job_id: bytes
    state: str
    incarnation: int = 0
    """Counts creations: 0 before the first, 1 for the first process, and so on."""
    worker: Address = Address("", "")
    node_id: bytes = b""
    pid: int = 0
    name: str = ""
    namespace: str = ""
    class_name: str = ""
    class_key: bytes = b""
    detached: bool = False
    restarts_left: int = 0
    """-1: without limit."""
    max_task_retries: int = 0
    out_of_order: bool = False
    handle_data: bytes = b""
    death: DeathCause | None = None
    pending_reason: str = ""


class NodeInfo(Record):
    """The cluster's view of a node. Resources are fixed-point (1/10000)."""

    node_id: bytes
    raylet: Address
    hostname: str
    address: str
    """IP address or host name for people."""
    name: str = ""
    resources: dict[str, int] = {}
    labels: dict[str, str] = {}
    is_head: bool = False
    pid: int = 0
    alive: bool = True
    death: DeathCause | None = None


class NodeLoad(Record):
    """What changes often about a node."""

    node_id: bytes
    available: dict[str, int]
    version: int
    pending: tuple[PendingDemand, ...] = ()


class PendingDemand(Record):
    """Leases that wait at a node, grouped by what they want, with the reason they wait."""

    resources: dict[str, int]
    count: int
    reason: str
    name: str = ""


class TaskTemplate(Record):
    """What many tasks share; sent once per (owner, worker) and then named by number."""

    number: int
    function_key: bytes
    function_name: str
    name: str
    """Display name."""
    job_id: bytes
    num_returns: int = 1
    resources: dict[str, int] = {}
    max_retries: int = 0
    method_name: str = ""
    """For actor calls."""
    concurrency_group: str = ""
    splits_iterable: bool = False
    retry_exceptions: Value | None = None
    """None: never. A pickled True or tuple of classes otherwise; the worker, which has the exception, decides."""
    environment: Environment = Environment()
    max_calls: int = 0
    """The worker ends after this many calls of the function; 0: never."""
    is_streaming: bool = False
    """Each item of the generator is sent as soon as it is there (``num_returns`` is 0 then)."""


class TaskCall(msgspec.Struct, frozen=True, array_like=True):
    """One task or actor call on the wire. ``arguments`` is the pickle of (args, kwargs); see ``wire.values``."""

    task_id: bytes
    template: int
    arguments: bytes
    buffers: tuple[Buffer, ...] = ()
    dependencies: tuple[Result, ...] = ()
    attempt: int = 0
    parent_task_id: bytes = b""
    refs: tuple[RefInfo, ...] = ()


class TaskOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one task or actor call."""

    task_id: bytes
    results: tuple[Result, ...]
    """One per return; a single ``Failure`` stands for all of them."""
    duration_s: float = 0.0
    borrowed: tuple[RefInfo, ...] = ()
    """Refs from the arguments that the worker still holds."""
    retry_wanted: bool = False
    """The function raised and ``retry_exceptions`` matches."""
    item_count: int = -1
    """Of a streaming task: items sent before it ended."""
