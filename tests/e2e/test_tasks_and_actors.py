"""Ray's semantics of tasks, objects and futures, on real processes and inside one process alike."""

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import os
import pathlib
import re
import threading
import time
import typing
import uuid

import numpy as np
import pytest

from actorrt import exceptions


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.5


class Color(enum.Enum):
    RED = 1
    GREEN = "g"


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Pair(typing.NamedTuple):
    left: object
    right: object


# ------------------------------------------------------------------ values there and back
VALUES: list[object] = [
    None,
    True,
    -(2**200),
    1.5,
    float("inf"),
    2 + 3j,
    "text \u00e9\u4e2d\U0001f600\0end",
    b"\0\xff" * 10,
    bytearray(b"abc"),
    (),
    [1, [2, [3, (4, {5})]]],
    {"k": {1: None}, (1, 2): frozenset({3})},
    range(3, 30, 4),
    ...,
    NotImplemented,
    int,
    Point(1),
    [Color.RED, Color.GREEN, Flags.A | Flags.B],
    Pair(1, "r"),
    decimal.Decimal("1.10"),
    fractions.Fraction(1, 3),
    dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
    dt.timedelta(days=1),
    uuid.UUID(int=7),
    pathlib.PurePosixPath("a/b"),
    re.compile("a+", re.IGNORECASE),
    collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.Counter("aab"),
    collections.deque([1, 2], maxlen=5),
    array.array("d", [1.0, 2.0]),
    [np.float64(1.5), np.int8(3), np.bool_(True)],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_values_there_and_back(rt, value):
    @rt.remote
    def echo(x, *, again):
        return x, [again]

    @rt.remote
    class Echo:
        def say(self, x):
            return x

    assert rt.get(echo.remote(value, again=value)) == (value, [value])
    back = rt.get(Echo.remote().say.remote(rt.put(value)))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(12).reshape(3, 4)[:, ::2],
        lambda: np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        lambda: np.zeros((0, 3)),
        lambda: np.array(5),
        lambda: np.array([("a", 1)], dtype=[("name", "U4"), ("n", "i4")]),
        lambda: np.array([1, "x", None], dtype=object),
        lambda: np.array(["2024-01-01"], dtype="M8[D]"),
        lambda: np.ma.masked_array([1, 2], mask=[0, 1]),
        lambda: np.arange(10) > 4,
    ],
    ids=["strided", "fortran", "empty", "scalar", "structured", "object", "dates", "masked", "bool"],
)
def test_arrays_there_and_back(rt, make):
    got = rt.get(rt.remote(lambda a: (a, str(a.dtype))).remote(make()))
    assert got[1] == str(make().dtype)
    np.testing.assert_array_equal(got[0], make())


def test_code_as_a_value(rt):
    offset = 10

    def local(x, *, y=[1]):
        return x + offset + y[0]

    class Local:
        factor = 3

        def __init__(self, n):
            self.n = n

        def times(self):
            return self.n * self.factor

        @classmethod
        def make(cls):
            return cls(4)

        def __eq__(self, other):
            return type(other) is type(self) and self.n == other.n

    @rt.remote
    def use(functions, thing, cls):
        return [f(1) for f in functions], thing.times(), cls.make().times(), thing

    got = rt.get(use.remote([local, lambda x: -x, functools.partial(pow, 2), len.__call__ and abs], Local(5), Local))
    assert got == ([12, -1, 2, 1], 15, 12, Local(5))


@pytest.mark.parametrize("size", [100_000, 200_000, 5 << 20], ids=["100 kB", "200 kB", "5 MiB"])
def test_large_values_both_ways(rt, size):
    data = np.random.default_rng(1).integers(0, 255, size, dtype=np.uint8)

    @rt.remote
    def turn(raw, box):
        return raw[::-1], {"a": box["a"] + 1, "n": len(raw)}

    @rt.remote
    class Keeper:
        def keep(self, raw):
            self.raw = raw
            return raw

        def tell(self):
            return self.raw

    raw = data.tobytes()
    turned, box = rt.get(turn.remote(raw, {"a": data}))
    assert turned == raw[::-1]
    assert box["n"] == size
    assert (box["a"] == data + np.uint8(1)).all()
    keeper = Keeper.remote()
    assert rt.get(keeper.keep.remote(rt.put(raw))) == raw
    assert rt.get(keeper.tell.remote()) == raw
    many = rt.get([turn.options(num_returns=2).remote(raw, {"a": data})[0] for _ in range(3)])
    assert many == [raw[::-1]] * 3


def test_a_snapshot_is_taken_at_the_call(rt):
    mine = {"a": [1]}
    ref = rt.put(mine)
    mine["a"].append(2)
    assert rt.get(ref) == {"a": [1]}
    got = rt.get(ref)
    got["a"].append(3)
    assert rt.get(ref) == {"a": [1]}


# ------------------------------------------------------------------ refs as arguments
def test_refs_resolve_at_the_top_level_only(rt):
    @rt.remote
    def kinds(a, b, *more, c, **rest):
        return [isinstance(x, rt.ObjectRef) for x in (a, b[0], b, *more, c, rest["d"], rest["e"]["k"])], a, c

    one, two = rt.put(1), rt.remote(lambda: 2).remote()
    got = rt.get(kinds.remote(one, [one], two, one, c=one, d=two, e={"k": two}))
    assert got == ([False, True, False, False, False, False, False, True], 1, 1)


def test_a_ref_in_objects_of_every_kind_stays_a_ref(rt):
    @dataclasses.dataclass
    class Box:
        ref: object

    ref = rt.put("inside")
    boxes = [[ref], (ref,), {"k": ref}, {ref: 1}, {ref}, Box(ref), Pair(ref, 0), [[[{"x": (ref,)}]]]]

    @rt.remote
    def opened(box):
        if isinstance(box, Box):
            box = [box.ref]
        while not isinstance(box, rt.ObjectRef):
            box = next(iter(box.values())) if (isinstance(box, dict) and "k" in box) or "x" in box else next(iter(box))
        return rt.get(box)

    assert rt.get([opened.remote(box) for box in boxes]) == ["inside"] * len(boxes)


def test_refs_come_back_inside_results(rt):
    @rt.remote
    def make(n):
        return [rt.put(i) for i in range(n)], {"task": rt.remote(lambda: "t").remote()}

    refs, box = rt.get(make.remote(5))
    assert rt.get(refs) == [0, 1, 2, 3, 4]
    assert rt.get(box["task"]) == "t"


def test_a_closure_may_hold_a_ref_or_a_handle(rt):
    @rt.remote
    class Adder:
        def add(self, x):
            return x + 1

    ref, adder = rt.put(5), Adder.remote()

    @rt.remote
    def use():
        return rt.get(adder.add.remote(rt.get(ref)))

    assert rt.get([use.remote(), use.remote()]) == [6, 6]


def test_put_refuses_a_ref_but_takes_a_list_of_it(rt):
    ref = rt.put(1)
    with pytest.raises(TypeError):
        rt.put(ref)
    assert rt.get(rt.get(rt.put([ref]))[0]) == 1


# ------------------------------------------------------------------ returns
def test_numbers_of_returns(rt, tally, until):
    three = rt.remote(num_returns=3)(lambda: (1, 2, 3))
    refs = three.remote()
    assert isinstance(refs, list)
    assert rt.get(refs) == [1, 2, 3]
    assert rt.get(rt.remote(num_returns=1)(lambda: (1, 2)).remote()) == (1, 2)
    assert rt.get(three.options(num_returns=1).remote()) == (1, 2, 3)
    assert rt.get(rt.remote(num_returns=2)(lambda: np.array([7, 8])).remote()) == [7, 8]
    assert rt.get(rt.remote(num_returns=2)(lambda: "ab").remote()) == ["a", "b"]
    zero = rt.remote(num_returns=0)(tally.hit)
    assert zero.remote() is None
    until(lambda: tally.lines() == ["x"])


@pytest.mark.parametrize("value", [(1,), (1, 2, 3), 5, None], ids=str)
def test_a_wrong_number_of_returns_fails_every_ref(rt, value):
    for ref in rt.remote(num_returns=2)(lambda: value).remote():
        with pytest.raises((ValueError, TypeError)) as caught:
            rt.get(ref)
        assert isinstance(caught.value, exceptions.TaskError)


# ------------------------------------------------------------------ the call
def test_what_is_refused_at_the_call(rt):
    @rt.remote
    def f(a, /, b, *, c=1):
        return a, b, c

    for bad in (f.remote, lambda: f.remote(1, 2, 3), lambda: f.remote(a=1, b=2), lambda: f.remote(1, 2, d=1)):
        with pytest.raises(TypeError):
            bad()
    with pytest.raises(TypeError):
        f(1, 2)
    with pytest.raises(TypeError):
        f.remote(1, threading.Lock())
    with pytest.raises(TypeError):
        rt.put(threading.Lock())
    lock = threading.Lock()
    with pytest.raises(TypeError):
        rt.remote(lambda: lock).remote()
    for bad in (5, "text", None):
        with pytest.raises(TypeError):
            rt.remote(bad)
    with pytest.raises(TypeError):
        rt.remote(2)(lambda: 1)
    assert rt.get(f.remote(1, b=2, c=3)) == (1, 2, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"num_cpus": -1},
        {"num_cpus": "2"},
        {"num_returns": -1},
        {"num_returns": "many"},
        {"num_returns": 1.5},
        {"max_retries": -2},
        {"max_retries": "1"},
        {"retry_exceptions": 5},
        {"retry_exceptions": [1]},
        {"resources": {"CPU": 1}},
        {"resources": {"x": -1}},
        {"resources": 5},
        {"no_such_option": 1},
        {"max_restarts": 1},
        {"lifetime": "detached"},
        {"scheduling_strategy": "NONSENSE"},
        {"memory": -1},
        {"name": 5},
        {"runtime_env": 5},
        {"label_selector": {"a": 5}},
    ],
    ids=str,
)
def test_bad_options_are_refused_before_anything_is_submitted(rt, bad):
    with pytest.raises((ValueError, TypeError)):
        rt.remote(**bad)(lambda: 1)
    with pytest.raises((ValueError, TypeError)):
        rt.remote(lambda: 1).options(**bad)


def test_builtin_and_wrapped_functions(rt):
    def shout(function):
        @functools.wraps(function)
        def inner(*args):
            return str(function(*args)).upper()

        return inner

    @rt.remote
    @shout
    def f(word):
        return word

    assert rt.get(rt.remote(len).remote([1, 2])) == 2
    assert rt.get(f.remote("loud")) == "LOUD"
    assert f.__name__ == "f"


# ------------------------------------------------------------------ shapes of work
def test_nested_and_mutually_recursive_tasks(rt):
    @rt.remote
    def even(n):
        return True if n == 0 else rt.get(odd.remote(n - 1))

    @rt.remote
    def odd(n):
        return False if n == 0 else rt.get(even.remote(n - 1))

    @rt.remote
    def tree(depth):
        return 1 if depth == 0 else sum(rt.get([tree.remote(depth - 1) for _ in range(2)]))

    assert rt.get(even.remote(5)) is False
    assert rt.get(tree.remote(4)) == 16


def test_a_diamond_and_a_wide_fan_in(rt):
    inc, add = rt.remote(lambda x: x + 1), rt.remote(lambda *xs: sum(xs))
    top = inc.remote(0)
    assert rt.get(add.remote(inc.remote(top), inc.remote(top), top)) == 5
    assert rt.get(add.remote(*[inc.remote(i) for i in range(200)])) == sum(range(1, 201))


def test_5000_tasks_at_once(rt):
    square = rt.remote(lambda x: x * x)
    assert rt.get([square.remote(i) for i in range(5000)]) == [i * i for i in range(5000)]


def test_remote_functions_and_classes_travel(rt):
    @rt.remote
    def square(x):
        return x * x

    @rt.remote
    class Cell:
        def __init__(self, x):
            self.x = x

        def read(self):
            return self.x

    @rt.remote
    def use(function, cls, *, options):
        return rt.get(function.remote(3)), rt.get(cls.options(**options).remote(4).read.remote())

    assert rt.get(use.remote(square, Cell, options={"num_cpus": 0})) == (9, 4)
    assert rt.get(use.remote(square.options(num_cpus=0.1), Cell.options(num_cpus=0), options={"max_restarts": 1})) == (
        9,
        4,
    )


# ------------------------------------------------------------------ get and wait
def test_get_in_all_its_forms(rt, gate):
    slow = rt.remote(gate.wait).remote()
    one = rt.put(1)
    assert rt.get([]) == []
    assert rt.get([one, one, one]) == [1, 1, 1]
    assert rt.get(one, timeout=0) == 1
    for timeout in (0, 0.05, 0.001):
        with pytest.raises(exceptions.GetTimeoutError) as caught:
            rt.get([one, slow], timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
    for bad, kind in ((5, ValueError), ([one, 5], ValueError), (None, ValueError), ("x", ValueError)):
        with pytest.raises(kind):
            rt.get(bad)
    with pytest.raises(ValueError):
        rt.get(one, timeout=-1)
    with pytest.raises(TypeError):
        rt.get(one, timeout="1")
    gate.open()
    assert rt.get([slow, one], timeout=20) == [True, 1]


def test_get_of_a_list_raises_the_first_failure_at_once(rt, gate):
    @rt.remote
    def fail():
        raise KeyError("early")

    slow = rt.remote(gate.wait).remote()
    with pytest.raises(KeyError):
        rt.get([slow, fail.remote()], timeout=20)
    gate.open()
    rt.get(slow, timeout=20)


def test_wait_in_all_its_forms(rt, gate):
    slow = rt.remote(gate.wait).remote()
    ready = [rt.put(i) for i in range(4)]

    @rt.remote
    def fail():
        raise KeyError

    assert rt.wait([]) == ([], [])
    assert rt.wait([slow, *ready], num_returns=2) == (ready[:2], [slow, *ready[2:]])
    assert rt.wait(ready, num_returns=4) == (ready, [])
    assert rt.wait([slow], timeout=0) == ([], [slow])
    assert rt.wait([slow, ready[0]], num_returns=2, timeout=0.05) == ([ready[0]], [slow])
    failed = fail.remote()
    assert rt.wait([slow, failed], timeout=20) == ([failed], [slow])
    for bad, kind in (
        (lambda: rt.wait(slow), TypeError),
        (lambda: rt.wait((slow,)), TypeError),
        (lambda: rt.wait([1]), TypeError),
        (lambda: rt.wait([slow, slow]), ValueError),
        (lambda: rt.wait([slow], num_returns=0), ValueError),
        (lambda: rt.wait([slow], num_returns=2), ValueError),
        (lambda: rt.wait([slow], num_returns=1.0), TypeError),
        (lambda: rt.wait([slow], timeout=-1), ValueError),
    ):
        with pytest.raises(kind):
            bad()
    gate.open()
    assert rt.wait([slow], timeout=20) == ([slow], [])


def test_results_in_the_order_of_completion(rt, tmp_path):
    doors = [tmp_path / f"door{i}" for i in range(3)]

    @rt.remote
    def pass_through(i):
        deadline_s = time.monotonic() + 20
        while not doors[i].exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        return i

    pending, order = [pass_through.remote(i) for i in range(3)], []
    for i in (2, 0, 1):
        doors[i].touch()
        done, pending = rt.wait(pending, timeout=20)
        order += rt.get(done)
    assert order == [2, 0, 1]


# ------------------------------------------------------------------ context
def test_runtime_context_of_a_driver_and_a_task(rt, mode):
    mine = rt.get_runtime_context()
    assert (mine.get_task_id(), mine.get_actor_id(), mine.get_task_name()) == (None, None, None)
    assert mine.namespace == "sweep"
    with pytest.raises(RuntimeError):
        mine.is_canceled()

    @rt.remote(num_cpus=0.5)
    def tell():
        c = rt.get_runtime_context()
        return (
            c.get_job_id(),
            c.get_node_id(),
            c.get_assigned_resources(),
            c.get_task_id(),
            c.get_actor_id(),
            c.namespace,
            c.get_worker_id(),
            c.is_canceled(),
            os.getpid(),
        )

    ref = tell.remote()
    got = rt.get(ref)
    assert got[:3] == (mine.get_job_id(), mine.get_node_id(), {"CPU": 0.5})
    assert got[3] == ref.task_id().hex()
    assert got[4:6] == (None, "sweep")
    assert got[6] != mine.get_worker_id()
    assert got[7] is False
    assert (got[8] == os.getpid()) is (mode == "in_process")


def test_what_the_cluster_offers(rt, until):
    (row,) = [row for row in rt.nodes() if row["Alive"]]
    assert row["NodeID"] == rt.get_runtime_context().get_node_id()
    assert row["Resources"]["CPU"] == 4
    total = rt.cluster_resources()
    assert total["CPU"] == 4
    assert total["memory"] > 0
    assert any(name.startswith("node:") for name in total)
    until(lambda: rt.available_resources().get("CPU") == 4)
    assert set(rt.available_resources()) <= set(total)
