"""Threads that wait."""

import threading
import time
from concurrent.futures import Future

import pytest

from actorrt.api import blocking
from actorrt.api.blocking import Blocker
from actorrt.kernel.context import TaskContext, current_task


class Owner:
    """Keeps the waiters it is given."""

    def __init__(self):
        self.waiters = []
        self.dropped = []
        self.added = threading.Event()
        self.error = None

    def add(self, waiter):
        self.waiters.append(waiter)
        self.added.set()

    def check(self):
        if self.error is not None:
            raise self.error


@pytest.fixture
def owner():
    return Owner()


@pytest.fixture
def blocker(owner):
    return Blocker(owner.add, owner.dropped.append, owner.check)


def test_ready_at_once(owner, blocker):
    owner.add = lambda waiter: waiter.wake()
    assert Blocker(owner.add, owner.dropped.append, owner.check).wait((), 1, 0, fail_fast=True) is True
    assert owner.dropped == []


@pytest.mark.parametrize("timeout_s", [0, 0.01])
def test_the_time_is_up(owner, blocker, timeout_s):
    assert blocker.wait((), 1, timeout_s, fail_fast=False) is False
    assert owner.dropped == owner.waiters


def test_woken_by_another_thread(owner, blocker):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(blocker.wait((), 1, 30, fail_fast=True)))
    thread.start()
    assert owner.added.wait(10)
    owner.waiters[0].wake()
    thread.join(10)
    assert answers == [True]
    assert owner.waiters[0].fail_fast


def test_the_end_of_the_runtime_ends_the_wait(owner, blocker, monkeypatch):
    monkeypatch.setattr(blocking, "LOOK_INTERVAL_S", 0.01)
    owner.error = KeyError("over")
    with pytest.raises(KeyError):
        blocker.wait((), 1, None, fail_fast=False)
    assert owner.dropped == owner.waiters


def test_a_running_task_tells_that_it_blocks(owner, blocker):
    told = []
    blocker.began, blocker.ended = (lambda: told.append("began")), (lambda: told.append("ended"))
    blocker.wait((), 1, 0.001, fail_fast=False)
    assert told == [], "outside of a task there is nothing to give back"
    token = current_task.set(TaskContext(b"t", "f", "f", {}))
    try:
        blocker.wait((), 1, 0, fail_fast=False)
        assert told == [], "a poll is no wait"
        blocker.wait((), 1, 0.001, fail_fast=False)
    finally:
        current_task.reset(token)
    assert told == ["began", "ended"]


def test_a_future_that_is_done_is_not_waited_for(blocker):
    future = Future()
    future.set_exception(ValueError("whatever it holds"))
    assert blocker.wait_future(future, None) is True
    assert blocker.wait_future(future, 0.0) is True


@pytest.mark.parametrize("left_s", [-1.0, 0.0, 0.01])
def test_a_future_may_come_too_late(blocker, left_s):
    assert blocker.wait_future(Future(), time.monotonic() + left_s) is False


def test_a_long_wait_for_a_future_gives_the_cpu_back(owner, blocker):
    log = []
    future = Future()

    def began():
        log.append("began")
        threading.Timer(0.01, future.set_result, (1,)).start()

    blocker.began, blocker.ended = began, lambda: log.append("ended")
    token = current_task.set(TaskContext(b"t", "n", "f", {}))
    try:
        assert blocker.wait_future(future, None) is True
    finally:
        current_task.reset(token)
    assert log == ["began", "ended"]


def test_a_wait_for_a_future_looks_whether_anybody_lives(owner, blocker, monkeypatch):
    monkeypatch.setattr(blocking, "LOOK_INTERVAL_S", 0.01)
    owner.error = ConnectionError("gone")
    with pytest.raises(ConnectionError, match="gone"):
        blocker.wait_future(Future(), None)


def test_a_long_wait_says_what_it_waits_for_and_then_more_and_more_seldom(owner, blocker, monkeypatch, caplog):
    monkeypatch.setattr(blocking, "LOOK_INTERVAL_S", 0.005)
    monkeypatch.setattr(blocking, "LONG_WAIT_S", 0.01)
    assert blocker.wait((), 1, 0.3, fail_fast=True, explain=lambda: "a task of mine") is False
    said = [record.getMessage() for record in caplog.records]
    assert 1 <= len(said) <= 3
    assert all("a task of mine" in line for line in said)
    assert blocker.wait_future(Future(), time.monotonic() + 0.05) is False
    assert "nothing more is known" in caplog.records[-1].getMessage()
