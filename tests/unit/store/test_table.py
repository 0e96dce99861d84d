import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.store.allocator import Extent
from actorrt.store.base import SpilledAt
from actorrt.store.errors import NotSealed, ObjectExists, ObjectNotFound
from actorrt.store.table import NEXT, Event, Record, State, Table

COPY = SpilledAt("uri", "name", 0, 10, 0, 1)


def record(number, key=b"key", **more):
    return Record(number, key, 10, b"writer", Extent(0, 64 * number, 128), **more)


def sealed(table, number, key=b"key", **more):
    made = record(number, key, **more)
    table.add(made)
    table.fire(made, Event.SEAL)
    return made


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_step_is_in_the_table_or_raises(state, event):
    table = Table()
    made = record(1, state=state, copy=COPY)
    table.add(made)
    if (state, event) in NEXT:
        assert table.fire(made, event) is NEXT[state, event]
    else:
        with pytest.raises(KeyError):
            table.fire(made, event)


def test_every_state_but_the_last_can_reach_it():
    reached = {State.DELETED}
    for _ in State:
        reached |= {state for (state, _), after in NEXT.items() if after in reached}
    assert reached == set(State)
    assert not [state for state, _ in NEXT if state is State.DELETED]


def test_keys():
    table = Table()
    with pytest.raises(ObjectNotFound):
        table.readable(b"key")
    made = record(1)
    table.add(made)
    with pytest.raises(NotSealed):
        table.readable(b"key")
    table.fire(made, Event.SEAL)
    assert table.readable(b"key") is made
    with pytest.raises(ObjectExists):
        table.add(record(2))
    table.doom(made)
    table.add(record(2))
    assert (len(table), table.lingering) == (1, 1)
    table.fire(made, Event.FREE)
    assert table.find(b"key").number == 2
    assert table.lingering == 0
    with pytest.raises(ObjectNotFound):
        table.at(1)
    table.check()


def test_pins_are_counted_by_client():
    table = Table()
    made = sealed(table, 1)
    for client in (b"a", b"a", b"b"):
        table.pin(made, client)
    assert table.pinned_by(b"a") == [made]
    table.unpin(made, b"a")
    assert made.pins == {b"a": 1, b"b": 1}
    table.unpin(made, b"a")
    assert table.pinned_by(b"a") == []
    with pytest.raises(ObjectNotFound):
        table.unpin(made, b"a")
    table.pin(made, b"b")
    table.unpin(made, b"b", all_of_them=True)
    assert not made.pins
    table.check()


def test_a_pinned_object_cannot_be_freed():
    table = Table()
    made = sealed(table, 1)
    table.pin(made, b"a")
    with pytest.raises(AssertionError, match="pinned"):
        table.fire(made, Event.FREE)


def test_idle_objects_in_order_of_last_use():
    table = Table()
    first, second, third = (sealed(table, number, b"%d" % number) for number in (1, 2, 3))
    copy = sealed(table, 4, b"4", secondary=True)
    table.pin(first, b"a")
    assert list(table.dirty()) == [second, third]
    table.unpin(first, b"a")
    assert list(table.dirty()) == [second, third, first]
    assert list(table.clean()) == [copy]
    table.add_copy(second, COPY)
    assert list(table.clean()) == [copy, second]
    assert (table.clean_bytes, table.dirty_bytes) == (256, 256)
    table.doom(third)
    assert list(table.dirty()) == [first]
    table.check()


def test_writers():
    table = Table()
    made = record(1)
    table.add(made)
    assert table.written_by(b"writer") == [made]
    table.fire(made, Event.SEAL)
    assert table.written_by(b"writer") == []


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "fire", "pin", "unpin", "doom", "copy"]), st.integers(0, 99)), max_size=60
    )
)
def test_indexes_agree_with_the_records(steps):
    table = Table()
    numbers = itertools.count(1)
    for what, pick in steps:
        records = list(table.records)
        made = records[pick % len(records)] if records else None
        if what == "add":
            if table.find(b"%d" % (pick % 5)) is None:
                table.add(record(next(numbers), b"%d" % (pick % 5), secondary=pick % 2 == 0))
        elif made is None:
            continue
        elif what == "fire":
            options = [event for event in Event if (made.state, event) in NEXT]
            event = options[pick % len(options)]
            if (event is Event.EVICT and made.copy is None) or (event is Event.FREE and made.pins):
                continue
            if event in (Event.EVICT, Event.READ_FAILED):
                made.extent = None
            elif event is Event.RESTORE:
                made.extent = Extent(0, 64, 128)
            table.fire(made, event)
        elif what == "pin" and made.state is not State.CREATED:
            table.pin(made, b"%d" % (pick % 3))
        elif what == "unpin" and made.pins:
            table.unpin(made, min(made.pins), all_of_them=pick % 2 == 0)
        elif what == "doom" and not made.doomed:
            table.doom(made)
        elif what == "copy" and made.copy is None:
            table.add_copy(made, COPY)
        table.check()
