"""Ends: of a lease, an actor, an owner, a job. Whoever ends, everything that worked for it does, and only that.

A process is never just forgotten: it is killed (or asked to exit), and what it holds is freed by ``WorkerDied``.
"""

from __future__ import annotations

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.message import Address
from actorrt.owner.messages import LeasesRedirected, NodeChanged
from actorrt.raylet import actors, pool
from actorrt.raylet.actors import HostedActor
from actorrt.raylet.leases import Grant
from actorrt.raylet.placing import Placer
from actorrt.raylet.pool import Worker
from actorrt.wire.records import DeathCause, NodeInfo


class Ending:
    """Carries out ends on its machine's tables."""

    def __init__(self, effects: list[Effect], placer: Placer, node: NodeInfo) -> None:
        self._effects = effects
        self._placer = placer
        self._node = node
        self._queue = placer.queue
        self._grants = placer.grants
        self._pool = placer.pool
        self._jobs = placer.jobs
        self._actors = placer.actors

    def lease(self, grant: Grant, worker: Worker, cause: DeathCause, now: float, *, tell: bool = False) -> None:
        """Kill the worker of a lease. Unless ``tell``, the holder hears nothing of its death."""
        if not tell:
            self._grants.orphan(grant)
        self._pool.kill(worker, now, cause)

    def other_nodes(self, nodes: tuple[NodeInfo, ...]) -> None:
        """Tell the owners in our workers of the dead among these (the GCS tells drivers only): they may have objects
        there. And the object manager beside us, which may wait for an answer from there.
        """
        for node in nodes:
            if not node.alive:
                self._tell_of(node)

    def _tell_of(self, node: NodeInfo) -> None:
        text = node.death.text if node.death is not None else ""
        news = NodeChanged(node.node_id, node.raylet, alive=False, text=text)
        self._effects.append(Send(Address(self._node.raylet.process, "objects"), news))
        self._effects.extend(Send(Address(process, "owner"), news) for process in self._pool.processes())

    def actor(self, hosted: HostedActor, cause: DeathCause, now: float, *, graceful: bool = False) -> None:
        """End an actor, wherever it is in its life. ``graceful``: after the calls it has."""
        if hosted.state == actors.WAITING:
            demand = self._queue.get(hosted.demand_key)
            assert demand is not None
            self._queue.cancel(demand, 1)
            self._actors.given_up(hosted, cause, died=True)
        elif hosted.state == actors.PLACED:
            self._grants.release(self._grants.table[hosted.grant_id])
            self._actors.given_up(hosted, cause, died=True)
        else:
            state = hosted.state
            worker = self._pool.workers[hosted.worker_id]
            self._actors.ending(hosted, cause)
            if not graceful or state == actors.CREATING:
                self._pool.kill(worker, now)
            elif worker.deadline_s is None:
                # Otherwise its time is running out already.
                self._pool.ask_to_exit(worker, pool.EXIT_GRACE_S, now, cause)

    def owner(self, process: str, reason: str, now: float) -> None:
        """An owner process is gone: nobody wants what it asked for, and what it leased may run for nobody."""
        for demand in self._queue.demands:
            if demand.actor is None and demand.holder.process == process:
                self._queue.cancel(demand, demand.count)
        for grant in self._grants.of_process(process):
            if not grant.worker_id:
                self._grants.release(grant)
                continue
            cause = DeathCause("owner_died", f"the owner of its tasks is gone: {reason}", node_id=self._node.node_id)
            self.lease(grant, self._pool.workers[grant.worker_id], cause, now)

    def job(self, job_id: bytes, now: float) -> None:
        """A job has finished: its workers end and its requests are dropped, except what detached actors need."""
        config = self._jobs.config(job_id)
        driver = "" if config is None else config.driver.process
        self._placer.forget_prestarts(job_id)
        cause = DeathCause("job_finished", f"job {job_id.hex()} has finished", node_id=self._node.node_id)
        for hosted in self._actors.of_job(job_id):
            self.actor(hosted, cause, now)
        for demand in self._queue.demands:
            if demand.spec.job_id == job_id and demand.actor is None and not self._outlives_job(demand.holder):
                count = self._queue.cancel(demand, demand.count)
                self._send_back(demand.holder, demand.class_id, count, driver)
        for grant in list(self._grants.table.values()):
            ends = grant.key[0] == job_id and grant.actor is None and not self._outlives_job(grant.holder)
            if ends and not grant.worker_id:
                holder = grant.holder
                self._grants.release(grant)
                self._send_back(holder, grant.class_id, 1, driver)
        for worker in list(self._pool.workers.values()):
            if worker.job_id != job_id or worker.state in {pool.EXITING, pool.ACTOR}:
                continue
            leased = self._grants.table.get(worker.grant_id)
            if leased is None:
                self._pool.kill(worker, now, cause)
            elif not self._outlives_job(leased.holder):
                self.lease(leased, worker, cause, now, tell=leased.holder.process != driver)

    def _outlives_job(self, holder: Address) -> bool:
        """Whether this owner is a detached actor of this node: its work goes on when its job has finished."""
        worker = self._pool.of_process(holder.process)
        grant = None if worker is None else self._grants.table.get(worker.grant_id)
        return grant is not None and grant.actor is not None and grant.actor.spec.detached

    def _send_back(self, holder: Address, class_id: int, count: int, driver: str) -> None:
        """Answer requests dropped with their job: its driver is refused, others may ask again.

        A detached actor of another node looks like any owner of the job from here, and will; who ended with the job
        will not.
        """
        if holder.process == driver:
            self._placer.tell_refused(holder, class_id, count, "TaskCancelledError", "the job has finished")
        else:
            self._effects.append(Send(holder, LeasesRedirected(class_id, count, self._node.raylet, 0)))
