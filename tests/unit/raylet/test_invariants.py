"""The checks between tables can fail."""

import pytest

from actorrt.kernel.message import NOWHERE
from actorrt.raylet import messages, pool
from actorrt.raylet.invariants import check_actors, check_grants, check_starts
from tests.unit.raylet.harness import GCS, Node, actor_spec


def leased():
    node = Node({"CPU": 2})
    node.request()
    [lease] = node.granted()
    machine = node.machine
    return machine, machine.grants.table[lease.lease_id], machine.pool.workers[lease.worker_id]


def test_a_lease_without_holder():
    machine, grant, _ = leased()
    grant.holder = NOWHERE
    with pytest.raises(AssertionError, match="nobody holds"):
        check_grants(machine.grants, machine.pool)


def test_a_worker_of_another_grant():
    machine, _, worker = leased()
    worker.grant_id += 1
    with pytest.raises(AssertionError):
        check_grants(machine.grants, machine.pool)


def test_a_worker_in_the_wrong_state():
    machine, _, worker = leased()
    worker.state = pool.ACTOR
    with pytest.raises(AssertionError):
        check_grants(machine.grants, machine.pool)


def test_a_worker_for_nobody():
    machine, grant, _ = leased()
    del machine.grants.table[grant.grant_id]
    with pytest.raises(AssertionError, match="works for nobody"):
        check_grants(machine.grants, machine.pool)


def test_blocked_workers_are_listed():
    machine, _, _ = leased()
    machine.grants.blocked_since["nobody"] = 1
    with pytest.raises(AssertionError):
        check_grants(machine.grants, machine.pool)


def test_a_grant_nobody_starts_a_worker_for():
    node = Node({"CPU": 2}, auto=False)
    node.request()
    machine = node.machine
    check_starts(machine.grants, machine.pool)
    machine.pool.bury(machine.pool.workers[node.started[0].worker_id])
    with pytest.raises(AssertionError, match="no worker comes"):
        check_starts(machine.grants, machine.pool)


def test_an_actor_that_neither_waits_nor_holds():
    node = Node({"CPU": 1})
    node.request()
    node.tell(GCS, messages.StartActor(actor_spec(), 1))
    machine = node.machine
    check_actors(machine.actors, machine.queue, machine.grants)
    machine.queue.cancel(machine.queue.demands[0], 1)
    with pytest.raises(AssertionError):
        check_actors(machine.actors, machine.queue, machine.grants)
