import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.store.allocator import Allocator, Extent


def new(*sizes, start=4096):
    allocator = Allocator()
    for region, size in enumerate(sizes):
        allocator.add_region(region, start, start + size)
        allocator.grow(region, size)
    return allocator


steps = st.lists(st.tuples(st.booleans(), st.integers(1, 5000), st.integers(0, 1 << 30)), max_size=120)


@given(steps)
def test_no_overlap_no_leak_and_always_merged(plan):
    allocator = new(64 * 200, 64 * 100)
    used = []
    for take, size, which in plan:
        if take or not used:
            before = allocator.largest_free_bytes
            extent = allocator.allocate(size)
            assert (extent is not None) == (before >= -(-size // 64) * 64), "fails only if nothing is long enough"
            if extent is not None:
                assert extent.length_bytes == -(-size // 64) * 64
                assert extent.offset % 64 == 0
                used.append(extent)
        else:
            allocator.free(used.pop(which % len(used)))
        allocator.check()
        assert len(allocator.free_extents) <= len(used) + 2
    for extent in used:
        allocator.free(extent)
    assert sorted(allocator.free_extents) == [Extent(0, 4096, 64 * 200), Extent(1, 4096, 64 * 100)]
    allocator.check()


@given(st.integers(0, 1 << 32))
def test_half_full_of_small_objects_never_refuses(seed):
    """Bounded fragmentation: with half of the room in use, an object of 1/50 of it always fits."""
    rng = random.Random(seed)
    room = 64 * 5000
    allocator = new(room)
    used, live = [], 0
    for _ in range(600):
        size = 64 * rng.choice([1, 1, 2, 3, 7, 20, 50, 100])
        while used and live + size > room // 2:
            gone = used.pop(rng.randrange(len(used)))
            live -= gone.length_bytes
            allocator.free(gone)
        extent = allocator.allocate(size)
        assert extent is not None
        used.append(extent)
        live += size


def test_what_was_freed_last_is_used_first():
    allocator = new(64 * 1000)
    extents = [allocator.allocate(640) for _ in range(10)]
    for index in (2, 6, 4):
        allocator.free(extents[index])
    assert [allocator.allocate(640) for _ in range(3)] == [extents[4], extents[6], extents[2]]


def test_untouched_memory_is_used_last_and_from_its_low_end():
    allocator = new(64 * 1000)
    first, second = allocator.allocate(6400), allocator.allocate(640)
    assert (first.offset, second.offset) == (4096, 4096 + 6400)
    allocator.free(first)
    assert allocator.allocate(64).offset == 4096


def test_cut_pieces_are_freed_by_themselves():
    allocator = new(64 * 10)
    whole = allocator.allocate(640)
    before, middle, behind = allocator.cut(whole, whole.offset + 128, 64)
    assert (before.length_bytes, middle.length_bytes, behind.length_bytes) == (128, 64, 448)
    allocator.check()
    allocator.free(before)
    allocator.free(behind)
    assert allocator.used_bytes == 64
    allocator.free(middle)
    assert allocator.largest_free_bytes == 640
    allocator.check()


def test_cut_at_an_edge_gives_no_empty_piece():
    allocator = new(64 * 10)
    assert allocator.cut(allocator.allocate(640), 4096, 640) == (None, Extent(0, 4096, 640), None)


def test_a_wrong_free_is_noticed():
    allocator = new(640)
    extent = allocator.allocate(128)
    for wrong in (Extent(0, extent.offset, 64), Extent(0, extent.offset + 64, 64), Extent(1, extent.offset, 128)):
        with pytest.raises(AssertionError, match="not in use"):
            allocator.free(wrong)
    allocator.free(extent)
    with pytest.raises(AssertionError, match="not in use"):
        allocator.free(extent)


def test_growth():
    allocator = Allocator()
    allocator.add_region(0, 4096, 4096 + 640)
    assert allocator.allocate(64) is None
    assert (allocator.growth_to_fit(640), allocator.growth_to_fit(641)) == (0, None)
    allocator.grow(0, 320)
    assert allocator.allocate(64) == Extent(0, 4096, 64)
    assert (allocator.growth_to_fit(576), allocator.growth_to_fit(640)) == (0, None)
    assert allocator.growth_to_fit(256) is None, "it fits already"


def test_what_was_refused_may_be_had_later():
    allocator = Allocator()
    allocator.add_region(0, 4096, 4096 + 640)
    allocator.grow(0, 320)
    allocator.refuse(0)
    assert (allocator.growth_to_fit(576), allocator.growable_bytes(0), allocator.refused_bytes) == (None, 0, 320)
    assert (allocator.capacity_bytes, allocator.largest_possible_bytes) == (320, 640)
    allocator.forgive()
    assert (allocator.growth_to_fit(576), allocator.growable_bytes(0), allocator.refused_bytes) == (0, 320, 0)
    assert allocator.capacity_bytes == 640
    allocator.grow(0, 320)
    assert allocator.allocate(640) == Extent(0, 4096, 640)


def test_regions_never_merge():
    allocator = new(640, 640, start=0)
    assert allocator.allocate(641) is None
    extents = [allocator.allocate(640), allocator.allocate(640)]
    for extent in extents:
        allocator.free(extent)
    assert len(allocator.free_extents) == 2


def test_the_check_can_fail():
    allocator = new(640)
    allocator.allocate(64)
    allocator._used.clear()
    with pytest.raises(AssertionError):
        allocator.check()
