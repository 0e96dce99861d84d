"""The pool's documented behaviour. Workers are threads of this process: see util/conftest.py."""

import itertools
import multiprocessing
import os
import pickle
import threading
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback

import pytest

import actorrt
from actorrt.exceptions import ActorDiedError
from actorrt.util import multiprocessing as ours
from actorrt.util.multiprocessing import Pool
from actorrt.util.multiprocessing.pool import CHUNKS_PER_PROCESS, IMAP_AHEAD_PER_PROCESS

WAIT_S = 30


@pytest.fixture
def pool(rt):
    made = []

    def make(*args, **options):
        made.append(Pool(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.terminate()
        each.join()


@pytest.fixture
def two(pool):
    return pool(2)


def square(x):
    return x * x


def failing(items, error):
    yield from items
    raise error


class ShortCounted(list):
    """Has a length, and fails when it is iterated."""

    def __iter__(self):
        raise KeyError("iterating")


def test_the_package_has_the_standard_names():
    assert ours.TimeoutError is multiprocessing.TimeoutError
    assert {"AsyncResult", "Pool", "TimeoutError"} == set(ours.__all__)


# ------------------------------------------------------------------ calls
def test_apply(two):
    assert two.apply(square, (5,)) == 25
    assert two.apply(square, (), {"x": 3}) == 9
    assert two.apply(os.getpid) == os.getpid()
    result = two.apply_async(square, [7])
    assert result.get(WAIT_S) == 49
    assert result.successful()


@pytest.mark.parametrize("chunksize", [None, 1, 7, 100])
def test_map(two, chunksize):
    assert two.map(square, range(20), chunksize) == [x * x for x in range(20)]
    assert two.map(square, iter(range(20)), chunksize=chunksize) == [x * x for x in range(20)]
    assert two.map_async(square, range(20), chunksize).get(WAIT_S) == [x * x for x in range(20)]


@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_starmap(two, chunksize):
    pairs = list(zip(range(20), range(20, 0, -1), strict=True))
    expected = list(itertools.starmap(divmod, pairs))
    assert two.starmap(divmod, pairs, chunksize) == expected
    assert two.starmap_async(divmod, pairs, chunksize).get(WAIT_S) == expected


def test_map_cuts_as_the_standard_one(two, monkeypatch):
    sizes = []
    submit = two._crew.submit
    monkeypatch.setattr(
        two._crew, "submit", lambda func, calls, **options: sizes.append(len(calls)) or submit(func, calls, **options)
    )
    two.map(square, range(17))
    assert sizes == [-(-17 // (2 * CHUNKS_PER_PROCESS))] * 5 + [2]


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_imap(two, name, chunksize):
    results = getattr(two, name)(square, range(10), chunksize=chunksize)
    assert sorted(results) == [x * x for x in range(10)]
    assert list(getattr(two, name)(square, [], chunksize)) == []


def test_imap_is_ordered_and_the_other_is_not(two, gates):
    def wait_for(gate):
        if gate == "late":
            gates.wait(gate)
        return gate

    ordered = two.imap(wait_for, ["late", "a"])
    with pytest.raises(multiprocessing.TimeoutError):
        ordered.next(timeout=0.05)
    unordered = two.imap_unordered(wait_for, ["b"])
    assert next(unordered) == "b"
    gates.open("late")
    assert list(ordered) == ["late", "a"]


def test_imap_is_not_far_ahead(two, gates):
    taken = []

    def items():
        for number in itertools.count():
            taken.append(number)
            yield number

    def wait(number):
        gates.wait("go")
        return number

    results = two.imap(wait, items())
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.05)
    assert len(taken) <= 2 * IMAP_AHEAD_PER_PROCESS + 1
    gates.open("go")
    assert [next(results) for _ in range(20)] == list(range(20))


def test_imap_goes_on_although_nobody_looks(two, gates):
    def open_last(number):
        if number == 49:
            gates.open("last")

    two.imap(open_last, range(50))
    gates.wait("last")
    two.close()
    two.join()


def test_closing_waits_for_what_imap_has_to_come(two, gates):
    def slowly():
        gates.wait("go")
        yield from range(5)

    results = two.imap(square, slowly())
    two.close()
    gates.open("go")
    two.join()
    assert list(results) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_bad_chunks(two, name):
    with pytest.raises(ValueError, match="chunksize"):
        getattr(two, name)(square, [1], chunksize=0)


# ------------------------------------------------------------------ errors
def test_errors_have_the_remote_traceback_as_cause(two):
    with pytest.raises(ZeroDivisionError) as caught:
        two.apply(divmod, (1, 0))
    assert type(caught.value) is ZeroDivisionError
    assert type(caught.value.__cause__) is RemoteTraceback
    with pytest.raises(ValueError):
        two.map(int, ["1", "x"])


def test_results_that_cannot_be_pickled(two):
    with pytest.raises(MaybeEncodingError, match="cannot pickle"):
        two.apply(threading.Lock)


@pytest.mark.parametrize("chunksize", [1, 2])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_errors_of_the_iterable_come_in_their_place(two, name, chunksize):
    results = getattr(two, name)(square, failing([1, 2], KeyError("iterating")), chunksize)
    seen = []
    with pytest.raises(KeyError, match="iterating"):
        seen.extend(iter(results.next, None))
    if name == "imap":
        assert list(itertools.islice(two.imap(square, failing([1, 2], KeyError()), chunksize), 2)) == [1, 4]


def test_errors_of_the_iterable_of_map(two):
    with pytest.raises(KeyError):
        two.map(square, failing([1], KeyError()))
    with pytest.raises(KeyError):
        two.map_async(square, failing([1], KeyError()))
    result = two.map_async(square, ShortCounted([1]))
    with pytest.raises(KeyError):
        result.get(WAIT_S)


def test_callbacks(two):
    seen = []
    two.map_async(int, ["1"], callback=seen.append, error_callback=seen.append).wait()
    two.map_async(int, ["a"], callback=seen.append, error_callback=seen.append).wait()
    two.apply_async(int, ["2"], callback=seen.append).wait()
    two.apply_async(int, ["b"], error_callback=seen.append).wait()
    two.starmap_async(pow, [(2, 3)], None, seen.append).wait()
    assert [seen[0], type(seen[1]), seen[2], type(seen[3]), seen[4]] == [[1], ValueError, 2, ValueError, [8]]


def test_a_worker_that_dies(rt, pool, gates):
    one = pool(1)
    result = one.apply_async(_begin_and_wait, [gates])
    gates.wait("began")
    rt.kill(one._crew.members[0].actor)
    with pytest.raises(ActorDiedError):
        result.get(WAIT_S)
    assert one.apply(square, [2]) == 4


def _begin_and_wait(gates):
    gates.open("began")
    gates.wait("go")


# ------------------------------------------------------------------ making one
def test_as_many_processes_as_cpus(pool):
    assert len(pool()._crew.members) == 4
    assert "pool_size=4" in repr(pool())


def test_more_processes_than_cpus(pool):
    assert sorted(pool(6).map(square, range(6))) == [0, 1, 4, 9, 16, 25]


def test_each_worker_is_initialized(pool, gates):
    pool(1, gates.open, ("initialized",))
    assert gates.is_open("initialized")


def test_an_initializer_that_fails(rt):
    with pytest.raises(ActorDiedError, match="ZeroDivisionError"):
        Pool(1, divmod, (1, 0))


def test_workers_are_replaced(pool):
    one = pool(1, maxtasksperchild=2)
    members = []
    for _ in range(6):
        members += one._crew.members
        one.apply(abs, [1])
    assert len({id(member) for member in members}) >= 2


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"processes": 0}, ValueError),
        ({"processes": -1}, ValueError),
        ({"maxtasksperchild": 0}, ValueError),
        ({"maxtasksperchild": 0.5}, ValueError),
        ({"maxtasksperchild": "12"}, ValueError),
        ({"initializer": 3}, TypeError),
        ({"processes": 3, "ray_remote_args": {"num_cpus": 2}}, ValueError),
        ({"processes": 1, "ray_remote_args": {"num_cpu": 2}}, ValueError),
    ],
)
def test_bad_arguments(rt, options, error):
    with pytest.raises(error):
        Pool(**options)


def test_options_of_the_workers(rt, pool):
    pool(1, ray_remote_args={"name": "the-worker", "num_cpus": 1})
    assert rt.get(rt.get_actor("the-worker").pid.remote()) == os.getpid()


def test_a_context_has_no_effect(pool, caplog):
    assert pool(1, context=object()).apply(square, [2]) == 4
    assert "has no effect" in caplog.text


@pytest.mark.parametrize(
    ("address", "variable", "expected"),
    [("there", None, {"address": "there"}), (None, "elsewhere", {}), (None, None, {"num_cpus": 3})],
)
def test_it_connects(rt, monkeypatch, address, variable, expected):
    class Enough(Exception):
        pass

    def init(**options):
        raise Enough(options)

    monkeypatch.setattr(actorrt, "is_initialized", lambda: False)
    monkeypatch.setattr(actorrt, "init", init)
    if variable:
        monkeypatch.setenv("ACTORRT_ADDRESS", variable)
    with pytest.raises(Enough) as caught:
        Pool(3, ray_address=address)
    assert caught.value.args == (expected,)


# ------------------------------------------------------------------ the end
def test_close_and_join(pool):
    one = pool(1)
    result = one.map_async(square, range(10), 1)
    with pytest.raises(ValueError, match="still running"):
        one.join()
    one.close()
    one.close()
    one.join()
    assert result.get(0) == [x * x for x in range(10)]
    assert one._crew.members == []


def test_terminate(pool, gates):
    one = pool(1)
    running, waiting = one.apply_async(_begin_and_wait, [gates]), one.map_async(square, range(100), 1)
    results = one.imap(square, itertools.count())
    gates.wait("began")
    one.terminate()
    one.join()
    for result in (running, waiting):
        with pytest.raises(multiprocessing.ProcessError):
            result.get(WAIT_S)
    with pytest.raises(multiprocessing.ProcessError):
        list(results)


def test_leaving_terminates(rt):
    with Pool(1) as one:
        assert one.apply(square, [3]) == 9
    for use in (lambda: one.apply(square, [1]), lambda: one.map(square, [1]), lambda: one.imap(square, [1])):
        with pytest.raises(ValueError, match="not running"):
            use()
    with pytest.raises(ValueError, match="not running"), one:
        pass
    one.join()


def test_a_pool_that_is_not_closed_is_complained_about(rt):
    one = Pool(1)
    crew = one._crew
    assert one.apply(square, [3]) == 9
    with pytest.warns(ResourceWarning, match="unclosed running pool"):
        del one
    crew.join()
    assert crew.members == []


def test_it_cannot_be_pickled(two):
    with pytest.raises(NotImplementedError):
        pickle.dumps(two)
