"""The queue: who waits for how many workers, since when, and why.

Requests are kept as counts per *demand*, one demand for each (owner, scheduling class) and one for each waiting
actor. Demands take turns; inside a demand the oldest request is served first. A request leaves the queue in exactly
one way: granted, redirected, refused or cancelled (or dropped with its owner).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from actorrt.kernel.limits import LEASE_QUEUE_MAX
from actorrt.kernel.message import NOWHERE, Address
from actorrt.wire.records import LeaseSpec, PendingDemand

if TYPE_CHECKING:
    from actorrt.raylet.actors import HostedActor

DemandKey = tuple[Address, bytes | int]
"""The owner and its class number, or (NOWHERE, actor id + incarnation)."""
Shape = tuple[object, ...]
"""Demands of equal shape can be served at the same moments, and wait for the same reason."""


class Batch:
    """Requests that arrived together."""

    __slots__ = ("count", "hops", "since_s")

    def __init__(self, count: int, hops: int, since_s: float) -> None:
        self.count = count
        self.hops = hops
        self.since_s = since_s


class Demand:
    """Requests of one kind for one asker. ``held`` is what a grant takes; placing needs ``spec.resources`` free."""

    __slots__ = (
        "actor",
        "batches",
        "class_id",
        "count",
        "held",
        "holder",
        "key",
        "reason",
        "reservation_began_s",
        "reservation_s",
        "served_s",
        "shape",
        "spec",
    )

    def __init__(
        self,
        key: DemandKey,
        spec: LeaseSpec,
        *,
        holder: Address = NOWHERE,
        class_id: int = 0,
        held: dict[str, int] | None = None,
        actor: HostedActor | None = None,
    ) -> None:
        self.key = key
        self.spec = spec
        self.shape = _shape(spec, actor)
        self.holder = holder
        self.class_id = class_id
        self.held = spec.resources if held is None else held
        self.actor = actor
        self.batches: deque[Batch] = deque()
        self.count = 0
        self.served_s = float("-inf")
        self.reason = ""
        self.reservation_s = 0.0
        """How long resources are withheld for it at a time; doubles while that does not help (see ``placing``)."""
        self.reservation_began_s = float("-inf")

    def __repr__(self) -> str:
        return f"Demand({self.holder} class {self.class_id}: {self.count} x {self.spec.resources}, {self.reason!r})"

    @property
    def hops(self) -> int:
        """Redirections of the oldest request."""
        return self.batches[0].hops

    @property
    def since_s(self) -> float:
        """When the oldest request arrived."""
        return self.batches[0].since_s

    def waited_s(self, now: float) -> float:
        """How long nothing has come of this demand: bursts of requests do not make their owner more urgent."""
        return now - max(self.since_s, self.served_s)

    def may_reserve(self, now: float, first_s: float, pause_s: float) -> bool:
        """Whether resources may be withheld for it now: for ``first_s``, after a pause for twice as long, and so on."""
        ended_s = self.reservation_began_s + self.reservation_s
        if now < ended_s:
            return True
        if self.reservation_s and now < ended_s + pause_s:
            return False
        self.reservation_s = 2 * self.reservation_s or first_s
        self.reservation_began_s = now
        return True


def _shape(spec: LeaseSpec, actor: HostedActor | None) -> Shape:
    resources = tuple(sorted(spec.resources.items()))
    return (resources, spec.strategy, spec.label_selector, spec.job_id, spec.environment, actor is None)


class DemandQueue:
    """All demands, in the order of their turns."""

    def __init__(self, requests_max: int = LEASE_QUEUE_MAX) -> None:
        self._demands: dict[DemandKey, Demand] = {}
        self._requests_max = requests_max
        self.count = 0
        """Requests of all demands together."""

    def __len__(self) -> int:
        return len(self._demands)

    def get(self, key: DemandKey) -> Demand | None:
        """The demand of this key, if it waits."""
        return self._demands.get(key)

    @property
    def demands(self) -> list[Demand]:
        """A copy, in the order of turns."""
        return list(self._demands.values())

    def room(self) -> int:
        """Requests that may still be queued."""
        return self._requests_max - self.count

    def add(self, demand: Demand, count: int, hops: int, now: float) -> Demand:
        """Queue ``count`` requests; joins the demand of the same key. The caller has asked ``room``."""
        assert 0 < count <= self.room()
        kept = self._demands.get(demand.key)
        if kept is None:
            kept = self._demands[demand.key] = demand
        kept.spec, kept.shape, kept.held = demand.spec, demand.shape, demand.held
        last = kept.batches[-1] if kept.batches else None
        if last is not None and last.hops == hops and last.since_s == now:
            last.count += count
        else:
            kept.batches.append(Batch(count, hops, now))
        kept.count += count
        self.count += count
        return kept

    def take(self, demand: Demand, now: float) -> Batch:
        """The oldest request of this demand leaves; the demand's next turn is after all others'. Returns its batch."""
        batch = demand.batches[0]
        self._leave(demand, batch, 1)
        demand.served_s = now
        demand.reservation_s = 0.0
        demand.reservation_began_s = float("-inf")
        if demand.count:
            self._demands[demand.key] = self._demands.pop(demand.key)
        return batch

    def cancel(self, demand: Demand, count: int) -> int:
        """The newest ``count`` requests leave; says how many there were."""
        left = min(count, demand.count)
        cancelled = left
        while left:
            batch = demand.batches[-1]
            part = min(left, batch.count)
            self._leave(demand, batch, part)
            left -= part
        return cancelled

    def _leave(self, demand: Demand, batch: Batch, count: int) -> None:
        batch.count -= count
        demand.count -= count
        self.count -= count
        if not batch.count:
            demand.batches.remove(batch)
        if not demand.count:
            del self._demands[demand.key]

    def pending(self) -> tuple[PendingDemand, ...]:
        """What waits, grouped by what it wants and why it waits."""
        groups: dict[tuple[tuple[tuple[str, int], ...], str, str], int] = {}
        for demand in self._demands.values():
            key = (tuple(sorted(demand.spec.resources.items())), demand.reason, demand.spec.name)
            groups[key] = groups.get(key, 0) + demand.count
        return tuple(
            PendingDemand(dict(resources), count, reason, name) for (resources, reason, name), count in groups.items()
        )

    def check(self) -> None:
        """Assert that the counts agree."""
        assert self.count <= self._requests_max
        assert self.count == sum(demand.count for demand in self._demands.values())
        for key, demand in self._demands.items():
            assert demand.key == key
            assert demand.count == sum(batch.count for batch in demand.batches)
            assert demand.count > 0
            assert all(batch.count > 0 for batch in demand.batches)
            assert demand.actor is None or demand.count == 1
