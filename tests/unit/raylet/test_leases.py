"""Grants and their ledger by themselves."""

import random

import pytest

from actorrt.kernel.message import NOWHERE
from actorrt.raylet.demand import Demand
from actorrt.raylet.leases import Grants
from actorrt.scheduling.resources import Available, parse
from tests.unit.raylet.harness import owner, spec

ONE = parse({"CPU": 1})


def made(resources=None, seed=1):
    return Grants(Available(parse(resources or {"CPU": 2, "GPU": 1})), random.Random(seed).randbytes)


def place(grants, name="a", **wants):
    demand = Demand((owner(name), 1), spec(**wants), holder=owner(name), class_id=1)
    taken = grants.ledger.take(demand.held)
    grant = grants.place(demand, taken, 1.0)
    grants.check()
    return grant


def test_life():
    grants = made()
    grant = place(grants)
    assert grants.waiting_count == 1
    assert grants.shares == {grant.demand_key: 1}
    grants.attach(grant, b"w", 2.0)
    assert grants.waiting == {}
    assert grants.of_process("a") == [grant]
    grants.release(grant)
    assert (len(grants), grants.shares, grants.ledger.free()["CPU"]) == (0, {}, 20_000)
    grants.check()


def test_ids_differ_between_nodes():
    assert place(made(seed=1)).grant_id != place(made(seed=2)).grant_id
    assert place(made()).grant_id < 2**63, "it travels as a signed 64-bit number"


def test_an_orphan_keeps_its_resources():
    grants = made()
    grant = place(grants)
    grants.attach(grant, b"w", 2.0)
    grants.orphan(grant)
    grants.orphan(grant)
    assert grant.holder is NOWHERE
    assert grant.ending
    assert grants.of_process("a") == []
    assert grants.shares == {}
    assert grants.ledger.free()["CPU"] == 10_000
    grants.check()


def test_recalled_leases_count_no_longer():
    grants = made()
    grant = place(grants)
    assert not grant.recallable, "nobody works for it yet"
    grants.attach(grant, b"w", 2.0)
    grants.recall(grant)
    assert grants.shares == {}
    assert not grant.recallable
    with pytest.raises(AssertionError):
        grants.recall(grant)
    grants.orphan(grant)
    grants.check()


def test_blocking():
    grants = made()
    grant = place(grants, resources={"CPU": 1, "GPU": 1})
    grants.attach(grant, b"w", 2.0)
    assert grants.block(grant, "p")
    assert not grants.block(grant, "p")
    assert grants.ledger.free() == parse({"CPU": 2})
    assert grant.devices == (("GPU", ("0",)),)
    assert grants.urgency("p") == 1
    assert not grant.recallable
    grants.unblock(grant, "p")
    grants.unblock(grant, "p")
    assert grants.ledger.free() == ONE
    assert grants.urgency("p") == 0
    grants.check()


def test_returning_counts_leases_at_work():
    grants = made()
    place(grants)
    blocked = place(grants, resources={"CPU": 1, "GPU": 1})
    assert grants.returning() == parse({"CPU": 2, "GPU": 1})
    grants.block(blocked, "p")
    assert grants.returning() == parse({"CPU": 2}), "its GPU comes back later than one may hope"


def test_check_notices():
    grants = made()
    grant = place(grants)
    grants.ledger.put_back(grant.taken)
    with pytest.raises(AssertionError):
        grants.check()
