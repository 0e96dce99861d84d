"""The queue that processes share. Workers are threads of this process: see conftest.py."""

import asyncio
import pickle
import queue as standard
import threading
from types import SimpleNamespace

import pytest

from actorrt.exceptions import ActorDiedError
from actorrt.util.queue import Empty, Full, Queue

WAIT_S = 30


@pytest.fixture
def queue(rt):
    made = []

    def make(*args, **options):
        made.append(Queue(*args, **options))
        return made[-1]

    yield make
    for queue in made:
        queue.shutdown(force=True)


def test_first_in_first_out(queue):
    items = queue()
    for item in range(5):
        items.put(item)
    assert (len(items), items.size(), items.qsize(), items.empty(), items.full()) == (5, 5, 5, False, False)
    assert [items.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert items.empty()


def test_any_value_is_an_item(queue):
    items = queue()
    for item in (None, (), [], (1,), "x" * 300_000):
        items.put(item)
        assert items.get() == item


def test_a_ref_stands_for_its_value(rt, queue):
    items = queue()
    items.put(rt.put(7))
    assert items.get() == 7


def test_the_errors_are_the_standard_ones(queue):
    assert issubclass(Empty, standard.Empty)
    assert issubclass(Full, standard.Full)
    items = queue(1)
    with pytest.raises(standard.Empty):
        items.get_nowait()
    items.put(1)
    with pytest.raises(standard.Full):
        items.put_nowait(2)


@pytest.mark.parametrize("wait", [{"block": False}, {"timeout": 0}, {"timeout": 0.02}, {"block": False, "timeout": -1}])
def test_empty_and_full(queue, wait):
    items = queue(1)
    with pytest.raises(Empty):
        items.get(**wait)
    items.put(1, **wait)
    assert items.full()
    with pytest.raises(Full):
        items.put(2, **wait)
    assert items.get(**wait) == 1
    assert items.size() == 0


def test_negative_timeouts_are_refused(queue):
    items = queue()
    with pytest.raises(ValueError, match="negative"):
        items.get(timeout=-1)
    with pytest.raises(ValueError, match="negative"):
        items.put(1, timeout=-1)


@pytest.mark.parametrize("size", [0, -1])
def test_without_limit(queue, size):
    items = queue(size)
    items.put_nowait_batch(range(2000))
    assert not items.full()
    assert items.size() == 2000


def test_batches_are_all_or_nothing(queue):
    items = queue(3)
    items.put_nowait_batch(iter([1, 2]))
    with pytest.raises(Full, match="2 items do not fit into a queue of 2 with maxsize=3"):
        items.put_nowait_batch([3, 4])
    with pytest.raises(Empty, match="3 items cannot be taken from a queue of 2"):
        items.get_nowait_batch(3)
    items.put_nowait_batch([3])
    assert items.get_nowait_batch(2) == [1, 2]
    assert items.get_nowait_batch(0) == []
    assert items.get_nowait_batch(1) == [3]


def test_batches_check_their_arguments(queue):
    items = queue()
    with pytest.raises(TypeError, match="iterable"):
        items.put_nowait_batch(3)
    with pytest.raises(TypeError, match="int"):
        items.get_nowait_batch(1.0)
    with pytest.raises(ValueError, match="negative"):
        items.get_nowait_batch(-1)


def test_tasks_share_it(rt, queue):
    items = queue(2)

    @rt.remote
    def produce(queue, count):
        for item in range(count):
            queue.put(item)

    @rt.remote
    def consume(queue, count):
        return [queue.get(timeout=30) for _ in range(count)]

    produced = produce.remote(items, 20)
    assert rt.get(consume.remote(items, 20)) == list(range(20))
    assert rt.get(produced) is None


def test_many_may_wait(rt, queue):
    items = queue()
    waiting = [items.actor.get.remote(True, None) for _ in range(1500)]
    items.put_nowait_batch(range(1500))
    assert sorted(item for (item,) in rt.get(waiting, timeout=60)) == list(range(1500))


def test_copies_are_the_same_queue(queue):
    items = queue(5)
    copy = pickle.loads(pickle.dumps(items))
    copy.put(1)
    assert items.get() == 1
    assert copy.maxsize == 5


def test_options_reach_the_actor(rt, queue, gates):
    items = queue(actor_options={"name": "the-queue", "num_cpus": 1})
    items.put(1)
    assert rt.get(rt.get_actor("the-queue").size.remote()) == 1


# ------------------------------------------------------------------ coroutines
@pytest.mark.asyncio
async def test_in_coroutines(queue):
    items = queue(1)
    waiting = asyncio.ensure_future(items.get_async())
    await items.put_async("a")
    assert await waiting == "a"
    await items.put_async("b")
    with pytest.raises(Full):
        await items.put_async("c", block=False)
    with pytest.raises(Full):
        await items.put_async("c", timeout=0.02)
    assert await items.get_async(block=False) == "b"
    with pytest.raises(Empty):
        await items.get_async(block=False)
    with pytest.raises(Empty):
        await items.get_async(timeout=0.02)
    with pytest.raises(ValueError, match="negative"):
        await items.get_async(timeout=-1)
    with pytest.raises(ValueError, match="negative"):
        await items.put_async(1, timeout=-1)


@pytest.mark.asyncio
async def test_a_cancelled_get_takes_nothing(queue):
    items = queue()
    await items.put_async(0)
    await items.get_async()
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(items.get_async(), 0.005)
    # The requests are taken back behind our back; each of these may still meet one of them only if that was lost.
    with pytest.raises(Empty):
        await items.get_async(timeout=0.2)
    await items.put_async("kept")
    assert await items.get_async(timeout=30) == "kept"


# ------------------------------------------------------------------ the end
def test_shutdown_lets_what_was_asked_before_be_done(rt, queue):
    items = queue()
    copy = pickle.loads(pickle.dumps(items))
    items.put(1)
    items.shutdown()
    items.shutdown()
    for gone in (items, copy):
        with pytest.raises(ActorDiedError):
            gone.put(2)


def test_shutdown_by_force(rt, queue):
    items = queue()
    waiting = items.actor.get.remote(True, None)
    items.shutdown(force=True)
    with pytest.raises(ActorDiedError):
        rt.get(waiting)
    with pytest.raises(ActorDiedError, match="was shut down"):
        items.size()


def wait_in(queue):
    """A thread that waits for an item, and the list its outcome goes to."""
    outcome = []

    def get():
        try:
            outcome.append(queue.get())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=get)
    thread.start()
    return thread, outcome


def test_shutdown_ends_those_that_wait(queue, gates):
    items = queue()
    items.put(0)
    thread, outcome = wait_in(items)
    thread.join(WAIT_S)
    assert outcome == [0]
    thread, outcome = wait_in(items)
    items.qsize()
    items.shutdown(grace_period_s=1)
    thread.join(WAIT_S)
    assert isinstance(outcome[0], ActorDiedError)


def test_shutdown_loses_patience(rt, queue, monkeypatch):
    items = queue()
    actor, killed = items.actor, []

    class Stuck:
        def __getattr__(self, name):
            never = actor.get.options() if name == "__ray_terminate__" else getattr(actor, name)
            return SimpleNamespace(remote=lambda: never.remote(True, None))

    items.actor = Stuck()
    monkeypatch.setattr(rt, "kill", killed.append)
    items.shutdown(grace_period_s=0.05)
    assert len(killed) == 1
    monkeypatch.undo()
    rt.kill(actor)
