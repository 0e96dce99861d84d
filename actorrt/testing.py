"""Clusters for tests, with the surface of Ray's ``cluster_utils.Cluster``.

``Cluster()`` starts real node processes on this machine; ``Cluster(in_process=True)`` runs everything in this process,
with workers as threads, and starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from types import TracebackType
from typing import Any, Self

from actorrt.api import cluster_info, connection
from actorrt.api.inprocess import InProcessCluster
from actorrt.cluster.bootstrap import NodeHandle, start_node
from actorrt.cluster.memory_settings import read_memory_settings
from actorrt.cluster.spilling import read_spilling

__all__ = ["Cluster"]

_BOOTSTRAP_NAMES = {
    "num_cpus": "num_cpus",
    "num_gpus": "num_gpus",
    "memory": "memory",
    "object_store_memory": "object_store_memory",
    "resources": "resources",
    "labels": "labels",
    "node_name": "name",
}
_SPILLING_NAMES = {"object_spilling_directory", "_system_config"}
_IGNORED = {"include_dashboard", "dashboard_port"}


class ProcessNode:
    """A node of a test cluster that is a real process."""

    def __init__(self, handle: NodeHandle) -> None:
        self.handle = handle

    @property
    def node_id(self) -> str:
        """The node's id in hexadecimal digits."""
        return str(self.handle.node_id.hex())

    @property
    def pid(self) -> int:
        """Process id of the node process."""
        return int(self.handle.pid)

    @property
    def address(self) -> str:
        """Its process address."""
        return str(self.handle.address)

    def __repr__(self) -> str:
        return f"ProcessNode(pid={self.pid}, node_id={self.node_id})"


class Cluster:
    """A cluster of several nodes on this machine.

    Args:
        initialize_head: start the head at once.
        connect: make this process a driver of it.
        head_node_args: ``add_node`` arguments for the head.
        shutdown_at_exit: accepted for compatibility; nothing outlives this process in any case.
        in_process: nodes and workers as parts and threads of this process.

    Usable as a context manager.
    """

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: dict[str, Any] | None = None,
        shutdown_at_exit: bool = True,
        *,
        in_process: bool = False,
    ) -> None:
        del shutdown_at_exit
        self.in_process = in_process
        self.head_node: Any = None
        self.worker_nodes: list[Any] = []
        self._embedded: InProcessCluster | None = None
        self._connected = False
        if head_node_args and not initialize_head:
            raise ValueError("head_node_args need initialize_head=True")
        if initialize_head:
            self.add_node(**(head_node_args or {}))
            if connect:
                self.connect()
        elif connect:
            raise ValueError("connect=True needs initialize_head=True")

    @property
    def address(self) -> str:
        """What ``init(address=...)`` takes (of the same process, for an in-process cluster)."""
        if self.head_node is None:
            raise RuntimeError("the cluster has no head yet: call add_node()")
        if self._embedded is not None:
            return self._embedded.address.address
        return str(self.head_node.handle.cluster.address)

    @property
    def gcs_address(self) -> str:
        """Same as ``address``."""
        return self.address

    def add_node(self, wait: bool = True, **node_args: Any) -> Any:
        """Start a node (the first becomes the head) and return it; it has joined when this returns.

        Args:
            wait: accepted for compatibility; joining takes milliseconds.
            node_args: num_cpus, num_gpus, memory, object_store_memory (bytes), object_spilling_directory, resources,
                labels, node_name, _system_config (``object_spilling_config`` and its like; a node inside this process
                does not look after memory, so it ignores what is said of that).
        """
        del wait
        spilling = read_spilling(node_args.get("object_spilling_directory"), node_args.get("_system_config"))
        memory_monitor = read_memory_settings(node_args.get("_system_config"))
        arguments: dict[str, Any] = {"spilling": spilling}
        if not self.in_process:
            arguments["memory_monitor"] = memory_monitor
        for name, value in node_args.items():
            if name in _BOOTSTRAP_NAMES:
                arguments[_BOOTSTRAP_NAMES[name]] = value
            elif name not in _IGNORED | _SPILLING_NAMES:
                names = sorted(set(_BOOTSTRAP_NAMES) | _SPILLING_NAMES)
                raise TypeError(f"add_node() has no argument {name!r}; it takes {names}")
        node = self._start_embedded(arguments) if self.in_process else self._start_process(arguments)
        if self.head_node is None:
            self.head_node = node
        else:
            self.worker_nodes.append(node)
        return node

    def _start_embedded(self, arguments: dict[str, Any]) -> Any:
        if self._embedded is None:
            self._embedded = InProcessCluster()
        try:
            return self._embedded.add_node(**{"num_cpus": 1, **arguments})
        except BaseException:
            if not self._embedded.nodes:
                self._embedded.stop()
                self._embedded = None
            raise

    def _start_process(self, arguments: dict[str, Any]) -> ProcessNode:
        join = None if self.head_node is None else self.head_node.handle.cluster
        return ProcessNode(start_node(join=join, **{"num_cpus": 1, **arguments}))

    def remove_node(self, node: Any, allow_graceful: bool = True) -> None:
        """End a node with everything on it; ``allow_graceful=False``: as ``kill -9`` would."""
        if node is self.head_node:
            if self.worker_nodes:
                raise ValueError("the head can only be removed last")
            self.head_node = None
        elif node in self.worker_nodes:
            self.worker_nodes.remove(node)
        else:
            raise ValueError(f"{node!r} is not a node of this cluster")
        if self._embedded is not None:
            self._embedded.remove_node(node)
        elif allow_graceful:
            node.handle.stop()
        else:
            node.handle.kill()

    def list_all_nodes(self) -> list[Any]:
        """Head first."""
        return ([self.head_node] if self.head_node is not None else []) + list(self.worker_nodes)

    def wait_for_nodes(self, timeout: float = 30) -> None:
        """Wait until every node started here, and no removed one, is alive in the cluster's view.

        Raises TimeoutError.
        """
        wanted = {node.node_id for node in self.list_all_nodes()}
        if not self._connected and not connection.is_initialized():
            return  # each has joined before add_node returned
        deadline_s = time.monotonic() + timeout
        while {row["NodeID"] for row in cluster_info.nodes() if row["Alive"]} != wanted:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"the cluster's view did not become {sorted(wanted)} within {timeout} s")
            time.sleep(0.01)

    def connect(self, namespace: str | None = None) -> Any:
        """Make this process a driver of the cluster; returns what ``init()`` returns."""
        if self._embedded is None:
            context = connection.init(address=self.address, **({"namespace": namespace} if namespace else {}))
        else:
            driver = self._embedded.driver(namespace or str(uuid.uuid4()))
            try:
                context = connection.connect_driver(driver, {"address": self.address, "session_dir": ""})
            except BaseException:
                driver.leave()
                raise
        self._connected = True
        return context

    def shutdown(self) -> None:
        """Disconnect this process if it is connected, and end every node (idempotent)."""
        if self._connected:
            self._connected = False
            connection.shutdown()
        if self._embedded is not None:
            self._embedded.stop()
            self._embedded = None
        nodes = [] if self.in_process else list(reversed(self.list_all_nodes()))
        self.head_node = None
        self.worker_nodes = []
        with contextlib.ExitStack() as stack:  # every node is stopped, whatever stopping another one raises
            for node in nodes:
                stack.callback(node.handle.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
