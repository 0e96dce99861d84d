"""Matching what waits with what is free: one pass over the queue after everything that may have changed the answer.

A pass gives every demand turns of one request each until nobody can be served. A request that may run here takes its
resources at once (that is the grant) and then a worker, an idle one or the next that reports; one that would run
elsewhere is sent there. Order of turns:

1. a demand that has starved for ``STARVED_AFTER_S`` (the longest waiting first): while it does not fit, what it needs
   is withheld from the others;
2. demands of workers that are themselves blocked, the last blocked first: their children let them go on, so nested
   work runs depth first and few workers suffice;
3. all others in rotation.

Withholding could deadlock (what the starved demand lacks may be held by work that waits for a smaller request), so it
applies only when leases at work here hold enough, and for limited periods with pauses in between, each twice as long
as the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.limits import REDIRECT_HOPS_MAX
from actorrt.kernel.message import Address
from actorrt.owner.messages import LeaseGranted, LeaseRecalled, LeasesRedirected, LeasesRefused
from actorrt.raylet.actors import Actors
from actorrt.raylet.demand import Demand, DemandQueue, Shape
from actorrt.raylet.jobs import Jobs
from actorrt.raylet.leases import Grant, Grants, devices_of
from actorrt.raylet.pool import IDLE_EXIT_GRACE_S, START_ATTEMPTS_MAX, Pool, Worker, WorkerKey
from actorrt.raylet.recall import plan_recalls
from actorrt.raylet.view import ClusterView
from actorrt.scheduling import policy
from actorrt.scheduling.resources import ResourceSet, describe, fits, subtract
from actorrt.wire.records import DeathCause, Environment, NodeInfo

if TYPE_CHECKING:
    import random

STARVED_AFTER_S = 1.0
"""A demand of which nothing has come for so long is served before others."""
RESERVATION_S = 10.0
"""How long resources are first withheld for a starved demand before others get a chance again."""
SHAPES_REMEMBERED_MAX = 1000
"""Kinds of demands for which it is remembered that no other node can take them."""
UNKNOWN_NODE_GRACE_S = 2.0
"""Hard affinity to a node never heard of waits this long for news of it before it is refused."""


class Here(msgspec.Struct, frozen=True, gc=False):
    """It can run here now."""


class Wait(msgspec.Struct, frozen=True, gc=False):
    """It waits here, for this reason."""

    reason: str


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """It can never run."""

    kind: str
    text: str


HERE = Here()
Place = Here | Wait | Refuse | NodeInfo


class Placer:
    """The pass. It owns nothing but the rotation of SPREAD; queue, grants and pool are its machine's."""

    def __init__(
        self,
        effects: list[Effect],
        queue: DemandQueue,
        grants: Grants,
        pool: Pool,
        view: ClusterView,
        jobs: Jobs,
        actors: Actors,
        rng: random.Random,
    ) -> None:
        self._effects = effects
        self.queue = queue
        self.grants = grants
        self.pool = pool
        self.view = view
        self.jobs = jobs
        self.actors = actors
        self._rng = rng
        self._spread_after = b""
        self._elsewhere: dict[Shape, policy.Choice] = {}
        """What no other node can take as of this version of the view (looking at a thousand nodes is slow)."""
        self._elsewhere_version = 0
        self._redirects: dict[tuple[Address, int, Address, int], int] = {}
        self._prestarts: dict[WorkerKey, int] = {}
        self.redirected_count = 0
        self.refused_count = 0

    # ---- the pass
    def run(self, now: float) -> None:
        """Serve whatever can be served, then start the workers that are missing and recall the leases that are."""
        self.view.settle(now)
        if self.queue.count:
            self._serve_others(self._serve_starved(now), now)
            self._send_redirects()
        self.start_workers(now)
        if self.queue.count and self.grants.shares:
            self._recall(now)

    def _serve_starved(self, now: float) -> Demand | None:
        """Serve starved demands in order of their age. Returns the one for which resources are withheld, if any."""
        starved = [d for d in self.queue.demands if d.waited_s(now) >= STARVED_AFTER_S and self._could_run_here(d)]
        if not starved:
            return None
        starved.sort(key=lambda demand: -demand.waited_s(now))
        returning = self.grants.returning()
        for demand in starved:
            if self._serve(demand, {}, now):
                returning = self.grants.returning()
            elif (
                demand.count
                and fits(demand.spec.resources, returning)
                and demand.may_reserve(now, RESERVATION_S, STARVED_AFTER_S)
            ):
                return demand
        return None

    def _serve_others(self, reserving: Demand | None, now: float) -> None:
        withheld = {} if reserving is None else reserving.spec.resources
        turn = [demand for demand in self.queue.demands if demand is not reserving]
        if self.grants.blocked_since:
            turn.sort(key=lambda demand: -self.grants.urgency(demand.holder.process))
        failed: dict[object, str] = {}
        while turn:
            again = []
            for demand in turn:
                if not demand.count:
                    continue
                shape = (demand.shape, self._effective_hops(demand, now))
                reason = failed.get(shape)
                if reason is not None:
                    demand.reason = reason
                elif self._serve(demand, withheld, now):
                    again.append(demand)
                elif demand.count:
                    failed[shape] = demand.reason
            turn = again

    def _serve(self, demand: Demand, withheld: ResourceSet, now: float) -> bool:
        """Serve one request of this demand. Says whether one left the queue; if not, ``demand.reason`` says why."""
        place = self._place(demand, withheld, now)
        if isinstance(place, Here):
            if self._grant(demand, now):
                return True
            place = Wait(f"waits for a worker process: all {self.pool.workers_max} are in use")
        if isinstance(place, Wait):
            demand.reason = place.reason
            return False
        if isinstance(place, Refuse):
            self.refuse(demand, place.kind, place.text)
            return False
        hops = min(self._effective_hops(demand, now) + 1, REDIRECT_HOPS_MAX)
        self.queue.take(demand, now)
        self.view.sent_there(place.node_id, demand.spec.resources, now)
        key = (demand.holder, demand.class_id, place.raylet, hops)
        self._redirects[key] = self._redirects.get(key, 0) + 1
        self.redirected_count += 1
        return True

    # ---- where
    def _place(self, demand: Demand, withheld: ResourceSet, now: float) -> Place:
        spec = demand.spec
        if self.jobs.config(spec.job_id) is None:
            return Wait(f"job {spec.job_id.hex()} is not known here yet")
        ledger = self.grants.ledger
        admitted = ledger.fits(spec.resources)
        if admitted and withheld and not _leaves(spec.resources, ledger.free(), withheld):
            admitted = False
            busy = Wait(
                f"waits for {describe(spec.resources)}: an older request for {describe(withheld)} is served first"
            )
        else:
            busy = Wait(f"waits for {describe(spec.resources)}: this node is busy")
        if demand.actor is not None:
            return HERE if admitted else busy
        suits = self.view.suits_here(spec)
        if suits and admitted and self._runs_here_anyway(demand, now):
            return HERE
        if suits and self.view.alone and ledger.feasible(spec.resources):
            return busy
        return self._choose(
            demand, busy, now, admitted=admitted and suits, feasible=suits and ledger.feasible(spec.resources)
        )

    def _runs_here_anyway(self, demand: Demand, now: float) -> bool:
        """Whether a demand that fits here stays here without a look at the others (most do, and looking costs time)."""
        strategy = demand.spec.strategy.kind
        if self.view.alone or strategy == policy.NODE_AFFINITY or self._effective_hops(demand, now) > 0:
            return True
        if strategy != policy.DEFAULT or self.view.has_devices:
            return False
        ledger = self.grants.ledger
        local = policy.NodeView(b"", ledger.total(), ledger.free())
        return policy.utilisation(local, demand.spec.resources) <= policy.PACK_UNTIL

    def _choose(self, demand: Demand, busy: Wait, now: float, *, admitted: bool, feasible: bool) -> Place:
        strategy = demand.spec.strategy
        local_id = self.view.local.node_id
        choice = self._choice(demand, admitted=admitted)
        pinned = strategy.kind == policy.NODE_AFFINITY
        if isinstance(choice, policy.Refused):
            heard_of = not pinned or self.view.knows(strategy.node_id)
            if heard_of or now >= demand.since_s + UNKNOWN_NODE_GRACE_S:
                return Refuse("TaskUnschedulableError", choice.text)
            return Wait(choice.text)
        if isinstance(choice, policy.Infeasible):
            return Wait(choice.text)
        chosen = isinstance(choice, policy.Chosen)
        if chosen and strategy.kind == policy.SPREAD:
            self._spread_after = choice.node_id
        if choice.node_id != local_id:
            to_wait_there = pinned and choice.node_id == strategy.node_id
            if to_wait_there or (self._effective_hops(demand, now) < REDIRECT_HOPS_MAX and (chosen or not feasible)):
                return self.view.node(choice.node_id)
        if admitted:
            return HERE
        return Wait(choice.text) if isinstance(choice, policy.Busy) and not feasible else busy

    def _choice(self, demand: Demand, *, admitted: bool) -> policy.Choice:
        """Ask the policy; this node counts as full unless ``admitted``."""
        if self._elsewhere_version != self.view.version or len(self._elsewhere) >= SHAPES_REMEMBERED_MAX:
            self._elsewhere.clear()
            self._elsewhere_version = self.view.version
        local_id = self.view.local.node_id
        known = self._elsewhere.get(demand.shape)
        if known is not None:
            return policy.Chosen(local_id) if admitted else known
        spec = demand.spec
        strategy = spec.strategy
        wanted = policy.Demand(spec.resources, strategy.kind, strategy.node_id, strategy.soft, spec.label_selector)
        views = self.view.views(self.grants.ledger.free() if admitted else {})
        choice = policy.choose_node(views, wanted, self._rng, local_node_id=local_id, spread_after=self._spread_after)
        if not admitted and not isinstance(choice, policy.Chosen):
            self._elsewhere[demand.shape] = choice
        return choice

    def _effective_hops(self, demand: Demand, now: float) -> int:
        """Redirections so far. Counting starts again for a request that waits long: the bound is on the rate."""
        return demand.hops if now < demand.since_s + STARVED_AFTER_S else 0

    def _could_run_here(self, demand: Demand) -> bool:
        return (
            (demand.actor is not None or self.view.suits_here(demand.spec))
            and self.grants.ledger.feasible(demand.spec.resources)
            and self.jobs.config(demand.spec.job_id) is not None
        )

    # ---- leaving the queue
    def _grant(self, demand: Demand, now: float) -> bool:
        """Take the resources and, if there is one, a worker. Says False when there could never be a worker now."""
        ledger = self.grants.ledger
        taken = ledger.take(demand.held)
        assert taken is not None, f"{demand!r} was said to fit"
        key, fresh = (demand.spec.job_id, demand.spec.environment), demand.actor is not None
        worker = self.pool.find_idle(key, devices_of(taken), fresh=fresh)
        if worker is None and not self._make_room(now):
            ledger.put_back(taken)
            return False
        self.queue.take(demand, now)
        grant = self.grants.place(demand, taken, now)
        if grant.actor is not None:
            self.actors.placed(grant.actor, grant)
        if worker is not None:
            self._attach(grant, worker, now)
        return True

    def _attach(self, grant: Grant, worker: Worker, now: float) -> None:
        self.grants.attach(grant, worker.worker_id, now)
        self.pool.assign(worker, grant.grant_id, grant.devices, actor=grant.actor is not None)
        if grant.actor is not None:
            self.actors.attached(grant.actor, worker, grant.taken.accelerator_ids())
            return
        self._effects.append(
            Send(
                grant.holder,
                LeaseGranted(
                    grant.class_id,
                    grant.grant_id,
                    worker.address,
                    worker.worker_id,
                    self.view.local.node_id,
                    worker.pid,
                    grant.taken.accelerator_ids(),
                ),
            )
        )

    def refuse(self, demand: Demand, kind: str, text: str) -> None:
        """All requests of this demand can never be met."""
        count = self.queue.cancel(demand, demand.count)
        if demand.actor is not None:
            self.actors.given_up(demand.actor, DeathCause("start_failed", text))
        else:
            self.tell_refused(demand.holder, demand.class_id, count, kind, text)

    def tell_refused(self, holder: Address, class_id: int, count: int, kind: str, text: str) -> None:
        """Answer requests that can never be met."""
        self.refused_count += count
        self._effects.append(Send(holder, LeasesRefused(class_id, count, kind, text)))

    def _send_redirects(self) -> None:
        for (holder, class_id, raylet, hops), count in self._redirects.items():
            self._effects.append(Send(holder, LeasesRedirected(class_id, count, raylet, hops)))
        self._redirects.clear()

    def _recall(self, now: float) -> None:
        candidates = [grant for grant in self.grants.table.values() if grant.recallable]
        if not candidates:
            return
        demands = [
            demand
            for demand in self.queue.demands
            if self._could_run_here(demand) and not self.grants.ledger.fits(demand.spec.resources)
        ]
        if not demands:
            return
        for grant in plan_recalls(
            demands, self.grants, candidates, lambda demand: demand.waited_s(now) >= STARVED_AFTER_S
        ):
            self.grants.recall(grant)
            self._effects.append(Send(grant.holder, LeaseRecalled(grant.grant_id)))

    # ---- workers
    def offer(self, worker: Worker, now: float) -> None:
        """A worker is idle: the oldest grant it suits gets it."""
        for grant in self.grants.waiting.get(worker.key, {}).values():
            if worker.suits(grant.devices, fresh=grant.actor is not None):
                self._attach(grant, worker, now)
                return

    def prestart(self, job_id: bytes, environment: Environment, count: int) -> None:
        """Have this many workers of a job ready before anybody asks for them."""
        self._prestarts[job_id, environment] = count

    def forget_prestarts(self, job_id: bytes) -> None:
        """The job has ended."""
        for key in [key for key in self._prestarts if key[0] == job_id]:
            del self._prestarts[key]

    def start_workers(self, now: float) -> None:
        """Start a process for every grant without one, as far as bounds allow; then those wanted in advance."""
        for key, waiting in list(self.grants.waiting.items()):
            config = self.jobs.config(key[0])
            assert config is not None, "nothing is granted for unknown jobs"
            missing = len(waiting) - self.pool.starting_of(key)
            while missing > 0 and self.pool.may_start():
                self.pool.start(config, key[1], now)
                missing -= 1
        for key, wanted in list(self._prestarts.items()):
            config = self.jobs.config(key[0])
            count = min(wanted, self.pool.workers_soft - self.pool.reusable_count)
            while count > 0 and config is not None and self.pool.may_start():
                self.pool.start(config, key[1], now)
                count -= 1
            if count > 0:
                self._prestarts[key] = count
            else:
                del self._prestarts[key]

    def _make_room(self, now: float) -> bool:
        """See to it that one more worker can be started, if need be in place of an idle one that nobody asks for."""
        pool = self.pool
        missing = sum(max(0, len(grants) - pool.starting_of(key)) for key, grants in self.grants.waiting.items())
        if pool.staying_count + missing < pool.workers_max:
            return True
        idle = pool.longest_idle()
        if idle is None:
            return False
        pool.ask_to_exit(idle, IDLE_EXIT_GRACE_S, now)
        return True

    def start_failed(self, key: WorkerKey, cause: DeathCause) -> None:
        """A worker died before it reported. After a few such starts in a row those who wait for one are told."""
        self._prestarts.pop(key, None)
        waiting = self.grants.waiting.get(key)
        if waiting is None:
            self.pool.start_failures.pop(key, None)
            return
        failures = self.pool.start_failures.get(key, 0) + 1
        self.pool.start_failures[key] = failures
        if failures < START_ATTEMPTS_MAX:
            return
        del self.pool.start_failures[key]
        kind = "RuntimeEnvSetupError" if key[1] != Environment() else "WorkerCrashedError"
        tail = "".join(f"\n  {line}" for line in cause.stderr_tail)
        text = f"{failures} worker processes in a row ended before they were ready; the last: {cause.text}{tail}"
        for grant in list(waiting.values()):
            self.give_up(grant, kind, text, cause)
        for demand in self.queue.demands:
            if (demand.spec.job_id, demand.spec.environment) == key:
                self.refuse(demand, kind, text)

    def give_up(self, grant: Grant, kind: str, text: str, cause: DeathCause) -> None:
        """A grant that waits for a worker will not get one."""
        holder = grant.holder
        self.grants.release(grant)
        if grant.actor is not None:
            told = DeathCause(
                "start_failed", text, cause.pid, cause.exit_code, cause.signal, cause.node_id, cause.stderr_tail
            )
            self.actors.given_up(grant.actor, told)
            return
        self.tell_refused(holder, grant.class_id, 1, kind, text)


def _leaves(demand: ResourceSet, free: ResourceSet, withheld: ResourceSet) -> bool:
    """Whether taking ``demand`` leaves what is withheld, for the resources that both name."""
    rest = subtract(free, demand)
    return all(rest.get(name, 0) >= withheld[name] for name, fixed in demand.items() if fixed > 0 and name in withheld)
