"""Which leases to recall so that those who wait get their share (a pure planner).

Owners keep a lease as long as they have tasks for it, so without recalls the first owner would keep a node for as
long as it has work. A lease is recalled once at most, oldest first, and only as far as it makes the waiting demand no
richer than the one it is taken from; a demand that has waited too long is exempt from that last rule.
"""

from __future__ import annotations

from collections.abc import Callable

from actorrt.raylet.demand import Demand, DemandKey
from actorrt.raylet.leases import Grant, Grants
from actorrt.scheduling.resources import add, fits, subtract


def plan_recalls(
    demands: list[Demand], grants: Grants, candidates: list[Grant], is_starved: Callable[[Demand], bool]
) -> list[Grant]:
    """Choose leases to recall for these demands, which could run here and wait for resources, in the order of turns.

    ``candidates`` are the leases that can be recalled, oldest first.
    """
    planned: list[Grant] = []
    candidates = list(candidates)
    shares = dict(grants.shares)
    free = _coming_back(grants)
    wanting = {id(demand): demand.count for demand in demands}
    turn = demands
    while turn:
        again = []
        for demand in turn:
            chosen = _enough_for(demand, free, shares, grants, candidates, starved=is_starved(demand))
            if chosen is None:
                continue
            for grant in chosen:
                planned.append(grant)
                candidates.remove(grant)
                free = add(free, grant.taken.resources)
                shares[grant.demand_key] -= 1
            free = subtract(free, demand.spec.resources)
            shares[demand.key] = shares.get(demand.key, 0) + 1
            wanting[id(demand)] -= 1
            if wanting[id(demand)]:
                again.append(demand)
        turn = again
    return planned


def _coming_back(grants: Grants) -> dict[str, int]:
    """What is free, plus what is on its way: leases recalled before, and what ends with its worker."""
    free = grants.ledger.free()
    for grant in grants.table.values():
        if grant.ending or (grant.recalled and not grant.blocked):
            free = add(free, grant.taken.resources)
    return free


def _enough_for(
    demand: Demand,
    free: dict[str, int],
    shares: dict[DemandKey, int],
    grants: Grants,
    candidates: list[Grant],
    *,
    starved: bool,
) -> list[Grant] | None:
    """Leases that, returned, let one request of this demand in; None when there are not enough."""
    wanted = demand.spec.resources
    if fits(wanted, free):
        return []
    chosen: list[Grant] = []
    share = shares.get(demand.key, 0)
    if not candidates or (not starved and share and max(shares.values()) < share + 2):
        return None
    urgency = grants.urgency(demand.holder.process)
    left = dict(shares)
    for grant in candidates:
        if grant.demand_key == demand.key:
            continue
        # A lease of a blocked worker's children is what lets that worker go on: taking it would only add workers.
        if not starved and (
            grants.urgency(grant.holder.process) > urgency or (share > 0 and left[grant.demand_key] < share + 2)
        ):
            continue
        held = grant.taken.resources
        if not any(held.get(name) and free.get(name, 0) < fixed for name, fixed in wanted.items()):
            continue
        chosen.append(grant)
        left[grant.demand_key] -= 1
        free = add(free, held)
        if fits(wanted, free):
            return chosen
    return None
