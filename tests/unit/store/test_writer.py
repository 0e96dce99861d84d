import threading

import pytest

from actorrt.store import layout
from actorrt.store.base import Slab
from actorrt.store.segment import Segment
from actorrt.store.writer import Writer

KIB = 1024


@pytest.fixture
def segment(tmp_path):
    made = Segment(str(tmp_path), "p", 0, 1 << 20)
    yield made
    made.close()


@pytest.fixture
def writer(tmp_path, segment):
    made = Writer(str(tmp_path), "p")
    yield made
    made.close()


def slab(number=1, offset=4096, length_bytes=4 * KIB, first=100):
    return Slab(number, 0, offset, length_bytes, first)


def put(writer, key, data):
    reservation = writer.carve(key, len(data))
    reservation.view[:] = data
    writer.seal(reservation)
    return reservation.location


def test_objects_are_carved_one_behind_the_other(segment, writer):
    assert writer.carve(b"a", 10) is None
    writer.add_slab(slab())
    first, second = put(writer, b"a", b"0123456789"), put(writer, b"b", b"x" * 65)
    assert (first.offset, second.offset, second.number) == (4096 + 64, 4096 + 128 + 64, 101)
    layout.check_sealed(segment.view, first.offset, 10, 100)
    layout.check_sealed(segment.view, second.offset, 65, 101)
    assert bytes(segment.view[first.offset : first.offset + 10]) == b"0123456789"
    reports, done = writer.take_batch()
    assert ([carved.key for carved in reports], done) == ([b"a", b"b"], [])
    assert writer.take_batch() == ([], [])


def test_a_full_slab_is_given_up_when_the_next_one_is_used(writer):
    writer.add_slab(slab())
    put(writer, b"a", bytes(3 * KIB))
    assert writer.carve(b"b", 2 * KIB) is None
    writer.add_slab(slab(2, 4096 + 4 * KIB, first=200))
    put(writer, b"small", bytes(100))
    assert writer.take_batch().done_slabs == [], "there is room in it still"
    assert put(writer, b"b", bytes(2 * KIB)).number == 200
    assert writer.take_batch().done_slabs == [1]


def test_a_slab_is_not_given_back_while_somebody_writes_into_it(writer):
    writer.add_slab(slab())
    reservation, other = writer.carve(b"a", 10), writer.carve(b"b", 10)
    writer.give_up_slabs()
    assert (writer.take_batch(), writer.carve(b"c", 10), writer.room_bytes) == (([], []), None, 0)
    writer.abort(other)
    writer.seal(reservation)
    reports, done = writer.take_batch()
    assert ([carved.key for carved in reports], done) == ([b"a"], [1])


def test_a_sealed_object_cannot_be_written(writer):
    writer.add_slab(slab())
    reservation = writer.carve(b"a", 10)
    writer.seal(reservation)
    with pytest.raises(ValueError, match="released"):
        reservation.view[0] = 1


def test_threads_never_share_memory(writer):
    writer.add_slab(slab(length_bytes=512 * KIB))
    locations = []

    def work():
        locations.extend(put(writer, b"k", bytes(100)) for _ in range(200))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({place.offset for place in locations}) == len({place.number for place in locations}) == 800
    assert len(writer.take_batch().reports) == 800


def test_a_granted_extent(segment, writer):
    writer.add_slab(slab())
    location = writer.carve(b"b", 3).location
    writer.buffer(location)[:] = b"xyz"
    assert bytes(segment.view[location.offset : location.offset + 3]) == b"xyz"
