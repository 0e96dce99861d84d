"""A whole cluster in this process: the same machines and shells over in-process channels, workers as threads.

Everything lives on one event loop (on a thread of its own); every "process" is a router of its own on a shared hub, so
messages are encoded exactly as they are between real processes. What threads cannot do: a worker that is killed while
user code runs stops counting at once, but its thread goes on until that code returns; memory and the standard streams
are shared.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import random
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actorrt.api.driver import Driver, join_cluster
from actorrt.api.loop_thread import LoopThread
from actorrt.api.worker_host import WorkerHost
from actorrt.cluster import session
from actorrt.cluster.addresses import ClusterAddress
from actorrt.cluster.bootstrap import store_config
from actorrt.cluster.bulk import BulkError, Source
from actorrt.cluster.config import StoreConfig, WorkerConfig, store_prefix
from actorrt.cluster.hardware import default_labels, node_resources
from actorrt.cluster.network import make_hub, make_inproc_router
from actorrt.cluster.spilling import Spilling
from actorrt.cluster.storage import NodeStorage, make_objects
from actorrt.gcs.actor import GCS, make_gcs
from actorrt.gcs.messages import NodeRegistered, RegisterNode
from actorrt.kernel.clock import MonotonicClock
from actorrt.kernel.message import NOWHERE, Address, Envelope, Message
from actorrt.kernel.shell import Shell
from actorrt.raylet.actor import RAYLET, begin, make_raylet
from actorrt.raylet.messages import LogsFlushed, WorkerDied, WorkerStarted
from actorrt.raylet.operations import FlushLogs, KillWorker, StartWorker, StopProcess
from actorrt.wire.records import DeathCause, Environment, NodeInfo
from actorrt.wire.router import Router

logger = logging.getLogger("actorrt.cluster")

JOIN_TIMEOUT_S = 10.0


class InProcessCluster:
    """Nodes, workers and drivers of one embedded cluster."""

    def __init__(self) -> None:
        self.thread = LoopThread("actorrt-cluster")
        self.thread.start()
        self.hub = make_hub()
        self.cluster_id = secrets.token_bytes(16)
        self.token = secrets.token_bytes(32)
        self.nodes: list[InProcessNode] = []
        self.name = secrets.token_hex(4)
        self.storages: dict[str, NodeStorage] = {}
        """By endpoint: where nodes read each other's objects."""
        self._count = 0
        atexit.register(self.stop)  # or its segments would stay until another cluster starts

    @property
    def head(self) -> InProcessNode:
        """The first node; it holds the GCS."""
        return self.nodes[0]

    def router(self, description: str) -> Router:
        """A new endpoint (loop thread)."""
        self._count += 1
        router = make_inproc_router(
            self.thread.loop,
            self.hub,
            description=description,
            cluster_id=self.cluster_id,
            token=self.token,
            listen=f"inproc://{self.name}/{description}-{self._count}",
        )
        return router

    def connect(self, endpoint: str, wanted: Callable[[], bool]) -> Source:
        """Reach the objects of another node (any thread). Raises BulkError."""
        del wanted  # there is nothing to wait for
        storage = self.storages.get(endpoint)
        if storage is None:
            raise BulkError("that node has ended")
        return storage.direct_source()

    def add_node(
        self,
        *,
        labels: dict[str, str] | None = None,
        name: str = "",
        object_store_memory: float | None = None,
        spilling: Spilling | None = None,
        **resources: Any,
    ) -> InProcessNode:
        """Start a node (arguments as for ``cluster.bootstrap.begin_node``) and wait until it has joined."""
        store = store_config(object_store_memory, spilling)
        offered = node_resources(
            host="127.0.0.1", is_head=not self.nodes, object_store_memory=store.capacity_bytes, **resources
        )
        node = self.thread.call(lambda: InProcessNode(self, offered, labels or {}, name, store))
        self.nodes.append(node)
        node.join()
        return node

    def remove_node(self, node: InProcessNode) -> None:
        """End a node and everything on it."""
        self.nodes.remove(node)
        self.thread.call(node.stop)
        node.finish()

    def driver(self, namespace: str) -> Driver:
        """Join as a driver."""
        return join_cluster(
            self.address,
            self.thread,
            lambda thread, _where: thread.call(lambda: self.router("driver")),
            namespace=namespace,
            environment=Environment(),
            log_to_driver=False,
            owns_thread=False,
        )

    @property
    def address(self) -> ClusterAddress:
        """How drivers of this process join."""
        process = self.head.router.process
        return ClusterAddress(
            address=process, gcs=process, raylet=process, token=self.token, cluster_id=self.cluster_id
        )

    def stop(self) -> None:
        """End all nodes (last first) and the loop's thread (idempotent)."""
        atexit.unregister(self.stop)
        while self.nodes:
            node = self.nodes.pop()
            self.thread.call(node.stop)
            node.finish()
        self.thread.stop()


class InProcessNode:
    """One node: raylet, object manager and, on the first, GCS; its pool starts workers as threads."""

    def __init__(
        self,
        cluster: InProcessCluster,
        resources: dict[str, int],
        labels: dict[str, str],
        name: str,
        store: StoreConfig,
    ) -> None:
        self.cluster = cluster
        self.node_id_bytes = os.urandom(16)
        self.router = cluster.router("node")
        is_head = not cluster.nodes
        self.gcs = Address(self.router.process if is_head else cluster.head.router.process, GCS)
        self.raylet = Address(self.router.process, RAYLET)
        self.workers: dict[bytes, ThreadWorker] = {}
        self.stopped = False
        self._info = NodeInfo(
            self.node_id_bytes,
            raylet=self.raylet,
            hostname="localhost",
            address="127.0.0.1",
            name=name,
            resources=resources,
            labels=default_labels(self.node_id_bytes, labels),
            is_head=is_head,
            pid=os.getpid(),
        )
        loop = cluster.thread.loop
        clock = MonotonicClock()
        self.shells: list[Shell] = []
        if is_head:
            self.shells.append(
                make_gcs(
                    cluster.cluster_id,
                    rng=random.Random(os.urandom(16)),  # noqa: S311 - breaks ties, keeps no secret
                    clock=clock,
                    loop=loop,
                    outbox=self.router,
                    on_failure=self._failed,
                )
            )
        self.storage = self._make_storage(store)
        self.objects = make_objects(
            self.storage, self.raylet, clock=clock, loop=loop, outbox=self.router, on_failure=self._failed
        )
        self.shells.append(self.objects)
        self.shell = make_raylet(
            self._info,
            gcs=self.gcs,
            rng=random.Random(os.urandom(16)),  # noqa: S311 - as above
            random_bytes=os.urandom,
            clock=clock,
            loop=loop,
            outbox=self.router,
            perform=self._perform,
            on_failure=self._failed,
        )
        self.shells.append(self.shell)
        for shell in self.shells:
            self.router.attach(shell.name, shell.post)

    def _make_storage(self, store: StoreConfig) -> NodeStorage:
        self._files = _Files(store_prefix(self.node_id_bytes))
        endpoint = f"direct://{self.node_id}"
        storage = self.cluster.storages[endpoint] = NodeStorage(
            store,
            self._files.prefix,
            loop=self.cluster.thread.loop,
            connect=self.cluster.connect,
            spill_folder=self._files.spill_folder,
            before_open=self._files.note,
            endpoint=endpoint,
        )
        return storage

    @property
    def node_id(self) -> str:
        """The node's id in hexadecimal digits."""
        return self.node_id_bytes.hex()

    def __repr__(self) -> str:
        return f"InProcessNode({self.node_id}, workers={len(self.workers)})"

    def join(self) -> None:
        """Register with the GCS and wait for its answer."""
        joined = self.router.request(self.gcs, RegisterNode(self._info), JOIN_TIMEOUT_S)

        def registered(future: Any) -> None:
            if future.exception() is None:
                self.shell.post(Envelope(self.gcs, future.result()))
                begin(self.shell)

        joined.add_done_callback(registered)
        answer = joined.result(JOIN_TIMEOUT_S)
        assert isinstance(answer, NodeRegistered)

    def _failed(self, error: BaseException) -> None:
        logger.error("a component of an in-process node failed: %r", error)
        self.cluster.thread.loop.call_soon_threadsafe(self._end)

    def stop(self) -> None:
        """End the node as if its process had ended (loop thread, idempotent)."""
        if self.stopped:
            return
        self.stopped = True
        for worker in list(self.workers.values()):
            worker.stop()
        self.workers.clear()
        for shell in reversed(self.shells):
            shell.stop()
        self.storage.stop()
        self.cluster.storages.pop(self.storage.endpoint, None)
        self.router.close()

    def finish(self) -> None:
        """Remove the node's files, once it was stopped (blocks: not on the loop's thread; idempotent)."""
        self.storage.join()
        self._files.remove()

    def _end(self) -> None:
        """End by ourselves (loop thread)."""
        self.stop()
        threading.Thread(target=self.finish, name="actorrt-node-finish", daemon=True).start()

    # ------------------------------------------------------------------ the raylet's operations
    def _perform(self, operation: Any) -> None:
        loop = self.cluster.thread.loop
        kind = type(operation)
        if kind is StartWorker:
            loop.call_soon_threadsafe(self._start_worker, operation)
        elif kind is KillWorker:
            loop.call_soon_threadsafe(self._kill_worker, operation)
        elif kind is FlushLogs:
            self._post(LogsFlushed(operation.request))  # threads print to this process's own streams
        elif kind is StopProcess:
            loop.call_soon_threadsafe(self._end)
        else:
            raise TypeError(f"unknown operation {operation!r}")

    def _post(self, body: Message) -> None:
        self.shell.post(Envelope(NOWHERE, body))

    def _start_worker(self, operation: StartWorker) -> None:
        if self.stopped:
            return
        router = self.cluster.router("worker")
        config = WorkerConfig(
            worker_id=operation.worker_id,
            node_id=self.node_id_bytes,
            cluster_id=self.cluster.cluster_id,
            token=self.cluster.token,
            raylet=self.raylet,
            gcs=self.gcs,
            job=operation.job,
            environment=operation.environment,
            session_dir="",
            sockets_dir="",
            log_dir="",
            node_host="127.0.0.1",
            node_name=self._info.name,
            node_labels=self._info.labels,
        )
        worker = ThreadWorker(self, config, router)
        self.workers[operation.worker_id] = worker
        self._post(WorkerStarted(operation.worker_id, os.getpid()))
        worker.start()

    def _kill_worker(self, operation: KillWorker) -> None:
        worker = self.workers.pop(operation.worker_id, None)
        if worker is not None:
            worker.stop()
            text = f"its thread was told to end (signal {operation.signal_number})"
            cause = DeathCause("signal", text, pid=os.getpid(), signal=operation.signal_number)
            self._post(WorkerDied(operation.worker_id, cause))

    def worker_left(self, worker_id: bytes, cause: DeathCause) -> None:
        """A worker ended by itself (any thread)."""

        def left() -> None:
            worker = self.workers.pop(worker_id, None)
            if worker is not None:
                worker.stop()
                if not self.stopped:
                    self._post(WorkerDied(worker_id, cause))

        self.cluster.thread.loop.call_soon_threadsafe(left)


class _Files:
    """Files of an in-process node: made with its first large object, removed with it, found by a sweep if we die."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._held_fd = -1

    def _made(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder, self._held_fd = session.create_sockets_folder(session.root_folder())
            return self._folder

    def spill_folder(self) -> str:
        """Where objects go when memory is short, unless the user says otherwise."""
        return str(self._made() / session.SPILL)

    def note(self, store: StoreConfig) -> None:
        """For the sweep."""
        session.write_store_record(self._made(), session.StoreRecord.of(store, self.prefix))

    def remove(self) -> None:
        """The store is closed (idempotent)."""
        with self._lock:
            if self._folder is not None:
                session.remove_sockets_folder(self._folder)
                os.close(self._held_fd)
                self._folder = None


def _tell(objects: Shell, src: Address, body: Message) -> None:
    objects.post(Envelope(src, body))


class ThreadWorker:
    """A worker whose "process" is a thread."""

    def __init__(self, node: InProcessNode, config: WorkerConfig, router: Router) -> None:
        self.router = router
        self.host = WorkerHost(
            config,
            node.cluster.thread.loop,
            router,
            is_process=False,
            on_leave=lambda cause, _code: node.worker_left(config.worker_id, cause),
            # Not by the router: a killed worker's thread may hold views for a while, and tells when they are gone.
            tell_store=functools.partial(_tell, node.objects, Address(router.process, "owner")),
        )
        self._thread = threading.Thread(
            target=self.host.executor.run, name=f"actorrt-worker-{config.worker_id.hex()[:6]}", daemon=True
        )

    def start(self) -> None:
        """Report to the raylet and begin to work."""
        self._thread.start()
        self.host.report()

    def stop(self) -> None:
        """Take no more work (loop thread); a running task goes on to its end, unheard."""
        self.host.executor.stop()
        self.host.runtime.close()
        self.host.shell.stop()
        self.router.close()
