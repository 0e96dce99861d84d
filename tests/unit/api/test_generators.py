"""Streams as their consumer sees them, on a cluster in this process."""

import asyncio
import gc
import itertools
import pickle
import threading

import pytest

from actorrt.api import generators
from actorrt.api.connection import ensure_runtime
from actorrt.exceptions import TaskCancelledError, TaskError
from tests.unit.api import gate


@pytest.fixture
def count(rt):
    @rt.remote(num_cpus=0)
    def count(n):
        yield from range(n)

    return count


@pytest.fixture
def gated(rt):
    """A generator that waits before each item until it is told to go on."""
    closed = gate.close()

    @rt.remote(num_cpus=0, max_retries=0)
    def gated(n):
        for i in range(n):
            gate.current.come()
            yield i

    gated.gate = closed
    yield gated
    closed.let_through(10)


def table():
    gc.collect()
    runtime = ensure_runtime()
    runtime.flush()
    runtime.still_held(())  # a question: what was handed over before is done when the answer is here
    return runtime.machine


def test_items_in_order_then_the_end(rt, count):
    stream = count.remote(100)
    assert isinstance(stream, generators.ObjectRefGenerator)
    assert [rt.get(ref) for ref in stream] == list(range(100))
    assert list(stream) == []
    assert stream.is_finished()
    assert list(count.remote(0)) == []


def test_each_item_is_there_before_the_next_one(rt, gated):
    stream = gated.remote(2)
    assert not stream.next_ready()
    assert rt.wait([stream], timeout=0) == ([], [stream])
    gated.gate.let_through()
    assert rt.get(next(stream)) == 0
    assert not stream.is_finished()
    gated.gate.let_through()
    assert rt.wait([stream], timeout=gate.PATIENCE_S) == ([stream], [])
    assert stream.next_ready()
    assert rt.get(next(stream)) == 1
    assert rt.wait([stream], timeout=gate.PATIENCE_S) == ([stream], [])  # the end is something too
    assert stream.is_finished()
    with pytest.raises(StopIteration):
        next(stream)
    assert stream.next_ready()


def test_wait_on_streams_and_refs_together(rt, gated):
    one, other = gated.remote(1), rt.put(1)
    assert rt.wait([one, other]) == ([other], [one])
    with pytest.raises(ValueError, match="duplicates"):
        rt.wait([one, one])


def test_a_failure_is_the_last_ref(rt):
    @rt.remote(num_cpus=0, max_retries=0)
    def broken():
        yield 1
        raise KeyError("x")

    stream = broken.remote()
    completed = stream.completed()
    good, bad = stream
    assert rt.get(good) == 1
    for ref in (bad, completed):
        with pytest.raises(KeyError):
            rt.get(ref)
        with pytest.raises(TaskError):
            rt.get(ref)


def test_completed_outlives_the_generator(rt, count, gated):
    assert rt.get(count.remote(3).completed(), timeout=gate.PATIENCE_S) is None
    # Also when the task has not been handed over yet: with work in flight, tasks are gathered.
    busy = gated.remote(1)
    assert gated.gate.began.wait(gate.PATIENCE_S)
    streams = [count.remote(2) for _ in range(5)]
    refs = [s.completed() for s in streams]
    del streams
    gc.collect()
    assert rt.get(refs, timeout=gate.PATIENCE_S) == [None] * 5
    assert rt.get(refs, timeout=gate.PATIENCE_S) == [None] * 5
    assert not busy.is_finished()


def test_everything_goes_with_the_generator_and_the_refs(rt, count):
    before = len(table().objects.records)
    stream = count.remote(20)
    refs = list(itertools.islice(stream, 5))
    rt.get(stream.completed())
    assert len(table().objects.records) > before + 5
    del stream
    machine = table()
    assert len(machine.objects.records) == before + 5
    assert rt.get(refs) == list(range(5))
    assert not machine.submitter.streams.streams
    del refs
    assert len(table().objects.records) == before


def test_streams_dropped_at_once_leave_nothing(rt, count):
    before = len(table().objects.records)
    refs = [count.remote(3).completed() for _ in range(50)]
    assert rt.get(refs) == [None] * 50
    machine = table()
    assert not machine.submitter.streams.streams
    assert len(machine.objects.records) == before + 50
    del refs
    assert len(table().objects.records) == before


def test_refs_inside_items(rt):
    @rt.remote(num_cpus=0)
    def boxes(n):
        for i in range(n):
            yield [rt.put(i)]

    before = len(table().objects.records)
    inner = [rt.get(ref)[0] for ref in boxes.remote(5)]
    assert rt.get(inner) == list(range(5))
    del inner
    assert len(table().objects.records) == before


def test_items_as_arguments(rt, count):
    @rt.remote(num_cpus=0)
    def double(x):
        return 2 * x

    assert rt.get([double.remote(ref) for ref in count.remote(50)]) == [2 * i for i in range(50)]


def test_cancel(rt):
    @rt.remote(num_cpus=0)
    def endless():
        yield 0
        while True:
            pass

    stream = endless.remote()
    assert rt.get(next(stream)) == 0
    rt.cancel(stream)
    with pytest.raises(TaskCancelledError):
        rt.get(stream.completed(), timeout=gate.PATIENCE_S)
    (last,) = stream
    with pytest.raises(TaskCancelledError):
        rt.get(last)


def test_several_threads_share_a_stream(rt, count):
    stream = count.remote(300)
    taken = [[] for _ in range(4)]

    def consume(mine):
        mine.extend(stream)

    threads = [threading.Thread(target=consume, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(gate.PATIENCE_S)
    assert sorted(rt.get(list(itertools.chain(*taken)))) == list(range(300))


def test_coroutines(rt, count):
    async def consume():
        stream = count.remote(50)
        values = [await ref async for ref in stream]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        return values

    async def several(stream):
        return await asyncio.gather(*(anext(stream) for _ in range(10)))

    assert asyncio.run(consume()) == list(range(50))
    assert sorted(rt.get(asyncio.run(several(count.remote(10))))) == list(range(10))


def test_methods_of_actors(rt):
    @rt.remote(num_cpus=0)
    class Plain:
        def numbers(self, n):
            yield from range(n)

    @rt.remote(num_cpus=0)
    class Async:
        async def numbers(self, n):
            for i in range(n):
                yield i

    for kind in (Plain, Async):
        assert rt.get(list(kind.remote().numbers.remote(30))) == list(range(30))


def test_what_is_refused(rt, count):
    stream = count.remote(1)
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(stream)
    with pytest.raises(TypeError):
        count.remote(stream)
    for name in ("send", "throw", "close", "asend", "athrow", "aclose"):
        with pytest.raises(NotImplementedError):
            getattr(stream, name)(None)
    with pytest.raises(ValueError, match="ObjectRefGenerator"):
        rt.get(stream)
    with pytest.raises(NotImplementedError, match="backpressure"):
        count.options(_generator_backpressure_num_objects=2).remote(1)
    with pytest.raises(ValueError, match="async def"):

        @rt.remote
        async def numbers():
            yield 1


def test_dynamic_returns_are_refused(rt, count):
    with pytest.warns(DeprecationWarning, match="streaming"):
        dynamic = count.options(num_returns="dynamic")
    with pytest.raises(NotImplementedError, match="dynamic"):
        dynamic.remote(1)


def test_names(rt, count):
    stream = count.remote(1)
    ref = next(stream)
    assert stream.task_id() == ref.task_id()
    assert repr(stream) == f"ObjectRefGenerator({ref.task_id().hex()}, next=1)"


def test_a_shutdown_ends_the_wait(rt, gated):
    stream = gated.remote(1)
    assert gated.gate.began.wait(gate.PATIENCE_S)
    raised = []

    def consume():
        try:
            next(stream)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    rt.shutdown()
    thread.join(gate.PATIENCE_S)
    assert [type(error).__name__ for error in raised] == ["InternalError"]
