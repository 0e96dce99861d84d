"""wait(fetch_local=True): what is here first, then what comes first."""

import threading
import time
import types
from concurrent.futures import Future

import pytest

from actorrt.api.blocking import Blocker
from actorrt.api.local_wait import LocalWait
from actorrt.api.refs import ObjectRef
from actorrt.objects.messages import ObjectsFetched
from actorrt.wire.records import Failure, Stored, Value

VALUE = Value(b"v")


class Runtime:
    """As much of one as is needed; ``node`` is here."""

    def __init__(self):
        self.results = {}
        self.fetches = {}
        self.withdrawn = []
        self.waiters = []
        self.shelf = types.SimpleNamespace(
            node="here", next_ticket=self.next_ticket, fetch=self.fetch, withdraw=self.withdrawn.append
        )
        self.machine = types.SimpleNamespace(
            objects=types.SimpleNamespace(holdings=types.SimpleNamespace(current=lambda stored: stored))
        )
        self.blocker = Blocker(None, None, lambda: None)
        self.tickets = 0

    def next_ticket(self):
        self.tickets += 1
        return self.tickets

    def fetch(self, wanted, ticket):
        (stored,) = wanted
        future = self.fetches[stored.key[:20]] = Future()
        return future

    def result_of(self, object_id):
        return self.results.get(object_id)

    def add_waiter(self, waiter):
        self.waiters.append(waiter)

    def drop_waiter(self, waiter):
        self.waiters.remove(waiter)

    def ref(self, number, result=None):
        ref = ObjectRef(bytes([number]) * 20, "me", None)
        if result is not None:
            self.results[ref._id] = result
        return ref

    def stored(self, number, *holders):
        return self.ref(number, Stored(bytes([number]) * 28, 1000, "me", holders))

    def wait(self, refs, count, timeout_s=20.0):
        return LocalWait(self, refs, count).run(time.monotonic() + timeout_s)


@pytest.fixture
def runtime():
    return Runtime()


def soon(function):
    threading.Timer(0.02, function).start()


def test_what_is_here_goes_first_and_nothing_is_fetched(runtime):
    far, near, small, failed = (
        runtime.stored(1, "there"),
        runtime.stored(2, "there", "here"),
        runtime.ref(3, VALUE),
        runtime.ref(4, Failure("TaskError", "x")),
    )
    assert runtime.wait([far, near, small, failed], 2) == ([near, small], [far, failed])
    assert runtime.fetches == {}


def test_what_is_missing_is_fetched_and_the_rest_let_go(runtime):
    one, two, near = runtime.stored(1, "there"), runtime.stored(2, "there"), runtime.stored(3, "here")
    soon(lambda: runtime.fetches[two._id].set_result(ObjectsFetched()))
    assert runtime.wait([one, two, near], 2) == ([two, near], [one])
    assert list(runtime.fetches) == [one._id, two._id]
    assert runtime.withdrawn == [1]
    assert runtime.waiters == []


def test_a_value_that_is_made_meanwhile_may_be_first(runtime):
    far, late = runtime.stored(1, "there"), runtime.ref(2)

    def made():
        runtime.results[late._id] = VALUE
        runtime.waiters[0].wake()

    soon(made)
    assert runtime.wait([far, late], 1) == ([late], [far])
    assert runtime.withdrawn == [1]


def test_a_fetch_that_fails_is_ready_for_get_says_why(runtime):
    far = runtime.stored(1, "there")
    soon(lambda: runtime.fetches[far._id].set_exception(ConnectionError("x")))
    assert runtime.wait([far], 1) == ([far], [])


def test_the_time_is_up(runtime):
    far, near = runtime.stored(1, "there"), runtime.stored(2, "here")
    assert runtime.wait([far, near], 2, 0.02) == ([near], [far])
    assert runtime.wait([far], 1, -1.0) == ([], [far])
    assert runtime.withdrawn == [1, 2]


def test_waking_twice_is_harmless(runtime):
    wait = LocalWait(runtime, [], 1)
    wait._wake()
    wait._wake()
