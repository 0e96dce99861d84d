"""Owners that may be dead."""

from actorrt.kernel.limits import AUDIT_INTERVAL_S, SUSPECT_WAIT_S
from actorrt.objects.suspects import Suspects


def test_who_cannot_be_reached_twice_is_dead():
    suspects = Suspects()
    assert not suspects.is_dead("p", 10.0)
    assert not suspects.is_dead("p", 10.1), "it was not asked yet"
    assert suspects.due_s == 10.0 + SUSPECT_WAIT_S
    assert suspects.take_due(10.5) == []
    assert suspects.take_due(11.0) == ["p"]
    suspects.check()
    assert suspects.is_dead("p", 11.1)
    assert not suspects.is_dead("p", 11.2), "that is over"


def test_who_could_be_reached_is_asked_again_the_next_time():
    suspects = Suspects()
    suspects.is_dead("p", 10.0)
    suspects.take_due(11.0)
    assert suspects.take_due(11.0 + AUDIT_INTERVAL_S) == []
    assert not suspects.is_dead("p", 11.0 + AUDIT_INTERVAL_S)
    assert suspects.due_s == 11.0 + AUDIT_INTERVAL_S + SUSPECT_WAIT_S


def test_a_death_that_is_known_needs_no_question():
    suspects = Suspects()
    suspects.is_dead("p", 10.0)
    suspects.is_dead("q", 10.1)
    suspects.forget("p")
    assert suspects.take_due(20.0) == ["q"]
    suspects.forget("q")
    assert not suspects.is_dead("q", 20.1)
    suspects.check()
