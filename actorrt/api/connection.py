"""Connecting this process to a cluster and leaving it: init, shutdown, and the runtime everything else asks for.

What only a connection needs is imported inside the functions: a process that starts a cluster loads it *while* the node
process starts, which is most of the time it takes.
"""

from __future__ import annotations

import atexit
import logging
import os
import platform
import sys
import threading
import uuid
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from actorrt.api.init_options import InitOptions, init_options
from actorrt.kernel.context import find_runtime, set_process_runtime

if TYPE_CHECKING:
    from actorrt.api.driver import Driver
    from actorrt.api.loop_thread import LoopThread
    from actorrt.api.runtime import Runtime
    from actorrt.cluster.addresses import ClusterAddress
    from actorrt.cluster.bootstrap import NodeHandle, StartingNode
    from actorrt.wire.router import Router

AUTO_CONNECT_VARIABLE = "ACTORRT_ENABLE_AUTO_CONNECT"
NAMESPACE_VARIABLE = "ACTORRT_NAMESPACE"
LOG_TO_DRIVER_VARIABLE = "ACTORRT_LOG_TO_DRIVER"
FIXED_POINT = 10_000
LOCAL_HOST = "127.0.0.1"

_init_lock = threading.RLock()
_session: Session | None = None
_inherited: Any = None
"""In a forked child: what its parent had. It is kept, because taking it apart would disturb the parent."""


class Session:
    """What a driver holds of the cluster it started or joined."""

    def __init__(self, driver: Driver, node: NodeHandle | None, context: Context) -> None:
        self.driver = driver
        self.node = node
        self.context = context


class Context:
    """What ``init()`` returns: facts about the cluster; as a context manager it shuts the runtime down at its end."""

    def __init__(self, address_info: dict[str, str], namespace: str) -> None:
        from actorrt import __version__

        self.address_info = address_info
        self.dashboard_url = ""
        self.python_version = platform.python_version()
        self.actorrt_version = self.ray_version = __version__
        self.actorrt_commit = self.ray_commit = ""
        self.namespace = namespace

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Shut the runtime down."""
        shutdown()

    def __repr__(self) -> str:
        return f"Context(address={self.address_info['address']!r}, session_dir={self.address_info['session_dir']!r})"


def init(address: str | None = None, **arguments: Any) -> Context:
    """Start a cluster on this machine, or join a running one, and make this process a driver of it.

    Args:
        address: None: the one ``ACTORRT_ADDRESS`` names, else the running ``actorrt start`` cluster, else start one;
            ``"auto"``: like None but ConnectionError when there is none; ``"local"``: always start one; else
            ``host:port`` or a ``unix://`` address to join.
        arguments: num_cpus, num_gpus, resources, labels, object_store_memory (bytes), object_spilling_directory,
            namespace, runtime_env, ignore_reinit_error, log_to_driver, ... as in Ray.

    Raises:
        RuntimeError: already initialised (unless ``ignore_reinit_error``), or an unknown argument.
        ValueError, TypeError: a bad value; or resources given for a cluster that runs already.
        ConnectionError: no cluster answers at the address.
    """
    global _session
    options = init_options(address, **arguments)
    with _init_lock:
        if find_runtime() is not None:
            if not options.ignore_reinit_error:
                raise RuntimeError(
                    "init() was called twice: call shutdown() first, or pass ignore_reinit_error=True to keep the first"
                )
            if _session is not None:
                return _session.context
            return Context({"address": "", "session_dir": ""}, "")
        _session = _connect(options)
        set_process_runtime(_session.driver.runtime)
        return _session.context


def _connect(options: InitOptions) -> Session:
    from actorrt.api.loop_thread import LoopThread
    from actorrt.cluster.addresses import resolve_address

    cluster = resolve_address(options.address, options.temp_dir or None)
    starting = None
    if cluster is None:
        starting = _begin_node(options)
    else:
        options.refuse_local_only(cluster.address)
    thread = LoopThread("actorrt-driver")
    node = None
    try:
        thread.start()
        from actorrt.api.driver import install_signal_handlers, join_cluster

        if starting is not None:
            node = starting.wait()
            cluster = node.cluster
        assert cluster is not None
        driver = join_cluster(
            cluster,
            thread,
            _driver_router,
            namespace=options.namespace or os.environ.get(NAMESPACE_VARIABLE, "") or str(uuid.uuid4()),
            environment=options.environment,
            log_to_driver=options.log_to_driver and os.environ.get(LOG_TO_DRIVER_VARIABLE, "1") != "0",
        )
    except BaseException:
        thread.stop()
        if node is not None:
            node.kill()
        raise
    install_signal_handlers()
    # Workers come and go; that a connection ended is news for the node's log, not for the user's screen.
    logging.getLogger("actorrt.wire").setLevel(logging.WARNING)
    atexit.register(_shutdown_at_exit)
    return Session(driver, node, Context(_address_info(cluster, driver, options), driver.runtime.job.namespace))


def _begin_node(options: InitOptions) -> StartingNode:
    from actorrt.cluster.bootstrap import begin_node

    return begin_node(
        num_cpus=_float(options.num_cpus),
        num_gpus=_float(options.num_gpus),
        memory=_float(options.memory),
        object_store_memory=options.object_store_memory_bytes,
        spilling=options.spilling,
        memory_monitor=options.memory_monitor,
        resources={k: v / FIXED_POINT for k, v in options.resources.items()},
        labels=options.labels,
        name=options.node_name,
        host=options.node_ip_address or LOCAL_HOST,
        temp_dir=options.temp_dir or None,
    )


def _driver_router(thread: LoopThread, cluster: ClusterAddress) -> Router:
    from actorrt.cluster.addresses import driver_endpoints
    from actorrt.cluster.network import make_router

    endpoints = driver_endpoints(cluster, f"driver-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    return thread.call(
        lambda: make_router(
            thread.loop,
            description="driver",
            cluster_id=cluster.cluster_id,
            token=cluster.token,
            listen=endpoints,
            dial=(cluster.gcs, cluster.raylet),
        )
    )


def _address_info(cluster: ClusterAddress, driver: Driver, options: InitOptions) -> dict[str, str]:
    return {
        "address": cluster.address,
        "gcs_address": cluster.gcs,
        "node_id": driver.runtime.node.node_id.hex(),
        "raylet_socket_name": cluster.raylet,
        "session_dir": cluster.session_dir,
        "node_ip_address": options.node_ip_address or LOCAL_HOST,
    }


def _float(fixed: int | None) -> float | None:
    return None if fixed is None else fixed / FIXED_POINT


def connect_driver(driver: Driver, address_info: dict[str, str]) -> Context:
    """Make an already joined driver this process's (used by in-process clusters)."""
    global _session
    with _init_lock:
        if find_runtime() is not None:
            raise RuntimeError("this process is a driver already: call shutdown() first")
        _session = Session(driver, None, Context(address_info, driver.runtime.job.namespace))
        set_process_runtime(driver.runtime)
        atexit.register(_shutdown_at_exit)
        return _session.context


def shutdown(*, wait_for_processes: bool = False) -> None:
    """Leave the cluster; one that this process's ``init()`` started ends, with every process of it (idempotent).

    ``wait_for_processes`` is Ray's argument; we always wait.
    """
    global _session
    del wait_for_processes
    with _init_lock:
        session, _session = _session, None
        if session is None:
            return
        atexit.unregister(_shutdown_at_exit)
        set_process_runtime(None)
        try:
            session.driver.leave()
        finally:
            if session.node is not None:
                session.node.stop()
        from actorrt.api.driver import restore_signal_handlers

        restore_signal_handlers()


def _shutdown_at_exit() -> None:
    shutdown()


def _after_fork() -> None:
    """In a forked child: the runtime is the parent's. Else the child's exit would end the parent's job and node."""
    global _init_lock, _session, _inherited
    _init_lock = threading.RLock()  # another thread of the parent may have held it
    runtime = find_runtime()
    if runtime is None:
        return
    _inherited = (runtime, _session)
    _session = None
    runtime.closed = True  # refs that the child drops are not its own
    runtime.router.abandon()
    set_process_runtime(None)
    atexit.unregister(_shutdown_at_exit)
    driver = sys.modules.get("actorrt.api.driver")
    if driver is not None:
        driver.restore_signal_handlers()


os.register_at_fork(after_in_child=_after_fork)


def is_initialized() -> bool:
    """Whether this process is connected to a cluster."""
    return find_runtime() is not None


def ensure_runtime() -> Runtime:
    """The runtime of this code; connects when there is none (``ACTORRT_ENABLE_AUTO_CONNECT=0``: RuntimeError)."""
    runtime = find_runtime()
    if runtime is not None:
        return cast("Runtime", runtime)
    if os.environ.get(AUTO_CONNECT_VARIABLE, "1") == "0":
        raise RuntimeError("not connected to a cluster: call init() first (auto-connect is off)")
    if _inherited is not None:
        raise RuntimeError(
            "this process is a fork of a driver or worker, and no part of the cluster: call init() first"
        )
    with _init_lock:
        if find_runtime() is None:
            init()
    runtime = find_runtime()
    assert runtime is not None
    return cast("Runtime", runtime)


def require_runtime() -> Runtime:
    """The runtime of this code, or RuntimeError."""
    runtime = find_runtime()
    if runtime is None:
        raise RuntimeError("not connected to a cluster: call init() first")
    return cast("Runtime", runtime)
