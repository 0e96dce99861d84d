"""The actors of this node, from ``StartActor`` to the death of their process.

Every incarnation that was started or stopped here is reported to the GCS exactly once: ``ActorStartFailed`` or
``ActorDied`` (``ActorStarted`` in between is news, not an end). Ended incarnations are remembered for a while, because
``StopActor`` travels in a faster lane and may arrive before the ``StartActor`` it refers to.
"""

from __future__ import annotations

from typing import Final

from actorrt.gcs.messages import ActorDied, ActorStarted, ActorStartFailed
from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.limits import DEAD_ACTORS_KEPT_MAX
from actorrt.kernel.message import NOWHERE, Address
from actorrt.raylet.demand import Demand, DemandKey
from actorrt.raylet.leases import Grant
from actorrt.raylet.pool import Worker
from actorrt.scheduling.resources import maximum
from actorrt.wire.records import ActorSpec, DeathCause, LeaseSpec
from actorrt.worker.messages import CreateActorHere

WAITING: Final = "WAITING"
PLACED: Final = "PLACED"
CREATING: Final = "CREATING"
ALIVE: Final = "ALIVE"
ENDING: Final = "ENDING"
GONE: Final = "GONE"

TRANSITIONS: Final[dict[tuple[str, str], str]] = {
    (WAITING, "placed"): PLACED,
    (WAITING, "given_up"): GONE,
    (PLACED, "attached"): CREATING,
    (PLACED, "given_up"): GONE,
    (CREATING, "initialized"): ALIVE,
    (CREATING, "ending"): ENDING,
    (CREATING, "died"): GONE,
    (ALIVE, "ending"): ENDING,
    (ALIVE, "died"): GONE,
    (ENDING, "ending"): ENDING,
    (ENDING, "died"): GONE,
}
"""Life of one incarnation here: in the queue, holding resources, in ``__init__``, alive, its process being ended."""

Incarnation = tuple[bytes, int]
"""Actor id and number of the creation."""


class HostedActor:
    """One incarnation of an actor on this node."""

    __slots__ = ("grant_id", "incarnation", "reported", "spec", "state", "stop_cause", "worker_id")

    def __init__(self, spec: ActorSpec, incarnation: int) -> None:
        self.spec = spec
        self.incarnation = incarnation
        self.state = WAITING
        self.grant_id = 0
        self.worker_id = b""
        self.stop_cause: DeathCause | None = None
        """Why it was ended from outside; wins over whatever the process's exit looks like."""
        self.reported = False
        """Its end was reported already (``__init__`` raised; the process is still to die)."""

    @property
    def key(self) -> Incarnation:
        """Actor id and incarnation."""
        return (self.spec.actor_id, self.incarnation)

    def move(self, event: str) -> None:
        """Take ``event``; a pair that the table does not list is a bug and raises KeyError."""
        self.state = TRANSITIONS[self.state, event]

    @property
    def demand_key(self) -> DemandKey:
        """Its place in the queue."""
        return (NOWHERE, self.spec.actor_id + self.incarnation.to_bytes(8, "big"))

    def demand(self) -> Demand:
        """What it asks of the queue: placing needs more than holding when only ``placement_resources`` name a CPU."""
        spec = self.spec
        needed = maximum(spec.resources, spec.placement_resources)
        lease = LeaseSpec(
            spec.job_id, needed, spec.strategy, spec.label_selector, spec.environment, spec.name or spec.class_name
        )
        return Demand(self.demand_key, lease, held=spec.resources, actor=self)

    def __repr__(self) -> str:
        return f"HostedActor({self.spec.class_name} {self.spec.actor_id.hex()[:8]}#{self.incarnation} {self.state})"


def best_cause(stop: DeathCause | None, announced: DeathCause | None, seen: DeathCause, node_id: bytes) -> DeathCause:
    """Why a process ended: an order to stop it says more than its own last words, and those more than its exit code.

    Figures (pid, exit code, last output) come from the process's end whoever gives the reason.
    """
    told = stop or announced or seen
    return DeathCause(
        told.kind,
        told.text,
        told.pid or seen.pid,
        told.exit_code or seen.exit_code,
        told.signal or seen.signal,
        told.node_id or seen.node_id or node_id,
        told.stderr_tail or seen.stderr_tail,
        told.failure or seen.failure,
    )


class Actors:
    """The table of incarnations; effects go to the outbox its machine empties."""

    def __init__(self, effects: list[Effect], gcs: Address, node_id: bytes) -> None:
        self._effects = effects
        self._gcs = gcs
        self._node_id = node_id
        self.table: dict[Incarnation, HostedActor] = {}
        self._ended: dict[Incarnation, None] = {}

    def __len__(self) -> int:
        return len(self.table)

    def get(self, actor_id: bytes, incarnation: int) -> HostedActor | None:
        """This incarnation, while it is here."""
        return self.table.get((actor_id, incarnation))

    def has_ended(self, actor_id: bytes, incarnation: int) -> bool:
        """Whether this incarnation was here (or was stopped before it came) and is not to come back."""
        return (actor_id, incarnation) in self._ended

    def older(self, actor_id: bytes, incarnation: int) -> list[HostedActor]:
        """Earlier incarnations that are still here: the GCS has written them off."""
        return [h for h in self.table.values() if h.spec.actor_id == actor_id and h.incarnation < incarnation]

    def of_job(self, job_id: bytes) -> list[HostedActor]:
        """Actors of a job that end with it."""
        return [h for h in self.table.values() if h.spec.job_id == job_id and not h.spec.detached]

    def add(self, hosted: HostedActor) -> None:
        """A new incarnation waits here."""
        assert hosted.key not in self.table
        self.table[hosted.key] = hosted

    def placed(self, hosted: HostedActor, grant: Grant) -> None:
        """It holds its resources."""
        hosted.move("placed")
        hosted.grant_id = grant.grant_id

    def attached(self, hosted: HostedActor, worker: Worker, accelerator_ids: dict[str, tuple[str, ...]]) -> None:
        """A worker becomes this actor."""
        hosted.move("attached")
        hosted.worker_id = worker.worker_id
        self._effects.append(Send(worker.address, CreateActorHere(hosted.spec, hosted.incarnation, accelerator_ids)))

    def initialized(self, hosted: HostedActor, worker: Worker) -> None:
        """``__init__`` went well."""
        hosted.move("initialized")
        self.tell_started(hosted, worker)

    def tell_started(self, hosted: HostedActor, worker: Worker) -> None:
        """Say where it is (again, when the GCS asks again)."""
        assert hosted.state == ALIVE
        self._effects.append(
            Send(
                self._gcs,
                ActorStarted(
                    hosted.spec.actor_id,
                    hosted.incarnation,
                    worker.address,
                    worker.worker_id,
                    self._node_id,
                    worker.pid,
                ),
            )
        )

    def init_failed(self, hosted: HostedActor, cause: DeathCause) -> None:
        """``__init__`` raised: that is the actor's end, whatever its process does now."""
        hosted.move("ending")
        self._report_failed(hosted, cause, retry=False)

    def ending(self, hosted: HostedActor, cause: DeathCause | None) -> None:
        """Its process is being ended. The first order's reason stays."""
        hosted.move("ending")
        hosted.stop_cause = hosted.stop_cause or cause

    def given_up(self, hosted: HostedActor, cause: DeathCause, *, retry: bool = False, died: bool = False) -> None:
        """It never got a process here. ``died``: because it was told to stop; ``retry``: another node should try."""
        hosted.move("given_up")
        del self.table[hosted.key]
        if died:
            self.tell_died(hosted.spec.actor_id, hosted.incarnation, cause)
            return
        self._report_failed(hosted, cause, retry=retry)
        if not retry:
            self.remember_ended(hosted.key)

    def died(self, hosted: HostedActor, announced: DeathCause | None, seen: DeathCause) -> None:
        """Its process is dead."""
        hosted.move("died")
        if not hosted.reported:
            cause = best_cause(hosted.stop_cause, announced, seen, self._node_id)
            self.tell_died(hosted.spec.actor_id, hosted.incarnation, cause)
        del self.table[hosted.key]
        self.remember_ended(hosted.key)

    def tell_died(self, actor_id: bytes, incarnation: int, cause: DeathCause) -> None:
        """Report a death, and remember that this incarnation is over."""
        if not cause.node_id:
            cause = best_cause(None, None, cause, self._node_id)
        self._effects.append(Send(self._gcs, ActorDied(actor_id, incarnation, cause)))
        self.remember_ended((actor_id, incarnation))

    def refuse(self, spec: ActorSpec, incarnation: int, cause: DeathCause, *, retry: bool) -> None:
        """It cannot be taken in at all (``retry``: not at present, it may be sent here again)."""
        if not retry:
            self.remember_ended((spec.actor_id, incarnation))
        self._effects.append(Send(self._gcs, ActorStartFailed(spec.actor_id, incarnation, cause, retry)))

    def _report_failed(self, hosted: HostedActor, cause: DeathCause, *, retry: bool) -> None:
        hosted.reported = True
        if not cause.node_id:
            cause = best_cause(None, None, cause, self._node_id)
        self._effects.append(Send(self._gcs, ActorStartFailed(hosted.spec.actor_id, hosted.incarnation, cause, retry)))

    def remember_ended(self, key: Incarnation) -> None:
        """Drop a ``StartActor`` of this incarnation that is still to come (bounded: the oldest are forgotten)."""
        self._ended[key] = None
        if len(self._ended) > DEAD_ACTORS_KEPT_MAX:
            del self._ended[next(iter(self._ended))]

    def check(self) -> None:
        """Assert that states and what they hold agree."""
        assert len(self._ended) <= DEAD_ACTORS_KEPT_MAX
        for key, hosted in self.table.items():
            assert hosted.key == key
            assert hosted.state != GONE, hosted
            assert (hosted.state == WAITING) == (hosted.grant_id == 0), hosted
            assert (hosted.state in {CREATING, ALIVE, ENDING}) == bool(hosted.worker_id), hosted
