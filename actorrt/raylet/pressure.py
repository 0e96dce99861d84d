"""Memory pressure: which worker is ended when the node's memory runs short, and what its owner is told (pure).

The kernel's choice would be the process that looks worst to it, perhaps the node's own, and its reason would be a bare
SIGKILL. So the node process looks at its memory every so often (``cluster.memory_monitor``) and says ``MemoryPressed``
while too much of it is in use. Each time one worker may go, with its process group:

- none while the last victim is not dead yet, and none on the first report after that: it may be older than the death;
- none whose end would give next to nothing back: only workers that hold ``WORTH_KILLING_BYTES`` come into question, and
  of those only the big ones (``BIG_SHARE`` of the biggest). Innocent neighbours of a hog therefore live, and when a
  stranger to the cluster eats the memory, small workers do not die for it;
- among these, who loses least: an idle worker (``FREE``), work that may be retried, an actor that may restart, work
  without retries, an actor without restarts. Inside such a class the owner with the most big workers gives one, so that
  one of many equal tasks goes and the others finish; and the newest, which has done least so far.

What counts is memory a worker shares with nobody: pages of the object store go with their objects, not with it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from actorrt.raylet import pool
from actorrt.raylet.ending import Ending
from actorrt.raylet.leases import Grant, Grants
from actorrt.raylet.messages import MemoryPressed
from actorrt.raylet.pool import Pool, Worker
from actorrt.wire.records import DeathCause

WORTH_KILLING_BYTES: Final = 100 << 20
WORTH_KILLING_SHARE: Final = 0.01
"""Of the node's memory; the smaller of the two counts (there are small containers)."""
BIG_SHARE: Final = 0.5
PATIENCE_S: Final = 10.0
"""A victim that takes longer to die (stuck in the kernel) is no reason to spare the next."""

FREE: Final = 0
RETRIABLE_TASK: Final = 1
RESTARTABLE_ACTOR: Final = 2
TASK: Final = 3
ACTOR: Final = 4


class Candidate(msgspec.Struct, frozen=True):
    """A worker that could be ended. ``loss`` is one of the classes above, the lower the better."""

    worker_id: bytes
    private_bytes: int
    loss: int
    owner: str
    """Process of the owner it works for."""
    since_s: float
    """Since when it does."""


def choose(candidates: list[Candidate], total_bytes: int) -> Candidate | None:
    """The worker to end; None: nobody's end would help."""
    worth_bytes = min(WORTH_KILLING_BYTES, total_bytes * WORTH_KILLING_SHARE)
    biggest_bytes = max((candidate.private_bytes for candidate in candidates), default=0)
    least_bytes = max(worth_bytes, biggest_bytes * BIG_SHARE)
    big = [candidate for candidate in candidates if candidate.private_bytes >= least_bytes]
    sizes: dict[tuple[int, str], int] = {}
    for candidate in big:
        group = (candidate.loss, candidate.owner)
        sizes[group] = sizes.get(group, 0) + 1

    def rank(candidate: Candidate) -> tuple[int, int, float, int]:
        group = (candidate.loss, candidate.owner)
        return (candidate.loss, -sizes[group], -candidate.since_s, -candidate.private_bytes)

    return min(big, key=rank, default=None)


class Pressure:
    """Ends workers of its machine's tables when it is told that memory is short."""

    def __init__(self, grants: Grants, workers: Pool, ending: Ending) -> None:
        self._grants = grants
        self._pool = workers
        self._ending = ending
        self._victim = b""
        self._killed_s = float("-inf")
        self.killed_count = 0

    def pressed(self, message: MemoryPressed, now: float) -> None:
        """Too much memory is in use: end a worker, unless one is being ended or none is worth it."""
        if self._victim:
            if self._victim in self._pool.workers and now < self._killed_s + PATIENCE_S:
                return
            dead = self._victim not in self._pool.workers
            self._victim = b""
            if dead:
                return
        chosen = choose(self._candidates(message), message.total_bytes)
        if chosen is not None:
            self._kill(self._pool.workers[chosen.worker_id], chosen, message, now)

    def _candidates(self, message: MemoryPressed) -> list[Candidate]:
        sizes = {group.pid: group.private_bytes for group in message.workers}
        found = []
        for worker in self._pool.workers.values():
            if worker.pid not in sizes or worker.state == pool.STARTING:
                continue
            grant = self._grants.table.get(worker.grant_id)
            since_s = worker.idle_since_s if grant is None else grant.granted_s
            found.append(
                Candidate(worker.worker_id, sizes[worker.pid], _loss_of(grant), _owner_of(grant), since_s),
            )
        return found

    def _kill(self, worker: Worker, chosen: Candidate, message: MemoryPressed, now: float) -> None:
        self._victim = worker.worker_id
        self._killed_s = now
        self.killed_count += 1
        grant = self._grants.table.get(worker.grant_id)
        cause = DeathCause("oom", self._describe(worker, chosen, message), worker.pid)
        if grant is None or worker.state == pool.EXITING:
            self._pool.kill(worker, now, worker.cause or cause)
        elif grant.actor is not None:
            self._ending.actor(grant.actor, cause, now)
        else:
            self._ending.lease(grant, worker, cause, now, tell=True)

    def _describe(self, worker: Worker, chosen: Candidate, message: MemoryPressed) -> str:
        share = message.used_bytes / max(1, message.total_bytes)
        used = f"{_size(message.used_bytes)} of the {_size(message.total_bytes)} of {message.place} were in use"
        limits = f"{share:.1%}, threshold {message.threshold:.1%}"
        own = f"{_size(chosen.private_bytes)} of it by this worker"
        lines = [
            f"the worker process {worker.pid} was killed because memory ran short: {used} ({limits}), {own}.",
            "The biggest processes, without what they share:",
            f"{'pid':>8}  {'memory':>10}  name",
        ]
        roles = {other.pid: self._role(other) for other in self._pool.workers.values()}
        rows = [(row.pid, row.private_bytes, f"{row.name}{roles.get(row.pid, '')}") for row in message.biggest]
        if worker.pid not in [row.pid for row in message.biggest]:
            rows.append((worker.pid, chosen.private_bytes, f"the worker with its children{roles[worker.pid]}"))
        for pid, private_bytes, name in rows:
            mark = "  <- killed" if pid == worker.pid else ""
            lines.append(f"{pid:>8}  {_size(private_bytes):>10}  {name}{mark}")
        hint = "Let fewer such tasks run at once (num_cpus=, memory=), or change the threshold"
        lines.append(f"{hint} (memory_usage_threshold in _system_config).")
        return "\n".join(lines)

    def _role(self, worker: Worker) -> str:
        grant = self._grants.table.get(worker.grant_id)
        if grant is None:
            return " (idle)"
        return f" (actor {grant.name})" if grant.actor is not None else " (tasks)"


def _loss_of(grant: Grant | None) -> int:
    if grant is None:
        return FREE
    if grant.actor is None:
        return RETRIABLE_TASK if grant.retriable else TASK
    restarts = grant.actor.spec.max_restarts
    return RESTARTABLE_ACTOR if restarts < 0 or grant.actor.incarnation <= restarts else ACTOR


def _owner_of(grant: Grant | None) -> str:
    if grant is None:
        return ""
    return grant.holder.process if grant.actor is None else grant.actor.spec.owner.process


def _size(count_bytes: int) -> str:
    return f"{count_bytes / (1 << 30):.2f} GiB"
