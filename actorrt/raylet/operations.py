"""What the raylet asks of its node process through ``Do``: the closed set of operations the pool adapter performs.

Each operation that can fail or take time answers with a message of ``raylet.messages``; none blocks the machine.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from actorrt.wire.records import Environment, JobConfig

SIGNAL_KILL = 9


class StartWorker(msgspec.Struct, frozen=True, gc=False):
    """Make a worker process for this job and environment, in a process group of its own.

    Answered by ``WorkerStarted`` (the process exists) or ``WorkerStartFailed``; the process itself then reports
    ``WorkerReady``. Whenever a started process ends, for whatever reason and exactly once, ``WorkerDied`` follows,
    after the pool has reaped it and ended what is left of its process group.
    """

    worker_id: bytes
    job: JobConfig
    environment: Environment


class KillWorker(msgspec.Struct, frozen=True, gc=False):
    """Send a signal to a worker process (``group``: to its whole process group). ``WorkerDied`` follows its death.

    A worker whose process does not exist yet is never started, or killed as soon as it exists; ``WorkerDied`` or
    ``WorkerStartFailed`` follows all the same. Unknown and dead workers are ignored.
    """

    worker_id: bytes
    signal_number: int = SIGNAL_KILL
    group: bool = True


class FlushLogs(msgspec.Struct, frozen=True, gc=False):
    """Send the output collected so far of this job's workers to its driver. Answered by ``LogsFlushed(request)``."""

    job_id: bytes
    request: int


class StopProcess(msgspec.Struct, frozen=True, gc=False):
    """End the node process and with it everything it started. ``text`` says why, for the log and for people."""

    text: str


Operation: TypeAlias = StartWorker | KillWorker | FlushLogs | StopProcess
