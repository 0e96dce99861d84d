"""Values of results, in threads, coroutines and callbacks; the store is a fake."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from actorrt.api.blocking import Blocker
from actorrt.api.loading import Loader, deadline_of, rebuilt
from actorrt.cluster import shelf as shelf_module
from actorrt.kernel.errors import GetTimeoutError, InternalError, OwnerDiedError
from actorrt.objects.messages import ObjectsPinned, Place
from actorrt.wire import values
from actorrt.wire.records import Failure, Stored

FAILED = Failure("OwnerDiedError", "lost")
PLACE = Place(0, 64, 10, 1)


def stored(number=1, *holders):
    return Stored(b"%d" % number * 28, 1000, "owner", holders or ("here",))


class Shelf:
    """Remembers what it is asked; ``found`` is what it answers, None: nothing yet."""

    node = "here"

    def __init__(self):
        self.found = None
        self.asked = []
        self.futures = []
        self.released = []
        self.tickets = []
        self.withdrawn = []

    def pin(self, wanted, ticket, *, for_arguments=False):
        self.tickets.append(ticket)
        self.asked.append((list(wanted), for_arguments))
        return self._future(None if self.found is None else ObjectsPinned(tuple(self.found)))

    def next_ticket(self):
        return len(self.tickets) + 1

    def withdraw(self, ticket):
        self.withdrawn.append(ticket)

    def _future(self, answer):
        future = Future()
        future.set_running_or_notify_cancel()
        if answer is not None:
            future.set_result(answer)
        self.futures.append(future)
        return future

    def take(self, found, keys):
        assert len(found) == len(keys)
        return [memoryview(bytes(keys[i])) if isinstance(each, Place) else each for i, each in enumerate(found)]

    def release_places(self, found):
        self.released.extend(found)


@pytest.fixture
def shelf(monkeypatch):
    monkeypatch.setattr(shelf_module, "load", lambda view: f"object {bytes(view[:1]).decode()}")
    return Shelf()


@pytest.fixture
def loader(shelf):
    return Loader(shelf, Blocker(None, None, lambda: None), lambda each: each, None)


def test_values_keep_their_order(shelf, loader):
    shelf.found = [PLACE, PLACE]
    results = [values.dumps("a"), stored(1), values.dumps("b"), stored(2)]
    assert loader.load_all(results) == ["a", "object 1", "b", "object 2"]
    assert shelf.asked == [([results[1], results[3]], False)]
    assert loader.load_all(results[:1]) == ["a"]
    assert len(shelf.asked) == 1
    loader.load_all(results, for_arguments=True)
    assert shelf.asked[-1][1] is True


def test_a_known_failure_is_raised_before_anything_is_asked_for(shelf, loader):
    with pytest.raises(OwnerDiedError):
        loader.load_all([stored(), FAILED])
    assert shelf.asked == []


def test_a_failure_of_the_store_is_raised(shelf, loader):
    shelf.found = [PLACE, FAILED]
    with pytest.raises(OwnerDiedError):
        loader.load_all([stored(1), stored(2)])
    assert shelf.released == []  # what was pinned is a view by now, and lets go by itself


def test_what_does_not_come_in_time_is_let_go(shelf, loader):
    with pytest.raises(GetTimeoutError, match=r"1 values.*1000 bytes, held by there"):
        loader.load_all([stored(1, "there")], deadline_of(0.01))
    assert shelf.withdrawn == [1]
    shelf.futures[0].set_result(ObjectsPinned((PLACE,)))
    assert shelf.released == [PLACE]


def test_an_interrupt_lets_go_too(shelf, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    loader = Loader(shelf, Blocker(None, None, interrupted), lambda each: each, None)
    monkeypatch.setattr("actorrt.api.blocking.LOOK_INTERVAL_S", 0.01)
    with pytest.raises(KeyboardInterrupt):
        loader.load_all([stored()])
    shelf.futures[0].set_result(ObjectsPinned((PLACE,)))
    assert shelf.released == [PLACE]


def test_in_a_coroutine(shelf, loader):
    async def load(*results):
        return await loader.load_all_async(results)

    shelf.found = [PLACE]
    assert asyncio.run(load(values.dumps(1), stored())) == [1, "object 1"]
    assert asyncio.run(load(values.dumps(1))) == [1]

    async def cancelled():
        task = asyncio.ensure_future(load(stored()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    shelf.found = None
    asyncio.run(cancelled())
    shelf.futures[-1].set_result(ObjectsPinned((PLACE,)))
    assert shelf.released == [PLACE]


def test_by_callback(shelf, loader):
    heard = []

    def done(value, error):
        heard.append(value if error is None else type(error))

    loader.call_back(values.dumps(5), done)
    loader.call_back(FAILED, done)
    loader.call_back(stored(), done)
    assert heard == [5, OwnerDiedError]
    shelf.futures[0].set_result(ObjectsPinned((PLACE,)))
    loader.call_back(stored(), done)
    shelf.futures[1].set_exception(ConnectionError())
    assert heard == [5, OwnerDiedError, "object 1", ConnectionError]


def test_what_cannot_be_rebuilt_says_why(shelf, loader, monkeypatch):
    def broken(_view):
        raise ValueError("mine")

    monkeypatch.setattr(shelf_module, "load", broken)
    shelf.found = [PLACE]
    with pytest.raises(InternalError, match="ValueError: mine"):
        loader.load_all([stored()])
    with pytest.raises(InternalError, match="could not be rebuilt"):
        rebuilt(values.Value(b"nonsense"))
    with pytest.raises(OwnerDiedError):
        rebuilt(FAILED)


def test_the_same_object_is_pinned_once_however_often_it_is_named(shelf, loader):
    shelf.found = [PLACE, PLACE]
    results = [stored(1), values.dumps("a"), stored(2), stored(1), stored(1)]
    assert loader.load_all(results) == ["object 1", "a", "object 2", "object 1", "object 1"]
    assert shelf.asked == [([stored(1), stored(2)], False)]


def test_what_is_here_is_had_without_waiting(shelf, loader):
    """The node's answer takes a moment: a deadline that is over is no reason not to listen."""
    threading.Timer(0.02, lambda: shelf.futures[0].set_result(ObjectsPinned((PLACE,)))).start()
    assert loader.load_all([stored(1, "there", "here")], deadline_of(0.0)) == ["object 1"]
    with pytest.raises(GetTimeoutError):
        loader.load_all([stored(1, "there")], deadline_of(0.0))


def test_a_timeout_becomes_a_moment():
    assert deadline_of(None) is None
    assert deadline_of(5.0) > deadline_of(1.0)
