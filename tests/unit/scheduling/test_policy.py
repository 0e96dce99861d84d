import random
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.scheduling import policy
from actorrt.scheduling.policy import Busy, Chosen, Demand, Infeasible, NodeView, Refused, choose_node, utilisation
from actorrt.scheduling.resources import UNIT, fits

CPU = {"CPU": UNIT}


def node(name, cpu=4, free=None, alive=True, labels=None, **more):
    total = {"CPU": cpu * UNIT, **{key: value * UNIT for key, value in more.items()}}
    available = {**total, "CPU": round((cpu if free is None else free) * UNIT)}
    return NodeView(name.encode(), total, available, labels or {}, alive)


def choose(view, demand=None, local="", seed=0, after=""):
    return choose_node(
        view, demand or Demand(CPU), random.Random(seed), local_node_id=local.encode(), spread_after=after.encode()
    )


def chosen(view, demand=None, count=200, **options):
    """Nodes chosen over many seeds."""
    return {choose(view, demand, seed=seed, **options).node_id.decode() for seed in range(count)}


# ---- default
def test_local_is_preferred_until_half_used():
    view = [node("a"), node("b", free=2), node("c")]
    assert chosen(view, local="b") == {"b"}
    assert "b" not in chosen([node("a"), node("b", free=1.9), node("c")], local="b")


def test_beyond_half_the_least_utilised_wins():
    assert chosen([node("a", free=1), node("b", free=1.5), node("c", free=1)], local="a") == {"b"}


def test_local_wins_a_tie_beyond_half():
    assert chosen([node("a", free=1), node("b", free=1)], local="b") == {"b"}


def test_a_full_local_node_is_left():
    assert chosen([node("a", free=0), node("b", free=1)], local="a") == {"b"}


def test_random_among_the_top_fifth():
    view = [node(f"n{index:02}") for index in range(15)]
    assert chosen(view) == {"n00", "n01", "n02"}
    assert chosen(view[:9]) == {"n00"}


def test_the_same_seed_chooses_the_same():
    view = [node(f"n{index:02}") for index in range(40)]
    assert [choose(view, seed=seed) for seed in range(20)] == [
        choose(list(reversed(view)), seed=seed) for seed in range(20)
    ]


def test_accelerators_are_left_to_those_who_want_them():
    view = [node("gpu", GPU=2), node("plain")]
    assert chosen(view, local="gpu") == {"plain"}
    assert chosen(view, Demand({"CPU": UNIT, "GPU": UNIT}), local="plain") == {"gpu"}
    assert chosen([node("gpu", GPU=2), node("plain", free=0)]) == {"gpu"}


def test_utilisation_is_that_of_the_critical_resource():
    view = NodeView(b"a", {"CPU": 4 * UNIT, "memory": 100, "slot": 10}, {"CPU": 3 * UNIT, "memory": 20, "slot": 1})
    assert utilisation(view, CPU) == pytest.approx(0.8)
    assert utilisation(view, {"slot": 1}) == pytest.approx(0.9)
    assert utilisation(NodeView(b"a", {}, {}), CPU) == 0


def test_a_demand_for_nothing_runs_on_a_full_node():
    assert choose([node("a", free=0)], Demand()) == Chosen(b"a")
    assert choose([node("a", free=-1)], Demand()) == Chosen(b"a")


# ---- busy, infeasible
def test_busy_says_where_to_wait():
    choice = choose([node("a", free=0), node("b", free=0), node("c", cpu=0)], local="b")
    assert isinstance(choice, Busy)
    assert choice.feasible_count == 2
    assert "CPU: 1" in choice.text
    assert choice.node_id in (b"a", b"b")
    one = choose([node("a", free=0), node("c", cpu=0)])
    assert (one.node_id, one.feasible_count) == (b"a", 1)


def test_infeasible_says_why():
    assert choose([]) == Infeasible("no node is alive")
    assert choose([node("a", alive=False)]) == Infeasible("no node is alive")
    choice = choose([node("a"), node("b", cpu=8)], Demand({"CPU": 64 * UNIT}))
    assert choice == Infeasible("none of 2 nodes offers {CPU: 64}: the most any has is {CPU: 8}")
    choice = choose([node("a"), node("b", cpu=1, slot=1)], Demand({"CPU": 2 * UNIT, "slot": UNIT}))
    assert choice == Infeasible("none of 2 nodes offers {CPU: 2, slot: 1} together: each has only a part of it")
    choice = choose([node("a")], Demand(CPU, label_selector=(("zone", "mars"),)))
    assert choice == Infeasible("none of 1 nodes matches the labels {zone: mars}")


# ---- spread
def test_spread_takes_turns():
    view = [node("a"), node("b"), node("c")]
    demand, after, turns = Demand(CPU, "SPREAD"), "", []
    for _ in range(6):
        after = choose(view, demand, after=after, local="a").node_id.decode()
        turns.append(after)
    assert sorted(turns[:3]) == ["a", "b", "c"]
    assert turns[3:] == turns[:3]


def test_spread_skips_busy_nodes_and_starts_anywhere():
    view = [node("a"), node("b", free=0), node("c")]
    assert choose(view, Demand(CPU, "SPREAD"), after="a") == Chosen(b"c")
    assert choose(view, Demand(CPU, "SPREAD"), after="zz") == Chosen(b"a")
    assert chosen(view, Demand(CPU, "SPREAD")) == {"a", "c"}
    assert isinstance(choose([node("b", free=0)], Demand(CPU, "SPREAD")), Busy)


# ---- affinity
def affinity(name, soft=False, resources=None, labels=()):
    return Demand(resources or CPU, "NODE_AFFINITY", name.encode(), soft, labels)


@pytest.mark.parametrize("soft", [False, True])
def test_affinity_chooses_or_waits_for_the_node(soft):
    view = [node("a"), node("b", free=0)]
    assert choose(view, affinity("a", soft)) == Chosen(b"a")
    choice = choose(view, affinity("b", soft))
    assert isinstance(choice, Busy)
    assert choice.node_id == b"b"


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        ([node("a")], "dead or does not exist"),
        ([node("a"), node("b", alive=False)], "dead or does not exist"),
        ([node("a"), node("b", cpu=0)], "can never offer"),
        ([node("a", labels={"zone": "x"}), node("b")], "does not match the labels"),
    ],
)
def test_hard_affinity_to_what_cannot_be_is_refused_and_soft_goes_elsewhere(view, reason):
    labels = (("zone", "x"),) if "labels" in reason else ()
    choice = choose(view, affinity("b", labels=labels))
    assert isinstance(choice, Refused)
    assert reason in choice.text
    assert b"b".hex() in choice.text
    assert choose(view, affinity("b", soft=True, labels=labels)) == Chosen(b"a")


def test_nonsense_is_refused():
    assert isinstance(choose([node("a")], Demand(CPU, "EVERYWHERE")), Refused)
    assert "malformed" in choose([node("a")], Demand(CPU, label_selector=(("zone", "in("),))).text


# ---- labels
def test_labels_restrict_the_choice():
    view = [node("a", labels={"zone": "x"}), node("b", labels={"zone": "y"}), node("c")]
    assert chosen(view, Demand(CPU, label_selector=(("zone", "y"),)), local="a") == {"b"}
    assert chosen(view, Demand(CPU, "SPREAD", label_selector=(("zone", "in(x,y)"),))) == {"a", "b"}
    assert chosen(view, Demand(CPU, label_selector=(("zone", "!in(x,y)"),))) == {"c"}


# ---- property
views = st.lists(
    st.builds(
        node,
        st.sampled_from("abcdefgh"),
        cpu=st.integers(0, 4),
        free=st.integers(-1, 4),
        alive=st.booleans(),
        labels=st.sampled_from([{}, {"zone": "x"}, {"zone": "y"}]),
        GPU=st.integers(0, 1),
    ),
    unique_by=lambda view: view.node_id,
)
demands = st.builds(
    Demand,
    st.dictionaries(st.sampled_from(["CPU", "GPU"]), st.sampled_from([UNIT // 2, UNIT, 3 * UNIT])),
    st.sampled_from(["DEFAULT", "SPREAD", "NODE_AFFINITY"]),
    st.sampled_from([b"a", b"b"]),
    st.booleans(),
    st.sampled_from([(), (("zone", "x"),), (("zone", "!x"),)]),
)


@given(views, demands, st.integers(0, 3), st.sampled_from([b"", b"a", b"c"]))
def test_every_choice_is_what_it_says(view, demand, seed, local):
    choice = choose_node(view, demand, random.Random(seed), local_node_id=local)
    by_id = {item.node_id: item for item in view}
    feasible = [item for item in view if item.alive and fits(demand.resources, item.total)]
    if demand.strategy == "DEFAULT":
        with mock.patch.object(policy, "_local_will_do", return_value=False):  # the short cut changes nothing
            assert choice == choose_node(view, demand, random.Random(seed), local_node_id=local)
    match choice:
        case Chosen(node_id):
            assert by_id[node_id].alive
            assert fits(demand.resources, by_id[node_id].available)
        case Busy(node_id):
            assert by_id[node_id] in feasible
            assert not fits(demand.resources, by_id[node_id].available)
        case Infeasible():
            if not demand.label_selector:
                assert not feasible
        case Refused():
            assert demand.strategy == "NODE_AFFINITY"
            assert not demand.affinity_soft
