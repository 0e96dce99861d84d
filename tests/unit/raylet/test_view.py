"""The cluster as one node sees it."""

from actorrt.raylet import view as view_module
from actorrt.raylet.view import ClusterView
from actorrt.scheduling.resources import parse
from actorrt.wire.records import DeathCause, NodeInfo, Strategy
from tests.unit.raylet.harness import load, node_info, spec

A, B = node_info("a"), node_info("b")


def seen(view, name="a"):
    return next(node.available for node in view.views({})[1:] if node.node_id == node_info(name).node_id)


def test_others_come_and_go():
    view = ClusterView(node_info(resources={"CPU": 1}))
    assert view.alone
    view.update((A, B, view.local), ())
    assert not view.alone
    assert view.node(A.node_id) is A
    assert seen(view) == A.resources, "full until it reports"
    view.update((node_info("a", alive=False),), ())
    assert [node.node_id for node in view.views({})[1:]] == [B.node_id]
    assert view.knows(A.node_id)
    assert not view.knows(b"never")
    view.check()


def test_what_was_sent_there_is_subtracted_until_the_next_report():
    view = ClusterView(node_info())
    view.update((A,), (load(A, {"CPU": 3}),))
    view.sent_there(A.node_id, parse({"CPU": 2}), 0.0)
    assert seen(view) == parse({"CPU": 1})
    view.update((), (load(A, {"CPU": 4}, version=1),))
    assert seen(view) == parse({"CPU": 1}), "that report is older than what we sent"
    view.update((), (load(A, {"CPU": 2}, version=2),))
    assert seen(view) == parse({"CPU": 2})


def test_a_guess_that_nothing_confirms_gives_way_to_the_last_report():
    """Unchanged loads are not reported: a lease that never came there must not count for ever (found in simulation)."""
    view = ClusterView(node_info())
    view.update((A,), (load(A, {"CPU": 3}),))
    view.sent_there(A.node_id, parse({"CPU": 2}), 1.0)
    version = view.version
    view.settle(1.0 + view_module.GUESS_KEPT_S / 2)
    assert seen(view) == parse({"CPU": 1})
    assert view.version == version
    view.settle(1.0 + view_module.GUESS_KEPT_S)
    assert seen(view) == parse({"CPU": 3})
    assert view.version > version
    view.check()


def test_a_lost_peer_counts_as_full():
    view = ClusterView(node_info())
    view.update((A,), ())
    view.peer_gone(A.raylet.process, 0.0)
    view.peer_gone("somebody else", 0.0)
    assert seen(view) == {}
    view.update((), (load(A, {"CPU": 2}),))
    assert seen(view) == parse({"CPU": 2})


def test_loads_of_the_unknown_are_ignored():
    view = ClusterView(node_info())
    view.update((), (load(A, {"CPU": 2}),))
    assert view.alone


def test_ones_own_death():
    view = ClusterView(node_info())
    assert view.update((node_info(),), ()) == ""
    dead = NodeInfo(view.local.node_id, view.local.raylet, "", "", alive=False, death=DeathCause("node_died", "silent"))
    assert view.update((dead,), ()) == "silent"
    assert view.update((node_info(alive=False),), ()) == "declared dead"


def test_what_suits_here():
    view = ClusterView(node_info(labels={"zone": "west"}))
    here = view.local.node_id
    assert view.suits_here(spec())
    assert view.suits_here(spec(labels=[("zone", "west")]))
    assert not view.suits_here(spec(labels=[("zone", "east")]))
    assert not view.suits_here(spec(labels=[("zone", "in(")]))
    assert view.suits_here(spec(strategy=Strategy("NODE_AFFINITY", here)))
    assert not view.suits_here(spec(strategy=Strategy("NODE_AFFINITY", A.node_id)))
    assert view.suits_here(spec(strategy=Strategy("NODE_AFFINITY", A.node_id, soft=True)))
    view.update((A,), ())
    assert not view.suits_here(spec(strategy=Strategy("NODE_AFFINITY", A.node_id, soft=True)))


def test_devices_are_noticed():
    assert ClusterView(node_info(resources={"CPU": 1, "GPU": 1})).has_devices
    assert not ClusterView(node_info()).has_devices


def test_the_dead_are_forgotten_some_time(monkeypatch):
    monkeypatch.setattr(view_module, "DEAD_NODES_KEPT_MAX", 2)
    view = ClusterView(node_info())
    for number in range(4):
        view.update((node_info(f"n{number}", alive=False),), ())
    view.check()
    assert not view.knows(node_info("n0").node_id)
    assert view.knows(node_info("n3").node_id)
