"""The store of a simulated node keeps the promises of ``objects.operations``."""

import pytest

from actorrt.objects import messages
from actorrt.objects.messages import CarvedObject, PullEnded, StoreAnswered
from actorrt.objects.operations import (
    Abort,
    AddSource,
    Create,
    Delete,
    DropClient,
    Lease,
    Open,
    Pin,
    Pull,
    Release,
    Report,
    Seal,
    Unwatch,
    Watch,
)
from actorrt.sim.storage import SLAB_BYTES_MAX, SimStorage, StoragePace
from actorrt.sim.world import SimulationError, World

ALICE, MANAGER = b"alice", b"manager"


class Bench:
    """A node with a storage, whose manager only listens."""

    def __init__(self, name="node", world=None, storages=None, **pace):
        self.world = world or World(1)
        self.process = self.world.spawn(name)
        self.process.attach("objects", self, print)
        self.bodies = []
        self.storages = {} if storages is None else storages
        self.storage = SimStorage(self.process, self.storages, StoragePace(**pace))

    def handle(self, envelope, _now):
        self.bodies.append(envelope.body)
        return []

    def check(self):
        pass

    def perform(self, *operations):
        """Messages that came of these, without figures of usage."""
        self.bodies.clear()
        for operation in operations:
            self.storage.perform(operation)
        self.world.run_for(1)
        return [body for body in self.bodies if not isinstance(body, messages.UsageChanged)]

    def create(self, key, data=b"data", client=ALICE, *, secondary=False):
        [answer] = self.perform(Create(1, key, len(data), client, secondary))
        self.storage.write(answer.place.number, data)
        return answer.place.number

    def make(self, key, data=b"data", client=ALICE, *, secondary=False):
        number = self.create(key, data, client, secondary=secondary)
        self.perform(Seal(client, (number,)))
        return number

    def pin(self, key, client=ALICE):
        [answer] = self.perform(Pin(2, key, client))
        return answer


def test_the_life_of_an_object():
    bench = Bench()
    assert bench.perform(Open(9)) == [StoreAnswered(9)]
    number = bench.create(b"k")
    assert bench.pin(b"k").failure.kind == "ObjectLostError"
    bench.perform(Seal(ALICE, (number,)))
    assert bench.pin(b"k").place.number == number
    assert bench.storage.read(number, "alice") == b"data"
    with pytest.raises(SimulationError, match="has not pinned"):
        bench.storage.read(number, "bob")
    bench.perform(Delete((b"k",)))
    assert bench.storage.read(number, "alice") == b"data", "pinned: it stays"
    assert bench.pin(b"k").failure.kind == "ObjectLostError", "but nobody finds it any more"
    bench.perform(Release((number,), ALICE))
    assert bench.storage.objects == {}


def test_a_key_is_created_once():
    bench = Bench()
    number = bench.create(b"k")
    [answer] = bench.perform(Create(3, b"k", 4, ALICE))
    assert "exists" in answer.failure.text
    bench.perform(Abort(number))
    assert bench.storage.objects == {}
    bench.create(b"k")


def test_slabs():
    bench = Bench()
    [answer] = bench.perform(Lease(1, 10**9, ALICE))
    slab = answer.slab
    assert slab.length_bytes == SLAB_BYTES_MAX
    bench.storage.carve(slab.number, slab.first_object, b"data")
    item = CarvedObject(b"k", "owner", slab.number, 0, 0, 4, slab.first_object)
    bench.perform(Seal(ALICE, (), (item,), (slab.number,)))
    assert bench.pin(b"k").place.number == slab.first_object
    assert (bench.storage.slabs, bench.storage.carved) == ({}, {})
    with pytest.raises(SimulationError, match="which cannot be"):
        bench.perform(Seal(ALICE, (), (item,)))


def test_with_a_client_goes_what_it_had():
    bench = Bench()
    bench.make(b"sealed")
    number = bench.make(b"pinned", client=MANAGER)
    for client in (ALICE, ALICE, MANAGER):
        bench.pin(b"pinned", client)
    bench.create(b"open")
    [answer] = bench.perform(Lease(1, 100, ALICE))
    bench.storage.carve(answer.slab.number, answer.slab.first_object, b"data")
    assert bench.perform(Create(5, b"late", 4, ALICE), DropClient(ALICE)) == []
    assert list(bench.storage.current) == [b"sealed", b"pinned"]
    assert bench.storage.objects[number].pins == {MANAGER: 1}
    assert (bench.storage.slabs, bench.storage.carved) == ({}, {})


def test_with_a_slab_goes_what_was_never_reported():
    bench = Bench()
    [answer] = bench.perform(Lease(1, 100, ALICE))
    bench.storage.carve(answer.slab.number, answer.slab.first_object, b"data")
    bench.perform(Seal(ALICE, done_slabs=(answer.slab.number,)))
    assert (bench.storage.slabs, bench.storage.carved) == ({}, {})


def test_a_pull_tries_one_source_after_the_other():
    there = Bench("there")
    far = Bench("far", there.world, there.storages)
    here = Bench("here", there.world, there.storages)
    far.make(b"k")
    number = here.create(b"k", b"....", MANAGER, secondary=True)
    place = messages.Place(0, 0, 4, number)
    pull = Pull(7, b"k", place, (("there", "there"),))
    assert here.perform(pull, AddSource(7, ("far", "far"))) == [PullEnded(7, ("there",))]
    here.perform(Seal(MANAGER, (number,)))
    here.pin(b"k")
    assert here.storage.read(number, "alice") == b"data"
    far.world.end(far.process, "test", orderly=False)
    other = here.create(b"k2", b"....", MANAGER, secondary=True)
    place = messages.Place(0, 0, 4, other)
    [ended] = here.perform(Pull(8, b"k", place, (("far", "far"),)))
    assert (ended.failed, ended.failure.kind) == (("far",), "ObjectLostError")
    [ended] = here.perform(Abort(other), Pull(9, b"k", place, (("far", "far"),)))
    assert ended.failure.text == "it was given up"
    assert here.perform(AddSource(9, ("there", "there"))) == []


def test_copies_are_dropped_when_room_is_short():
    bench = Bench(capacity_bytes=10)
    bench.make(b"first")
    bench.make(b"copy", secondary=True)
    dropped, _granted = bench.perform(Create(1, b"next", 4, ALICE))
    assert dropped == messages.CopiesDropped((b"copy",))
    assert list(bench.storage.current) == [b"first", b"next"], "what is not a copy stays"


def test_the_manager_hears_of_deaths_and_of_usage():
    bench = Bench()
    client = bench.world.spawn("alice")
    assert bench.perform(Watch("alice", client.pid)) == []
    bench.world.end(client, "test", orderly=True)
    assert bench.perform() == [messages.ClientDied("alice")]
    assert bench.perform(Watch("alice", client.pid)) == [messages.ClientDied("alice")], "at once, if it has ended"
    bench.create(b"k")
    assert messages.UsageChanged(4) in bench.bodies
    other = bench.world.spawn("bob")
    bench.perform(Watch("bob", other.pid), Unwatch("bob"), Unwatch("bob"))
    bench.world.end(other, "test", orderly=True)
    assert bench.perform() == []


def test_a_report():
    bench = Bench()
    bench.make(b"1")
    bench.make(b"2")
    [report] = bench.perform(Report(5, 1))
    assert (len(report.objects), report.omitted, report.figures["objects"]) == (1, 1, 2)


def test_unknown_operations_are_bugs():
    with pytest.raises(TypeError, match="unknown operation"):
        Bench().perform("dance")
