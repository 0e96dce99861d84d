"""Pins of processes that have left."""

import pytest

from actorrt.objects.leftovers import Leftovers


def test_they_are_released_one_by_one():
    left = Leftovers()
    left.keep("p", 5, {1: 2, 2: 1})
    left.keep("p", 5, {1: 1})
    left.check()
    assert (left.pins_count, len(left), "p" in left) == (4, 1, True)
    assert [left.release("p", 0, 1) for _ in range(4)] == ["p", "p", "p", None]
    left.check()
    assert left.release("p", 0, 2) == "p"
    assert (left.pins_count, len(left), "p" in left) == (0, 0, False)
    left.check()


def test_by_whoever_has_the_same_pid():
    left = Leftovers()
    left.keep("first", 5, {1: 1})
    left.keep("second", 5, {1: 1, 2: 1})
    left.keep("other", 6, {3: 1})
    assert left.release("second", 5, 1) == "second", "its own before those of others"
    assert left.release("third", 5, 1) == "first"
    assert left.release("third", 5, 3) is None
    assert left.release("third", 0, 2) is None
    assert (len(left), "first" in left) == (2, False)
    left.check()


def test_they_go_with_their_process():
    left = Leftovers()
    left.keep("p", 5, {1: 1})
    left.keep("p", 6, {2: 1})
    left.check()
    assert left.release("q", 5, 1) is None
    assert left.drop("p")
    assert not left.drop("p")
    left.check()
    assert len(left) == 0


def test_check_sees_who_left_nothing():
    left = Leftovers()
    left.keep("p", 5, {1: 1})
    left._table["p"].pins.clear()
    with pytest.raises(AssertionError, match="has left nothing"):
        left.check()
