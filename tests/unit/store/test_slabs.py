import pytest

from actorrt.store.allocator import Allocator, Extent
from actorrt.store.base import Carved, Location
from actorrt.store.errors import StoreError
from actorrt.store.slabs import Slabs


@pytest.fixture
def allocator():
    made = Allocator()
    made.add_region(0, 4096, 4096 + 64 * 100)
    made.grow(0, 64 * 100)
    return made


@pytest.fixture
def slabs(allocator):
    made = Slabs(allocator)
    made.lease(1, allocator.allocate(64 * 20), b"client", 500)
    return made


def carved(offset, size_bytes, number, slab=1, segment=0):
    return Carved(b"key", slab, Location(segment, offset + 64, size_bytes, number))


def test_objects_live_on_when_the_slab_is_given_back(allocator, slabs):
    first = slabs.carve(carved(4096, 100, 500), b"client")
    second = slabs.carve(carved(4096 + 512, 1, 502), b"client")
    assert (first, second) == (Extent(0, 4096, 192), Extent(0, 4096 + 512, 128))
    assert slabs.leased_bytes == 64 * 20 - 192 - 128
    allocator.free(first)
    slabs.give_back(1, b"client")
    assert (slabs.leased_bytes, allocator.used_bytes, len(slabs)) == (0, 128, 0)
    allocator.free(second)
    allocator.check()
    assert len(allocator.free_extents) == 1


def test_a_dead_clients_slabs_are_freed(allocator, slabs):
    slabs.lease(2, allocator.allocate(640), b"client", 600)
    slabs.lease(3, allocator.allocate(640), b"other", 700)
    slabs.carve(carved(4096, 100, 500), b"client")
    slabs.drop_client(b"client")
    slabs.drop_client(b"client")
    assert (len(slabs), slabs.leased_bytes, allocator.used_bytes) == (1, 640, 640 + 192)


@pytest.mark.parametrize(
    "report",
    [
        carved(4096, 100, 500, slab=2),
        carved(4096, 100, 499),
        carved(4096, 100, 520),
        carved(4096, 100, 500, segment=1),
        carved(4096 - 64, 100, 500),
        carved(4096 + 64 * 19, 100, 500),
        carved(4096 + 32, 1, 500),
    ],
)
def test_reports_that_cannot_be_true_are_refused(allocator, slabs, report):
    with pytest.raises(StoreError):
        slabs.carve(report, b"client")
    allocator.check()
    assert slabs.leased_bytes == 64 * 20


def test_nobody_else_can_report_or_give_back(slabs):
    with pytest.raises(StoreError):
        slabs.carve(carved(4096, 100, 500), b"other")
    with pytest.raises(StoreError):
        slabs.give_back(1, b"other")
    slabs.carve(carved(4096, 100, 500), b"client")
    with pytest.raises(StoreError, match="carved already"):
        slabs.carve(carved(4096, 100, 501), b"client")
