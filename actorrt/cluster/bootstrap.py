"""Starting and ending node processes from another process: what ``api.init``, ``testing.Cluster`` and the CLI call."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from actorrt.cluster import session
from actorrt.cluster.addresses import ClusterAddress, public_address
from actorrt.cluster.config import WORKER_ENTRY, MemoryMonitorConfig, NodeConfig, NodeReady, StoreConfig
from actorrt.cluster.hardware import default_labels, node_resources, store_capacity
from actorrt.cluster.interpreter import python_command
from actorrt.cluster.memory_settings import read_memory_settings
from actorrt.cluster.nodewire import pack_config, read_ready
from actorrt.cluster.output import tail_lines
from actorrt.cluster.spilling import Spilling, prepare
from actorrt.cluster.token import (
    child_environment,
    configured_token,
    explicit_token,
    make_token,
    read_session_token,
    write_session_token,
)
from actorrt.kernel.ids import CLUSTER_ID_BYTES, NODE_ID_BYTES

logger = logging.getLogger("actorrt.cluster")

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 3.0
TRANSPORT_VARIABLE = "ACTORRT_TRANSPORT"
SPAWN_VARIABLE = "ACTORRT_SPAWN_WORKERS"
"""1: workers are fresh interpreters. The default on macOS, whose system libraries do not survive a fork."""


class NodeStartError(RuntimeError):
    """A node process could not be started; the text says why."""


class NodeHandle:
    """A node process this process has started."""

    def __init__(self, process: subprocess.Popen[bytes], config: NodeConfig, ready: NodeReady, gone_fd: int) -> None:
        self._process = process
        self._gone_fd = gone_fd
        self.pid = process.pid
        self.address = ready.address
        """Process address of the node (its raylet, and the GCS on a head)."""
        self.gcs = ready.gcs
        """Process address of the head."""
        self.node_id = config.node_id
        self.cluster_id = ready.cluster_id
        self.session_dir = config.session_dir
        self.sockets_dir = config.sockets_dir
        self.token = config.token
        self.is_head = config.is_head

    def __repr__(self) -> str:
        return f"NodeHandle(pid={self.pid}, node_id={self.node_id.hex()}, address={self.address!r})"

    @property
    def cluster(self) -> ClusterAddress:
        """How a driver on this machine connects through this node."""
        return ClusterAddress(
            address=public_address(self.address),
            gcs=self.gcs,
            raylet=self.address,
            token=self.token,
            cluster_id=self.cluster_id,
            node_id=self.node_id,
            session_dir=self.session_dir,
        )

    def alive(self) -> bool:
        """Whether the node process runs."""
        return self._process.poll() is None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the node in an orderly way and wait until every process of it is gone (idempotent, blocks).

        One that does not end in time is killed.
        """
        if self.alive():
            self._process.terminate()
        if self.wait_gone(timeout_s):
            self._process.wait()
            return
        self.kill()

    def kill(self, timeout_s: float = KILL_TIMEOUT_S) -> None:
        """Kill the node process as ``kill -9`` would and wait until everything it started is gone too."""
        self._process.kill()
        self._process.wait()
        if not self.wait_gone(timeout_s):
            logger.warning("node %s was killed, but some process of it is still there", self.node_id.hex())
            self._close()

    def wait_gone(self, timeout_s: float) -> bool:
        """Wait until no process of the node is left (all of them hold the pipe whose end we watch)."""
        if self._gone_fd < 0:
            return True
        poll = select.poll()
        poll.register(self._gone_fd, select.POLLIN)
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0 and poll.poll(left_s * 1000):
            if not os.read(self._gone_fd, 4096):
                self._close()
                session.remove_sockets_folder(Path(self.sockets_dir))  # should even the zygote have been killed
                return True
        return False

    def detach(self) -> None:
        """Let the node live on without us (one that was started with ``public=True``)."""
        self._process.returncode = 0  # nobody will wait for it: say so, or Popen complains when it is collected
        self._close()

    def _close(self) -> None:
        if self._gone_fd >= 0:
            os.close(self._gone_fd)
            self._gone_fd = -1
        if self._process.stdin is not None:
            self._process.stdin.close()


class StartingNode:
    """A node process on its way; ``wait`` returns its handle. Lets the caller do something else meanwhile."""

    def __init__(self, process: subprocess.Popen[bytes], config: NodeConfig, ready_fd: int, log_path: str) -> None:
        self._process = process
        self._config = config
        self._ready_fd = ready_fd
        self._log_path = log_path

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> NodeHandle:
        """Wait until the node serves. Raises ``NodeStartError``; nothing is left of the node then."""
        poll = select.poll()
        poll.register(self._ready_fd, select.POLLIN)
        try:
            ready = read_ready(self._ready_fd) if poll.poll(timeout_s * 1000) else NodeReady(error="")
            if ready is not None and ready.address:
                return NodeHandle(self._process, self._config, ready, self._ready_fd)
        except BaseException:
            self._abandon()
            raise
        self._abandon()
        raise NodeStartError(self._explain(ready, timeout_s))

    def _explain(self, ready: NodeReady | None, timeout_s: float) -> str:
        if ready is None:
            text = f"the node process ended while starting (exit code {self._process.returncode})"
        elif ready.error:
            return f"the node process could not start: {ready.error} (log: {self._log_path})"
        else:
            text = f"the node process was not ready within {timeout_s:g} s"
        tail = "\n".join(tail_lines(self._log_path))
        return f"{text}; the end of {self._log_path}:\n{tail}"

    def _abandon(self) -> None:
        """Kill what there is of the node, perhaps not even a zygote yet, and clean up after it."""
        NodeHandle(self._process, self._config, NodeReady(), self._ready_fd).kill()


class _Files:
    """The folders and descriptors of a node that is being made: handed to its process, or cleaned up."""

    def __init__(self, root: Path, join: ClusterAddress | None, token: bytes) -> None:
        self.fds: list[int] = []
        """What the node process inherits: two locks, then the pipe it reports to."""
        self.ready_fd = -1
        self._sockets_dir: Path | None = None
        try:
            self.session_dir, fd = _session_for(root, join, token)
            self.fds.append(fd)
            self._sockets_dir, fd = session.create_sockets_folder(root)
            self.fds.append(fd)
            self.ready_fd, fd = os.pipe()
            self.fds.append(fd)
        except BaseException:
            self.abandon()
            raise

    @property
    def sockets_dir(self) -> Path:
        assert self._sockets_dir is not None
        return self._sockets_dir

    def handed_over(self) -> None:
        """The child has its copies."""
        while self.fds:
            os.close(self.fds.pop())

    def abandon(self) -> None:
        """There will be no child."""
        self.handed_over()
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
        if self._sockets_dir is not None:
            session.remove_sockets_folder(self._sockets_dir)


def begin_node(
    *,
    join: ClusterAddress | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    object_store_memory: float | None = None,
    spilling: Spilling | None = None,
    memory_monitor: MemoryMonitorConfig | None = None,
    resources: Mapping[str, object] | None = None,
    labels: Mapping[str, str] | None = None,
    name: str = "",
    host: str = "127.0.0.1",
    port: int | None = None,
    public: bool = False,
    temp_dir: str | None = None,
    worker_entry: str = WORKER_ENTRY,
) -> StartingNode:
    """Start a node process: the head of a new cluster or, with ``join``, a further node of one.

    The numbers (``memory`` in bytes) are what the node offers; None means "look". ``host`` is how other machines reach
    this one, if at all: with a ``port`` (0: any free one). A ``public`` node is one of ``actorrt start``: found by
    ``"auto"`` and lives on without us, where any other ends with this process. ``temp_dir`` takes the session folder.
    ``spilling`` says where objects go when memory is short (default: the session folder), ``memory_monitor`` when
    workers do (default: what the environment says).

    Raises ValueError or TypeError for bad resources and for an object store that does not fit into this machine,
    PermissionError when the session folder is not ours alone.
    """
    store = store_config(object_store_memory, spilling)
    offered = node_resources(
        host=host,
        is_head=join is None,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        memory=memory,
        object_store_memory=store.capacity_bytes,
        resources=resources,
    )
    node_id = os.urandom(NODE_ID_BYTES)
    config = NodeConfig(
        node_id=node_id,
        cluster_id=os.urandom(CLUSTER_ID_BYTES) if join is None else join.cluster_id,
        token=_token_for(join, public=public),
        is_head=join is None,
        gcs="" if join is None else join.gcs,
        host=host,
        port=port,
        name=name,
        resources=offered,
        labels=default_labels(node_id, labels),
        parent_pid=0 if public else os.getpid(),
        public=public,
        store=store,
        memory_monitor=read_memory_settings() if memory_monitor is None else memory_monitor,
        transport=os.environ.get(TRANSPORT_VARIABLE) or "unix",
        worker_entry=worker_entry,
        spawn_workers=os.environ.get(SPAWN_VARIABLE, "1" if sys.platform == "darwin" else "0") == "1",
    )
    return _begin(config, join, session.root_folder(temp_dir))


def store_config(object_store_memory: float | None, spilling: Spilling | None) -> StoreConfig:
    """Return how a node on this machine keeps objects; spill directories are made.

    Raises ValueError or TypeError for what cannot be had.
    """
    spilling = spilling or Spilling()
    store = StoreConfig(
        capacity_bytes=store_capacity(object_store_memory),
        spill=spilling.targets,
        spill_threshold=spilling.threshold,
        fuse_bytes=spilling.fuse_bytes,
    )
    prepare(spilling)
    return store


def _begin(config: NodeConfig, join: ClusterAddress | None, root: Path) -> StartingNode:
    files = _Files(root, join, config.token)
    try:
        config = msgspec.structs.replace(
            config,
            session_dir=str(files.session_dir),
            sockets_dir=str(files.sockets_dir),
            lock_fds=tuple(files.fds[:2]),
            ready_fd=files.fds[2],
        )
        log_path = str(files.session_dir / "logs" / f"node-{config.node_id.hex()[:12]}.log")
        process = _launch(config, log_path, files.fds)
    except BaseException:
        files.abandon()
        raise
    files.handed_over()
    return StartingNode(process, config, files.ready_fd, log_path)


def start_node(*, timeout_s: float = START_TIMEOUT_S, **arguments: object) -> NodeHandle:
    """Start a node process and wait until it serves; arguments as for ``begin_node``."""
    return begin_node(**arguments).wait(timeout_s)  # type: ignore[arg-type] # checked by begin_node's signature


def stop_node(handle: NodeHandle) -> None:
    """End a node and everything on it."""
    handle.stop()


def _token_for(join: ClusterAddress | None, *, public: bool) -> bytes:
    if join is not None:
        return join.token
    return (configured_token() if public else explicit_token()) or make_token()


def _session_for(root: Path, join: ClusterAddress | None, token: bytes) -> tuple[Path, int]:
    """Return the folder for the node's logs, held: that of the cluster it joins if it is on this machine, else its
    own.
    """
    if join is not None and join.session_dir:
        folder = Path(join.session_dir)
        if folder.parent == root and read_session_token(folder) is not None:
            fd = session.hold(folder)
            if fd is not None:
                return folder, fd
    folder, fd = session.create_session(root)
    write_session_token(folder, token)
    return folder, fd


def _launch(config: NodeConfig, log_path: str, fds: list[int]) -> subprocess.Popen[bytes]:
    title = f"actorrt-{'head' if config.is_head else 'node'}-{config.node_id.hex()[:8]}"
    log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(
            python_command("actorrt.cluster.process", title),
            stdin=subprocess.PIPE,
            stdout=log_fd,
            stderr=log_fd,
            env=child_environment(),
            pass_fds=fds,
            start_new_session=True,  # Ctrl-C at the terminal is for the driver
        )
    finally:
        os.close(log_fd)
    assert process.stdin is not None
    try:
        process.stdin.write(pack_config(config))
        process.stdin.flush()
    except BrokenPipeError:
        return process  # it has ended already; `wait` finds out why
    return process
