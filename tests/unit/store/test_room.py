from actorrt.store.base import Limits
from actorrt.store.effects import Dropped, Freed, Reserve, Write
from actorrt.store.layout import extent_bytes
from actorrt.store.room import Room, location_of
from actorrt.store.spill import SpillFiles
from actorrt.store.table import Event, Record, Table

SIZE = extent_bytes(1000)


def new(objects=4, spill=True):
    table = Table()
    limits = Limits(capacity_bytes=4 * SIZE, fuse_bytes=1, reserve_step_bytes=2 * SIZE, reserve_ahead_bytes=0)
    room = Room(limits, table, SpillFiles([("d", None)] if spill else [], "p"))
    room.allocator.add_region(0, 4096, 4096 + objects * SIZE)
    return room, table


def effects(room):
    taken, room.effects = room.effects, []
    return taken


def fill(room, table, number, **more):
    extent = room.take(SIZE)
    record = Record(number, b"%d" % number, 1000, b"w", extent, **more)
    table.add(record)
    table.fire(record, Event.SEAL)
    return record


def test_first_reserve_then_drop_then_write():
    room, table = new()
    assert room.take(SIZE) is None
    [job] = effects(room)
    assert (job, room.helping) == (Reserve(0, 4096, 2 * SIZE), True)
    assert room.take(SIZE) is None
    assert effects(room) == [], "one step at a time"
    room.reserved(job, ok=True)
    fill(room, table, 1, secondary=True)
    fill(room, table, 2)
    assert room.take(SIZE) is None
    [job] = effects(room)
    room.reserved(job, ok=True)
    fill(room, table, 3)
    fill(room, table, 4)
    assert room.take(SIZE) is not None
    assert [type(effect) for effect in effects(room)] == [Freed, Dropped]
    assert room.take(SIZE) is None
    [write] = effects(room)
    assert isinstance(write, Write)
    assert [place.number for place in write.locations] == [2]
    room.written(write, {2: 5})
    assert room.take(SIZE) is not None
    assert room.spilled_bytes_total == 1024


def test_nothing_is_dropped_for_what_cannot_be_helped():
    room, table = new(2)
    room.take(SIZE)
    room.reserved(effects(room)[0], ok=True)
    fill(room, table, 1, secondary=True)
    record = fill(room, table, 2)
    table.pin(record, b"c")
    assert room.take(2 * SIZE) is None
    assert (effects(room), room.helping, table.clean_bytes) == ([], False, SIZE)


def test_a_failed_write_leaves_the_object_as_it_was():
    room, table = new(1)
    room.take(SIZE)
    room.reserved(effects(room)[0], ok=True)
    record = fill(room, table, 1)
    place = location_of(record)
    room.take(SIZE)
    [write] = effects(room)
    room.write_failed(write)
    assert (location_of(record), record.copy, room.helping) == (place, None, False)
    assert room.take(SIZE) is None
    assert effects(room) == [], "the directory is left alone"


def test_refused_memory_is_asked_for_again_now_and_then():
    room, _ = new()
    assert room.forgive_memory(0.0) is False, "nothing was refused"
    for now_s in (10.0, 11.0):
        room.take(SIZE)
        room.reserved(effects(room)[0], ok=False)
        assert room.take(SIZE) is None
        assert effects(room) == []
        assert room.forgive_memory(now_s) is True
        assert room.forgive_memory(now_s) is False
    room.take(SIZE)
    room.reserved(effects(room)[0], ok=False)
    assert room.forgive_memory(11.9) is False, "not too often"
    assert room.forgive_memory(12.0) is True
    room.take(SIZE)
    room.reserved(effects(room)[0], ok=True)
    assert room.take(SIZE) is not None


def test_a_doomed_object_ends_when_its_last_user_does():
    room, table = new(1)
    room.take(SIZE)
    room.reserved(effects(room)[0], ok=True)
    record = fill(room, table, 1)
    table.pin(record, b"c")
    table.doom(record)
    room.settle(record)
    assert effects(room) == []
    table.unpin(record, b"c")
    room.settle(record)
    assert [type(effect) for effect in effects(room)] == [Freed]
    assert room.allocator.used_bytes == 0
