from types import SimpleNamespace

from actorrt.store import eviction


def test_victims_in_order_until_enough():
    clean = [SimpleNamespace(size_bytes=size) for size in (10, 20, 30)]
    assert [item.size_bytes for item in eviction.victims(clean, 129)] == [10, 20]
    assert [item.size_bytes for item in eviction.victims(clean, 1000)] == [10, 20, 30]
    assert list(eviction.victims(clean, 0)) == []


def test_excess_counts_what_is_neither_droppable_nor_on_its_way():
    figures = {"capacity_bytes": 1000, "threshold": 0.8}
    assert eviction.excess_bytes(used_bytes=900, clean_bytes=0, spilling_bytes=0, **figures) == 100
    assert eviction.excess_bytes(used_bytes=900, clean_bytes=60, spilling_bytes=30, **figures) == 10
    assert eviction.excess_bytes(used_bytes=900, clean_bytes=200, spilling_bytes=0, **figures) == 0
