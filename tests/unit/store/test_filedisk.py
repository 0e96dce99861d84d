"""Every spill disk under the same tests."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyarrow import fs

from actorrt.store import filedisk
from actorrt.store.disk import ArrowDisk, MemoryDisk
from actorrt.store.errors import ObjectDamaged, OutOfDisk
from actorrt.store.filedisk import FileDisk


@pytest.fixture(params=["path", "uri", "arrow", "arrow filesystem", "arrow mock", "memory"])
def disk(request, tmp_path):
    folder = tmp_path / "a b"
    made = {
        "path": lambda: FileDisk(str(folder)),
        "uri": lambda: FileDisk(folder.as_uri()),
        "arrow": lambda: ArrowDisk(folder.as_uri()),
        "arrow filesystem": lambda: ArrowDisk("inner", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())),
        "arrow mock": lambda: ArrowDisk("mock:///folder"),
        "memory": MemoryDisk,
    }[request.param]()
    yield made
    made.close()


def test_write_read_remove(disk):
    disk.write("one", [b"abc", memoryview(b"defg"), bytearray(b"")])
    disk.write("two", [bytes(100_000)])
    assert disk.names() == ["one", "two"]
    target = bytearray(4)
    disk.read_into("one", 2, memoryview(target))
    assert target == b"cdef"
    disk.remove("one")
    disk.remove("one")
    assert disk.names() == ["two"]
    assert disk.room_bytes() is None or disk.room_bytes() > 0


def test_missing_and_short_files_are_damage(disk):
    with pytest.raises(ObjectDamaged):
        disk.read_into("nothing", 0, memoryview(bytearray(1)))
    disk.write("one", [b"abc"])
    with pytest.raises(ObjectDamaged):
        disk.read_into("one", 1, memoryview(bytearray(3)))


def test_a_failed_write_leaves_nothing(disk):
    with pytest.raises((TypeError, ValueError)):
        disk.write("one", [b"abc", "text"])
    assert disk.names() == []


def test_a_directory_that_was_removed_is_made_again(disk, tmp_path):
    disk.write("one", [b"abc"])
    for folder in tmp_path.iterdir():
        shutil.rmtree(folder)
    disk.remove("one")
    disk.write("two", [b"def"])
    target = bytearray(3)
    disk.read_into("two", 0, memoryview(target))
    assert target == b"def"


def test_a_file_disk_stops_before_the_disk_is_full(tmp_path, monkeypatch):
    disk = FileDisk(str(tmp_path))
    figures = SimpleNamespace(f_blocks=1000, f_bavail=60, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda _: figures)
    assert disk.room_bytes() == 10
    with pytest.raises(OutOfDisk, match="may take 10 more bytes, 11"):
        disk.write("one", [bytes(11)])
    disk.write("one", [bytes(10)])
    assert disk.names() == ["one"]


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path, monkeypatch):
    disk = FileDisk(str(tmp_path))
    full = Path("/dev/full").open
    monkeypatch.setattr(filedisk.pathlib.Path, "open", lambda *_args, **_more: full("wb", buffering=0))
    with pytest.raises(OutOfDisk):
        disk.write("one", [b"abc"])
    monkeypatch.undo()
    assert disk.names() == []


def test_a_memory_disk_has_an_end():
    disk = MemoryDisk(capacity_bytes=10)
    disk.write("one", [bytes(8)])
    with pytest.raises(OutOfDisk):
        disk.write("two", [bytes(3)])


def test_only_local_directories():
    with pytest.raises(ValueError, match="no local directory"):
        FileDisk("s3://bucket/folder")
