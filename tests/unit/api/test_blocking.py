"""Threads that wait."""

import threading

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
