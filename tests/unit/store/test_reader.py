import gc
import mmap
import weakref
import zlib

import numpy as np
import pytest

from actorrt.store import layout
from actorrt.store import reader as reader_module
from actorrt.store.base import Location, SpilledAt
from actorrt.store.copying import pinned_address
from actorrt.store.errors import ObjectDamaged, StaleLocation
from actorrt.store.layout import ExtentHeader, Mark
from actorrt.store.reader import Exports, Reader, local_path
from actorrt.store.segment import Segment

MIB = 1 << 20


@pytest.fixture
def segment(tmp_path):
    made = Segment(str(tmp_path), "p", 0, MIB)
    yield made
    made.close()


@pytest.fixture
def released():
    return []


@pytest.fixture
def reader(tmp_path, segment, released):
    made = Reader(str(tmp_path), "p", released.append)
    yield made
    made.close()


def place(segment, data, number=5, offset=4096 + 64, mark=Mark.SEALED):
    layout.write_extent_header(segment.view, offset, ExtentHeader(mark, number, len(data), 0))
    segment.view[offset : offset + len(data)] = data
    return Location(0, offset, len(data), number)


def test_a_view_is_the_memory_itself(segment, reader):
    location = place(segment, b"abcdef")
    view = reader.view(location)
    assert (bytes(view), view.readonly, view.format, view[1]) == (b"abcdef", True, "B", 98)
    segment.view[location.offset] = ord("X")
    assert bytes(view) == b"Xbcdef"


def test_the_pin_is_released_with_the_last_that_was_made_from_the_view(segment, reader, released):
    array = np.frombuffer(reader.view(place(segment, bytes(800)))[80:], dtype=np.float64)
    part = array.reshape(9, 10)[2:4]
    del array
    gc.collect()
    assert (released, reader.views, part.flags.writeable) == ([], 1, False)
    with pytest.raises(ValueError, match="read-only"):
        part[0, 0] = 1.0
    with pytest.raises(ValueError, match="WRITEABLE"):
        part.setflags(write=True)
    del part
    assert (released, reader.views) == ([5], 0)


def test_each_view_is_one_pin(segment, reader, released):
    location = place(segment, b"abc")
    views = [reader.view(location) for _ in range(3)]
    views.pop()
    assert released == [5]
    views.clear()
    assert released == [5, 5, 5]


def test_a_view_in_a_cycle_is_released_by_the_collector(segment, reader, released):
    cycle = [reader.view(place(segment, b"abc"))]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert released == [5]


def test_a_view_that_becomes_garbage_together_with_its_reader_is_released(tmp_path, segment, released):
    class Everything:
        pass

    everything = Everything()
    everything.reader = Reader(str(tmp_path), "p", released.append)
    everything.view = everything.reader.view(place(segment, b"abc"))
    everything.itself = everything
    del everything
    gc.collect()
    assert released == [5]


def test_an_empty_object(segment, reader, released):
    view = reader.view(place(segment, b""))
    assert view.nbytes == 0
    del view
    assert released == [5]


@pytest.mark.parametrize("mark", [Mark.CREATED, Mark.FREED])
def test_what_is_not_there_is_not_read_and_the_pin_is_released(segment, reader, released, mark):
    location = place(segment, b"abc", mark=mark)
    with pytest.raises(StaleLocation):
        reader.view(location)
    with pytest.raises(StaleLocation):
        reader.view(location._replace(number=6))
    assert released == [5, 6]


def test_views_outlive_the_reader_and_the_file(segment, reader):
    view = reader.view(place(segment, b"abc"))
    reader.close()
    segment.close()
    assert bytes(view) == b"abc"


def test_an_export_holds_what_is_under_it():
    class Memory(mmap.mmap):
        pass

    memory = Memory(-1, 4096)
    gone = weakref.ref(memory)
    exports = Exports(lambda _: None)
    with pinned_address(memory) as (address, _):
        view = exports.export(memory, address, 100, [1])
    del memory
    gc.collect()
    assert gone() is not None
    del view
    gc.collect()
    assert gone() is None


def test_an_interrupt_where_the_view_is_made_leaves_other_views_their_pins(segment, reader, released, monkeypatch):
    location = place(segment, b"abc")
    view = reader.view(location)

    def interrupt(*_):
        raise KeyboardInterrupt

    for module, name in ((reader_module.pickle, "PickleBuffer"), (reader_module.weakref, "ref")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                reader.view(location)
        gc.collect()
        assert (released, reader.views) == ([5], 1)
        released.clear()
    del view
    assert released == [5]


def spilled(folder, data, skip=5000):
    (folder / "file").write_bytes(bytes(skip) + data + b"behind")
    return SpilledAt(str(folder), "file", skip, len(data), zlib.crc32(data), 9)


@pytest.mark.parametrize("uri", [True, False])
def test_a_slice_of_a_local_file_is_mapped_and_needs_no_pin(tmp_path, reader, released, uri):
    where = spilled(tmp_path, b"some data")
    where = where._replace(uri=tmp_path.as_uri()) if uri else where
    view = reader.view(where)
    assert released == [9]
    (tmp_path / "file").unlink()
    assert (bytes(view), view.readonly) == (b"some data", True)


@pytest.mark.parametrize("change", [{"checksum": 1}, {"offset": 4999}, {"size_bytes": 1000}, {"name": "gone"}])
def test_a_damaged_slice_is_noticed_and_the_pin_released(tmp_path, reader, released, change):
    with pytest.raises(ObjectDamaged):
        reader.view(spilled(tmp_path, b"some data")._replace(**change))
    assert released == [9]


def test_empty_slices(tmp_path, reader):
    assert reader.view(spilled(tmp_path, b"")).nbytes == 0


def test_other_file_systems_are_read_by_who_knows_them(tmp_path, segment, reader, released):
    where = spilled(tmp_path, b"some data")._replace(uri="s3://bucket")
    with pytest.raises(ObjectDamaged, match="nothing here can read"):
        reader.view(where)
    knowing = Reader(str(tmp_path), "p", released.append, read_spilled=lambda _: bytearray(b"some data"))
    assert bytes(knowing.view(where)) == b"some data"
    lying = Reader(str(tmp_path), "p", released.append, read_spilled=lambda _: b"Some data")
    with pytest.raises(ObjectDamaged, match="not what was written"):
        lying.view(where)


def test_local_paths():
    assert local_path("a/b") == "a/b"
    assert local_path("file:///a%20b") == "/a b"
    assert local_path("s3://bucket/a") is None
