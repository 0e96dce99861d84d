"""Questions without an answer."""

import pytest

from actorrt.kernel.limits import ASK_TIMEOUT_S
from actorrt.objects.asks import Asks


def test_each_question_waits_equally_long():
    asks = Asks()
    assert asks.due_s == float("inf")
    asks.add(b"k", "there")
    asks.add(b"k", "far")
    asks.date(10.0)
    asks.add(b"l", "there")
    asks.date(11.0)
    asks.check()
    assert asks.due_s == 10.0 + ASK_TIMEOUT_S
    assert asks.take_due(9.0 + ASK_TIMEOUT_S) == []
    assert asks.take_due(10.0 + ASK_TIMEOUT_S) == [(b"k", "there"), (b"k", "far")]
    assert list(asks.table) == [(b"l", "there")]


def test_what_is_answered_in_its_step_is_not_dated():
    asks = Asks()
    asks.add(b"k", "there")
    asks.drop(b"k", "there")
    asks.drop(b"k", "there")
    asks.date(10.0)
    assert (len(asks), asks.due_s) == (0, float("inf"))


def test_check_sees_one_that_is_out_of_turn():
    asks = Asks()
    for now in (11.0, 10.0):
        asks.add(b"%d" % now, "there")
        asks.date(now)
    with pytest.raises(AssertionError):
        asks.check()
