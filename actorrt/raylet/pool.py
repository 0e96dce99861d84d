"""The worker table: which processes this node has, what each is doing, and which one suits whom.

A worker belongs to one job and one environment for life. Its *devices* are fixed by the first lease it serves: a
process that has initialised an accelerator keeps seeing the one it saw first, so it is only given leases with the
same ones.

The table starts no process for its own sake: ``start`` is called for a grant that waits for a worker, or for a
prestart.
"""

from __future__ import annotations

from typing import Final

from actorrt.kernel.effects import Do, Effect, Send
from actorrt.kernel.ids import WORKER_ID_BYTES, RandomBytes
from actorrt.kernel.limits import (
    IDLE_WORKER_KEEP_S,
    WORKER_START_CONCURRENCY,
    WORKER_START_TIMEOUT_S,
    WORKERS_MAX,
)
from actorrt.kernel.message import NOWHERE, Address
from actorrt.raylet.operations import SIGNAL_KILL, KillWorker, StartWorker
from actorrt.wire.records import DeathCause, Environment, JobConfig
from actorrt.worker.messages import ExitWorker

STARTING: Final = "STARTING"
IDLE: Final = "IDLE"
LEASED: Final = "LEASED"
ACTOR: Final = "ACTOR"
EXITING: Final = "EXITING"
DEAD: Final = "DEAD"
STATES: Final = (STARTING, IDLE, LEASED, ACTOR, EXITING, DEAD)

TRANSITIONS: Final[dict[tuple[str, str], str]] = {
    (STARTING, "ready"): IDLE,
    (STARTING, "end"): EXITING,
    (STARTING, "died"): DEAD,
    (IDLE, "lease"): LEASED,
    (IDLE, "host"): ACTOR,
    (IDLE, "end"): EXITING,
    (IDLE, "died"): DEAD,
    (LEASED, "return"): IDLE,
    (LEASED, "end"): EXITING,
    (LEASED, "died"): DEAD,
    (ACTOR, "end"): EXITING,
    (ACTOR, "died"): DEAD,
    (EXITING, "end"): EXITING,
    (EXITING, "died"): DEAD,
}
"""Lifecycle of a worker process. ``end``: it was told to exit or killed; ``died``: the pool adapter reaped it."""

EXIT_GRACE_S: Final = 30.0
"""A worker that was asked to end after its calls is killed after this time."""
IDLE_EXIT_GRACE_S: Final = 5.0
"""An idle worker that was asked to end (it runs atexit handlers) is killed after this time."""
CONNECTION_LOST_GRACE_S: Final = 1.0
"""A worker whose connection ended is given this long to finish dying by itself, so that its own exit code is seen."""
START_ATTEMPTS_MAX: Final = 3
"""Workers of one job and environment that may die before they report, in a row, before their grants are refused."""

WorkerKey = tuple[bytes, Environment]
"""What must be equal for a process to be used: job and environment."""
Devices = tuple[tuple[str, tuple[str, ...]], ...]
"""Accelerator ids by resource name, sorted; empty for work without any."""


class Worker:
    """One worker process."""

    __slots__ = (
        "address",
        "cause",
        "deadline_s",
        "devices",
        "environment",
        "grant_id",
        "idle_since_s",
        "job_id",
        "lost",
        "pid",
        "since_s",
        "state",
        "worker_id",
    )

    def __init__(self, worker_id: bytes, key: WorkerKey, now: float) -> None:
        self.worker_id = worker_id
        self.job_id, self.environment = key
        self.state = STARTING
        self.since_s = now
        self.pid = 0
        self.address: Address = NOWHERE
        self.grant_id = 0
        """The lease or actor it works for; kept while EXITING, because its resources are held until it is dead."""
        self.devices: Devices | None = None
        """None until the first lease."""
        self.idle_since_s = now
        self.deadline_s: float | None = now + WORKER_START_TIMEOUT_S
        """When it will be killed unless it has moved on (starting, exiting, connection lost)."""
        self.cause: DeathCause | None = None
        """Why it is about to die, as far as that is known before it does."""
        self.lost = False
        """Its connection ended; nobody gets this worker any more."""

    @property
    def key(self) -> WorkerKey:
        """Job and environment."""
        return (self.job_id, self.environment)

    def suits(self, devices: Devices, *, fresh: bool) -> bool:
        """Whether it can do work with these devices; ``fresh``: work that wants a process of its own (an actor)."""
        return self.devices is None or (not fresh and self.devices == devices)

    def __repr__(self) -> str:
        return f"Worker({self.worker_id.hex()[:8]} {self.state} pid={self.pid} grant={self.grant_id})"


class Pool:
    """The worker table. Effects go to ``effects``, the outbox its machine empties after every message."""

    def __init__(
        self,
        effects: list[Effect],
        random_bytes: RandomBytes,
        workers_soft: int,
        workers_max: int = WORKERS_MAX,
        start_concurrency: int = WORKER_START_CONCURRENCY,
    ) -> None:
        self._effects = effects
        self._random_bytes = random_bytes
        self.workers_soft = max(1, workers_soft)
        self.workers_max = workers_max
        self.start_concurrency = start_concurrency
        self.workers: dict[bytes, Worker] = {}
        self._idle: dict[WorkerKey, dict[bytes, Worker]] = {}
        """Idle workers by key; insertion order is the order in which they became idle."""
        self._starting: dict[WorkerKey, int] = {}
        self._by_process: dict[str, Worker] = {}
        self._counts = dict.fromkeys(STATES, 0)
        self._lost_count = 0
        self.started_count = 0
        self.died_count = 0
        self.start_failures: dict[WorkerKey, int] = {}
        """Starts that failed in a row, while there is someone to tell."""

    # ---- figures
    def count(self, state: str) -> int:
        """Workers in this state."""
        return self._counts[state]

    @property
    def staying_count(self) -> int:
        """Processes that exist or are being made, without those that are ending."""
        return len(self.workers) - self._counts[EXITING]

    @property
    def reusable_count(self) -> int:
        """Processes that serve leases, or could."""
        return self._counts[STARTING] + self._counts[IDLE] + self._counts[LEASED]

    def starting_of(self, key: WorkerKey) -> int:
        """Workers of this key that have not reported yet."""
        return self._starting.get(key, 0)

    def of_process(self, process: str) -> Worker | None:
        """The worker with this process address."""
        return self._by_process.get(process)

    # ---- transitions
    def _move(self, worker: Worker, event: str) -> None:
        """Take ``event``; a pair that the table does not list is a bug and raises KeyError."""
        after = TRANSITIONS[worker.state, event]
        self._counts[worker.state] -= 1
        if worker.state == STARTING:
            self._starting[worker.key] -= 1
            if not self._starting[worker.key]:
                del self._starting[worker.key]
        elif worker.state == IDLE:
            idle = self._idle[worker.key]
            del idle[worker.worker_id]
            if not idle:
                del self._idle[worker.key]
        worker.state = after
        if after == IDLE:
            self._idle.setdefault(worker.key, {})[worker.worker_id] = worker
        if after != DEAD:
            self._counts[after] += 1

    def may_start(self) -> bool:
        """Whether another process may be started right now."""
        return self._counts[STARTING] < self.start_concurrency and len(self.workers) < self.workers_max

    def start(self, job: JobConfig, environment: Environment, now: float) -> Worker:
        """Start a worker. The caller has asked ``may_start``."""
        assert self.may_start()
        worker_id = self._random_bytes(WORKER_ID_BYTES)
        assert worker_id not in self.workers
        worker = Worker(worker_id, (job.job_id, environment), now)
        self.workers[worker_id] = worker
        self._counts[STARTING] += 1
        self.started_count += 1
        self._starting[worker.key] = self._starting.get(worker.key, 0) + 1
        self._effects.append(Do(StartWorker(worker_id, job, environment)))
        return worker

    def ready(self, worker: Worker, pid: int, address: Address, now: float) -> None:
        """The process reported for work."""
        self._move(worker, "ready")
        worker.pid = pid
        worker.address = address
        worker.idle_since_s = now
        worker.deadline_s = None
        self._by_process[address.process] = worker
        self.start_failures.pop(worker.key, None)

    def find_idle(self, key: WorkerKey, devices: Devices, *, fresh: bool) -> Worker | None:
        """An idle worker that suits this work: the one used last (its memory is warm), else one that never worked."""
        found = None
        for worker in reversed(self._idle.get(key, {}).values()):
            if worker.suits(devices, fresh=fresh):
                if worker.devices is not None:
                    return worker
                found = found or worker
        return found

    def longest_idle(self) -> Worker | None:
        """The worker that has been idle longest, of whatever kind."""
        oldest = [next(iter(workers.values())) for workers in self._idle.values()]
        return min(oldest, key=lambda worker: worker.idle_since_s, default=None)

    def assign(self, worker: Worker, grant_id: int, devices: Devices, *, actor: bool) -> None:
        """An idle worker begins to work for a lease or an actor."""
        self._move(worker, "host" if actor else "lease")
        worker.grant_id = grant_id
        worker.devices = devices

    def give_back(self, worker: Worker, now: float) -> None:
        """A lease ended well; the worker is idle again."""
        self._move(worker, "return")
        worker.grant_id = 0
        worker.idle_since_s = now
        if worker.lost:
            self.kill(worker, now)

    def lose(self, worker: Worker, now: float) -> None:
        """Its connection ended: most likely it is dying. Give it a moment, then make sure."""
        if worker.lost:
            return
        worker.lost = True
        self._lost_count += 1
        if worker.state == IDLE:
            self._move(worker, "end")
        deadline_s = now + CONNECTION_LOST_GRACE_S
        worker.deadline_s = deadline_s if worker.deadline_s is None else min(worker.deadline_s, deadline_s)

    def kill(self, worker: Worker, now: float, cause: DeathCause | None = None) -> None:
        """End the process and its group now; harmless when it is ending already."""
        self._move(worker, "end")
        worker.cause = cause or worker.cause
        worker.deadline_s = now + EXIT_GRACE_S
        self._effects.append(Do(KillWorker(worker.worker_id, SIGNAL_KILL, True)))

    def leaving(self, worker: Worker, cause: DeathCause) -> None:
        """It says that it will end by itself, after what it is doing, however long that takes."""
        worker.cause = cause
        if worker.state in {IDLE, LEASED, ACTOR}:
            self._move(worker, "end")

    def ask_to_exit(self, worker: Worker, grace_s: float, now: float, cause: DeathCause | None = None) -> None:
        """Let it end by itself after what it has been given; ``sweep`` kills it after the grace."""
        self._move(worker, "end")
        worker.cause = cause or worker.cause
        worker.deadline_s = now + grace_s
        self._effects.append(Send(worker.address, ExitWorker(graceful=True, cause=cause)))

    def processes(self) -> list[str]:
        """Addresses of the workers that have reported."""
        return list(self._by_process)

    def bury(self, worker: Worker) -> bool:
        """The process is dead and reaped. Returns whether it failed to start (not: whether we ended it before that)."""
        failed = worker.state == STARTING
        self._move(worker, "died")
        self.died_count += 1
        self._lost_count -= worker.lost
        del self.workers[worker.worker_id]
        if self._by_process.get(worker.address.process) is worker:
            del self._by_process[worker.address.process]
        return failed

    # ---- time
    def sweep(self, now: float) -> list[Worker]:
        """Kill what is overdue, end idle workers beyond the soft number. Returns those that did not report in time."""
        late = []
        for worker in list(self.workers.values()):
            if worker.deadline_s is not None and worker.deadline_s <= now:
                if worker.state == STARTING:
                    text = f"the worker did not report within {WORKER_START_TIMEOUT_S:g} s"
                    late.append(worker)
                    self.kill(worker, now, DeathCause("start_failed", text, worker.pid))
                else:
                    self.kill(worker, now)
        surplus = self._surplus()
        if surplus > 0:
            idle = [worker for workers in self._idle.values() for worker in workers.values()]
            idle.sort(key=lambda worker: worker.idle_since_s)
            for worker in idle[:surplus]:
                if worker.idle_since_s + IDLE_WORKER_KEEP_S > now:
                    break
                self.ask_to_exit(worker, IDLE_EXIT_GRACE_S, now)
        return late

    def _surplus(self) -> int:
        return min(self._counts[IDLE], self._counts[IDLE] + self._counts[LEASED] - self.workers_soft)

    @property
    def needs_sweep(self) -> bool:
        """Whether time alone may change something."""
        return bool(self._counts[STARTING] or self._counts[EXITING] or self._lost_count) or self._surplus() > 0

    # ---- invariants
    def check(self) -> None:
        """Assert that the indexes agree with the table."""
        assert len(self.workers) <= self.workers_max, f"{len(self.workers)} workers, at most {self.workers_max}"
        counts = dict.fromkeys(STATES, 0)
        starting: dict[WorkerKey, int] = {}
        for worker_id, worker in self.workers.items():
            assert worker.worker_id == worker_id
            counts[worker.state] += 1
            if worker.state == STARTING:
                starting[worker.key] = starting.get(worker.key, 0) + 1
            assert (worker_id in self._idle.get(worker.key, {})) == (worker.state == IDLE), worker
            assert (worker.state in {LEASED, ACTOR}) <= (worker.grant_id != 0), worker
            assert (worker.state in {STARTING, IDLE}) <= (worker.grant_id == 0), worker
            assert (worker.state == STARTING) <= (worker.deadline_s is not None), worker
            assert (worker.address == NOWHERE) or self._by_process[worker.address.process] is worker, worker
        assert counts == self._counts, (counts, self._counts)
        assert not counts[DEAD], "dead workers leave the table"
        assert starting == self._starting, (starting, self._starting)
        assert sum(len(workers) for workers in self._idle.values()) == counts[IDLE]
        assert counts[STARTING] <= self.start_concurrency
        assert self._lost_count == sum(worker.lost for worker in self.workers.values())
