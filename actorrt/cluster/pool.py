"""The raylet's hands: performs its operations with the zygote, and turns what becomes of them into messages."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import cast

import msgspec

from actorrt.cluster import zygote
from actorrt.cluster.config import WorkerConfig
from actorrt.cluster.logs import LogCollector
from actorrt.cluster.worker_process import log_paths
from actorrt.kernel.message import Message
from actorrt.raylet.messages import LogsFlushed, WorkerDied, WorkerStarted, WorkerStartFailed
from actorrt.raylet.operations import FlushLogs, KillWorker, Operation, StartWorker, StopProcess
from actorrt.wire.records import DeathCause, Environment, JobConfig

logger = logging.getLogger("actorrt.cluster.pool")


class ZygoteClient(asyncio.Protocol):
    """Our end of the zygote's socket. ``report`` gets what it says, ``lost`` is called when it is gone."""

    def __init__(self, report: Callable[[zygote.Report], None], lost: Callable[[str], None]) -> None:
        self._report = report
        self._lost = lost
        self._reader = zygote.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._stopping = False
        self.gone = asyncio.Event()

    @classmethod
    async def connect(
        cls, sock: socket.socket, report: Callable[[zygote.Report], None], lost: Callable[[str], None]
    ) -> ZygoteClient:
        """Take over our end of the socket pair."""
        sock.setblocking(False)
        _, protocol = await asyncio.get_running_loop().create_connection(lambda: cls(report, lost), sock=sock)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop owns the socket now."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        """Take reports."""
        for item in self._reader.feed(data):
            self._report(zygote.decode_report(item))

    def connection_lost(self, error: Exception | None) -> None:
        """The zygote is gone: its workers are dying, and none can be made any more."""
        self.gone.set()
        if not self._stopping:
            self._lost(f"the zygote is gone{f': {error}' if error else ''}")

    def send(self, request: zygote.Request) -> None:
        """Send a request. Raises ValueError when it is too large."""
        data = zygote.frame(request)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def stop(self) -> None:
        """Have it kill every worker's group and end; ``gone`` is set when it has."""
        self._stopping = True
        self.send(zygote.Stop())


class _Process:
    __slots__ = ("job", "kill", "pid", "worker_id")

    def __init__(self, worker_id: bytes, job: JobConfig) -> None:
        self.worker_id = worker_id
        self.job = job
        self.pid = 0
        self.kill: KillWorker | None = None
        """Wanted before the process existed."""


class WorkerPool:
    """Performs ``raylet.operations``. Lives on the loop's thread.

    Args:
        make_config: the configuration of a worker, given its id, job and environment.
        log_dir: where workers' output goes.
        logs: carries it to drivers.
        post: hands a message to the raylet.
        stop: ends the node process; the text says why.
    """

    def __init__(
        self,
        *,
        node_id: bytes,
        make_config: Callable[[bytes, JobConfig, Environment], WorkerConfig],
        log_dir: str,
        logs: LogCollector,
        post: Callable[[Message], None],
        stop: Callable[[str], None],
    ) -> None:
        self._node_id = node_id
        self._make_config = make_config
        self._log_dir = log_dir
        self._logs = logs
        self._post = post
        self._stop = stop
        self._numbers = itertools.count(1)
        self._starting: dict[int, _Process] = {}
        self._workers: dict[bytes, _Process] = {}
        self._pids: dict[int, _Process] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self.zygote: ZygoteClient | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Worker processes that exist."""
        return tuple(self._pids)

    def perform(self, operation: Operation) -> None:
        """Carry out one operation; what comes of it is posted."""
        match operation:
            case StartWorker():
                self._start(operation)
            case KillWorker():
                self._kill(operation)
            case FlushLogs(job_id, request):
                self._logs.flush(job_id)
                self._post(LogsFlushed(request))
            case StopProcess(text):
                self._stop(text)

    def kill_all(self) -> None:
        """Kill every group ourselves (the zygote is gone)."""
        for pid in self._pids:
            try:
                os.killpg(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                logger.debug("worker %d is gone already", pid)

    # ---- operations
    def _start(self, operation: StartWorker) -> None:
        assert self.zygote is not None
        process = _Process(operation.worker_id, operation.job)
        number = next(self._numbers)
        config = self._make_config(operation.worker_id, operation.job, operation.environment)
        self._workers[operation.worker_id] = process
        self._starting[number] = process
        try:
            self.zygote.send(zygote.Fork(number, self._encode(config), self._log_base(operation.worker_id)))
        except ValueError as error:
            self._failed(number, str(error))

    def _log_base(self, worker_id: bytes) -> str:
        return f"{self._log_dir}/worker-{worker_id.hex()[:12]}"

    def _kill(self, operation: KillWorker) -> None:
        process = self._workers.get(operation.worker_id)
        if process is None:
            return
        if process.pid:
            assert self.zygote is not None
            self.zygote.send(zygote.Signal(process.pid, operation.signal_number, operation.group))
        else:
            process.kill = operation

    # ---- reports of the zygote
    def report(self, report: zygote.Report) -> None:
        """Take what the zygote says."""
        match report:
            case zygote.Forked(number, pid):
                self._forked(number, pid)
            case zygote.ForkFailed(number, text):
                self._failed(number, text)
            case zygote.Exited(pid, exit_code, signal_number):
                self._exited(pid, exit_code, signal_number)
            case zygote.Preloaded(error):
                if error:
                    logger.error("workers cannot start: %s", error)
            case zygote.Refused(text):
                logger.error("the zygote refused a request: %s", text)

    def _forked(self, number: int, pid: int) -> None:
        process = self._starting.pop(number)
        process.pid = pid
        self._pids[pid] = process
        self._logs.add(pid, process.job, *log_paths(self._log_base(process.worker_id), pid))
        self._post(WorkerStarted(process.worker_id, pid))
        if process.kill is not None:
            self._kill(process.kill)

    def _failed(self, number: int, text: str) -> None:
        process = self._starting.pop(number)
        del self._workers[process.worker_id]
        self._post(WorkerStartFailed(process.worker_id, text))

    def _exited(self, pid: int, exit_code: int, signal_number: int) -> None:
        process = self._pids.pop(pid)
        del self._workers[process.worker_id]
        tail = self._logs.stderr_tail(pid)
        self._logs.ended(pid)
        self._post(WorkerDied(process.worker_id, death_cause(pid, exit_code, signal_number, self._node_id, tail)))


def death_cause(
    pid: int, exit_code: int, signal_number: int, node_id: bytes, stderr_tail: tuple[str, ...] = ()
) -> DeathCause:
    """Say how a process ended."""
    if signal_number:
        try:
            name = signal.Signals(signal_number).name
        except ValueError:  # a real-time signal
            name = f"signal {signal_number}"
        kind, text = "signal", f"the worker process {pid} was killed by {name}"
    else:
        kind, text = "exit", f"the worker process {pid} ended with exit code {exit_code}"
    return DeathCause(
        kind,
        text,
        pid=pid,
        exit_code=exit_code,
        signal=signal_number,
        node_id=node_id,
        stderr_tail=stderr_tail,
    )
