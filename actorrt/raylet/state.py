"""The raylet as a machine: every message it understands, and what follows (see the package's theory of operation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from actorrt.gcs.messages import FinishJob, NodeRegistered
from actorrt.kernel.effects import Do, Effect, Fail, Reply, Send, SetTimer
from actorrt.kernel.ids import RandomBytes
from actorrt.kernel.limits import (
    LEASE_QUEUE_MAX,
    PARKED_REQUESTS_MAX,
    WORKER_START_CONCURRENCY,
    WORKERS_MAX,
)
from actorrt.kernel.message import NOWHERE, Address, Done, Envelope, PeerGone
from actorrt.owner.messages import LeasedWorkerDied
from actorrt.raylet import messages, pool
from actorrt.raylet.actors import Actors, best_cause
from actorrt.raylet.demand import Demand, DemandQueue
from actorrt.raylet.ending import Ending
from actorrt.raylet.hosting import Hosting
from actorrt.raylet.invariants import check_actors, check_grants, check_starts
from actorrt.raylet.jobs import Jobs
from actorrt.raylet.leases import Grants
from actorrt.raylet.operations import FlushLogs, StopProcess
from actorrt.raylet.placing import Placer
from actorrt.raylet.pool import Pool
from actorrt.raylet.pressure import Pressure
from actorrt.raylet.reporting import LoadReporter
from actorrt.raylet.view import ClusterView
from actorrt.scheduling.resources import UNIT, Available
from actorrt.wire.records import DeathCause, JobConfig, NodeInfo

if TYPE_CHECKING:
    import random

SWEEP_TIMER: Final = "sweep"
SWEEP_INTERVAL_S: Final = 0.5
GCS_GRACE_S: Final = 2.0
"""A node whose head is gone ends after this time (5 s after the head's death, detection included)."""
PRESTART_MAX: Final = 64
"""Workers started for a driver before it asks for any (never more than the node has CPUs)."""
PENDING_GROUPS_MAX: Final = 100
"""Groups of waiting work a load report lists."""
QUIET: Final = (
    messages.ReportDue,
    messages.GetNodeStatistics,
    messages.LogsFlush,
    messages.LogsFlushed,
    messages.StoreUsed,
    messages.WorkerStarted,
    messages.WorkerUnblocked,
)
"""Messages after which nobody can be served who could not be before; after all others the queue is looked at."""


class RayletStatistics(msgspec.Struct, frozen=True):
    """Figures of one raylet; ``workers`` by state."""

    workers: dict[str, int]
    workers_started: int
    workers_died: int
    workers_blocked: int
    leases: int
    grants_waiting: int
    actors: int
    requests_waiting: int
    granted: int
    redirected: int
    refused: int
    jobs: int
    drivers: int
    reports: int
    memory_kills: int

    def figures(self) -> dict[str, int]:
        """All of it in one flat table: ``workers`` in all and ``workers_<state>``."""
        flat = {name: value for name, value in msgspec.structs.asdict(self).items() if isinstance(value, int)}
        flat["workers"] = sum(self.workers.values())
        return flat | {f"workers_{state.lower()}": count for state, count in self.workers.items()}


class RayletMachine:
    """Pure state of one raylet; see ``actorrt.raylet``.

    Args:
        node: this node; ``node.resources`` is what it has to give, ``is_head`` says that the GCS shares its process.
        gcs: address of the GCS.
        rng: for choices between equally good nodes.
        random_bytes: for worker ids and lease ids.
        num_workers_soft: idle workers that are kept; the node's CPU count when None.
        device_ids: names of accelerators by resource (``{"GPU": ("0", "1")}``); numbered from 0 when left out.
        workers_max: bounds the processes of this node, as do the other limits what they name (tests lower them).
    """

    def __init__(
        self,
        node: NodeInfo,
        gcs: Address,
        rng: random.Random,
        random_bytes: RandomBytes,
        num_workers_soft: int | None = None,
        *,
        device_ids: dict[str, tuple[str, ...]] | None = None,
        workers_max: int = WORKERS_MAX,
        start_concurrency: int = WORKER_START_CONCURRENCY,
        queue_max: int = LEASE_QUEUE_MAX,
    ) -> None:
        self.node = node
        self.gcs = gcs
        soft = num_workers_soft if num_workers_soft is not None else node.resources.get("CPU", 0) // UNIT
        self._effects: list[Effect] = []
        effects = self._effects
        self.pool = Pool(effects, random_bytes, soft, workers_max, start_concurrency)
        self.queue = DemandQueue(queue_max)
        self.grants = Grants(Available(node.resources, device_ids), random_bytes)
        self.view = ClusterView(node)
        self.jobs = Jobs()
        self.actors = Actors(effects, gcs, node.node_id)
        self.placer = Placer(effects, self.queue, self.grants, self.pool, self.view, self.jobs, self.actors, rng)
        self.ending = Ending(effects, self.placer, node)
        self.hosting = Hosting(self.placer, self.ending)
        self.pressure = Pressure(self.grants, self.pool, self.ending)
        self.reporter = LoadReporter(effects, gcs, node.node_id, node.resources)
        self.stopping = False
        self._nothing_new = False
        """This message only added to a demand that waits already: the answer to it is the same."""
        self._sweep_armed = False
        self._gcs_lost_s: float | None = None
        self._flushes: dict[int, tuple[Address, int]] = {}
        self._flush_count = 0
        self._handlers = self._make_handlers()

    def _make_handlers(self) -> dict[type, Callable[[Envelope, Any, float], None]]:
        return {
            messages.RequestLeases: self._request_leases,
            messages.CancelLeases: self._cancel_leases,
            messages.ReturnLease: self._return_lease,
            messages.WorkerReady: self._worker_ready,
            messages.WorkerBlocked: self._worker_blocked,
            messages.WorkerUnblocked: self._worker_unblocked,
            messages.WorkerExiting: self._worker_exiting,
            messages.ActorInitialized: lambda _envelope, message, now: self.hosting.initialized(message, now),
            messages.DriverJoined: self._driver_joined,
            messages.LogsFlush: self._logs_flush,
            messages.LogsFlushed: self._logs_flushed,
            messages.StoreUsed: lambda _envelope, message, _now: self.reporter.store_used(message.used_bytes),
            messages.MemoryPressed: lambda _envelope, message, now: self.pressure.pressed(message, now),
            messages.ClusterChanged: self._cluster_changed,
            NodeRegistered: self._node_registered,
            messages.JobStarted: self._job_started,
            messages.JobFinished: self._job_finished,
            messages.StartActor: lambda _envelope, message, now: self.hosting.start(message, now),
            messages.StopActor: lambda _envelope, message, now: self.hosting.stop(message, now),
            messages.StopNode: self._stop_node,
            messages.WorkerStarted: self._worker_started,
            messages.WorkerStartFailed: self._worker_start_failed,
            messages.WorkerDied: self._worker_died,
            messages.ReportDue: self._report_due,
            messages.SweepDue: self._sweep_due,
            messages.GetNodeStatistics: self._get_statistics,
            PeerGone: self._peer_gone,
        }

    # --------------------------------------------------------------------------------------------- the machine protocol
    def handle(self, envelope: Envelope, now: float) -> list[Effect]:
        """See ``kernel.machine.Machine``."""
        body = envelope.body
        handler = self._handlers.get(type(body))
        if handler is not None:
            if self._gcs_lost_s is not None and type(body) is not PeerGone and envelope.src.process == self.gcs.process:
                self._gcs_lost_s = None
            handler(envelope, body, now)
        elif envelope.request_id:
            text = f"a raylet does not answer {type(body).__name__}"
            self._effects.append(Fail(envelope.src, envelope.request_id, "InternalError", text))
        if not self.stopping:
            self._settle(type(body), now)
        effects = self._effects.copy()
        self._effects.clear()
        return effects

    def _settle(self, body_type: type, now: float) -> None:
        """What follows from every message: place what can be placed, report, wake up again when time matters."""
        if body_type not in QUIET and not self._nothing_new:
            self.placer.run(now)
        self._nothing_new = False
        if not self.reporter.may_skip(now):
            pending = self.queue.pending()[:PENDING_GROUPS_MAX]
            pending += self.grants.pending()[: PENDING_GROUPS_MAX - len(pending)]
            self.reporter.look(self.grants.ledger.free(), pending, now)
        if not self._sweep_armed and (self.pool.needs_sweep or self.queue.count or self._gcs_lost_s is not None):
            self._sweep_armed = True
            self._effects.append(SetTimer(SWEEP_TIMER, now + SWEEP_INTERVAL_S, messages.SweepDue()))

    def check(self) -> None:
        """Assert the machine's invariants."""
        self.pool.check()
        self.queue.check()
        self.grants.check()
        self.view.check()
        self.jobs.check()
        self.actors.check()
        check_grants(self.grants, self.pool)
        check_actors(self.actors, self.queue, self.grants)
        if not self.stopping:
            check_starts(self.grants, self.pool)

    def statistics(self) -> RayletStatistics:
        """See ``kernel.machine.Machine``."""
        jobs, drivers = self.jobs.statistics()
        return RayletStatistics(
            workers={state: self.pool.count(state) for state in pool.STATES if state != pool.DEAD},
            workers_started=self.pool.started_count,
            workers_died=self.pool.died_count,
            workers_blocked=len(self.grants.blocked_since),
            leases=len(self.grants) - sum(grant.actor is not None for grant in self.grants.table.values()),
            grants_waiting=self.grants.waiting_count,
            actors=len(self.actors),
            requests_waiting=self.queue.count,
            granted=self.grants.granted_count,
            redirected=self.placer.redirected_count,
            refused=self.placer.refused_count,
            jobs=jobs,
            drivers=drivers,
            reports=self.reporter.version,
            memory_kills=self.pressure.killed_count,
        )

    # ------------------------------------------------------------------------------------------------------ from owners
    def _request_leases(self, envelope: Envelope, message: messages.RequestLeases, now: float) -> None:
        if message.count > 0 and self.jobs.is_over_for(message.spec.job_id, envelope.src.process):
            text = f"job {message.spec.job_id.hex()} has finished"
            self.placer.tell_refused(envelope.src, message.class_id, message.count, "TaskCancelledError", text)
            return
        count = min(message.count, self.queue.room())
        if message.count > max(count, 0):
            text = f"{self.queue.count} requests wait at this node already"
            left = message.count - max(count, 0)
            self.placer.tell_refused(envelope.src, message.class_id, left, "Overloaded", text)
        if count > 0:
            demand = Demand(
                (envelope.src, message.class_id), message.spec, holder=envelope.src, class_id=message.class_id
            )
            waiting = self.queue.get(demand.key)
            self._nothing_new = waiting is not None and waiting.spec == message.spec and waiting.reason != ""
            self.queue.add(demand, count, max(0, message.hops), now)

    def _cancel_leases(self, envelope: Envelope, message: messages.CancelLeases, _now: float) -> None:
        left = message.count
        demand = self.queue.get((envelope.src, message.class_id))
        if demand is not None and left > 0:
            left -= self.queue.cancel(demand, left)
        if left <= 0:
            return
        unserved = [g for waiting in self.grants.waiting.values() for g in waiting.values()]
        for grant in reversed(unserved):
            if left and grant.demand_key == (envelope.src, message.class_id):
                self.grants.release(grant)
                left -= 1

    def _return_lease(self, envelope: Envelope, message: messages.ReturnLease, now: float) -> None:
        grant = self.grants.table.get(message.lease_id)
        if grant is None or grant.holder != envelope.src or not grant.worker_id:
            return
        worker = self.pool.workers[grant.worker_id]
        if worker.state != pool.LEASED:
            self.grants.orphan(grant)
        elif message.worker_failed:
            text = "its owner lost the connection to it"
            self.ending.lease(grant, worker, DeathCause("killed", text, worker.pid), now)
        else:
            self.grants.forget_blocked(worker.address.process)
            self.grants.release(grant)
            self.pool.give_back(worker, now)
            if worker.state == pool.IDLE:
                self.placer.offer(worker, now)

    # ----------------------------------------------------------------------------------------------------- from workers
    def _worker_started(self, _envelope: Envelope, message: messages.WorkerStarted, _now: float) -> None:
        worker = self.pool.workers.get(message.worker_id)
        if worker is not None:
            worker.pid = message.pid

    def _worker_ready(self, _envelope: Envelope, message: messages.WorkerReady, now: float) -> None:
        worker = self.pool.workers.get(message.worker_id)
        if worker is None or worker.state != pool.STARTING:
            return
        self.pool.ready(worker, message.pid, message.worker, now)
        self.placer.offer(worker, now)

    def _worker_blocked(self, _envelope: Envelope, message: messages.WorkerBlocked, _now: float) -> None:
        worker = self.pool.workers.get(message.worker_id)
        grant = None if worker is None else self.grants.table.get(worker.grant_id)
        if worker is not None and grant is not None:
            self.grants.block(grant, worker.address.process)

    def _worker_unblocked(self, _envelope: Envelope, message: messages.WorkerUnblocked, _now: float) -> None:
        worker = self.pool.workers.get(message.worker_id)
        grant = None if worker is None else self.grants.table.get(worker.grant_id)
        if worker is not None and grant is not None:
            self.grants.unblock(grant, worker.address.process)

    def _worker_exiting(self, _envelope: Envelope, message: messages.WorkerExiting, _now: float) -> None:
        worker = self.pool.workers.get(message.worker_id)
        if worker is None or worker.cause is not None:
            return
        self.pool.leaving(worker, message.cause)
        grant = self.grants.table.get(worker.grant_id)
        if grant is not None and grant.actor is not None:
            self.actors.ending(grant.actor, None)

    def _worker_start_failed(self, envelope: Envelope, message: messages.WorkerStartFailed, now: float) -> None:
        cause = DeathCause("start_failed", message.text)
        self._worker_died(envelope, messages.WorkerDied(message.worker_id, cause), now)

    def _worker_died(self, _envelope: Envelope, message: messages.WorkerDied, now: float) -> None:
        worker = self.pool.workers.get(message.worker_id)
        if worker is None:
            return
        failed_to_start = self.pool.bury(worker)
        process = worker.address.process
        grant = self.grants.table.get(worker.grant_id)
        if grant is not None:
            holder = grant.holder
            self.grants.forget_blocked(process)
            self.grants.release(grant)
            if grant.actor is not None:
                self.actors.died(grant.actor, worker.cause, message.cause)
            elif holder.process not in {"", process}:
                # (A worker may lease itself: a task that has ended left work of its own behind.)
                cause = best_cause(None, worker.cause, message.cause, self.node.node_id)
                self._effects.append(Send(holder, LeasedWorkerDied(grant.grant_id, worker.address, cause)))
        if failed_to_start:
            cause = best_cause(None, worker.cause, message.cause, self.node.node_id)
            self.placer.start_failed(worker.key, cause)
        if process:
            self.ending.owner(process, message.cause.text, now)

    # ------------------------------------------------------------------------------------------------- jobs and drivers
    def _driver_joined(self, envelope: Envelope, message: messages.DriverJoined, _now: float) -> None:
        self.jobs.driver_joined(message.job_id, message.owner.process)
        if envelope.request_id:
            self._effects.append(Reply(envelope.src, envelope.request_id, Done()))
        config = self.jobs.config(message.job_id)
        if config is not None:
            self._prestart(config)

    def _job_started(self, _envelope: Envelope, message: messages.JobStarted, _now: float) -> None:
        self._learn_job(message.job)

    def _learn_job(self, config: JobConfig) -> None:
        if self.jobs.started(config) and self.jobs.is_local(config.job_id):
            self._prestart(config)

    def _prestart(self, config: JobConfig) -> None:
        """The driver's first tasks will come to this node: have processes ready."""
        if not self.jobs.is_finished(config.job_id):
            self.placer.prestart(config.job_id, config.environment, min(self.pool.workers_soft, PRESTART_MAX))

    def _job_finished(self, _envelope: Envelope, message: messages.JobFinished, now: float) -> None:
        if self.jobs.finished(message.job_id):
            self.ending.job(message.job_id, now)

    # ------------------------------------------------------------------------------------------------------ the cluster
    def _node_registered(self, envelope: Envelope, message: NodeRegistered, now: float) -> None:
        for job in message.jobs:
            self._learn_job(job)
        self._cluster_changed(envelope, messages.ClusterChanged(message.nodes, message.loads), now)

    def _cluster_changed(self, _envelope: Envelope, message: messages.ClusterChanged, _now: float) -> None:
        verdict = self.view.update(message.nodes, message.loads)
        self.ending.other_nodes(message.nodes)
        if verdict:
            self._effects.append(Do(StopProcess(f"the cluster has given this node up: {verdict}")))

    def _peer_gone(self, _envelope: Envelope, message: PeerGone, now: float) -> None:
        process = message.process
        if process == self.gcs.process and not self.node.is_head and self._gcs_lost_s is None:
            # Any message of the GCS within the grace takes the verdict back. A heartbeat that cannot be sent is told as
            # another PeerGone: the grace runs from the first.
            self._gcs_lost_s = now
        self.view.peer_gone(process, now)
        worker = self.pool.of_process(process)
        if worker is not None:
            self.pool.lose(worker, now)
        for job_id in self.jobs.driver_gone(process):
            self._effects.append(Send(self.gcs, FinishJob(job_id, f"its driver is gone: {message.reason}")))
        self.ending.owner(process, message.reason, now)

    def _stop_node(self, envelope: Envelope, message: messages.StopNode, now: float) -> None:
        if envelope.request_id:
            self._effects.append(Reply(envelope.src, envelope.request_id, Done()))
        if self.stopping:
            return
        self.stopping = True
        for worker in list(self.pool.workers.values()):
            self.pool.kill(worker, now, DeathCause("node_died", message.text or "the node was stopped"))
        self._effects.append(Do(StopProcess(message.text or "asked to stop")))

    # ------------------------------------------------------------------------------------------------- time and figures
    def _report_due(self, _envelope: Envelope, _message: messages.ReportDue, _now: float) -> None:
        self.reporter.due()

    def _sweep_due(self, _envelope: Envelope, _message: messages.SweepDue, now: float) -> None:
        self._sweep_armed = False
        for worker in self.pool.sweep(now):
            assert worker.cause is not None
            self.placer.start_failed(worker.key, worker.cause)
        if self._gcs_lost_s is not None and now >= self._gcs_lost_s + GCS_GRACE_S:
            self._gcs_lost_s = None
            self._effects.append(Do(StopProcess("the head of the cluster is gone")))

    def _logs_flush(self, envelope: Envelope, message: messages.LogsFlush, _now: float) -> None:
        if len(self._flushes) >= PARKED_REQUESTS_MAX:
            text = f"{len(self._flushes)} flushes are under way"
            self._effects.append(Fail(envelope.src, envelope.request_id, "Overloaded", text))
            return
        self._flush_count += 1
        self._flushes[self._flush_count] = (envelope.src, envelope.request_id)
        self._effects.append(Do(FlushLogs(message.job_id, self._flush_count)))

    def _logs_flushed(self, _envelope: Envelope, message: messages.LogsFlushed, _now: float) -> None:
        src, request_id = self._flushes.pop(message.request, (NOWHERE, 0))
        if request_id:
            self._effects.append(Reply(src, request_id, Done()))

    def _get_statistics(self, envelope: Envelope, _message: messages.GetNodeStatistics, _now: float) -> None:
        figures = self.statistics().figures()
        pids = tuple(worker.pid for worker in self.pool.workers.values() if worker.pid)
        if envelope.request_id:
            self._effects.append(Reply(envelope.src, envelope.request_id, messages.NodeStatistics(figures, pids)))
