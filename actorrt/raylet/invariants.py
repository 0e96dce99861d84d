"""What must hold between the tables of a raylet after every message (each table checks itself as well)."""

from __future__ import annotations

from actorrt.kernel.message import NOWHERE
from actorrt.raylet import actors, pool
from actorrt.raylet.actors import Actors
from actorrt.raylet.demand import DemandQueue
from actorrt.raylet.leases import Grants
from actorrt.raylet.pool import Pool


def check_grants(grants: Grants, workers: Pool) -> None:
    """Every lease has one holder and one worker, every worker at work one grant, and nothing is held for nobody."""
    for grant in grants.table.values():
        if not grant.worker_id:
            assert grant.actor is not None or grant.holder is not NOWHERE, f"nobody wants {grant!r}"
            continue
        worker = workers.workers[grant.worker_id]
        assert worker.grant_id == grant.grant_id, f"{grant!r} and {worker!r}"
        state = pool.LEASED if grant.actor is None else pool.ACTOR
        assert worker.state in {state, pool.EXITING}, f"{grant!r} and {worker!r}"
        if grant.actor is None and grant.holder is NOWHERE:
            assert worker.state == pool.EXITING, f"nobody holds {grant!r} and nobody ends {worker!r}"
        if grant.blocked:
            assert worker.address.process in grants.blocked_since, f"{worker!r} is blocked and not listed"
    for worker in workers.workers.values():
        assert not worker.grant_id or worker.grant_id in grants.table, f"{worker!r} works for nobody"
    blocked = sum(grant.blocked for grant in grants.table.values())
    assert len(grants.blocked_since) == blocked, f"{grants.blocked_since} and {blocked} blocked grants"


def check_starts(grants: Grants, workers: Pool) -> None:
    """Whoever waits for a worker has one coming, unless no more can be started now."""
    for key, waiting in grants.waiting.items():
        coming = workers.starting_of(key)
        assert coming >= len(waiting) or not workers.may_start(), f"no worker comes for {list(waiting.values())}"


def check_actors(hosts: Actors, queue: DemandQueue, grants: Grants) -> None:
    """An actor either waits in the queue or holds its grant."""
    for hosted in hosts.table.values():
        waits = hosted.state == actors.WAITING
        assert (queue.get(hosted.demand_key) is not None) == waits, hosted
        grant = grants.table.get(hosted.grant_id)
        assert (grant is not None and grant.actor is hosted) != waits, hosted
