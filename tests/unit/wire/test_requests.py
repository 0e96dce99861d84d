import asyncio
import threading

import pytest

from actorrt.kernel.clock import MonotonicClock
from actorrt.kernel.errors import InternalError, Overloaded, RequestTimedOut
from actorrt.kernel.message import Address, Done, RequestFailed
from actorrt.wire.requests import Requests

WAIT_S = 20
PEER = Address("unix:///peer", "gcs")


class ManualClock:
    def __init__(self):
        self.time_s = 0.0

    def now(self):
        return self.time_s


@pytest.fixture
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


def test_answers(loop):
    requests = Requests(loop, ManualClock())
    first, future = requests.open(PEER, Done(), None)
    second, failed = requests.open(PEER, Done(), 5.0)
    assert len(requests) == 2
    requests.answer(first, Done())
    requests.answer(second, RequestFailed("NoSuchErrorHere", "x"))
    assert future.result(0) == Done()
    assert not future.cancel()
    with pytest.raises(InternalError, match="x"):
        failed.result(0)
    requests.answer(first, Done())  # again, or too late: nothing happens
    requests.fail(first, ValueError())
    assert len(requests) == 0


def test_deadlines_in_their_order(loop):
    clock = ManualClock()
    requests = Requests(loop, clock)
    futures = {timeout_s: requests.open(PEER, Done(), timeout_s)[1] for timeout_s in (3.0, 1.0, 2.0)}
    clock.time_s = 2.0
    requests._expire()
    assert [timeout_s for timeout_s, future in futures.items() if future.done()] == [1.0, 2.0]
    with pytest.raises(RequestTimedOut, match="gcs@unix:///peer did not answer Done within 2 s"):
        futures[2.0].result(0)
    with pytest.raises(TimeoutError):
        futures[1.0].result(0)


def test_the_loop_keeps_the_time(loop):
    requests = Requests(loop, MonotonicClock())
    _, future = requests.open(PEER, Done(), 0.005)
    future.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    assert isinstance(future.exception(0), RequestTimedOut)


def test_lost_peers(loop):
    requests = Requests(loop, ManualClock())
    _, lost = requests.open(PEER, Done(), 1.0)
    _, alias = requests.open(Address("tcp://peer", "gcs"), Done(), None)
    _, other = requests.open(Address("unix:///other", "gcs"), Done(), None)
    requests.fail_all_of(("unix:///peer", "tcp://peer"), InternalError("died"))
    for future in (lost, alias):
        with pytest.raises(InternalError, match=r"Done to gcs@.*: died"):
            future.result(0)
    assert not other.done()
    assert len(requests) == 1


def test_bounds_and_the_end(loop):
    requests = Requests(loop, ManualClock(), requests_max=2)
    futures = [requests.open(PEER, Done(), 1.0)[1] for _ in range(2)]
    number, refused = requests.open(PEER, Done(), 1.0)
    assert number == 0
    assert isinstance(refused.exception(0), Overloaded)
    requests.close()
    assert all("shutting down" in str(future.exception(0)) for future in futures)
    assert "shutting down" in str(requests.open(PEER, Done(), 1.0)[1].exception(0))


def test_a_callback_may_ask_again(loop):
    """Futures are resolved outside the lock."""
    requests = Requests(loop, ManualClock())
    number, future = requests.open(PEER, Done(), None)
    again = []
    future.add_done_callback(lambda _: again.append(requests.open(PEER, Done(), None)))
    done = threading.Thread(target=requests.answer, args=(number, Done()))
    done.start()
    done.join(WAIT_S)
    assert not done.is_alive()
    assert len(again) == len(requests) == 1
