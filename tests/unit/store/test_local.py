import shutil
import threading
from pathlib import Path

import pytest

from actorrt.store import errors, segment
from actorrt.store.base import Limits, Location, SpilledAt
from actorrt.store.conformance import CLIENT, KIB, MIB, pattern, put
from actorrt.store.disk import MemoryDisk
from actorrt.store.filedisk import FileDisk
from actorrt.store.local import LocalStore, SpillDirectory
from actorrt.store.writer import Writer


@pytest.fixture
def new(tmp_path):
    stores = []

    def make(capacity_bytes=MIB, disks=(), **more):
        settings = {"fuse_bytes": 1, "reserve_step_bytes": MIB, "reserve_ahead_bytes": 0, "full_grace_s": 0.0}
        limits = Limits(capacity_bytes=capacity_bytes, **(settings | more.pop("limits", {})))
        spill = [SpillDirectory(disk) for disk in disks]
        stores.append(LocalStore(str(tmp_path), f"p{len(stores)}", limits, spill=spill, **more))
        return stores[-1]

    yield make
    for store in stores:
        store.close()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_without_waiting(new):
    store = new()
    answers, answered = [], threading.Event()

    def done(result):
        answers.append(result)
        answered.set()

    store.submit_create(b"key", 10, CLIENT, done)
    assert answered.wait(10)
    [location] = answers
    store.buffer(location)[:] = b"0123456789"
    store.seal(location.number)
    store.submit_pin(b"key", CLIENT, answers.append)
    store.submit_pin(b"other", CLIENT, answers.append)
    assert answers[1] == location, "an object in memory is answered before submit returns"
    assert isinstance(answers[2], errors.ObjectNotFound)
    store.release(location.number, CLIENT)


def test_a_create_waits_for_the_room_that_comes(new):
    store = new(limits={"full_grace_s": 60.0})
    put(store, b"old", bytes(900 * KIB))
    view = store.get(b"old", CLIENT)
    store.delete(b"old")
    answers, answered = [], threading.Event()
    store.submit_create(b"new", 900 * KIB, CLIENT, lambda result: (answers.append(result), answered.set()))
    assert store.statistics().waiting == 1
    del view
    store.expire()  # any call notices what the collector noted
    assert answered.wait(10)
    assert isinstance(answers[0], Location)


def test_the_grace_is_by_the_given_clock(new):
    now_s = [0.0]
    store = new(clock=lambda: now_s[0], limits={"full_grace_s": 5.0})
    put(store, b"old", bytes(900 * KIB))
    answers = []
    store.submit_create(b"new", 900 * KIB, CLIENT, answers.append)
    store.expire()
    assert answers == []
    now_s[0] = 5.0
    store.expire()
    assert isinstance(answers[0], errors.ObjectStoreFull)


def test_slabs_through_the_writer(new, tmp_path):
    store = new(4 * MIB)
    writer = Writer(str(tmp_path), "p0")
    writer.add_slab(store.lease_slab(100 * KIB, b"w"))
    for number in range(20):
        reservation = writer.carve(b"%d" % number, 1000)
        reservation.view[:] = pattern(number, 1000)
        writer.seal(reservation)
    assert not store.contains(b"3"), "not reported yet"
    writer.give_up_slabs()
    reports, done = writer.take_batch()
    assert store.adopt(reports, b"w") == []
    for number in done:
        store.give_back_slab(number, b"w")
    assert store.statistics().leased_bytes == 0
    for number in range(20):
        assert store.get(b"%d" % number, CLIENT) == pattern(number, 1000)
        store.delete(b"%d" % number)
    assert store.statistics().used_bytes == 0
    store.check()


def test_a_writer_that_dies_loses_what_it_did_not_report(new, tmp_path):
    store = new(4 * MIB)
    writer = Writer(str(tmp_path), "p0")
    writer.add_slab(store.lease_slab(100 * KIB, b"w"))
    for key in (b"reported", b"not"):
        reservation = writer.carve(key, 1000)
        reservation.view[:] = pattern(1, 1000)
        writer.seal(reservation)
        if key == b"reported":
            store.adopt(writer.take_batch().reports, b"w")
    store.drop_client(b"w")
    figures = store.statistics()
    assert (figures.objects, figures.leased_bytes) == (1, 0)
    assert store.get(b"reported", CLIENT) == pattern(1, 1000)


def test_a_damaged_spill_file_is_an_error_not_wrong_data(new):
    disk = MemoryDisk()
    store = new(disks=[disk])
    for number in range(4):
        put(store, b"%d" % number, pattern(number, 300 * KIB))
    name = min(disk.files)
    disk.files[name] = b"x" + disk.files[name][1:]
    with pytest.raises(errors.ObjectDamaged, match="checksum"):
        store.get(b"0", CLIENT)
    assert isinstance(store.disk_error, errors.ObjectDamaged)
    del disk.files[name]
    with pytest.raises(errors.ObjectDamaged, match="gone"):
        store.get(b"0", CLIENT)
    store.delete(b"0")
    put(store, b"0", pattern(9, 300 * KIB))
    assert store.get(b"0", CLIENT) == pattern(9, 300 * KIB)


def test_a_full_disk_is_told_from_a_full_store(new):
    store = new(disks=[MemoryDisk(capacity_bytes=400 * KIB)])
    for number in range(4):
        put(store, b"%d" % number, pattern(number, 300 * KIB))
    with pytest.raises(errors.OutOfDisk):
        store.create(b"4", 300 * KIB, CLIENT)
    assert isinstance(store.disk_error, errors.OutOfDisk)
    for number in range(4):
        assert store.get(b"%d" % number, CLIENT) == pattern(number, 300 * KIB), "a refusal loses nothing"
    store.delete(b"1")
    store.delete(b"2")
    put(store, b"4", pattern(4, 300 * KIB))


def test_a_quota_is_kept(tmp_path):
    limits = Limits(capacity_bytes=MIB, fuse_bytes=1, reserve_ahead_bytes=0, full_grace_s=0.0)
    disk = FileDisk(str(tmp_path / "spill"))
    store = LocalStore(str(tmp_path), "q", limits, spill=[SpillDirectory(disk, 700 * KIB)])
    try:
        with pytest.raises(errors.OutOfDisk, match="take no more"):
            for number in range(10):
                put(store, b"%d" % number, bytes(300 * KIB))
        assert 0 < sum(path.stat().st_size for path in (tmp_path / "spill").iterdir()) <= 700 * KIB
    finally:
        store.close()
    assert disk.names() == []


def test_what_no_memory_can_be_had_for_is_read_from_disk(new, tmp_path):
    store = new(disks=[FileDisk(str(tmp_path / "spill"))])
    for number in range(5):
        put(store, b"%d" % number, pattern(number, 300 * KIB))
    places = [store.pin(b"%d" % number, CLIENT) for number in (4, 3, 2, 1, 0)]
    assert [type(place) for place in places] == [Location, Location, Location, SpilledAt, SpilledAt]
    view = store.get(b"0", CLIENT)
    assert view == pattern(0, 300 * KIB)
    assert store.statistics().served_from_disk_total == 3


def test_views_of_a_dropped_client_end_quietly(new):
    store = new()
    put(store, b"key", b"abc")
    view = store.get(b"key", CLIENT)
    other = store.get(b"key", b"other")
    store.drop_client(CLIENT)
    del view
    assert store.statistics().pinned == 1
    del other
    assert store.statistics().pinned == 0


def test_several_segments(new, tmp_path):
    store = new(3 * MIB, segment_bytes=MIB + 4096)
    assert len(list(tmp_path.iterdir())) == 3
    for number in range(3):
        put(store, b"%d" % number, pattern(number, 900 * KIB))
    assert {store.pin(b"%d" % number, CLIENT).segment for number in range(3)} == {0, 1, 2}
    with pytest.raises(errors.ObjectTooLarge):
        store.create(b"large", 2 * MIB, CLIENT)


def test_memory_that_cannot_be_had_is_a_full_store_not_a_crash(new, monkeypatch):
    now_s = [5.0]
    store = new(4 * MIB, clock=lambda: now_s[0], limits={"reserve_step_bytes": 64 * KIB})
    monkeypatch.setattr(segment.Segment, "reserve", lambda *_: False)
    with pytest.raises(errors.ObjectStoreFull, match="short of shared memory"):
        store.create(b"key", 200 * KIB, CLIENT)
    monkeypatch.undo()
    now_s[0] += 1.0
    put(store, b"key", bytes(3 * MIB))


def test_a_spill_directory_that_was_removed_is_made_again(new, tmp_path):
    folder = tmp_path / "spill"
    store = new(disks=[FileDisk(str(folder))], limits={"spill_threshold": 1.0})
    for number in range(5):
        put(store, b"%d" % number, pattern(number, 300 * KIB))
    shutil.rmtree(folder)
    for number in range(5, 10):
        put(store, b"%d" % number, pattern(number, 300 * KIB))
    for number in range(5, 10):
        assert store.get(b"%d" % number, CLIENT) == pattern(number, 300 * KIB)
    assert store.disk_error is None


def test_a_disk_that_fails_in_an_unexpected_way_is_a_full_disk(new):
    class Odd(MemoryDisk):
        def write(self, name, buffers):
            raise ZeroDivisionError("odd")

    store = new(disks=[Odd()])
    with pytest.raises(errors.OutOfDisk):
        for number in range(5):
            put(store, b"%d" % number, bytes(300 * KIB))
    assert isinstance(store.disk_error, ZeroDivisionError)


def test_a_bug_in_a_helper_breaks_the_store_loudly(new, monkeypatch):
    store = new(4 * MIB, limits={"reserve_step_bytes": 64 * KIB})
    monkeypatch.setattr(segment.Segment, "reserve", lambda *_: 1 / 0)
    with pytest.raises(errors.StoreError, match=r"broken.*ZeroDivisionError"):
        store.create(b"key", 200 * KIB, CLIENT)


def test_close_answers_who_waits(new):
    store = new(limits={"full_grace_s": 60.0})
    put(store, b"old", bytes(900 * KIB))
    answers = []
    store.submit_create(b"new", 900 * KIB, CLIENT, answers.append)
    store.close()
    assert isinstance(answers[0], errors.StoreClosed)


def test_the_name_is_taken_once(new, tmp_path):
    new()
    with pytest.raises(FileExistsError):
        LocalStore(str(tmp_path), "p0", Limits(capacity_bytes=MIB))
    assert [path.name for path in tmp_path.iterdir()] == ["p0-0000"]


def test_who_holds_what_can_be_listed(new):
    store = new()
    put(store, b"key", b"abc")
    store.pin(b"key", b"reader")
    [record] = store.records()
    assert (record.key, record.size_bytes, record.state.value, record.pins) == (b"key", 3, "sealed", {b"reader": 1})
    assert "sealed" in repr(record)
    assert Path(store._segments[0].path).name in repr(store)
