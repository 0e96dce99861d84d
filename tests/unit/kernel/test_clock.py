import asyncio
import math
import threading
import time

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from actorrt.kernel.clock import (
    DEAD_ENTRIES_KEPT_MIN,
    Alarm,
    LoopClock,
    MonotonicClock,
    TimerHeap,
    call_soon,
    on_loop,
)

WAIT_S = 20


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def loop(request):
    made = request.param()
    yield made
    made.close()


def test_clocks(loop):
    before = time.monotonic()
    assert before <= MonotonicClock().now() <= time.monotonic()
    assert abs(LoopClock(loop).now() - loop.time()) < WAIT_S


def drain(heap, now):
    found = []
    while (payload := heap.pop_due(now)) is not None:
        found.append(payload)
    return found


def test_timers_come_in_order_of_time_then_of_setting():
    heap = TimerHeap()
    for key, at_s in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("a2", 1.0)):
        heap.set(key, at_s, key)
    assert heap.earliest_s() == 1.0
    assert drain(heap, 0.9) == []
    assert drain(heap, 2.0) == ["a", "a2", "b"]
    assert drain(heap, 9.0) == ["c"]
    assert heap.earliest_s() == math.inf
    assert len(heap) == 0


def test_timers_are_replaced_cancelled_and_cleared():
    heap = TimerHeap()
    heap.set("a", 1.0, "old")
    heap.set("a", 5.0, "new")
    heap.set("b", 2.0, "b")
    assert heap.cancel("b")
    assert not heap.cancel("b")
    assert heap.earliest_s() == 5.0
    assert drain(heap, 9.0) == ["new"]
    heap.set("c", 1.0, "c")
    heap.clear()
    assert drain(heap, 9.0) == []


def test_dead_entries_do_not_pile_up():
    heap = TimerHeap()
    for number in range(100_000):
        heap.set("beat", float(number), number)
    assert len(heap._heap) <= 2 + DEAD_ENTRIES_KEPT_MIN + 1
    assert drain(heap, 1e9) == [99_999]


@given(st.lists(st.tuples(st.sampled_from(["set", "cancel", "pop"]), st.integers(0, 5), st.integers(0, 20))))
def test_the_heap_agrees_with_a_dictionary(steps):
    heap, model = TimerHeap(), {}
    for number, (what, key, at) in enumerate(steps):
        if what == "set":
            heap.set(key, float(at), number + 1)
            model[key] = (float(at), number + 1)
        elif what == "cancel":
            assert heap.cancel(key) == (model.pop(key, None) is not None)
        else:
            due = sorted(value for value in model.values() if value[0] <= at)
            assert drain(heap, float(at)) == [payload for _, payload in due]
            model = {k: v for k, v in model.items() if v not in due}
        assert len(heap) == len(model)
        assert heap.earliest_s() == min((at_s for at_s, _ in model.values()), default=math.inf)


def test_the_alarm_rings_for_the_earliest_only(loop):
    rings = []
    alarm = Alarm(loop, MonotonicClock(), lambda: (rings.append(time.monotonic()), loop.stop()))
    start = time.monotonic()
    wakes = []
    original = loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *args: (wakes.append(args), original(*args))
    alarm.at(start + 5.0)
    alarm.at(start + 0.005)
    alarm.at(start + 0.010)  # later than what it waits for: nobody is woken
    assert len(wakes) == 2
    loop.run_forever()
    assert len(rings) == 1
    assert rings[0] - start < WAIT_S / 2
    loop.call_soon(lambda: alarm.at(start))  # the past
    loop.run_forever()
    assert len(rings) == 2


def test_a_cancelled_alarm_is_silent(loop):
    alarm = Alarm(loop, MonotonicClock(), lambda: pytest.fail("it rang"))

    def cancel():
        alarm.at(time.monotonic() + 0.001)
        alarm.cancel()
        loop.call_later(0.005, loop.stop)

    loop.call_soon(cancel)
    loop.run_forever()
    alarm.at(time.monotonic() + 0.001)
    alarm.cancel()  # from outside, before the loop has armed it
    loop.call_later(0.005, loop.stop)
    loop.run_forever()


def test_an_alarm_on_a_closed_loop(loop):
    loop.close()
    alarm = Alarm(loop, MonotonicClock(), lambda: None)
    alarm.at(0.0)
    assert not call_soon(loop, lambda: None)


def test_call_soon_and_on_loop(loop):
    seen = []
    assert call_soon(loop, lambda: (seen.append(on_loop(loop)), loop.stop()))
    loop.run_forever()
    assert seen == [True]
    assert not on_loop(loop)

    class Broken:
        def call_soon_threadsafe(self, callback):
            raise RuntimeError("something else")

        def is_closed(self):
            return False

    with pytest.raises(RuntimeError, match="something else"):
        call_soon(Broken(), lambda: None)


def test_alarms_from_many_threads(loop):
    """However the threads interleave, nobody's earliest time is missed."""
    rings = []
    target = time.monotonic() + 0.05

    def ring():
        rings.append(time.monotonic())
        loop.stop()

    alarm = Alarm(loop, MonotonicClock(), ring)
    start = threading.Barrier(4)

    def set_many(offset):
        start.wait(WAIT_S)
        for step in range(200):
            alarm.at(target + 10 - step * 0.05 + offset)

    threads = [threading.Thread(target=set_many, args=(index * 0.001,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    loop.run_forever()
    assert len(rings) == 1
    assert rings[0] < target + 5
