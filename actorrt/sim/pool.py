"""The pool of a simulated node: worker processes that start after a while and die when killed.

It keeps the promises of ``raylet.operations``: ``WorkerStarted`` or ``WorkerStartFailed`` for every ``StartWorker``,
and exactly one ``WorkerDied`` for every process that existed, some time after its end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from actorrt.kernel.message import Message
from actorrt.raylet.messages import LogsFlushed, WorkerDied, WorkerStarted, WorkerStartFailed
from actorrt.raylet.operations import FlushLogs, KillWorker, StartWorker, StopProcess
from actorrt.sim.world import Process
from actorrt.wire.records import DeathCause


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take at most, and how often they fail."""

    fork_s_max: float = 0.006
    signal_s_max: float = 0.001
    reap_s_max: float = 0.003
    start_fails: float = 0.0
    """Probability that no process can be made."""


class Child:
    """A worker as its parent knows it."""

    __slots__ = ("cause", "killed", "process")

    def __init__(self) -> None:
        self.process: Process | None = None
        self.killed = False
        """Before it existed."""
        self.cause: DeathCause | None = None
        """How it ended, when it said so itself."""


class ScriptedPool:
    """Performs the raylet's operations.

    Args:
        process: the node's process, with the raylet in it.
        make: starts a worker process for an operation; it reports to the raylet by itself.
        stop: ends the node.
    """

    def __init__(
        self,
        process: Process,
        make: Callable[[StartWorker], Process],
        stop: Callable[[str], None],
        pace: Pace,
    ) -> None:
        self._process = process
        self._make = make
        self._stop = stop
        self._pace = pace
        self._world = process.world
        self._rng = process.world.rng(f"pool {process.name}")
        self.children: dict[bytes, Child] = {}

    def perform(self, operation: Any) -> None:
        """Carry out one operation."""
        match operation:
            case StartWorker():
                self.children[operation.worker_id] = Child()
                self._later(self._pace.fork_s_max, self._start, operation)
            case KillWorker(worker_id):
                self._later(self._pace.signal_s_max, self._kill, worker_id)
            case FlushLogs(_, request):
                self._later(self._pace.signal_s_max, self._post, LogsFlushed(request))
            case StopProcess(text):
                self._later(self._pace.signal_s_max, self._stop, text)
            case _:
                raise TypeError(f"unknown operation {operation!r}")

    def processes(self) -> list[Process]:
        """Worker processes that exist."""
        return [child.process for child in self.children.values() if child.process is not None]

    def left(self, worker_id: bytes, cause: DeathCause) -> None:
        """The worker is about to end by itself."""
        child = self.children.get(worker_id)
        if child is not None:
            child.cause = cause

    def _later(self, delay_s_max: float, call: Callable[..., None], *arguments: Any) -> None:
        self._world.after(delay_s_max * self._rng.random(), functools.partial(call, *arguments), self._process)

    def _post(self, body: Message) -> None:
        self._process.post("raylet", body)

    def _start(self, operation: StartWorker) -> None:
        child = self.children[operation.worker_id]
        if child.killed or self._rng.random() < self._pace.start_fails:
            del self.children[operation.worker_id]
            self._post(WorkerStartFailed(operation.worker_id, "fork: resource temporarily unavailable"))
            return
        child.process = self._make(operation)
        child.process.on_end = functools.partial(self._ended, operation.worker_id)
        self._post(WorkerStarted(operation.worker_id, child.process.pid))

    def _kill(self, worker_id: bytes) -> None:
        child = self.children.get(worker_id)
        if child is None:
            return
        if child.process is None:
            child.killed = True
        else:
            child.cause = None
            self._world.end(child.process, "killed by signal 9", orderly=True)

    def _ended(self, worker_id: bytes, reason: str) -> None:
        if self._process.alive:
            self._later(self._pace.reap_s_max, self._reap, worker_id, reason)

    def _reap(self, worker_id: bytes, reason: str) -> None:
        child = self.children.pop(worker_id)
        assert child.process is not None
        pid = child.process.pid
        self._post(WorkerDied(worker_id, child.cause or DeathCause("signal", reason, pid=pid, signal=9)))
