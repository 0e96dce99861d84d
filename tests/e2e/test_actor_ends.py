"""Names and ends of actors, on real processes and inside one process alike."""

import contextlib
import gc
import threading
import time

import pytest

from actorrt import exceptions


@pytest.fixture
def Counter(rt):
    @rt.remote(num_cpus=0)
    class Counter:
        """Counts."""

        def __init__(self, start=0, *, step=1):
            self.n = start
            self.step = step

        def inc(self, by=None):
            self.n += self.step if by is None else by
            return self.n

        def read(self):
            return self.n

        def fail(self):
            raise ValueError("in method")

        def leave(self):
            rt.actor.exit_actor()

        def me(self):
            return rt.get_runtime_context().current_actor

    return Counter


def dies(rt, call, timeout_s=15.0):
    """Repeat call() until it raises ActorDiedError, and return that."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            rt.get(call(), timeout=timeout_s)
        except exceptions.ActorDiedError as error:
            return error
        except exceptions.ActorUnavailableError:
            pass
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


# ------------------------------------------------------------------ names
def test_names_and_namespaces(rt, Counter, unique):
    name = unique()
    here = Counter.options(name=name).remote(1)
    there = Counter.options(name=name, namespace="other").remote(2)
    assert rt.get_actor(name) == here != there
    assert rt.get_actor(name, namespace="other") == there
    assert rt.get(rt.get_actor(name, "other").read.remote()) == 2
    assert rt.get(rt.remote(lambda: rt.get(rt.get_actor(name).read.remote())).remote()) == 1
    with pytest.raises(exceptions.ActorAlreadyExistsError):
        Counter.options(name=name).remote()
    for bad in (unique(), "", None, 5):
        with pytest.raises(ValueError):
            rt.get_actor(bad)
    everything = rt.util.list_named_actors(all_namespaces=True)
    assert {"name": name, "namespace": "sweep"} in everything
    assert {"name": name, "namespace": "other"} in everything
    assert name in rt.util.list_named_actors()
    rt.kill(here)

    def again():
        with contextlib.suppress(ValueError):
            return Counter.options(name=name).remote(3)

    deadline_s = time.monotonic() + 15
    while not (new := again()):
        assert time.monotonic() < deadline_s
    assert rt.get(new.read.remote()) == 3


def test_get_if_exists_raced_by_tasks_and_threads(rt, Counter, unique):
    name = unique()

    @rt.remote(num_cpus=0.5)
    def take():
        return rt.get(Counter.options(name=name, get_if_exists=True, lifetime="detached").remote(100).inc.remote())

    mine = []

    def thread():
        mine.append(
            rt.get(Counter.options(name=name, get_if_exists=True, lifetime="detached").remote(100).inc.remote())
        )

    threads = [threading.Thread(target=thread) for _ in range(4)]
    refs = [take.remote() for _ in range(8)]
    for each in threads:
        each.start()
    seen = rt.get(refs, timeout=30)
    for each in threads:
        each.join(30)
    assert sorted([*seen, *mine]) == list(range(101, 113))
    rt.kill(rt.get_actor(name))


# ------------------------------------------------------------------ ends
def test_kill(rt, Counter, gate):
    @rt.remote(num_cpus=0)
    class Busy:
        def work(self):
            return gate.wait()

    counter, busy = Counter.remote(), Busy.remote()
    assert rt.get(counter.inc.remote()) == 1
    rt.get(busy.__ray_ready__.remote(), timeout=20)
    refs = [busy.work.remote(), busy.work.remote()]
    rt.kill(busy)
    rt.kill(counter)
    rt.kill(counter)
    for ref in refs:
        with pytest.raises(exceptions.ActorDiedError):
            rt.get(ref, timeout=20)
    error = dies(rt, counter.inc.remote)
    assert isinstance(error, exceptions.ActorError)
    assert "kill" in str(error)


def test_exit_actor(rt, Counter):
    counter = Counter.remote()
    before = counter.inc.remote()
    leaving, after = counter.leave.remote(), counter.inc.remote()
    assert rt.get(before, timeout=20) == 1
    for ref in (leaving, after):
        with pytest.raises(exceptions.ActorDiedError) as caught:
            rt.get(ref, timeout=20)
        assert "exit_actor" in str(caught.value)


def test_exit_actor_in_an_async_actor(rt):
    @rt.remote(num_cpus=0, max_restarts=3)
    class A:
        async def leave(self):
            rt.actor.exit_actor()

        async def ping(self):
            return "pong"

    a = A.remote()
    assert rt.get(a.ping.remote(), timeout=20) == "pong"
    with pytest.raises(exceptions.ActorDiedError):
        rt.get(a.leave.remote(), timeout=20)
    dies(rt, a.ping.remote)


def test_an_actor_whose_constructor_fails(rt):
    @rt.remote(num_cpus=0)
    class Broken:
        def __init__(self, how):
            raise how

        def ping(self):
            return 1

    broken = Broken.remote(KeyError("in constructor"))
    for _ in range(2):
        with pytest.raises(exceptions.ActorDiedError) as caught:
            rt.get(broken.ping.remote(), timeout=20)
        assert "in constructor" in str(caught.value)
        assert "__init__" in str(caught.value)


def test_a_constructor_with_a_failed_argument(rt, Counter):
    @rt.remote
    def fail():
        raise KeyError("argument")

    counter = Counter.remote(fail.remote())
    with pytest.raises(exceptions.ActorrtError) as caught:
        rt.get(counter.read.remote(), timeout=20)
    assert "argument" in str(caught.value)


def test_out_of_scope_ends_the_actor_after_its_calls(rt, tally, until, mode, gate):
    @rt.remote(num_cpus=0)
    class A:
        def work(self, i):
            gate.wait()
            tally.hit(i)
            return i

    def make():
        a = A.options(name="scoped").remote()
        return [a.work.remote(i) for i in range(5)]

    refs = make()
    gc.collect()
    gate.open()
    assert rt.get(refs, timeout=20) == list(range(5))

    def gone():
        with contextlib.suppress(ValueError):
            rt.get_actor("scoped")
            return False
        return True

    until(gone)
    assert tally.lines() == list("01234")


def test_a_handle_elsewhere_keeps_the_actor_alive(rt, Counter, gate, until):
    @rt.remote(num_cpus=0)
    def later(box):
        gate.wait()
        return rt.get(box[0].inc.remote())

    @rt.remote(num_cpus=0)
    class Holder:
        def hold(self, box):
            self.box = box

        def bump(self):
            return rt.get(self.box[0].inc.remote())

    counter, holder = Counter.remote(), Holder.remote()
    rt.get(holder.hold.remote([counter]), timeout=20)
    ref = later.remote([counter])
    del counter
    gc.collect()
    gate.open()
    assert rt.get(ref, timeout=20) == 1
    gc.collect()
    assert rt.get(holder.bump.remote(), timeout=20) == 2


def test_a_temporary_handle_is_enough_for_a_call(rt, Counter):
    assert rt.get([Counter.remote(i).inc.remote() for i in range(5)], timeout=20) == [1, 2, 3, 4, 5]
