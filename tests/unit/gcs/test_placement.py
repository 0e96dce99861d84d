import random

import pytest

from actorrt.gcs.nodes import Nodes
from actorrt.gcs.placement import QUEUE_AFTER_S, RETRY_S, Explained, Impossible, Placed, Placement
from actorrt.scheduling.resources import UNIT
from actorrt.wire.records import NodeLoad, Strategy
from tests.unit.gcs.world import actor_spec, node_info


class Cluster:
    def __init__(self, *names, **resources):
        self.nodes = Nodes()
        self.placement = Placement(self.nodes, random.Random(0))
        self.version = 0
        for name in names:
            self.nodes.register(node_info(name, **resources), 0.0)

    def wait(self, name, now=0.0, local="", delay_s=0.0, **options):
        spec = actor_spec(name, **options)
        return self.placement.wait(spec, now, local_node_id=local.encode(), delay_s=delay_s)

    def attempt(self, now=0.0, only=None):
        decisions = self.placement.attempt(now, only)
        self.placement.check()
        return decisions

    def placed(self, now=0.0):
        return [
            (item.actor_id.decode(), item.node_id.decode()) for item in self.attempt(now) if isinstance(item, Placed)
        ]

    def free(self, name, cpu, now=0.0):
        self.version += 1
        self.nodes.hear(NodeLoad(name.encode(), {"CPU": cpu * UNIT}, self.version), now)


def test_what_an_actor_holds_is_counted_at_once():
    cluster = Cluster("a", "b", CPU=2)
    for name in ("x", "y", "z"):
        cluster.wait(name, holds={"CPU": 1}, local="a")
    assert cluster.placed() == [("x", "a"), ("y", "a"), ("z", "b")]
    assert cluster.placement.lines == {}


def test_what_it_needs_only_for_placement_is_not_counted():
    cluster = Cluster("a", CPU=1)
    for name in ("x", "y", "z"):
        cluster.wait(name, needs={"CPU": 1})
    assert cluster.placed() == [("x", "a"), ("y", "a"), ("z", "a")]
    cluster.free("a", 0)
    cluster.wait("w", needs={"CPU": 1})
    assert cluster.attempt() == [Placed(b"w", b"a")]  # the only node there is: it queues there


def test_actors_that_hold_nothing_land_anywhere():
    cluster = Cluster("a", "b", "c")
    for index in range(60):
        cluster.wait(f"x{index}", needs={"CPU": 1}, local="a")
    nodes = [node for _, node in cluster.placed()]
    assert min(nodes.count(name) for name in "abc") > 10


def test_spread_takes_turns():
    cluster = Cluster("a", "b", "c")
    for index in range(6):
        cluster.wait(f"x{index}", holds={"CPU": 1}, strategy=Strategy("SPREAD"), local="a")
    nodes = [node for _, node in cluster.placed()]
    assert sorted(nodes[:3]) == ["a", "b", "c"]
    assert nodes[3:] == nodes[:3]


def test_infeasible_waits_with_a_reason_told_once():
    cluster = Cluster("a")
    key = cluster.wait("x", holds={"GPU": 1})
    assert key is not None
    assert cluster.wait("y", holds={"GPU": 1}) is None  # in line behind x: nothing to look at
    assert cluster.attempt(only=key) == [Explained(b"x"), Explained(b"y")]
    assert "GPU: 1" in cluster.placement.reason(b"x")
    assert cluster.attempt() == []
    assert cluster.placement.next_due_s(0.0) is None  # time does not help
    cluster.nodes.register(node_info("g", GPU=2), 0.0)
    assert cluster.placed() == [("x", "g"), ("y", "g")]
    assert cluster.placement.reason(b"x") == ""


def test_with_several_nodes_to_hope_for_it_waits_here_but_not_for_good():
    cluster = Cluster("a", "b", CPU=1)
    cluster.free("a", 0)
    cluster.free("b", 0)
    cluster.wait("x", 10.0, holds={"CPU": 1})
    assert cluster.attempt(10.0) == [Explained(b"x")]
    assert cluster.placement.next_due_s(10.0) == 10.0 + RETRY_S
    assert cluster.attempt(10.0 + QUEUE_AFTER_S - 0.1) == []
    assert [item.actor_id for item in cluster.attempt(10.0 + QUEUE_AFTER_S)] == [b"x"]


def test_the_first_node_that_frees_gets_it():
    cluster = Cluster("a", "b", CPU=1)
    cluster.free("a", 0)
    cluster.free("b", 0)
    cluster.wait("x", holds={"CPU": 1})
    cluster.wait("y", holds={"CPU": 1})
    assert cluster.placed() == []
    cluster.free("b", 1)
    assert cluster.placed() == [("x", "b")]


def test_lines_do_not_wait_for_each_other():
    cluster = Cluster("a")
    cluster.wait("x", holds={"GPU": 1})
    cluster.wait("y", holds={"CPU": 1})
    assert cluster.placed() == [("y", "a")]


def test_one_that_is_held_back_lets_others_pass():
    cluster = Cluster("a")
    cluster.wait("x", holds={"CPU": 1}, delay_s=0.5)
    cluster.wait("y", holds={"CPU": 1})
    assert cluster.placed() == [("y", "a")]
    assert cluster.placement.next_due_s(0.0) is not None
    assert cluster.placed(0.4) == []
    assert cluster.placed(0.5) == [("x", "a")]


def test_the_impossible_is_said():
    cluster = Cluster("a")
    cluster.wait("x", strategy=Strategy("NODE_AFFINITY", b"gone"))
    (decision,) = cluster.attempt()
    assert isinstance(decision, Impossible)
    assert b"gone".hex() in decision.text
    assert cluster.placement.line_of == {}


def test_leaving_the_line():
    cluster = Cluster()
    cluster.wait("x")
    cluster.placement.discard(b"x")
    cluster.placement.discard(b"x")
    assert cluster.placement.lines == {}
    assert cluster.attempt(only=("no", "such", "line")) == []
    cluster.wait("x")
    with pytest.raises(AssertionError):
        cluster.wait("x")
