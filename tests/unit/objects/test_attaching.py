"""The first process has the store made."""

import pytest

from actorrt.kernel.effects import Do, Fail, Reply
from actorrt.kernel.message import Address, Envelope
from actorrt.objects import attaching
from actorrt.objects.attaching import Attaching
from actorrt.objects.messages import Attach, Attached, StoreAnswered
from actorrt.objects.operations import Open, Watch
from tests.unit.objects.harness import ALICE, BOB, FACTS, FULL, Bench

ATTACHED = Attached("shm", "prefix", 4096, 1 << 20, "bulk")


class Door:
    def __init__(self):
        self.bench = Bench()
        self.attaching = Attaching(
            self.bench.effects, self.bench.clients, self.bench.leftovers, self.bench.tickets, FACTS, "bulk"
        )

    def attach(self, client, request_id=1, pid=5):
        return self.step(lambda: self.attaching.attach(Envelope(client, Attach(pid), request_id), Attach(pid)))

    def opened(self, ticket, failure=None):
        self.bench.tickets.answered(ticket)
        return self.step(lambda: self.attaching.opened(StoreAnswered(ticket, failure=failure)))

    def step(self, act):
        self.bench.effects.clear()
        act()
        self.attaching.check()
        return self.bench.effects[:]


def test_the_first_one_waits_until_it_is_made():
    door = Door()
    [opening] = door.attach(ALICE)
    assert opening == Do(Open(1))
    assert door.attach(BOB, 2, 6) == []
    assert door.opened(1) == [
        Do(Watch("alice", 5)),
        Reply(ALICE, 1, ATTACHED),
        Do(Watch("bob", 6)),
        Reply(BOB, 2, ATTACHED),
    ]
    assert door.attach(ALICE, 3) == [Reply(ALICE, 3, ATTACHED)], "again: no second watch"


def test_if_it_cannot_be_made_the_next_one_tries_again():
    door = Door()
    door.attach(ALICE)
    assert door.opened(1, FULL) == [Fail(ALICE, 1, FULL.kind, FULL.text)]
    assert len(door.bench.clients) == 0
    assert door.attach(ALICE, 2) == [Do(Open(2))]
    assert door.opened(2)[-1] == Reply(ALICE, 2, ATTACHED)


def test_who_is_gone_is_not_answered():
    door = Door()
    door.attach(ALICE)
    door.attach(BOB)
    assert door.attaching.peer_gone("alice") == [(ALICE, 1)]
    assert [type(effect) for effect in door.opened(1)] == [Do, Reply]
    assert list(door.bench.clients.table) == ["bob"]


def test_clients_are_bounded(monkeypatch):
    monkeypatch.setattr(attaching, "STORE_CLIENTS_MAX", 1)
    door = Door()
    door.attach(ALICE)
    [refusal] = door.attach(BOB)
    assert (refusal.dst, refusal.kind) == (BOB, "Overloaded")
    door.opened(1)
    assert door.attach(ALICE, 2) == [Reply(ALICE, 2, ATTACHED)], "it is one already"


def test_who_left_pins_behind_counts(monkeypatch):
    monkeypatch.setattr(attaching, "STORE_CLIENTS_MAX", 1)
    door = Door()
    door.bench.leftovers.keep("bob", 5, {1: 1})
    [refusal] = door.attach(ALICE)
    assert refusal.kind == "Overloaded"


def test_who_is_on_another_machine_is_not_watched():
    door = Door()
    far, near = Address("tcp://10.0.0.5:7", "owner"), Address("ipc:///a,tcp://10.0.0.5:7", "owner")
    door.attach(far)
    door.attach(near, 2)
    assert [effect for effect in door.opened(1) if type(effect) is Do] == [Do(Watch(near.process, 5))]


def test_check_sees_who_waits_in_vain():
    door = Door()
    door.attach(ALICE)
    door.attaching.is_open = True
    with pytest.raises(AssertionError):
        door.attaching.check()
