"""The executor's documented behaviour. Workers are threads of this process: see conftest.py."""

import asyncio
import gc
import threading
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

import pytest

from actorrt.util import Executor, crew

WAIT_S = 30


@pytest.fixture
def executor(rt):
    made = []

    def make(*args, **options):
        made.append(Executor(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.shutdown(cancel_futures=True)


@pytest.fixture
def busy(gates):
    """busy(executor): its future, once a worker waits for the gate "go"."""

    def occupy(executor, gate="go"):
        future = executor.submit(_wait, gates, gate)
        gates.wait(f"{gate} began")
        return future

    return occupy


def _wait(gates, gate):
    gates.open(f"{gate} began")
    gates.wait(gate)
    return gate


def capture(*args, **kwargs):
    return args, kwargs


def test_it_is_an_executor(rt):
    with Executor() as executor:
        assert isinstance(executor, futures.Executor)
        assert executor.submit(pow, 2, 8).result() == 256
        assert executor._crew.size == 4, "the cluster's CPUs"


def test_any_keyword_may_be_passed(executor):
    assert executor(1).submit(capture, 1, self=2, fn=3).result() == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        executor(1).submit(fn=capture, arg=1)


def test_lambdas_and_closures(executor):
    offset = 3
    assert list(executor(2).map(lambda x: x + offset, range(4))) == [3, 4, 5, 6]


# ------------------------------------------------------------------ map
@pytest.mark.parametrize("chunksize", [1, 3, 10, 50])
def test_map_keeps_the_order(executor, chunksize):
    assert list(executor(3).map(pow, range(10), range(10), chunksize=chunksize)) == list(map(pow, range(10), range(10)))


def test_map_stops_at_the_shortest(executor):
    assert list(executor(2).map(pow, range(5), [1, 2], chunksize=2)) == [0, 1]
    assert list(executor(2).map(abs, [], chunksize=2)) == []


def test_map_raises_where_the_error_is(executor):
    results = executor(2).map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(results), next(results)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_has_a_timeout(executor, gates, chunksize):
    results = executor(2).map(gates.wait, ["never"] * 4, timeout=0.05, chunksize=chunksize)
    with pytest.raises(futures.TimeoutError):
        next(results)
    gates.open("never")


def test_map_refuses_bad_chunks(executor):
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor(1).map(abs, [1], chunksize=0)


# ------------------------------------------------------------------ futures
def test_cancel(executor, busy, gates):
    one = executor(1)
    running, waiting = busy(one), one.submit(abs, -1)
    assert running.running()
    assert not running.cancel()
    assert waiting.cancel()
    assert waiting.cancelled()
    gates.open("go")
    assert futures.wait([running, waiting], timeout=WAIT_S).not_done == set()
    with pytest.raises(futures.CancelledError):
        waiting.result()


def test_wait_and_as_completed(executor, busy, gates):
    two = executor(2)
    slow, quick = busy(two), two.submit(abs, -1)
    done = futures.wait([slow, quick], return_when=futures.FIRST_COMPLETED, timeout=WAIT_S).done
    assert done == {quick}
    gates.open("go")
    assert set(futures.as_completed([slow, quick], timeout=WAIT_S)) == {slow, quick}


def test_errors_have_the_remote_traceback_as_cause(executor):
    error = executor(1).submit(int, "one").exception(WAIT_S)
    assert type(error) is ValueError
    assert "invalid literal" in str(error)
    assert "in run" in str(error.__cause__)
    unsendable = executor(1).submit(threading.Lock).exception(WAIT_S)
    assert type(unsendable) is TypeError
    assert unsendable.__cause__ is not None


@pytest.mark.asyncio
async def test_a_loop_runs_in_it(executor):
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(executor(1), pow, 2, 5) == 32


# ------------------------------------------------------------------ workers
def test_initializer(executor, gates):
    two = executor(2, initializer=gates.open, initargs=("initialized",))
    assert two.submit(gates.is_open, "initialized").result(WAIT_S) is True


def test_an_initializer_that_fails_breaks_it(executor):
    broken = executor(2, initializer=divmod, initargs=(1, 0))
    with pytest.raises(BrokenProcessPool, match="ZeroDivisionError"):
        broken.submit(abs, 1).result(WAIT_S)
    with pytest.raises(BrokenProcessPool):
        broken.submit(abs, 1)


def test_the_death_of_a_worker_breaks_it(rt, executor, busy):
    two = executor(2)
    pending = [busy(two, "a"), busy(two, "b"), two.submit(abs, -1)]
    rt.kill(two._crew.members[0].actor)
    for future in pending:
        assert type(future.exception(WAIT_S)) is BrokenProcessPool
    with pytest.raises(BrokenProcessPool):
        two.submit(abs, -1)
    two.shutdown()
    with pytest.raises(BrokenProcessPool):
        two.submit(abs, -1)


def test_workers_are_replaced(executor, gates):
    made = []
    one = executor(1, max_tasks_per_child=2, initializer=gates.open, initargs=("made",))
    for _ in range(6):
        made += one._crew.members
        one.submit(abs, -1).result(WAIT_S)
    assert len({id(member) for member in made}) >= 2


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -1}, ValueError),
        ({"initializer": 3}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": "2"}, TypeError),
        ({"actor_options": {"num_cpu": 1}}, ValueError),
    ],
)
def test_bad_arguments(rt, options, error):
    with pytest.raises(error):
        Executor(**options)


def test_a_context_is_accepted(executor):
    assert executor(1, mp_context=object()).submit(abs, -1).result(WAIT_S) == 1


# ------------------------------------------------------------------ the end
def test_shutdown(executor, busy, gates):
    one = executor(1)
    pending = [busy(one), one.submit(abs, -1)]
    one.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        one.submit(abs, 1)
    gates.open("go")
    one.shutdown()
    assert [future.result(0) for future in pending] == ["go", 1]


def test_shutdown_may_cancel(executor, busy, gates):
    one = executor(1)
    running, waiting = busy(one), [one.submit(abs, -1) for _ in range(10)]
    one.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    gates.open("go")
    assert running.result(WAIT_S) == "go"


def test_a_forgotten_executor_finishes(rt, busy, gates):
    executor = Executor(1)
    pending = [busy(executor), executor.submit(abs, -1)]
    crew = executor._crew
    del executor
    gc.collect()
    gates.open("go")
    assert [future.result(WAIT_S) for future in pending] == ["go", 1]
    crew.join()
    assert crew.members == []


def test_nothing_is_begun_at_the_programs_end(executor, monkeypatch):
    one = executor(1)
    monkeypatch.setattr(crew, "_is_exiting", True)
    with pytest.raises(RuntimeError, match="after interpreter shutdown"):
        one.submit(abs, 1)


def test_it_starts_a_cluster_when_there_is_none(rt, executor, monkeypatch):
    called = []
    monkeypatch.setattr(rt, "is_initialized", lambda: bool(called))
    monkeypatch.setattr(rt, "init", lambda: called.append(True))
    executor(1)
    assert called == [True]
