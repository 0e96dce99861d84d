"""The driver's part of a cluster: join (or start) one, be one of its jobs, leave."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from actorrt.api.loop_thread import LoopThread
from actorrt.api.output import LogPrinter
from actorrt.api.runtime import Runtime
from actorrt.cluster.addresses import ClusterAddress
from actorrt.gcs.messages import FinishJob, JobRegistered, ListNodes, NodeList, RegisterJob
from actorrt.kernel.errors import ActorrtError
from actorrt.kernel.message import Address
from actorrt.kernel.shell import defer_interrupt
from actorrt.raylet.messages import DriverJoined, LogsFlush
from actorrt.wire.records import Environment, JobConfig, NodeInfo
from actorrt.wire.router import Router

logger = logging.getLogger("actorrt")

LEAVE_TIMEOUT_S = 1.0
LOGS_TIMEOUT_S = 0.5


class Driver:
    """A connected driver: its runtime, and how to leave."""

    def __init__(self, runtime: Runtime, thread: LoopThread, printer: LogPrinter | None, *, owns_thread: bool) -> None:
        self.runtime = runtime
        self.thread = thread
        self.printer = printer
        self._owns_thread = owns_thread

    def leave(self) -> None:
        """Say goodbye (output still on its way is shown), then stop everything of this driver. Never raises."""
        runtime = self.runtime
        if not runtime.lost_reason:
            with contextlib.suppress(ActorrtError, TimeoutError):
                runtime.flush()
                if self.printer is not None:
                    runtime.ask(runtime.raylet, LogsFlush(runtime.job.job_id), LOGS_TIMEOUT_S)
                runtime.ask(runtime.gcs, FinishJob(runtime.job.job_id), LEAVE_TIMEOUT_S)
        if self.printer is not None:
            self.printer.flush(everything=True)
        runtime.closed = True
        try:
            self.thread.call(self._close, LEAVE_TIMEOUT_S)
        except Exception:
            logger.exception("leaving the cluster")
        if self._owns_thread:
            self.thread.stop()

    def _close(self) -> None:
        self.runtime.close()
        self.runtime.router.close()


def join_cluster(
    cluster: ClusterAddress,
    thread: LoopThread,
    make: Callable[[LoopThread, ClusterAddress], Router],
    *,
    namespace: str,
    environment: Environment,
    log_to_driver: bool,
    owns_thread: bool = True,
) -> Driver:
    """Register as a job of a running cluster.

    Raises ConnectionError when it does not answer, AuthenticationError and ProtocolMismatchError when it refuses.
    """
    router = make(thread, cluster)
    gcs, raylet = Address(cluster.gcs, "gcs"), Address(cluster.raylet, "raylet")
    me = Address(router.process, "owner")
    wanted = JobConfig(
        job_id=b"",
        driver=me,
        namespace=namespace,
        sys_path=tuple(_import_path()),
        working_directory=_working_directory(),
        environment=environment,
        log_to_driver=log_to_driver,
        driver_pid=os.getpid(),
        entrypoint=" ".join(sys.argv[:8]),
        start_time_s=time.time(),
    )
    try:
        joined: Any = router.request(gcs, RegisterJob(wanted, raylet), 10.0).result(11.0)
        assert isinstance(joined, JobRegistered)
        # From now on by the names everybody uses: what a user dialled may be one endpoint of several, and what a raylet
        # redirects to is compared with these.
        gcs, raylet = _true_names(router, gcs, joined.node_id)
        printer = LogPrinter(call_later=thread.call_later) if log_to_driver else None
        runtime = Runtime(
            router=router,
            loop=thread.loop,
            raylet=raylet,
            gcs=gcs,
            job=joined.job,
            node=NodeInfo(node_id=joined.node_id, raylet=raylet, hostname="", address=""),
            worker_id=os.urandom(16),
            is_driver=True,
            session_dir=cluster.session_dir,
            show=printer.show if printer is not None else None,
        )
        router.request(raylet, DriverJoined(joined.job.job_id, me), 10.0).result(11.0)
    except BaseException as error:
        thread.call(router.close)
        if isinstance(error, TimeoutError):
            raise ConnectionError(f"the cluster at {cluster.address!r} does not answer: {error}") from error
        raise
    return Driver(runtime, thread, printer, owns_thread=owns_thread)


def _true_names(router: Router, gcs: Address, node_id: bytes) -> tuple[Address, Address]:
    listed: Any = router.request(gcs, ListNodes(), 10.0).result(11.0)
    assert isinstance(listed, NodeList)
    mine = next(node for node in listed.nodes if node.node_id == node_id)
    head = next(node for node in listed.nodes if node.is_head)
    return Address(head.raylet.process, gcs.actor), mine.raylet


def _import_path() -> list[str]:
    """Where workers look for the driver's modules: the script's folder for ``""``."""
    return [str(Path(entry).absolute()) for entry in sys.path]


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""


_previous_handlers: dict[int, Any] = {}


def install_signal_handlers() -> None:
    """Main thread only: SIGTERM runs exit hooks (the cluster is left in order); Ctrl-C never tears a step in two."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        _previous_handlers[signal.SIGTERM] = signal.SIG_DFL
        signal.signal(signal.SIGTERM, _on_sigterm)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _previous_handlers[signal.SIGINT] = signal.default_int_handler
        signal.signal(signal.SIGINT, _on_sigint)


def restore_signal_handlers() -> None:
    """Undo ``install_signal_handlers`` where nobody else has changed the handlers since."""
    if threading.current_thread() is not threading.main_thread():
        return
    ours = {signal.SIGTERM: _on_sigterm, signal.SIGINT: _on_sigint}
    for number, previous in list(_previous_handlers.items()):
        if signal.getsignal(number) is ours[signal.Signals(number)]:
            signal.signal(number, previous)
        del _previous_handlers[number]


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _on_sigint(_number: int, frame: FrameType | None) -> None:
    if not defer_interrupt(frame):
        raise KeyboardInterrupt
