"""What a process of the cluster is told at its birth.

Both structs travel as msgpack over an inherited pipe or socket pair, never on a command line and never in the
environment (the token is inside, and left out of their ``repr``). They are *not* messages: parent and child are always
of the same version.
"""

from __future__ import annotations

import msgspec

from actorrt.kernel.message import Address
from actorrt.wire.records import Environment, JobConfig

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the mount, not a file; what is made in it is locked by its creator
SPILL_THRESHOLD = 0.8
"""As ``store.base.Limits``, which only a process with a store needs."""
FUSE_BYTES = 100 << 20
"""As ``store.base.Limits``."""
SEGMENT_PREFIX = "actorrt-"
"""Files of ours in the shared memory, and in spill directories, begin with it."""
WORKER_ENTRY = "actorrt.api.worker_process:run_worker"
"""Called in the forked child as ``run_worker(WorkerConfig)``. Named by string: the zygote preloads it, and what
composes a worker may stand above this layer (it installs the api's runtime)."""


def store_prefix(node_id: bytes) -> str:
    """Return how the names of a node's segments and spill files begin."""
    return f"{SEGMENT_PREFIX}{node_id.hex()[:16]}"


class SpillTarget(msgspec.Struct, frozen=True):
    """A directory that takes objects when memory is short: a local path, or a URI that pyarrow.fs knows."""

    uri: str
    quota_bytes: int | None = None
    """None: as much as the disk gives."""


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a node keeps large objects."""

    directory: str = SHARED_MEMORY
    """Where the segments are."""
    capacity_bytes: int = 0
    spill: tuple[SpillTarget, ...] = ()
    """Empty: a folder of the session."""
    spill_threshold: float = SPILL_THRESHOLD
    """Above this share of the capacity objects are written to disk ahead of need."""
    fuse_bytes: int = FUSE_BYTES
    """Small objects are written together until a file has this size."""


class MemoryMonitorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When a node ends workers because memory runs short (see ``memory_monitor``)."""

    usage_threshold: float = 0.95
    """Above this share of the memory in use."""
    refresh_s: float = 0.25
    """How often it looks; 0: never."""


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a node process needs to run. Written by ``bootstrap``, read by ``process``."""

    node_id: bytes
    cluster_id: bytes
    token: bytes
    is_head: bool
    gcs: str
    """Process address of the head; empty on the head itself."""
    session_dir: str = ""
    sockets_dir: str = ""
    """Short (socket paths have 108 bytes at most), and this node's alone: removed with it."""
    host: str
    """IP address or host name for people, and the interface tcp endpoints are bound to."""
    port: int | None = None
    """TCP port for other machines and ``actorrt start``: 0 picks one, None listens on this machine only."""
    name: str = ""
    resources: dict[str, int] = {}
    """Fixed-point (1/10000)."""
    labels: dict[str, str] = {}
    parent_pid: int = 0
    """Fate sharing: the node ends when this process ends. 0: it lives until it is stopped."""
    public: bool = False
    """Started by ``actorrt start``: found by ``"auto"``, ended by ``actorrt stop``."""
    store: StoreConfig = StoreConfig()
    memory_monitor: MemoryMonitorConfig = MemoryMonitorConfig()
    transport: str = "unix"
    """Scheme of the endpoints on this machine: ``unix`` or ``ipc`` (ZeroMQ)."""
    worker_entry: str = WORKER_ENTRY
    spawn_workers: bool = False
    """Start workers as fresh interpreters instead of forking the zygote (where fork is unsafe)."""
    lock_fds: tuple[int, ...] = ()
    """Inherited locks on the session and the sockets folder, held while this process lives."""
    ready_fd: int = -1
    """Inherited pipe: takes one ``NodeReady``; its end of file says that every process of the node is gone."""

    def __repr__(self) -> str:
        return f"NodeConfig({self.node_id.hex()}, is_head={self.is_head}, session_dir={self.session_dir!r})"


class NodeReady(msgspec.Struct, frozen=True, kw_only=True):
    """A node process reports that it serves (or, with ``error``, why it cannot)."""

    pid: int = 0
    address: str = ""
    """Process address of the node: comma-joined endpoints."""
    gcs: str = ""
    """Process address of the head."""
    node_id: bytes = b""
    cluster_id: bytes = b""
    session_dir: str = ""
    error: str = ""
    traceback: str = ""


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process needs to run."""

    worker_id: bytes
    node_id: bytes
    cluster_id: bytes
    token: bytes
    raylet: Address
    gcs: Address
    job: JobConfig
    environment: Environment = Environment()
    """Its variables are already set when the entry point is called."""
    session_dir: str
    sockets_dir: str
    log_dir: str
    node_host: str
    """IP address or host name for people."""
    node_name: str = ""
    node_labels: dict[str, str] = {}
    listen: tuple[str, ...] = ()
    """Endpoints to listen on, best first (a tcp port of 0 is chosen at bind)."""
    transport: str = "unix"
    entry: str = WORKER_ENTRY

    def __repr__(self) -> str:
        return f"WorkerConfig({self.worker_id.hex()}, job={self.job.job_id.hex()}, raylet={self.raylet})"
