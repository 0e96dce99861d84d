"""The queue by itself."""

import pytest

from actorrt.raylet.demand import Demand, DemandQueue
from tests.unit.raylet.harness import owner, spec


def demand(name="a", class_id=1, **wants):
    return Demand((owner(name), class_id), spec(**wants), holder=owner(name), class_id=class_id)


def filled(*names, count=2):
    queue = DemandQueue(100)
    return queue, [queue.add(demand(name), count, 0, 1.0) for name in names]


def names(queue):
    return [waiting.holder.process for waiting in queue.demands]


def test_requests_of_one_class_join():
    queue, [first] = filled("a")
    again = queue.add(demand("a"), 3, 1, 2.0)
    assert again is first
    assert (first.count, queue.count, len(queue)) == (5, 5, 1)
    assert (first.hops, first.since_s) == (0, 1.0)
    queue.check()


def test_whoever_was_served_goes_last():
    queue, [a, _] = filled("a", "b")
    queue.take(a, 3.0)
    assert names(queue) == ["b", "a"]
    queue.take(a, 4.0)
    assert names(queue) == ["b"]
    assert queue.count == 2
    queue.check()


def test_the_oldest_is_served_and_the_newest_cancelled():
    queue, [a] = filled("a")
    queue.add(demand("a"), 2, 2, 5.0)
    assert queue.cancel(a, 3) == 3
    assert (a.count, a.hops, a.since_s) == (1, 0, 1.0)
    assert queue.cancel(a, 9) == 1
    assert len(queue) == 0
    queue.check()


def test_waiting_counts_from_the_last_grant():
    queue, [a] = filled("a")
    assert a.waited_s(4.0) == 3.0
    queue.take(a, 4.0)
    assert a.waited_s(5.0) == 1.0


def test_reservations_take_breaks():
    [a] = filled("a")[1]
    seen = [a.may_reserve(float(now), 10.0, 1.0) for now in range(34)]
    assert seen == [True] * 10 + [False] + [True] * 20 + [False] + [True] * 2


def test_room_is_bounded():
    queue, _ = filled("a", count=99)
    assert queue.room() == 1
    with pytest.raises(AssertionError):
        queue.add(demand("b"), 2, 0, 1.0)


def test_pending_is_grouped():
    queue = DemandQueue()
    for name in ("a", "b"):
        queue.add(demand(name), 2, 0, 1.0).reason = "busy"
    queue.add(demand("c", resources={"CPU": 2}), 1, 0, 1.0).reason = "infeasible"
    assert [(group.resources, group.count, group.reason) for group in queue.pending()] == [
        ({"CPU": 10_000}, 4, "busy"),
        ({"CPU": 20_000}, 1, "infeasible"),
    ]


def test_check_notices():
    queue, [a] = filled("a")
    a.count += 1
    with pytest.raises(AssertionError):
        queue.check()
