"""A process, the object manager of its node and its store."""

import pytest

from actorrt.kernel.effects import Send
from actorrt.kernel.message import Address, RequestFailed
from actorrt.objects.clients import StoreFacts
from actorrt.objects.messages import ObjectLocated, PinsReleased
from actorrt.objects.state import ObjectManagerMachine
from actorrt.owner.messages import LocateObject
from actorrt.sim.shelf import ATTEMPTS_MAX, CARVE_BYTES_MAX, INLINE_BYTES_MAX, Shelf
from actorrt.sim.storage import SLAB_BYTES_MAX, SimStorage, StoragePace
from actorrt.sim.world import SimulationError, Watcher, World
from actorrt.wire.records import Failure, RefInfo, Stored, Value

OBJECT = b"o" * 20
REFS = (RefInfo(b"r" * 20, "me"),)


class Owner:
    """Knows nobody who has anything."""

    def handle(self, envelope, _now):
        body = envelope.body
        return [Send(envelope.src, ObjectLocated(body.key, ()))] if isinstance(body, LocateObject) else []

    def check(self):
        pass


class Silent:
    """Answers nothing."""

    def handle(self, _envelope, _now):
        return []

    def check(self):
        pass


class Pair:
    """A node and one process beside it."""

    def __init__(self):
        self.world = World(1)
        self.node = self.world.spawn("node")
        self.manager = Address("node", "objects")
        self.machine = ObjectManagerMachine(self.manager, Address("node", "raylet"), StoreFacts("", "", 1, 1), "node")
        self.storage = SimStorage(self.node, {}, StoragePace())
        self.cell = self.node.attach("objects", self.machine, self.storage.perform)
        self.me = self.world.spawn("me")
        self.me.attach("owner", Owner(), print)
        self.shelf = Shelf(self.me, self.manager, self.storage)

    def hung(self):
        """Something on a node that does not answer."""
        self.world.spawn("far").attach("objects", Silent(), print)
        return Stored(b"k" * 28, 300, "me", ("far",))

    def keep(self, size_bytes, refs=()):
        found = []
        self.shelf.keep(Value(b"v" * size_bytes, (), refs), OBJECT, "me", found.append)
        self.world.run(lambda: found, 60)
        return found[0]

    def load(self, *stored):
        found = []
        self.shelf.load(stored, found.append)
        self.world.run(lambda: found, 60)
        return found[0]


@pytest.fixture
def pair():
    return Pair()


def test_small_values_stay_as_they_are(pair):
    assert pair.keep(INLINE_BYTES_MAX) == Value(b"v" * INLINE_BYTES_MAX)
    assert not pair.storage.is_open
    assert Shelf(pair.me, pair.manager, None).takes(Value(b"v" * 10_000)) is False


def test_what_lies_in_stores_is_loaded_among_the_rest(pair):
    small, stored, failure = Value(b"v"), pair.keep(300), Failure("TaskError", "no")
    found = []
    pair.shelf.load_among((small, failure), found.append)
    assert found == [(small, failure)], "at once"
    pair.shelf.load_among((small, stored, failure), found.append, for_arguments=True)
    pair.world.run_for(1)
    assert found[1] == [small, Value(b"v" * 300), failure]


@pytest.mark.parametrize("size_bytes", [INLINE_BYTES_MAX + 1, CARVE_BYTES_MAX + 1])
def test_large_ones_go_to_the_store_and_come_back(pair, size_bytes):
    stored = pair.keep(size_bytes, REFS)
    assert stored == Stored(stored.key, size_bytes, "me", ("node",), REFS)
    assert stored.key.startswith(OBJECT)
    assert pair.load(stored, stored) == [Value(b"v" * size_bytes, (), REFS)] * 2
    pair.world.run_for(1)
    assert [item.pins for item in pair.storage.objects.values()] == [{}]
    assert (pair.shelf.kept_count, pair.shelf.loaded_count) == (1, 2)
    pair.machine.check()


def test_slabs_are_used_up_and_given_back(pair):
    for _ in range(4 * SLAB_BYTES_MAX // CARVE_BYTES_MAX):
        pair.keep(CARVE_BYTES_MAX)
    pair.world.run_for(1)
    assert len(pair.storage.slabs) == 1
    assert len(pair.storage.current) == 4 * SLAB_BYTES_MAX // CARVE_BYTES_MAX


def test_what_is_not_there_fails(pair):
    [found] = pair.load(Stored(b"k" * 28, 300, "me", ("node",)))
    assert found.kind == "ObjectLostError"


def test_a_broken_connection_is_made_again(pair):
    stored = pair.keep(300)
    pair.world.run_for(0.1)
    found = []
    pair.shelf.load([stored], found.append)
    pair.world.disconnect("me", "node", "test")
    pair.world.run(lambda: found, 60)
    assert found[0] == [Value(b"v" * 300)]


def test_what_is_withdrawn_ends_at_once(pair):
    pair.keep(300)
    found = []
    load = pair.shelf.load([pair.hung()], found.append)
    pair.world.run_for(0.01)
    assert pair.machine.clients.wishes_count == 1
    load.withdraw()
    load.withdraw()
    pair.world.run_for(0.01)
    assert found == [[Failure("GetTimeoutError", "withdrawn")]]
    assert pair.machine.clients.wishes_count == 0
    load.withdraw()
    assert load.over


def test_what_is_withdrawn_is_not_asked_for_again(pair):
    pair.keep(300)
    found = []
    load = pair.shelf.load([pair.hung()], found.append)
    pair.world.run_for(0.01)
    load.withdraw()
    pair.world.disconnect("me", "node", "test")
    pair.world.run_for(1)
    assert found == [[Failure("GetTimeoutError", "withdrawn")]]
    assert pair.machine.clients.wishes_count == 0


def test_who_closes_leaves_only_its_views(pair):
    Shelf(pair.world.spawn("idle"), pair.manager, pair.storage).close()
    pair.keep(300)
    stored = pair.keep(300 + CARVE_BYTES_MAX)
    pair.load(stored, stored)
    pair.shelf.close()
    pair.world.run(lambda: not len(pair.machine.clients), 1)
    assert pair.machine.statistics().leftover_pins == 2
    assert (pair.storage.slabs, pair.storage.carved, list(pair.storage.current)) == ({}, {}, [])
    pair.world.run_for(1)
    assert pair.machine.statistics().leftover_pins == 0
    pair.machine.check()


def test_a_node_that_is_gone(pair):
    stored = pair.keep(300)
    pair.world.end(pair.node, "test", orderly=False)
    assert [failure.kind for failure in pair.load(stored)] == ["LocalRayletDiedError"]
    assert pair.keep(300 + CARVE_BYTES_MAX).kind == "LocalRayletDiedError"
    assert ATTEMPTS_MAX > 1


def test_refusals_are_passed_on(pair):
    pair.machine.handle = lambda envelope, _now: []
    found = []
    pair.shelf.keep(Value(b"v" * 300), OBJECT, "me", found.append)
    pair.world.run_for(0.1)
    [(_, _, answered)] = pair.me.requests.values()
    answered(RequestFailed("ObjectStoreFullError", "no room"))
    assert found == [Failure("ObjectStoreFullError", "no room")]


def test_what_is_looked_at_does_not_change(pair):
    stored = pair.keep(300)
    pair.load(stored)
    for item in pair.storage.objects.values():
        item.data = b"w" * 300
    with pytest.raises(SimulationError, match="has changed under the eyes of me"):
        pair.world.run_for(1)


def test_pins_are_released_one_for_each(pair):
    class Count(Watcher):
        numbers = ()

        def arrived(self, src, dst, body, now):
            if isinstance(body, PinsReleased):
                self.numbers += body.numbers

    count = Count()
    pair.world.observers.append(count)
    stored = pair.keep(300)
    pair.load(stored, stored)
    pair.world.run_for(1)
    assert len(count.numbers) == 2
