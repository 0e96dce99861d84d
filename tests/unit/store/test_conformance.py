"""The suite itself: it must catch stores that break a promise."""

import pytest

from actorrt.store.conformance import ConformanceError, Subject, check_store, expect, pattern
from actorrt.store.errors import StoreError
from actorrt.store.memory import MemoryStore


def run(kind):
    def make_store(capacity_bytes):
        dropped = []
        return Subject(store=kind(capacity_bytes, dropped=dropped.append), dropped=dropped)

    check_store(make_store)


def test_a_good_store_passes():
    run(MemoryStore)


class Forgetful(MemoryStore):
    def get(self, key, client):
        return memoryview(bytes(super().get(key, client).nbytes))


class Writable(MemoryStore):
    def get(self, key, client):
        return memoryview(bytearray(super().get(key, client)))


class Unpinned(MemoryStore):
    def get(self, key, client):
        return memoryview(bytes(super().get(key, client)))


class Silent(MemoryStore):
    def __init__(self, capacity_bytes, *, dropped):
        super().__init__(capacity_bytes)


class Leaky(MemoryStore):
    def abort(self, number):
        self.seal(number)


class Immortal(MemoryStore):
    def drop_client(self, client):
        pass


class Greedy(MemoryStore):
    def create(self, key, size_bytes, client, *, secondary=False):
        self._capacity_bytes = 1 << 40
        return super().create(key, size_bytes, client, secondary=secondary)


@pytest.mark.parametrize("kind", [Forgetful, Writable, Unpinned, Silent, Leaky, Immortal, Greedy])
def test_a_broken_store_is_caught(kind):
    with pytest.raises((ConformanceError, AssertionError, StoreError)):
        run(kind)


def test_patterns_differ_from_each_other_and_from_their_shifts():
    assert len(pattern(3, 10_001)) == 10_001
    assert pattern(1, 100) != pattern(2, 100)
    assert pattern(1, 100)[8:] != pattern(1, 92)
    with pytest.raises(ConformanceError, match="no"):
        expect(0, "no")
