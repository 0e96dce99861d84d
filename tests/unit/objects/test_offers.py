"""Answers to other nodes."""

import pytest

from actorrt.kernel.effects import Send
from actorrt.kernel.limits import SEAL_REPORT_WAIT_S
from actorrt.objects.catalog import Catalog, Entry
from actorrt.objects.messages import ObjectMissing, ObjectOffered
from actorrt.objects.offers import Offers
from tests.unit.objects.harness import FAR, THERE, key, manager

OFFER = ObjectOffered(key(1), "bulk", 100)


class Desk:
    def __init__(self, **options):
        self.effects = []
        self.catalog = Catalog()
        self.offers = Offers(self.effects, self.catalog, "bulk", **options)

    def ask(self, number, process=THERE, now=10.0):
        self.effects.clear()
        self.offers.asked(manager(process), key(number), now)
        self.offers.check()
        return self.effects[:]

    def add(self, number):
        self.catalog.add(Entry(key(number), 100, "p", "w", 0.0, is_copy=False))

    def expire(self, now):
        self.effects.clear()
        self.offers.expire(now)
        self.offers.check()
        return self.effects[:]


def test_what_is_here_is_offered():
    desk = Desk()
    desk.add(1)
    assert desk.ask(1) == [Send(manager(THERE), OFFER)]


def test_what_is_gone_is_missing():
    desk = Desk()
    desk.catalog.remember_gone(key(1))
    assert desk.ask(1) == [Send(manager(THERE), ObjectMissing(key(1)))]


def test_what_is_not_known_yet_may_still_come():
    desk = Desk()
    assert desk.ask(1) == desk.ask(1) == desk.ask(1, FAR) == []
    assert len(desk.offers) == 2
    desk.add(1)
    with pytest.raises(AssertionError, match="was not offered"):
        desk.offers.check()
    desk.offers.settle(key(1))
    assert desk.effects == [Send(manager(THERE), OFFER), Send(manager(FAR), OFFER)]
    assert len(desk.offers) == 0
    desk.offers.check()


def test_what_is_freed_does_not_come():
    desk = Desk()
    desk.ask(1)
    desk.offers.settle(key(1))
    assert desk.effects == [Send(manager(THERE), ObjectMissing(key(1)))]


def test_nobody_waits_long():
    desk = Desk()
    desk.ask(1)
    desk.ask(2, FAR, now=10.5)
    assert desk.offers.due_s == 10.0 + SEAL_REPORT_WAIT_S
    assert desk.expire(10.5) == []
    assert desk.expire(11.0) == [Send(manager(THERE), ObjectMissing(key(1)))]
    assert desk.expire(11.5) == [Send(manager(FAR), ObjectMissing(key(2)))]
    assert desk.offers.due_s == float("inf")


def test_few_may_wait():
    desk = Desk(parked_max=1)
    assert desk.ask(1) == []
    assert desk.ask(2) == [Send(manager(THERE), ObjectMissing(key(2)))]


def test_who_is_gone_waits_no_longer():
    desk = Desk()
    desk.ask(1)
    desk.ask(1, FAR)
    desk.offers.peer_gone(THERE)
    desk.offers.check()
    assert desk.expire(20.0) == [Send(manager(FAR), ObjectMissing(key(1)))]
