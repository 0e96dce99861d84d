"""The event loop on a thread of its own."""

import asyncio
import threading

import pytest

from actorrt.api.loop_thread import LoopThread


@pytest.fixture
def thread():
    made = LoopThread("test-loop")
    made.start()
    yield made
    made.stop()


def test_call_runs_there_and_returns(thread):
    assert thread.call(lambda: threading.current_thread().name) == "test-loop"
    assert thread.call(asyncio.get_running_loop) is thread.loop
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0)


def test_call_from_the_thread_itself(thread):
    assert thread.call(lambda: thread.call(lambda: 5)) == 5


def test_call_later(thread):
    rang = threading.Event()
    thread.call_later(0.001, rang.set)
    assert rang.wait(10)


def test_stop_is_idempotent_and_ends_the_thread(thread):
    thread.stop()
    thread.stop()
    assert not thread._thread.is_alive()
    assert thread.loop.is_closed()
    assert "alive=False" in repr(thread)
    thread.call_later(0, lambda: None)
    with pytest.raises(RuntimeError):
        thread.call(lambda: None)


def test_stop_from_the_thread_itself(thread):
    thread.loop.call_soon_threadsafe(thread.stop)
    thread._thread.join(10)
    assert not thread._thread.is_alive()
