import pytest

from actorrt.gcs import nodes as nodes_module
from actorrt.gcs.nodes import RESERVATION_SETTLES_S, STALL_S, Nodes
from actorrt.kernel.limits import NODE_DEAD_AFTER_S
from actorrt.kernel.message import Address
from actorrt.scheduling.resources import UNIT
from actorrt.wire.records import DeathCause, NodeLoad
from tests.unit.gcs.world import node_info, raylet


@pytest.fixture
def nodes():
    table = Nodes()
    yield table
    table.check()


def load(name, version, **free):
    return NodeLoad(name.encode(), {key: value * UNIT for key, value in free.items()}, version)


CAUSE = DeathCause("node_died", "x")


def test_register_and_bury(nodes):
    assert nodes.register(node_info("a"), 1.0)
    assert not nodes.register(node_info("a"), 2.0)
    assert nodes.alive[b"a"].heard_s == 2.0
    changes = nodes.take_changes()
    assert [info.node_id for info in changes.nodes] == [item.node_id for item in changes.loads] == [b"a"]
    assert nodes.take_changes() is None
    info = nodes.bury(b"a", CAUSE)
    assert (info.alive, info.death) == (False, CAUSE)
    assert nodes.take_changes().nodes == (info,)
    assert nodes.refusal(node_info("a"))
    assert nodes.view() == []
    assert nodes.infos() == (info,)
    assert nodes.raylet_of(b"a") is None


def test_a_renewed_registration_keeps_load_and_reservations(nodes):
    nodes.register(node_info("a"), 1.0)
    nodes.hear(load("a", 1, CPU=2), 1.0)
    nodes.reserve(b"a", b"x", {"CPU": UNIT}, 1.0)
    assert not nodes.register(node_info("a", labels={"zone": "x"}), 2.0)
    (view,) = nodes.view()
    assert (view.available, view.labels) == ({"CPU": UNIT}, {"zone": "x"})


def test_refusals(nodes, monkeypatch):
    assert nodes.refusal(node_info("")) == "a node needs an id and an address"
    monkeypatch.setattr(nodes_module, "PEERS_MAX", 1)
    nodes.register(node_info("a"), 1.0)
    assert "at most 1" in nodes.refusal(node_info("b"))
    assert nodes.refusal(node_info("a")) == ""


def test_finding_by_address(nodes):
    info = node_info("a")
    both = Address("ipc://a,tcp://a:1", "raylet")
    nodes.register(type(info)(info.node_id, both, "a", "a"), 1.0)
    for process in ("ipc://a,tcp://a:1", "ipc://a", "tcp://a:1", "tcp://b,tcp://a:1"):
        assert nodes.at_raylet(Address(process, "raylet")) == b"a"
    for process in ("", "tcp://a", "tcp://b", "ipc://a,"[:0]):
        assert nodes.at_raylet(Address(process, "raylet")) == b""
    assert nodes.at_raylet(Address("ipc://a", "owner")) == b""
    assert nodes.of_process("ipc://a,tcp://a:1") == [b"a"]


def test_reports(nodes):
    nodes.register(node_info("a"), 1.0)
    nodes.take_changes()
    assert nodes.hear(load("a", 1, CPU=2), 2.0)
    assert not nodes.hear(load("a", 2, CPU=2), 3.0)
    assert not nodes.hear(load("a", 1, CPU=4), 4.0)  # older than what we know
    assert nodes.view()[0].available == {"CPU": 2 * UNIT}
    assert nodes.alive[b"a"].heard_s == 4.0
    changes = nodes.take_changes()
    assert (changes.nodes, len(changes.loads)) == ((), 1)


def test_reservations_hold_until_a_report_counts_them_itself(nodes):
    nodes.register(node_info("a"), 1.0)
    nodes.reserve(b"a", b"x", {"CPU": UNIT}, 1.0)
    nodes.reserve(b"a", b"y", {"CPU": 2 * UNIT}, 1.0)
    assert nodes.view()[0].available == {"CPU": UNIT}
    nodes.unreserve(b"a", b"y")
    nodes.unreserve(b"gone", b"y")
    assert nodes.view()[0].available == {"CPU": 3 * UNIT}
    nodes.hear(load("a", 1, CPU=4), 1.0 + RESERVATION_SETTLES_S / 2)
    assert nodes.view()[0].available == {"CPU": 3 * UNIT}
    assert nodes.hear(load("a", 2, CPU=4), 1.0 + RESERVATION_SETTLES_S)
    assert nodes.view()[0].available == {"CPU": 4 * UNIT}
    nodes.reserve(b"a", b"z", {}, 2.0)
    assert nodes.alive[b"a"].reserved == {}


def test_silence(nodes):
    nodes.register(node_info("a"), 0.0)
    nodes.register(node_info("b"), 0.0)
    nodes.hear(load("b", 1), 5.0)
    now = NODE_DEAD_AFTER_S + 0.1
    assert nodes.silent(NODE_DEAD_AFTER_S, NODE_DEAD_AFTER_S) == []
    assert nodes.silent(now, now) == [b"a"]


def test_our_own_standstill_is_nobodys_silence(nodes):
    nodes.register(node_info("a"), 0.0)
    assert nodes.silent(100.0, 100.0 - STALL_S - 1) == []
    assert nodes.silent(100.5, 100.5) == []
    late = 100.0 + NODE_DEAD_AFTER_S + 1
    assert nodes.silent(late, late) == [b"a"]


def test_the_dead_are_bounded(nodes, monkeypatch):
    monkeypatch.setattr(nodes_module, "DEAD_NODES_KEPT_MAX", 2)
    for index in range(4):
        nodes.register(node_info(f"n{index}"), 1.0)
        nodes.bury(f"n{index}".encode(), CAUSE)
        nodes.check()
    assert list(nodes.dead) == [b"n2", b"n3"]
    assert raylet("n3") not in nodes.raylets()
    assert len(nodes.take_changes().nodes) == 2
