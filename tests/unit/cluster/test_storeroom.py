"""The operations of an object manager on a real store."""

import asyncio
import threading

import pytest

from actorrt.cluster import storeroom
from actorrt.cluster.bulk import BulkError
from actorrt.cluster.config import StoreConfig
from actorrt.cluster.storeroom import DirectSource, StoreRoom, failure_of
from actorrt.objects.messages import CarvedObject, StoreReported
from actorrt.objects.operations import Create, Delete, DropClient, Lease, Release, Report, Seal
from actorrt.store import errors, layout
from actorrt.store.base import Location, SpilledAt
from tests.unit.cluster.storage_rig import MIB, port, spill


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.ObjectStoreFull("x"), "ObjectStoreFullError"),
        (errors.ObjectTooLarge("x"), "ObjectStoreFullError"),
        (errors.OutOfDisk("x"), "OutOfDiskError"),
        (errors.ObjectNotFound("x"), "ObjectLostError"),
        (errors.NotSealed("x"), "ObjectLostError"),
        (errors.ObjectDamaged("x"), "ObjectLostError"),
        (errors.TooManyRequests("x"), "Overloaded"),
        (errors.ObjectExists("x"), "InternalError"),
        (errors.StoreClosed("x"), "InternalError"),
        (ValueError("x"), "InternalError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_kinds_of_failures(error, kind):
    failure = failure_of(error)
    assert (failure.kind, failure.text) == (kind, "x")


@pytest.mark.asyncio
async def test_an_object_from_creation_to_its_end(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        place = await made.put(b"k", b"hello")
        assert place.uri == ""
        pinned = await made.pin(b"k")
        assert pinned.place == place
        assert bytes(made.storage._room.buffer(place)) == b"hello"
        made.storage.perform(Delete((b"k", b"unknown")))
        assert (await made.pin(b"k")).failure.kind == "ObjectLostError"
        made.storage.perform(Release((place.number, place.number, 999), b"reader"))
        report = await made.ask(Report, 10)
        assert report.figures["objects"] == report.figures["used_bytes"] == 0


@pytest.mark.asyncio
async def test_what_cannot_be(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        for key, size_bytes, kind, text in (
            (b"big", 17 * MIB, "ObjectStoreFullError", "do not fit into a store of"),
            (b"", 5, "InternalError", "a key of 0 bytes"),
            (b"k", -1, "InternalError", "an object of -1 bytes"),
        ):
            failure = (await made.ask(Create, key, size_bytes, b"c")).failure
            assert (failure.kind, text in failure.text) == (kind, True)
        await made.put(b"k", b"x")
        assert "exists" in (await made.ask(Create, b"k", 1, b"c")).failure.text


@pytest.mark.asyncio
async def test_slabs(tmp_path, caplog):
    async with port(tmp_path) as made:
        await made.open()
        slab = (await made.ask(Lease, -5, b"c")).slab
        assert slab.length_bytes == storeroom.SLAB_BYTES_MIN
        start = slab.offset + layout.EXTENT_HEADER_BYTES
        room = made.storage._room
        header = layout.ExtentHeader(layout.Mark.SEALED, slab.first_object, 3, layout.key_crc(b"k"))
        layout.write_extent_header(room._store._segments[slab.segment].view, start, header)
        good = CarvedObject(b"k", "owner", slab.number, slab.segment, start, 3, slab.first_object)
        wrong = CarvedObject(b"l", "owner", slab.number, slab.segment, start, 3, slab.first_object)
        nonsense = CarvedObject(b"m", "owner", slab.number, slab.segment, start, -3, slab.first_object)
        room.buffer(storeroom._place(Location(slab.segment, start, 3, slab.first_object)))[:] = b"abc"
        made.storage.perform(Seal(b"c", carved=(good, wrong, nonsense), done_slabs=(slab.number, 77)))
        assert "is refused" in caplog.text
        assert (await made.pin(b"k")).place.number == slab.first_object
        assert (await made.pin(b"l")).failure.kind == "ObjectLostError"
        assert (await made.ask(Report, 0)).figures["leased_bytes"] == 0


@pytest.mark.asyncio
async def test_a_dead_client(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        place = await made.create(b"half", 100, b"c")
        await made.ask(Lease, 5000, b"c")
        await made.put(b"k", b"x")
        await made.pin(b"k", b"c")
        made.storage.perform(DropClient(b"c"))
        made.storage.perform(Seal(b"c", created=(place.number,)))
        figures = (await made.ask(Report, 0)).figures
        assert (figures["pinned"], figures["creating"], figures["leased_bytes"]) == (0, 0, 0)


@pytest.mark.asyncio
async def test_a_report(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        for number in range(5):
            await made.put(b"%d" % number, bytes(100 * number), secondary=number == 4)
        await made.pin(b"4", b"unix:///w")
        report = await made.ask(Report, 2)
        assert isinstance(report, StoreReported)
        assert [(each.key, each.size_bytes) for each in report.objects] == [(b"4", 400), (b"3", 300)]
        assert report.omitted == 3
        first = report.objects[0]
        assert (first.state, first.is_copy, first.pins, first.pinned_by) == ("SEALED", True, 1, ("unix:///w",))
        assert report.figures["capacity_bytes"] == 16 * MIB
        assert (await made.ask(Report, 0)).objects == ()
        made.storage._room.close()
        assert (await made.ask(Report, 2)).figures == {}


@pytest.mark.asyncio
async def test_spilled_and_read_from_there(tmp_path):
    async with port(tmp_path, spill=spill(tmp_path / "disk"), fuse_bytes=MIB) as made:
        await made.open()
        data = {b"%d" % number: bytes([number]) * (4 * MIB) for number in range(6)}
        for key, value in data.items():
            await made.put(key, value)
        room = made.storage._room
        assert list((tmp_path / "disk").glob(f"{made.storage.prefix}-*.spill"))

        def read_all():
            for key, value in data.items():
                opened = room.open_object(key, lambda: None)
                assert bytes(opened.view) == value
                opened.release()

        await asyncio.to_thread(read_all)
        assert (await made.ask(Report, 0)).figures["pinned"] == 0
        # With all memory pinned, what is on disk is read there.
        places = []
        for key in list(data)[:3]:
            places.append((await made.pin(key)).place)
        await asyncio.to_thread(read_all)
    assert list((tmp_path / "disk").iterdir()) == []


def test_places():
    assert storeroom._place(Location(1, 64, 5, 9)).number == 9
    place = storeroom._place(SpilledAt("/d", "f", 64, 5, 77, 9))
    assert (place.uri, place.name, place.offset, place.size_bytes, place.checksum, place.number) == (
        "/d",
        "f",
        64,
        5,
        77,
        9,
    )


@pytest.mark.asyncio
async def test_other_file_systems(tmp_path):
    async with port(tmp_path, spill=spill("mock://bucket/x")) as made:
        await made.open()
        assert type(made.storage._room._disks[0].disk).__name__ == "ArrowDisk"


@pytest.mark.asyncio
async def test_opening_for_a_transfer(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        await made.put(b"k", b"hello")
        room = made.storage._room
        opened = room.open_object(b"k", lambda: None)
        assert bytes(opened.view) == b"hello"
        assert opened.view.readonly
        made.storage.perform(Delete((b"k",)))
        assert bytes(opened.view) == b"hello"
        assert (await made.ask(Report, 0)).figures["pinned"] == 1
        opened.release()
        assert (await made.ask(Report, 0)).figures["used_bytes"] == 0
        with pytest.raises(BulkError, match="no object"):
            room.open_object(b"k", lambda: None)


@pytest.mark.asyncio
async def test_who_gives_up_waiting_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(storeroom, "WAITING_INTERVAL_S", 0.001)
    async with port(tmp_path) as made:
        await made.open()
        room = made.storage._room
        monkeypatch.setattr(room._store, "submit_pin", lambda *_arguments: None)  # never answered

        def lost():
            raise BulkError("the connection ended")

        with pytest.raises(BulkError, match="ended"):
            await asyncio.to_thread(room.open_object, b"k", lost)


@pytest.mark.asyncio
async def test_direct_sources(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        await made.put(b"k", b"hello")
        await made.put(b"l", b"world")
        room = made.storage._room
        source = DirectSource(room)
        target = bytearray(2)
        for key, offset in ((b"k", 0), (b"k", 3), (b"l", 1)):
            source.request(key, offset, 2)
        for expected in (b"he", b"lo", b"or"):
            source.receive_into(memoryview(target))
            assert target == expected
        assert (await made.ask(Report, 0)).figures["pinned"] == 1
        source.abort()
        source.close()
        assert (await made.ask(Report, 0)).figures["pinned"] == 0
        source.request(b"k", 4, 2)
        with pytest.raises(BulkError, match="at 4 of 5 bytes"):
            source.receive_into(memoryview(target))
        source.rest()
        room.close()
        source.request(b"k", 0, 2)
        with pytest.raises(BulkError, match="has ended"):
            source.receive_into(memoryview(target))
        with pytest.raises(BulkError, match="has ended"):
            source._look()


@pytest.mark.asyncio
async def test_after_the_end(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        place = await made.create(b"k", 5)
        room: StoreRoom = made.storage._room
        room.close()
        room.close()
        room.abort(place.number)
        room.expire()
        assert room.figures() == (0, 0)
        assert (await made.ask(Create, b"l", 5, b"c")).failure.kind == "InternalError"
        with pytest.raises(BulkError, match="closed"):
            await asyncio.to_thread(room.open_object, b"k", lambda: None)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("actorrt-store")]


def test_files_of_a_small_store_are_small_unless_the_user_says_otherwise():
    def fused(capacity_bytes, **more):
        return storeroom._fuse_bytes(StoreConfig(capacity_bytes=capacity_bytes, directory="/x", **more))

    assert fused(64 * MIB) == 8 * MIB
    assert fused(64 << 30) == 100 * MIB
    assert fused(64 * MIB, fuse_bytes=50 * MIB) == 50 * MIB
