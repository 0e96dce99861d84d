"""What the GCS and workers say about actors, and what becomes of it (``actors`` keeps the table)."""

from __future__ import annotations

from actorrt.raylet import actors, messages, pool
from actorrt.raylet.actors import HostedActor
from actorrt.raylet.ending import Ending
from actorrt.raylet.placing import Placer
from actorrt.wire.records import DeathCause


class Hosting:
    """Starts and stops actors; duplicates, overtaking and late messages are dealt with here."""

    def __init__(self, placer: Placer, ending: Ending) -> None:
        self._queue = placer.queue
        self._grants = placer.grants
        self._pool = placer.pool
        self._jobs = placer.jobs
        self._actors = placer.actors
        self._ending = ending

    def start(self, message: messages.StartActor, now: float) -> None:
        """Queue a new incarnation, unless it is here already, over already, or impossible."""
        spec, incarnation = message.spec, message.incarnation
        if self._actors.has_ended(spec.actor_id, incarnation):
            return
        hosted = self._actors.get(spec.actor_id, incarnation)
        if hosted is not None:
            if hosted.state == actors.ALIVE:
                self._actors.tell_started(hosted, self._pool.workers[hosted.worker_id])
            return
        for older in self._actors.older(spec.actor_id, incarnation):
            older.reported = True
            self._ending.actor(older, DeathCause("killed", "a newer incarnation of the actor was started"), now)
        if self._jobs.is_finished(spec.job_id) and not spec.detached:
            cause = DeathCause("job_finished", f"job {spec.job_id.hex()} has finished")
            self._actors.refuse(spec, incarnation, cause, retry=False)
            return
        hosted = HostedActor(spec, incarnation)
        demand = hosted.demand()
        if self._queue.room() <= 0 or not self._grants.ledger.feasible(demand.spec.resources):
            full = self._queue.room() <= 0
            text = "the node's queue is full" if full else "the node can never offer what the actor needs"
            self._actors.refuse(spec, incarnation, DeathCause("unschedulable", text), retry=True)
            return
        self._actors.add(hosted)
        self._queue.add(demand, 1, 0, now)

    def stop(self, message: messages.StopActor, now: float) -> None:
        """End an incarnation wherever it is in its life; one that is not here is answered at once."""
        hosted = self._actors.get(message.actor_id, message.incarnation)
        if hosted is None or hosted.reported:
            self._actors.tell_died(message.actor_id, message.incarnation, message.cause)
        if hosted is not None:
            self._ending.actor(hosted, message.cause, now, graceful=message.graceful)

    def initialized(self, message: messages.ActorInitialized, now: float) -> None:
        """``__init__`` ended, well or not; news of anything but the present creation is stale."""
        hosted = self._actors.get(message.actor_id, message.incarnation)
        if hosted is None or hosted.worker_id != message.worker_id or hosted.state != actors.CREATING:
            return
        worker = self._pool.workers[hosted.worker_id]
        if message.cause is None:
            self._actors.initialized(hosted, worker)
        else:
            self._actors.init_failed(hosted, message.cause)
            self._pool.ask_to_exit(worker, pool.IDLE_EXIT_GRACE_S, now)
