import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.transports.fabric import PASS, Arrival, Deliver, Drop, Fabric, Link


def at(answer):
    assert isinstance(answer, Arrival)
    return answer.at


def test_a_link_of_its_own_and_the_default():
    fabric = Fabric(Link(latency_s=1.0))
    fabric.set_link("a", "b", Link(latency_s=5.0))
    rng = random.Random(1)
    assert at(fabric.route("a", "c", 10.0, rng)) == 11.0
    assert at(fabric.route("a", "b", 10.0, rng)) == 15.0
    assert at(fabric.route("b", "a", 10.0, rng)) == 15.0
    assert at(fabric.route("a", "a", 10.0, rng)) == 10.0


def test_partition_heals_when_removed():
    fabric = Fabric()
    rng = random.Random(1)
    token = fabric.partition(["a", "b"], ["c"])
    assert isinstance(fabric.route("a", "c", 0.0, rng), Drop)
    assert isinstance(fabric.route("c", "b", 0.0, rng), Drop)
    assert isinstance(fabric.route("a", "b", 0.0, rng), Arrival)
    assert isinstance(fabric.route("d", "c", 0.0, rng), Arrival)
    fabric.remove(token)
    assert isinstance(fabric.route("a", "c", 0.0, rng), Arrival)
    with pytest.raises(KeyError):
        fabric.remove(token)


def test_cut_is_one_way_and_heal_removes_everything():
    fabric = Fabric()
    rng = random.Random(1)
    fabric.cut("a", "b")
    assert isinstance(fabric.route("a", "b", 0.0, rng), Drop)
    assert isinstance(fabric.route("b", "a", 0.0, rng), Arrival)
    fabric.heal()
    assert isinstance(fabric.route("a", "b", 0.0, rng), Arrival)


def test_the_first_rule_that_does_not_pass_decides():
    fabric = Fabric(Link(latency_s=1.0))
    rng = random.Random(1)
    asked = []

    def rule(name, verdict):
        return lambda *_: asked.append(name) or verdict

    fabric.add(rule("first", PASS))
    fabric.add(rule("second", Deliver(7.0)))
    fabric.add(rule("third", Drop("never asked")))
    assert fabric.route("a", "b", 0.0, rng) == Arrival(7.0)
    assert asked == ["first", "second"]


def test_slow_and_removed_keeps_order():
    fabric = Fabric(Link(latency_s=1.0))
    rng = random.Random(1)
    token = fabric.slow(["b"], 10.0)
    assert at(fabric.route("a", "b", 0.0, rng)) == 10.0
    fabric.remove(token)
    assert at(fabric.route("a", "b", 1.0, rng)) == 10.0, "not before the one that was slow"
    assert at(fabric.route("a", "c", 1.0, rng)) == 2.0, "other paths are not held up"
    fabric.forget("b")
    assert at(fabric.route("a", "b", 1.0, rng)) == 2.0


def test_bandwidth_queues():
    fabric = Fabric(Link(latency_s=1.0, bytes_per_s=100.0))
    rng = random.Random(1)
    assert at(fabric.route("a", "b", 0.0, rng, size_bytes=100)) == 2.0
    assert at(fabric.route("a", "b", 0.0, rng, size_bytes=100)) == 3.0
    assert at(fabric.route("a", "b", 100.0, rng, size_bytes=0)) == 101.0


def test_lossy_follows_the_rng():
    answers = []
    for _ in range(2):
        fabric = Fabric()
        fabric.lossy(0.5)
        rng = random.Random(7)
        answers.append([type(fabric.route("a", "b", 0.0, rng)) for _ in range(50)])
    assert answers[0] == answers[1]
    assert set(answers[0]) == {Arrival, Drop}


def test_negative_links_are_refused():
    with pytest.raises(ValueError, match="negative"):
        Link(latency_s=-1.0)


@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from("abc"), st.floats(0, 10), st.integers(0, 1000), st.floats(0, 5)
        ),
        max_size=60,
    ),
)
def test_order_is_kept_and_nothing_arrives_in_the_past(seed, steps):
    fabric = Fabric(Link(latency_s=0.1, jitter_s=3.0, bytes_per_s=500.0))
    rng = random.Random(seed)
    now = 0.0
    last = {}
    for source, destination, pause, size_bytes, delay_s in steps:
        now += pause
        token = fabric.slow([destination], delay_s) if size_bytes % 3 == 0 else None
        arrival = at(fabric.route(source, destination, now, rng, size_bytes=size_bytes))
        assert arrival >= now
        assert arrival >= last.get((source, destination), 0.0)
        last[source, destination] = arrival
        if token is not None:
            fabric.remove(token)
