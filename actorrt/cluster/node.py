"""What runs inside a node process: raylet, object manager, on the head the GCS, the pool, the log collector; and the
end of all that.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from actorrt.cluster import session
from actorrt.cluster.bulk import BulkConnection, BulkLimits, bulk_identity, dial
from actorrt.cluster.bulk_server import BulkServer
from actorrt.cluster.config import NodeConfig, NodeReady, StoreConfig, WorkerConfig, store_prefix
from actorrt.cluster.hardware import device_ids
from actorrt.cluster.logs import POLL_INTERVAL_S, LogCollector
from actorrt.cluster.memory_monitor import MemoryMonitor
from actorrt.cluster.network import local_endpoint, make_router, tcp_endpoint
from actorrt.cluster.nodewire import send_ready
from actorrt.cluster.pool import WorkerPool, ZygoteClient
from actorrt.cluster.storage import NodeStorage, make_objects
from actorrt.gcs.actor import GCS, make_gcs
from actorrt.gcs.messages import ListNodes, NodeList, RegisterNode
from actorrt.kernel.clock import MonotonicClock, call_soon
from actorrt.kernel.limits import LOG_FILE_BYTES_MAX
from actorrt.kernel.message import NOWHERE, Address, Envelope, Message, PeerGone
from actorrt.kernel.shell import Shell
from actorrt.raylet.actor import RAYLET, begin, make_raylet
from actorrt.wire.records import Environment, JobConfig, NodeInfo

logger = logging.getLogger("actorrt.cluster")

REGISTER_TIMEOUT_S = 10.0
ZYGOTE_END_TIMEOUT_S = 2.5
STORE_END_TIMEOUT_S = 3.0
"""For transfers and disks to let go; what is left then is swept by others."""
HOUSEKEEPING_INTERVAL_S = 10.0
SWEEP_DELAY_S = 0.5
"""The first task shall not wait for the dust of earlier sessions; a node that ends before sweeps at its end."""
LOGS = "logs"


class NodeProcess:
    """Wires one node and lives until somebody wants its end: a signal, its parent's end, the GCS, or a bug."""

    def __init__(self, config: NodeConfig, zygote_pid: int, zygote_socket: socket.socket, parent_fd: int) -> None:
        self._config = config
        self._zygote_pid = zygote_pid
        self._zygote_socket = zygote_socket
        self._parent_fd = parent_fd
        self._log_dir = str(Path(config.session_dir) / "logs")
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._reason = ""
        self._swept = False
        self._shells: list[Shell] = []
        self._storage: NodeStorage | None = None

    # ---- life
    async def run(self) -> int:
        """Serve; returns the exit code."""
        config = self._config
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop, f"got {signal.Signals(number).name}")
        self._watch_parent(loop)
        listen = [local_endpoint(config.transport, config.sockets_dir, "node")]
        if config.port is not None:
            listen.append(tcp_endpoint(config.host, config.port))
        self._router = make_router(
            loop,
            description=f"{'head' if config.is_head else 'node'} {config.node_id.hex()[:8]}",
            cluster_id=config.cluster_id,
            token=config.token,
            listen=listen,
            dial=(config.gcs,),
        )
        self._gcs = Address(self._router.process if config.is_head else config.gcs, GCS)
        self._raylet = Address(self._router.process, RAYLET)
        try:
            await self._start(loop)
            # Not anyio's: the same guarantees, and no 20 ms more until this node is ready.
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._collect_logs()),
                    group.create_task(self._keep_house()),
                    group.create_task(self._monitor.run()),
                ]
                await self._stopping.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await self._end()
        return self._exit_code

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        config = self._config
        clock = MonotonicClock()
        self._logs = LogCollector(lambda driver, lines: self._router.send(driver, RAYLET, lines), config.host)
        self._pool = WorkerPool(
            node_id=config.node_id,
            make_config=self._worker_config,
            log_dir=self._log_dir,
            logs=self._logs,
            post=self._post_to_raylet,
            stop=self.stop,
        )
        self._zygote = await ZygoteClient.connect(self._zygote_socket, self._pool.report, self._zygote_lost)
        self._pool.zygote = self._zygote
        self._monitor = MemoryMonitor(
            config.memory_monitor, worker_pids=lambda: self._pool.pids, post=self._post_to_raylet
        )
        if config.is_head:
            self._shells.append(
                make_gcs(
                    config.cluster_id,
                    rng=random.Random(os.urandom(16)),  # noqa: S311 - breaks ties, keeps no secret
                    clock=clock,
                    loop=loop,
                    outbox=self._router,
                    on_failure=self._shell_failed,
                )
            )
        else:
            self._gcs = Address(await self._find_head(), GCS)
        self._make_objects(loop, clock)
        self._make_raylet(loop, clock)
        for shell in self._shells:
            self._router.attach(shell.name, shell.post)
        self._router.attach(LOGS, self._hear_of_losses)
        await self._register()
        if self._stopping.is_set():
            raise RuntimeError(f"this node had to end before it was ready: {self._reason}")
        self._announce()

    async def _find_head(self) -> str:
        """Return the head's process address as it calls itself: we may only know one ``host:port`` of it so far."""
        if not self._config.gcs.startswith("tcp://"):
            return self._config.gcs
        answer = await asyncio.wrap_future(self._router.request(self._gcs, ListNodes(), REGISTER_TIMEOUT_S))
        assert isinstance(answer, NodeList)
        return next((node.raylet.process for node in answer.nodes if node.is_head and node.alive), self._config.gcs)

    def _make_objects(self, loop: asyncio.AbstractEventLoop, clock: MonotonicClock) -> None:
        self._storage = _make_storage(self._config, self._router.cluster_id, loop)
        self._shells.append(
            make_objects(
                self._storage,
                self._raylet,
                clock=clock,
                loop=loop,
                outbox=self._router,
                on_failure=self._shell_failed,
            )
        )

    def _make_raylet(self, loop: asyncio.AbstractEventLoop, clock: MonotonicClock) -> None:
        config = self._config
        self._info = NodeInfo(
            config.node_id,
            raylet=self._raylet,
            hostname=socket.gethostname(),
            address=config.host,
            name=config.name,
            resources=config.resources,
            labels=config.labels,
            is_head=config.is_head,
            pid=os.getpid(),
        )
        self._shells.append(
            make_raylet(
                self._info,
                gcs=self._gcs,
                rng=random.Random(os.urandom(16)),  # noqa: S311 - as above
                random_bytes=os.urandom,
                clock=clock,
                loop=loop,
                outbox=self._router,
                perform=self._pool.perform,
                on_failure=self._shell_failed,
                device_ids=device_ids(config.resources),
            )
        )

    async def _register(self) -> None:
        """Join the cluster; raises when it does not answer or does not want us.

        The answer is posted from the future's callback, not after waking up here: what the GCS sends next must not
        overtake it.
        """
        joined = self._router.request(self._gcs, RegisterNode(self._info), REGISTER_TIMEOUT_S)
        joined.add_done_callback(self._registered)
        await asyncio.wrap_future(joined)

    def _registered(self, joined: concurrent.futures.Future[Message]) -> None:
        if joined.exception() is None:
            self._shells[-1].post(Envelope(self._gcs, joined.result()))
            begin(self._shells[-1])

    def _announce(self) -> None:
        config = self._config
        record = session.NodeRecord(
            pid=os.getpid(),
            start_mark=session.start_mark(os.getpid()),
            node_id=config.node_id.hex(),
            cluster_id=self._router.cluster_id.hex(),
            address=self._router.process,
            gcs=self._gcs.process,
            session_dir=config.session_dir,
            sockets_dir=config.sockets_dir,
            is_head=config.is_head,
            public=config.public,
            host=config.host,
            name=config.name,
        )
        session.write_record(record)
        if config.is_head and config.public:
            session.set_current_cluster(self._root, record)
        ready = NodeReady(
            pid=os.getpid(),
            address=self._router.process,
            gcs=self._gcs.process,
            node_id=config.node_id,
            cluster_id=self._router.cluster_id,
            session_dir=config.session_dir,
        )
        if not send_ready(config.ready_fd, ready):
            self.stop("nobody waits for this node any more", exit_code=1)
        logger.info("node %s serves at %s", record.node_id, record.address)

    @property
    def _root(self) -> Path:
        return Path(self._config.sockets_dir).parent.parent

    # ---- the end
    def stop(self, reason: str, exit_code: int = 0) -> None:
        """End the node in an orderly way (loop thread, idempotent)."""
        if not self._stopping.is_set():
            logger.info("this node ends: %s", reason)
            self._reason = reason
            self._exit_code = exit_code
            self._stopping.set()

    def _shell_failed(self, error: BaseException) -> None:
        self.stop(f"a component failed: {error!r}", exit_code=1)

    def _zygote_lost(self, reason: str) -> None:
        self._pool.kill_all()
        self.stop(reason, exit_code=1)

    async def _end(self) -> None:
        if hasattr(self, "_zygote"):
            self._zygote.stop()
        for shell in reversed(self._shells):
            shell.stop()
        closing = self._close_storage()
        if hasattr(self, "_zygote"):
            try:
                await asyncio.wait_for(self._reap_zygote(), ZYGOTE_END_TIMEOUT_S)
            except TimeoutError:
                logger.warning("the zygote %d did not end within %g s", self._zygote_pid, ZYGOTE_END_TIMEOUT_S)
            self._logs.close()
        if closing is not None:
            await self._storage_closed(closing)
        self._router.close()
        session.clear_current_cluster(self._root, Path(self._config.sockets_dir))
        session.remove_sockets_folder(Path(self._config.sockets_dir))
        if not self._swept:
            self._sweep()

    def _close_storage(self) -> asyncio.Future[None] | None:
        """End transfers and the store, beside what else there is to do; None: there was nothing."""
        storage = self._storage
        if storage is None:
            return None
        storage.stop()
        if not storage.is_used:
            return None
        loop = asyncio.get_running_loop()
        closing: asyncio.Future[None] = loop.create_future()

        def join() -> None:
            storage.join()
            call_soon(loop, lambda: None if closing.done() else closing.set_result(None))

        # No thread of the loop's pool: the loop would wait for it, however long it takes.
        threading.Thread(target=join, name="actorrt-store-end", daemon=True).start()
        return closing

    async def _storage_closed(self, closing: asyncio.Future[None]) -> None:
        spill_folder = _spill_folder(self._config)
        try:
            await asyncio.wait_for(closing, STORE_END_TIMEOUT_S)
            spill_folder.rmdir()
        except TimeoutError:
            logger.warning("the object store did not end within %g s", STORE_END_TIMEOUT_S)
        except OSError as error:  # never made, or objects of other nodes are there
            logger.debug("%s stays: %s", spill_folder, error)

    async def _reap_zygote(self) -> None:
        await self._zygote.gone.wait()
        # It closed its socket with its last breath, so this is a matter of microseconds.
        while os.waitpid(self._zygote_pid, os.WNOHANG) == (0, 0):  # noqa: ASYNC110, ASYNC222 - WNOHANG does not wait
            await asyncio.sleep(0.001)

    # ---- fate sharing
    def _watch_parent(self, loop: asyncio.AbstractEventLoop) -> None:
        """End with the parent: its pidfd tells on Linux, the pipe it holds open tells everywhere.

        The pipe alone would not do: a child the driver forks inherits its end.
        """
        parent_pid = self._config.parent_pid
        if not parent_pid:
            os.close(self._parent_fd)
            return
        loop.add_reader(self._parent_fd, self._parent_ended, self._parent_fd)
        if not hasattr(os, "pidfd_open"):
            return
        try:
            pidfd = os.pidfd_open(parent_pid)
        except OSError as error:
            logger.info("no pidfd of the parent (%s); its pipe alone will tell", error)
        else:
            loop.add_reader(pidfd, self._parent_ended, pidfd)
        if os.getppid() != parent_pid:
            self.stop("its parent ended at once")

    def _parent_ended(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        self.stop("the process that started it has ended")

    # ---- wiring
    def _post_to_raylet(self, body: Message) -> None:
        self._shells[-1].post(Envelope(NOWHERE, body))

    def _hear_of_losses(self, envelope: Envelope) -> None:
        if isinstance(envelope.body, PeerGone):
            self._logs.forget_driver(envelope.body.process)

    def _worker_config(self, worker_id: bytes, job: JobConfig, environment: Environment) -> WorkerConfig:
        config = self._config
        listen = [local_endpoint(config.transport, config.sockets_dir, f"w-{worker_id.hex()[:12]}")]
        if config.port is not None:
            listen.append(tcp_endpoint(config.host, 0))
        return WorkerConfig(
            worker_id=worker_id,
            node_id=config.node_id,
            cluster_id=self._router.cluster_id,
            token=config.token,
            raylet=self._raylet,
            gcs=self._gcs,
            job=job,
            environment=environment,
            session_dir=config.session_dir,
            sockets_dir=config.sockets_dir,
            log_dir=self._log_dir,
            node_host=config.host,
            node_name=config.name,
            node_labels=config.labels,
            listen=tuple(listen),
            transport=config.transport,
            entry=config.worker_entry,
        )

    # ---- background
    async def _collect_logs(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            if len(self._logs):
                self._logs.poll()

    def _sweep(self) -> None:
        began_s = time.monotonic()
        removed = session.sweep(self._root)
        if removed:
            took_ms = (time.monotonic() - began_s) * 1e3
            logger.info("removed %d folders of earlier sessions in %.0f ms", len(removed), took_ms)

    async def _keep_house(self) -> None:
        await asyncio.sleep(SWEEP_DELAY_S)
        self._swept = True
        await asyncio.to_thread(self._sweep)
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL_S)
            _bound_log(sys.stderr.fileno())


def _make_storage(config: NodeConfig, cluster_id: bytes, loop: asyncio.AbstractEventLoop) -> NodeStorage:
    """Return the store of a node, with the server other nodes read from; nothing is in memory yet."""
    identity = bulk_identity(f"node {config.node_id.hex()[:8]}", cluster_id, config.token)
    limits = BulkLimits()

    def connect(endpoint: str, wanted: Callable[[], bool]) -> BulkConnection:
        return dial(endpoint, identity, limits, wanted)

    def note(store: StoreConfig) -> None:
        record = session.StoreRecord.of(store, store_prefix(config.node_id))
        session.write_store_record(Path(config.sockets_dir), record)

    storage = NodeStorage(
        config.store,
        store_prefix(config.node_id),
        loop=loop,
        connect=connect,
        spill_folder=lambda: str(_spill_folder(config)),
        before_open=note,
    )
    addresses = [local_endpoint("unix", config.sockets_dir, "bulk")]
    if config.port is not None:
        addresses.append(tcp_endpoint(config.host, 0))
    storage.serve(BulkServer(loop, identity, storage.open_object, addresses, limits))
    return storage


def _spill_folder(config: NodeConfig) -> Path:
    return Path(config.session_dir) / session.SPILL


def _bound_log(fd: int) -> None:
    """Empty our own log file when it has become too large (it is opened for appending)."""
    if os.fstat(fd).st_size > LOG_FILE_BYTES_MAX:
        os.ftruncate(fd, 0)
        logger.warning("the log was emptied: it had reached %d bytes", LOG_FILE_BYTES_MAX)


def run(config: NodeConfig, zygote_pid: int, zygote_socket: socket.socket, parent_fd: int) -> int:
    """Run a node in this process until its end; returns the exit code."""

    async def serve() -> int:
        return await NodeProcess(config, zygote_pid, zygote_socket, parent_fd).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve())
