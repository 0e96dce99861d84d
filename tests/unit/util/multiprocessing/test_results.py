"""Results and iterators of a pool, told by futures that are resolved here by hand."""

import multiprocessing
import threading
from concurrent.futures import Future

import pytest

from actorrt.util.multiprocessing.results import AsyncResult, IMapIterator


class Calls(list):
    """Callbacks that note what they are called with."""

    def back(self, value):
        self.append(("value", value))

    def error(self, error):
        self.append(("error", error))


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def result(calls):
    return AsyncResult(calls.back, calls.error, threading.Lock())


def pending(count):
    return [Future() for _ in range(count)]


# ------------------------------------------------------------------ AsyncResult
def test_one_value(result, calls):
    (future,) = pending(1)
    result.follow([future], is_single=True)
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0)
    assert result.wait(0) is None
    future.set_result(None)
    assert (result.ready(), result.successful(), result.get(0)) == (True, True, None)
    assert calls == [("value", None)]


def test_parts_are_joined_in_their_order(result, calls):
    futures = pending(3)
    result.follow(futures)
    futures[2].set_result([5])
    futures[0].set_result([1, 2])
    assert not result.ready()
    futures[1].set_result([3, 4])
    assert result.get(0) == [1, 2, 3, 4, 5]
    assert calls == [("value", [1, 2, 3, 4, 5])]


def test_the_first_error_counts_once_all_is_done(result, calls):
    futures = pending(3)
    result.follow(futures)
    first = KeyError("first")
    futures[1].set_exception(first)
    futures[0].set_exception(KeyError("second"))
    assert not result.ready()
    futures[2].set_result([1])
    assert not result.successful()
    with pytest.raises(KeyError, match="first"):
        result.get()
    assert calls == [("error", first)]


def test_no_parts(result, calls):
    result.follow([])
    assert result.get(0) == []
    assert calls == []


def test_failing(result, calls):
    error = KeyError("x")
    result.fail(error)
    with pytest.raises(KeyError):
        result.get(0)
    assert calls == [("error", error)]


def test_a_callback_that_fails_does_not_keep_the_result(caplog):
    result = AsyncResult(lambda _value: 1 / 0, None)
    (future,) = pending(1)
    result.follow([future], is_single=True)
    future.set_result(1)
    assert result.get(0) == 1
    assert "ZeroDivisionError" in caplog.text


def test_callbacks_are_called_one_at_a_time():
    lock = threading.Lock()
    (future,) = pending(1)
    AsyncResult(lambda _value: seen.append(lock.locked()), None, lock).follow([future], is_single=True)
    seen = []
    future.set_result(1)
    assert seen == [True]
    assert not lock.locked()


def test_it_is_generic():
    assert AsyncResult[int].__origin__ is AsyncResult


# ------------------------------------------------------------------ IMapIterator
def test_ordered():
    results = IMapIterator(is_ordered=True)
    futures = pending(3)
    for index, future in enumerate(futures):
        future.add_done_callback(lambda done, index=index: results.take(index, done))
    results.set_length(3)
    futures[1].set_result([3])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0)
    futures[0].set_result([1, 2])
    futures[2].set_exception(KeyError("last"))
    assert [results.next(0), next(results), results.next()] == [1, 2, 3]
    with pytest.raises(KeyError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_unordered():
    results = IMapIterator(is_ordered=False)
    assert iter(results) is results
    results.add(2, [5], None)
    results.add(0, [1, 2], None)
    assert [next(results), next(results), next(results)] == [5, 1, 2]
    results.add(1, [], KeyError("x"))
    results.set_length(3)
    with pytest.raises(KeyError):
        next(results)
    assert list(results) == []


def test_waiting_ends_when_the_length_is_known():
    results = IMapIterator(is_ordered=True)
    timer = threading.Timer(0.02, results.set_length, [0])
    timer.start()
    assert list(results) == []
    timer.join()
