"""Entry point of a worker process (called in the zygote's child): I/O on a thread, user code on the main thread."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from types import FrameType

from actorrt.api.loop_thread import LoopThread
from actorrt.api.worker_host import WorkerHost, install_process_runtime
from actorrt.cluster import output
from actorrt.cluster.config import WorkerConfig
from actorrt.cluster.network import make_router
from actorrt.kernel.shell import defer_interrupt
from actorrt.wire.records import DeathCause

LEAVE_FLUSH_S = 1.0


def run_worker(config: WorkerConfig) -> None:
    """Be this worker until told to end."""
    thread = LoopThread("actorrt-io")
    thread.start()
    router = thread.call(
        lambda: make_router(
            thread.loop,
            description=f"worker {config.worker_id.hex()[:12]}",
            cluster_id=config.cluster_id,
            token=config.token,
            listen=config.listen,
        )
    )

    def leave(_cause: DeathCause, exit_code: int) -> None:
        # Last words (outcomes, the reason for ending) are written by now or wait in a channel's queue.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        host.runtime.shelf.close()
        deadline_s = time.monotonic() + LEAVE_FLUSH_S
        while any(peer.pending_bytes for peer in router.peers()) and time.monotonic() < deadline_s:
            time.sleep(0.001)
        os._exit(exit_code)

    host = WorkerHost(config, thread.loop, router, is_process=True, on_leave=leave)

    def on_sigint(_number: int, frame: FrameType | None) -> None:
        # Meant for the task that runs now (cancel), or too late for it; and never in the middle of a machine's step.
        if host.executor.on_sigint() and not defer_interrupt(frame):
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, on_sigint)
    output.set_name_source(host.current_name)
    install_process_runtime(host)
    _enter_job(config)
    host.report()
    host.executor.run()


def _enter_job(config: WorkerConfig) -> None:
    """Make the driver's modules importable, in its order, and stand where it stands."""
    if config.job.sys_path:
        known = list(sys.path)
        sys.path[:] = [*config.job.sys_path, *(p for p in known if p not in config.job.sys_path)]
    if config.job.working_directory:
        with contextlib.suppress(OSError):  # another machine need not have it
            os.chdir(config.job.working_directory)
