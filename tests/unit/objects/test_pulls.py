"""The table of pulls."""

import pytest

from actorrt.kernel.limits import PULL_SOURCES_MAX, SEAL_REPORT_WAIT_S
from actorrt.objects import pulls
from actorrt.objects.pulls import TRANSITIONS, Pull, PullTable, object_id_of
from tests.unit.objects.harness import FAR, HERE, THERE, key, wanted


def test_every_state_can_be_reached_and_left():
    reached = {pulls.PARKED, *TRANSITIONS.values()}
    assert reached == {*pulls.STATES, pulls.ENDED}
    assert {state for state, _ in TRANSITIONS} == set(pulls.STATES)
    assert all((state, "end") in TRANSITIONS for state in pulls.STATES)


def test_what_a_state_does_not_know_is_a_bug():
    pull = Pull(wanted(1))
    pull.fire("ask")
    assert pull.state == pulls.ASKING
    with pytest.raises(KeyError):
        pull.fire("room")


def test_a_few_holders_are_asked_at_once_and_none_twice():
    names = tuple(f"node{number}" for number in range(PULL_SOURCES_MAX + 2))
    pull = Pull(wanted(1))
    pull.consider((*names, HERE), HERE)
    assert pull.take_candidates() == list(names[:PULL_SOURCES_MAX])
    assert pull.take_candidates() == []
    pull.fail(names[0])
    pull.consider(names, HERE)
    assert pull.take_candidates() == [names[PULL_SOURCES_MAX]]
    pull.sources[names[1]] = "bulk"
    del pull.asked[names[1]]
    assert pull.take_candidates() == [], "a source counts too"


def test_a_lost_object_says_who_was_tried():
    pull = Pull(wanted(1))
    pull.fail(THERE)
    pull.fail(FAR)
    failure = pull.lost("why")
    assert (failure.kind, failure.subject_id) == ("ObjectLostError", object_id_of(key(1)))
    assert failure.text.endswith("is lost: why (tried: there, far)")
    assert len(object_id_of(key(1))) == 20


def test_who_does_not_answer_is_asked_again_when_it_is_named_again():
    pull = Pull(wanted(1))
    pull.consider((THERE,), HERE)
    pull.take_candidates()
    pull.ignore(THERE)
    assert pull.take_candidates() == []
    assert pull.lost("why").text.endswith("(tried: there, which does not answer)")
    pull.consider((THERE,), HERE)
    assert pull.take_candidates() == [THERE]
    pull.fail(THERE)
    assert pull.lost("why").text.endswith("(tried: there)")


def test_hints_and_parked_ones_are_listed():
    table = PullTable(HERE, hints_max=1)
    pull = table.begin(wanted(1))
    assert not table.is_needed(pull)
    table.hints[key(1)] = None
    table.park(pull, 10.0)
    assert table.is_needed(pull)
    assert not table.takes_hints
    assert table.due_s == 10.0 + SEAL_REPORT_WAIT_S
    table.check()
    table.end(pull)
    assert (len(table), table.due_s, table.takes_hints) == (0, float("inf"), True)
    table.check()


def test_check_sees_what_nobody_needs():
    table = PullTable(HERE, hints_max=1)
    pull = table.begin(wanted(1))
    table.park(pull, 10.0)
    with pytest.raises(AssertionError, match="nobody needs"):
        table.check()
