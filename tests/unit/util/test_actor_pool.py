"""ActorPool. Workers are threads of this process: see conftest.py."""

import pytest

from actorrt.exceptions import ActorDiedError, TaskError
from actorrt.util import ActorPool


class Worker:
    def __init__(self, gates=None):
        self.gates = gates

    def double(self, x):
        return 2 * x

    def after(self, gate, value):
        self.gates.wait(gate)
        return value

    def fail(self, x):
        raise ValueError(x)

    def meet_the_dead(self, _):
        raise ActorDiedError("somebody else")

    def two(self, x):
        return x, -x


def double(actor, value):
    return actor.double.remote(value)


def after(actor, gate):
    return actor.after.remote(gate, gate)


@pytest.fixture
def actors(rt, gates):
    return [rt.remote(Worker).remote(gates) for _ in range(2)]


@pytest.fixture
def pool(actors):
    return ActorPool(actors)


# ------------------------------------------------------------------ results
def test_map_keeps_the_order(pool, gates):
    results = pool.map(lambda actor, v: after(actor, v) if v == "late" else double(actor, v), ["late", 1, 2, 3])
    gates.open("late")
    assert list(results) == ["late", 2, 4, 6]
    assert pool.has_free()


def test_map_unordered_gives_what_is_ready(pool, gates):
    results = pool.map_unordered(lambda actor, v: after(actor, v) if v == "late" else double(actor, v), ["late", 1, 2])
    assert [next(results), next(results)] == [2, 4]
    gates.open("late")
    assert list(results) == ["late"]


def test_mapping_drops_what_was_there_before(pool, gates):
    for gate in ("a", "b", "c"):
        pool.submit(after, gate)
    results = pool.map(double, [1, 2])
    for gate in ("a", "b", "c"):
        gates.open(gate)
    assert list(results) == [2, 4]
    assert not pool.has_next()


def test_submit_and_get_next(pool):
    for value in range(5):
        pool.submit(double, value)
    assert [pool.get_next() for _ in range(5)] == [0, 2, 4, 6, 8]
    assert not pool.has_next()


def test_without_work(pool):
    for take in (pool.get_next, pool.get_next_unordered):
        with pytest.raises(StopIteration):
            take()
    assert list(pool.map(double, [])) == []


def test_get_next_cannot_follow_get_next_unordered(pool, gates):
    pool.submit(after, "a")
    pool.submit(after, "b")
    gates.open("b")
    assert pool.get_next_unordered() == "b"
    gates.open("a")
    with pytest.raises(ValueError, match="passed over"):
        pool.get_next()
    assert pool.get_next_unordered() == "a"
    pool.submit(double, 4)
    assert pool.get_next() == 8


def test_several_returns(pool):
    pool.submit(lambda actor, v: actor.two.options(num_returns=2).remote(v), 3)
    pool.submit(lambda actor, v: actor.two.options(num_returns=2).remote(v), 4)
    assert pool.get_next(timeout=30) == [3, -3]
    assert pool.get_next_unordered(timeout=30) == [4, -4]


@pytest.mark.parametrize("name", ["get_next", "get_next_unordered"])
def test_a_timeout_leaves_the_result_for_later(pool, gates, name):
    take = getattr(pool, name)
    pool.submit(after, "late")
    with pytest.raises(TimeoutError):
        take(timeout=0.02)
    gates.open("late")
    assert take(timeout=30) == "late"


@pytest.mark.parametrize("name", ["get_next", "get_next_unordered"])
def test_a_timeout_may_drop_the_result(pool, gates, name):
    pool.submit(after, "late")
    with pytest.raises(TimeoutError, match="forgotten"):
        getattr(pool, name)(timeout=0, ignore_if_timedout=True)
    assert not pool.has_next()
    gates.open("late")
    pool.submit(double, 1)
    assert getattr(pool, name)(timeout=30) == 2


# ------------------------------------------------------------------ failures
def test_a_failed_call_raises_and_frees_its_actor(pool):
    pool.submit(lambda actor, v: actor.fail.remote(v), 1)
    with pytest.raises(ValueError):
        pool.get_next()
    assert pool.has_free()
    assert list(pool.map(double, range(4))) == [0, 2, 4, 6]


def test_a_function_that_fails_leaves_the_pool_as_it_was(pool):
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda _actor, _v: 1 / 0, 1)
    assert not pool.has_next()
    assert [pool.pop_idle() is None for _ in range(3)] == [False, False, True]


def test_a_dead_actor_is_not_used_again(rt, actors, pool):
    rt.kill(actors[0])
    outcomes = []
    for value in range(4):
        pool.submit(double, value)
    while pool.has_next():
        try:
            outcomes.append(pool.get_next())
        except ActorDiedError:
            outcomes.append("died")
    assert sorted(outcomes, key=str) == sorted(["died", *(2 * v for v in range(4) if 2 * v in outcomes)], key=str)
    assert len(outcomes) == 4
    assert pool.pop_idle() == actors[1]
    assert pool.pop_idle() is None


def test_what_waits_for_dead_actors_fails_aloud(rt, actors):
    pool = ActorPool(actors[:1])
    rt.kill(actors[0])
    for value in range(3):
        pool.submit(double, value)
    for _ in range(2):
        with pytest.raises(ActorDiedError):
            pool.get_next()
    pool.push(actors[1])
    assert pool.get_next() == 4
    assert not pool.has_next()


def test_an_actor_that_met_a_dead_one_is_alive(pool):
    pool.submit(lambda actor, v: actor.meet_the_dead.remote(v), 1)
    with pytest.raises(TaskError):
        pool.get_next()
    assert [pool.pop_idle() is None for _ in range(2)] == [False, False]


# ------------------------------------------------------------------ the actors
def test_idle_actors_come_and_go(pool, actors, gates):
    assert pool.has_free()
    first = pool.pop_idle()
    assert first in actors
    pool.submit(after, "late")
    assert not pool.has_free()
    assert pool.pop_idle() is None
    pool.submit(double, 1)
    pool.push(first)
    assert not pool.has_free(), "it does what was waiting"
    gates.open("late")
    assert [pool.get_next(), pool.get_next()] == ["late", 2]


def test_an_actor_is_pushed_once(pool, actors, gates):
    with pytest.raises(ValueError, match="already"):
        pool.push(actors[0])
    pool.submit(after, "late")
    for actor in actors:
        with pytest.raises(ValueError, match="already"):
            pool.push(actor)
    gates.open("late")
    assert pool.get_next() == "late"
