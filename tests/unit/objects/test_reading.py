"""Requests for objects."""

import msgspec

from actorrt.kernel.effects import Fail, Reply
from actorrt.kernel.limits import PIN_ATTEMPTS_MAX
from actorrt.kernel.message import Envelope
from actorrt.objects.messages import (
    AskForObject,
    FetchObjects,
    ObjectsFetched,
    ObjectsPinned,
    PinObjects,
    StoreAnswered,
)
from actorrt.objects.notices import Notices
from actorrt.objects.operations import Delete, Pin, Release
from actorrt.objects.pulls import object_id_of
from actorrt.objects.reading import Reading
from actorrt.owner.messages import CopiesRemoved
from actorrt.wire.records import Failure
from tests.unit.objects.harness import ALICE, FULL, HERE, LOST, Bench, key, place, wanted


class Desk:
    def __init__(self, **options):
        bench = self.bench = Bench()
        self.client = bench.client()
        self.notices = Notices(bench.effects, HERE)
        self.reading = Reading(
            bench.effects, bench.clients, bench.catalog, bench.tickets, bench.puller, self.notices, **options
        )

    def pin(self, *items, for_arguments=False, ticket=0):
        message = PinObjects(items, for_arguments, ticket)
        self.reading.request(self.client, Envelope(ALICE, message, 7), message, 10.0)
        return self.take()

    def fetch(self, *items):
        message = FetchObjects(items)
        self.reading.request(self.client, Envelope(ALICE, message, 8), message, 10.0)
        return self.take()

    def answer(self, ticket, place=None, failure=None):
        asked = self.bench.tickets.get(ticket)
        self.bench.tickets.answered(ticket)
        self.reading.pinned(asked, StoreAnswered(ticket, place, None, failure), 10.0)
        self.notices.flush()
        return self.take()

    def take(self):
        self.bench.clients.check()
        effects = [getattr(effect, "operation", effect) for effect in self.bench.effects]
        self.bench.effects.clear()
        return effects


def test_nothing_is_answered_at_once():
    desk = Desk()
    assert desk.pin() == [Reply(ALICE, 7, ObjectsPinned(()))]
    assert desk.fetch() == [Reply(ALICE, 8, ObjectsFetched())]


def test_one_pin_for_each_entry_and_one_answer():
    desk = Desk()
    desk.bench.entry(1)
    desk.bench.entry(2)
    assert desk.pin(wanted(1), wanted(2), wanted(1)) == [
        Pin(1, key(1), b"alice"),
        Pin(2, key(2), b"alice"),
        Pin(3, key(1), b"alice"),
    ]
    assert desk.answer(3, place(1)) == []
    assert desk.answer(2, failure=FULL) == []
    failure = msgspec.structs.replace(FULL, subject_id=object_id_of(key(2)))
    assert desk.answer(1, place(1)) == [Reply(ALICE, 7, ObjectsPinned((place(1), failure, place(1))))]


def test_what_is_here_needs_no_fetching():
    desk = Desk()
    desk.bench.entry(1)
    assert desk.fetch(wanted(1), wanted(1)) == [Reply(ALICE, 8, ObjectsFetched())]


def test_failures_of_a_fetch_are_told_by_position():
    desk = Desk()
    desk.bench.entry(1)
    assert [effect.body for effect in desk.fetch(wanted(1), wanted(2))] == [AskForObject(key(2))]
    [pull] = desk.bench.puller.pulls.table.values()
    [wish] = pull.waiters
    desk.reading.done(wish, LOST)
    failure = msgspec.structs.replace(LOST, subject_id=object_id_of(key(2)))
    assert desk.take() == [Reply(ALICE, 8, ObjectsFetched(((1, failure),)))]


def test_what_the_store_has_lost_is_pulled_again():
    desk = Desk()
    entry = desk.bench.entry(1)
    desk.pin(wanted(1), wanted(1))
    delete, ask, removed = desk.answer(1, failure=LOST)
    assert delete == Delete((key(1),))
    assert ask.body == AskForObject(key(1))
    assert (removed.dst.process, removed.body) == (entry.owner, CopiesRemoved((key(1),), HERE))
    assert desk.answer(2, failure=LOST) == [], "both wait for the same pull"
    [pull] = desk.bench.puller.pulls.table.values()
    assert len(pull.waiters) == 2


def test_a_late_bad_word_does_not_hurt_the_next_copy():
    desk = Desk()
    desk.bench.entry(1)
    desk.pin(wanted(1))
    desk.bench.catalog.remove(key(1))
    desk.bench.entry(1)
    assert desk.answer(1, failure=LOST) == [Pin(2, key(1), b"alice")]
    assert key(1) in desk.bench.catalog


def test_it_is_not_pulled_for_ever():
    desk = Desk()
    desk.bench.entry(1)
    desk.pin(wanted(1))
    wish = desk.bench.tickets.get(1).wish
    for ticket in range(1, PIN_ATTEMPTS_MAX + 1):
        if ticket > 1:
            desk.reading.serve(wish, desk.bench.entry(1))
        effects = desk.answer(ticket, failure=LOST)
        for waiter in list(desk.bench.puller.pulls.table.values()):
            waiter.waiters.clear()
            desk.bench.puller._end(waiter)
    [answer] = [effect for effect in effects if isinstance(effect, Reply)]
    assert answer.body.found[0].kind == "ObjectLostError"


def test_pins_that_nobody_waits_for_any_more_go():
    desk = Desk()
    desk.bench.entry(1)
    desk.bench.entry(2)
    desk.pin(wanted(1), wanted(2), wanted(3))
    desk.answer(1, place(1))
    desk.reading.cancel(desk.client)
    assert desk.take() == [Release((place(1).number,), b"alice")]
    assert not desk.bench.puller.pulls.table, "nobody else wants the third"
    assert desk.answer(2, place(2)) == [Release((place(2).number,), b"alice")]
    desk.reading.cancel(desk.client)
    assert desk.take() == []


def test_a_request_that_is_withdrawn():
    desk = Desk()
    desk.bench.entry(1)
    desk.bench.entry(2)
    desk.pin(wanted(1), wanted(2), wanted(3), ticket=5)
    desk.pin(wanted(1), ticket=6)
    desk.answer(1, place(1))
    desk.reading.withdraw(desk.client, 5)
    assert desk.take() == [Release((place(1).number,), b"alice"), Fail(ALICE, 7, "GetTimeoutError", "withdrawn")]
    assert not desk.bench.puller.pulls.table, "nobody else wants the third"
    assert desk.bench.clients.wishes_count == 1
    assert desk.answer(2, place(2)) == [Release((place(2).number,), b"alice")]
    for ticket in (5, 0, 99):
        desk.reading.withdraw(desk.client, ticket)
    assert desk.take() == []
    assert desk.answer(3, place(1)) == [Reply(ALICE, 7, ObjectsPinned((place(1),)))]
    desk.reading.withdraw(desk.client, 6)
    assert desk.take() == [], "it has been answered"
    assert desk.client.pins == {place(1).number: 1}


def test_who_leaves_gets_an_answer_to_everything():
    desk = Desk()
    desk.pin(wanted(1))
    desk.fetch(wanted(2))
    desk.reading.leave(desk.client)
    assert desk.take() == [Fail(ALICE, number, "GetTimeoutError", "withdrawn") for number in (7, 8)]
    assert (desk.client.requests, desk.bench.clients.wishes_count) == ({}, 0)


def test_pins_are_released_as_often_as_there_are():
    desk = Desk()
    desk.bench.entry(1)
    desk.pin(wanted(1), wanted(1))
    number = place(1).number
    desk.answer(1, place(1))
    desk.answer(2, place(1))
    assert desk.reading.release(desk.client, (number, 99, number, number)) == (99, number)
    assert desk.take() == [Release((number, number), b"alice")]
    assert desk.reading.release(desk.client, ()) == ()
    assert desk.take() == []


def test_why_the_store_has_it_no_longer_is_told():
    desk = Desk()
    desk.bench.entry(1)
    desk.pin(wanted(1))
    wish = desk.bench.tickets.get(1).wish
    desk.answer(1, failure=Failure("ObjectLostError", "a.spill: no such file"))
    [pull] = desk.bench.puller.pulls.table.values()
    pull.waiters.clear()
    desk.bench.puller._end(pull)
    desk.reading.lost(wish, Failure("ObjectLostError", "nobody has it"))
    [answer] = [effect for effect in desk.take() if isinstance(effect, Reply)]
    [failure] = answer.body.found
    assert failure.text == "nobody has it (the store of node here had it, but: a.spill: no such file)"


def test_wishes_are_bounded():
    desk = Desk(wishes_max=2)
    desk.bench.entry(1)
    desk.pin(wanted(1))
    [refusal] = desk.pin(wanted(1), wanted(1))
    assert isinstance(refusal, Fail)
    assert refusal.kind == "Overloaded"
    assert desk.pin(wanted(1)) == [Pin(2, key(1), b"alice")]
