import pytest

from actorrt.store.base import Limits, ObjectStore
from actorrt.store.local import LocalStore
from actorrt.store.memory import MemoryStore


def test_impossible_limits_are_refused():
    for settings in ({"capacity_bytes": 0}, {"capacity_bytes": 1, "spill_threshold": 0}, {"capacity_bytes": -5}):
        with pytest.raises(ValueError, match="must be"):
            Limits(**settings)


def test_slabs_take_a_small_part_of_a_small_store():
    assert Limits(capacity_bytes=1 << 30).slab_bytes_max == 8 << 20
    assert Limits(capacity_bytes=1 << 20).slab_bytes_max == 1 << 16
    assert Limits(capacity_bytes=100_000).slab_bytes_max % 64 == 0


def test_both_stores_have_the_whole_contract():
    for kind in (LocalStore, MemoryStore):
        missing = [name for name in vars(ObjectStore) if name[0] != "_" and not hasattr(kind, name)]
        assert missing == []
