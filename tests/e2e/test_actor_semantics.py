"""Ray's semantics of actors, on real processes and inside one process alike."""

import asyncio
import dataclasses
import functools
import os
import threading
import time

import numpy as np
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


# ------------------------------------------------------------------ state and order
def test_state_arguments_and_order(rt, Counter):
    counter = Counter.remote(10, step=2)
    assert rt.get([counter.inc.remote(), counter.inc.remote(by=5), counter.read.remote()]) == [12, 17, 17]
    refs = [counter.inc.remote(1) for _ in range(500)]
    assert rt.get(refs) == list(range(18, 518))
    assert rt.get(counter.inc.options(name="x").remote(rt.put(1))) == 518


def test_order_per_caller_across_slow_arguments(rt, gate):
    @rt.remote(num_cpus=0)
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, x):
            self.seen.append(x)
            return list(self.seen)

    log = Log.remote()
    late = rt.remote(lambda: gate.wait() and "late").remote()
    first = log.add.remote(late)
    second = log.add.remote("quick")
    assert rt.wait([first, second], timeout=0.2) == ([], [first, second])
    gate.open()
    assert rt.get(second, timeout=20) == ["late", "quick"]


def test_callers_in_many_places_lose_nothing(rt, Counter):
    @rt.remote(num_cpus=0)
    def push(box, n):
        counter = box["deep"][0]
        return rt.get([counter.inc.remote() for _ in range(n)])[-1]

    counter = Counter.remote()
    threads = [threading.Thread(target=lambda: rt.get([counter.inc.remote() for _ in range(50)])) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen = rt.get([push.remote({"deep": [counter]}, 50) for _ in range(4)])
    for thread in threads:
        thread.join(30)
    assert rt.get(counter.read.remote()) == 350
    assert len(set(seen)) == 4


def test_handles_travel_in_everything(rt, Counter):
    @dataclasses.dataclass
    class Box:
        handle: object

    counter = Counter.remote()

    @rt.remote(num_cpus=0)
    def bump(handle):
        return rt.get((handle.handle if isinstance(handle, Box) else handle).inc.remote())

    @rt.remote(num_cpus=0)
    class Proxy:
        def __init__(self, handle):
            self.handle = handle

        def bump(self):
            return rt.get(self.handle.inc.remote())

        def give(self):
            return self.handle

    proxy = Proxy.remote(counter)
    assert rt.get(bump.remote(counter)) == 1
    assert rt.get(bump.remote(Box(counter))) == 2
    assert rt.get(rt.remote(num_cpus=0)(lambda: rt.get(counter.inc.remote())).remote()) == 3
    assert rt.get(proxy.bump.remote()) == 4
    given = rt.get(proxy.give.remote())
    assert given == counter
    assert hash(given) == hash(counter)
    assert {given: 1}[counter] == 1
    assert rt.get(given.inc.remote()) == 5
    assert rt.get(rt.get(rt.put([counter]))[0].inc.remote()) == 6
    assert rt.get(rt.get(counter.me.remote()).inc.remote()) == 7
    assert rt.get(bump.remote(rt.put(counter))) == 8


def test_what_is_refused(rt, Counter):
    counter = Counter.remote()
    for bad in (
        Counter,
        counter.inc,
        lambda: Counter.remote(1, 2),
        lambda: Counter.remote(no=1),
        lambda: counter.inc.remote(1, 2),
        lambda: counter.inc.remote(no=1),
        lambda: counter.inc.remote(threading.Lock()),
        lambda: Counter.remote(threading.Lock()),
    ):
        with pytest.raises(TypeError):
            bad()
    for name in ("no_such_method", "_private", "n"):
        with pytest.raises(AttributeError):
            getattr(counter, name)
    for bad in (None, 5, "name", rt.put(1)):
        with pytest.raises(ValueError):
            rt.kill(bad)
    with pytest.raises(TypeError):
        rt.actor.exit_actor()
    with pytest.raises(TypeError):

        class Derived(Counter):
            pass

    assert not hasattr(counter, "n")
    assert rt.get(counter.inc.remote()) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"num_returns": 2},
        {"max_retries": 1},
        {"max_restarts": -2},
        {"max_restarts": "1"},
        {"max_task_retries": -2},
        {"max_concurrency": 0},
        {"max_concurrency": "2"},
        {"max_pending_calls": -2},
        {"get_if_exists": True},
        {"name": ""},
        {"name": 5},
        {"namespace": ""},
        {"lifetime": "for ever"},
        {"num_cpus": -1},
        {"resources": {"GPU": 1}},
        {"concurrency_groups": {"io": 0}},
        {"no_such": 1},
    ],
    ids=str,
)
def test_bad_options(rt, bad):
    class Plain:
        pass

    with pytest.raises((ValueError, TypeError)):
        rt.remote(**bad)(Plain).remote()
    with pytest.raises((ValueError, TypeError)):
        rt.remote(Plain).options(**bad).remote()


def test_the_decorated_class_keeps_its_face(rt, Counter):
    assert Counter.__name__ == "Counter"
    assert Counter.__doc__ == "Counts."
    assert "Counter" in repr(Counter.remote())
    assert set(dir(Counter.remote())) >= {"inc", "read"}


def test_inherited_static_class_methods_and_magic(rt):
    class Base:
        kind = "base"

        def who(self):
            return self.kind

        @staticmethod
        def add(a, b):
            return a + b

        @classmethod
        def name(cls):
            return cls.__name__

    @rt.remote(num_cpus=0)
    class Child(Base):
        kind = "child"

        def __init__(self):
            super().__init__()

        def who(self):
            return "my " + super().who()

        def __call__(self, x):
            return x * 2

        def _hidden(self):
            return "hidden"

    child = Child.remote()
    got = rt.get(
        [
            child.who.remote(),
            child.add.remote(1, 2),
            child.name.remote(),
            child.__call__.remote(4),
            child._hidden.remote(),
        ]
    )
    assert got == ["my child", 3, "Child", 8, "hidden"]


def test_plain_classes_made_remote_by_call(rt):
    class Plain:
        def __init__(self, x=1):
            self.x = x

        def read(self):
            return self.x

    assert rt.get(rt.remote(Plain).remote(5).read.remote()) == 5
    assert rt.get(rt.remote(num_cpus=0)(Plain).remote().read.remote()) == 1
    assert Plain(3).read() == 3


def test_method_options(rt, tally):
    @rt.remote(num_cpus=0)
    class A:
        @rt.method(num_returns=2)
        def pair(self):
            return 1, 2

        @rt.method(max_task_retries=2, retry_exceptions=[KeyError])
        def flaky(self):
            if tally.hit() < 3:
                raise KeyError("again")
            return "third"

        def name(self):
            return rt.get_runtime_context().get_task_name()

    a = A.remote()
    assert rt.get(a.pair.remote()) == [1, 2]
    assert rt.get(a.pair.options(num_returns=1).remote()) == (1, 2)
    assert a.pair.options(num_returns=0).remote() is None
    assert rt.get(a.flaky.remote(), timeout=20) == "third"
    assert rt.get(a.name.options(name="special").remote()) == "special"
    with pytest.raises((ValueError, TypeError)):
        a.name.options(no_such=1)
    with pytest.raises((ValueError, TypeError)):
        a.name.options(num_cpus=1)


# ------------------------------------------------------------------ special methods
def test_ready_call_and_terminate(rt, Counter, tally, until):
    counter = Counter.remote(3)
    assert rt.get(counter.__ray_ready__.remote(), timeout=20) is True
    assert rt.get(counter.__ray_call__.remote(lambda self, x, *, y: self.n + x + y, 1, y=rt.put(2).hex() and 2)) == 6
    last = counter.inc.remote()
    counter.__ray_terminate__.remote()
    assert rt.get(last, timeout=20) == 4
    dies(rt, counter.read.remote)


# ------------------------------------------------------------------ async
def test_an_async_actor(rt):
    @rt.remote(num_cpus=0)
    class A:
        def __init__(self):
            self.event = asyncio.Event()
            self.inside = self.most = 0

        async def wait(self):
            self.inside += 1
            self.most = max(self.most, self.inside)
            await self.event.wait()
            self.inside -= 1
            return self.most

        async def set(self):
            self.event.set()

        async def fail(self):
            raise KeyError("async")

        async def nested(self, ref):
            return await ref[0] + await rt.remote(lambda: 2).remote()

        def sync(self):
            return asyncio.get_running_loop().is_running()

        async def context(self):
            c = rt.get_runtime_context()
            before = c.get_task_id()
            await asyncio.sleep(0.01)
            after = rt.get_runtime_context()
            return before == after.get_task_id(), c.get_task_name().endswith("A.context"), after.get_actor_id()

    a = A.remote()
    waiting = [a.wait.remote() for _ in range(20)]
    assert rt.wait(waiting, timeout=0.2)[0] == []
    assert rt.get(a.sync.remote(), timeout=20) is True
    with pytest.raises(KeyError):
        rt.get(a.fail.remote(), timeout=20)
    assert rt.get(a.nested.remote([rt.put(1)]), timeout=20) == 3
    for _ in range(3):
        mine = (True, True, a._actorrt_actor_id.hex())
        assert rt.get([a.context.remote() for _ in range(5)], timeout=20) == [mine] * 5
    rt.get(a.set.remote(), timeout=20)
    assert set(rt.get(waiting, timeout=20)) == {20}


def test_async_actors_await_each_other(rt):
    @rt.remote(num_cpus=0)
    class Ping:
        async def ping(self, other, n):
            return [n] if n == 0 else [n, *await other[0].ping.remote([rt.get_runtime_context().current_actor], n - 1)]

    a, b = Ping.remote(), Ping.remote()
    assert rt.get(a.ping.remote([b], 6), timeout=20) == [6, 5, 4, 3, 2, 1, 0]


def test_max_concurrency_of_an_async_actor(rt):
    @rt.remote(num_cpus=0, max_concurrency=3)
    class A:
        def __init__(self):
            self.inside = self.most = 0

        async def work(self):
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.02)
            self.inside -= 1

        async def peak(self):
            return self.most

    a = A.remote()
    rt.get([a.work.remote() for _ in range(12)], timeout=20)
    assert rt.get(a.peak.remote()) == 3


# ------------------------------------------------------------------ threads and groups
def test_a_threaded_actor(rt):
    @rt.remote(num_cpus=0, max_concurrency=4)
    class A:
        def __init__(self):
            self.barrier = threading.Barrier(4)

        def meet(self):
            self.barrier.wait(20)
            return threading.get_ident(), rt.get_runtime_context().get_task_id()

    a = A.remote()
    met = rt.get([a.meet.remote() for _ in range(4)], timeout=30)
    assert len({thread for thread, _ in met}) == 4
    assert len({task for _, task in met}) == 4


def test_concurrency_groups(rt):
    @rt.remote(num_cpus=0, concurrency_groups={"io": 2, "compute": 1})
    class A:
        def __init__(self):
            self.flag = threading.Event()

        @rt.method(concurrency_group="io")
        def block(self):
            return self.flag.wait(20)

        @rt.method(concurrency_group="compute")
        def release(self):
            self.flag.set()

        def plain(self):
            return "default"

    a = A.remote()
    blocked = [a.block.remote(), a.block.remote(), a.plain.options(concurrency_group="io").remote()]
    assert rt.get(a.plain.remote(), timeout=20) == "default"
    assert rt.wait(blocked, timeout=0.1)[0] == []
    rt.get(a.release.remote(), timeout=20)
    assert rt.get(blocked, timeout=20) == [True, True, "default"]
    with pytest.raises((ValueError, exceptions.ActorrtError)):
        rt.get(a.plain.options(concurrency_group="none").remote(), timeout=20)


def test_max_pending_calls(rt, gate):
    @rt.remote(num_cpus=0, max_pending_calls=2)
    class A:
        def block(self):
            return gate.wait()

    a = A.remote()
    refs = [a.block.remote(), a.block.remote()]
    with pytest.raises(exceptions.PendingCallsLimitExceeded):
        a.block.remote()
    gate.open()
    assert rt.get(refs, timeout=20) == [True, True]
    assert rt.get(a.block.remote(), timeout=20) is True


# ------------------------------------------------------------------ state
def test_large_state_and_arrays(rt):
    @rt.remote(num_cpus=0)
    class Store:
        def __init__(self, a):
            self.a = a.copy()

        def add(self, b):
            self.a += b
            return self.a

    ones = np.ones(1 << 18)
    store = Store.remote(rt.put(ones))
    rt.get(store.add.remote(ones))
    assert rt.get(store.add.remote(rt.put(ones))).sum() == 3 * len(ones)


def test_partials_and_callables_of_an_actor_as_values(rt, Counter):
    counter = Counter.remote()
    inc = functools.partial(lambda handle, by: rt.get(handle.inc.remote(by)), counter)
    assert rt.get(rt.remote(num_cpus=0)(lambda f: f(5)).remote(inc)) == 5


def test_pids_differ_between_actors(rt, mode):
    if mode == "in_process":
        pytest.skip("threads of one process")

    @rt.remote(num_cpus=0)
    class A:
        def pid(self):
            return os.getpid()

    actors = [A.remote() for _ in range(4)]
    assert len({*rt.get([a.pid.remote() for a in actors], timeout=30), os.getpid()}) == 5
