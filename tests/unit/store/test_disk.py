"""What is particular to pyarrow's; what all disks share is in test_filedisk.py."""

import zlib

import pytest
from pyarrow import fs

from actorrt.store import disk
from actorrt.store.base import SpilledAt
from actorrt.store.disk import ArrowDisk
from actorrt.store.errors import ObjectDamaged


def test_a_slice_is_read_from_its_uri_alone(tmp_path):
    uri = (tmp_path / "spill").as_uri()
    ArrowDisk(uri).write("file", [b"0123456789"])
    place = SpilledAt(uri, "file", 3, 4, zlib.crc32(b"3456"), 1)
    assert disk.read_slice(place) == b"3456"
    with pytest.raises(ObjectDamaged):
        disk.read_slice(place._replace(name="gone"))


def test_the_directory_is_made(tmp_path):
    ArrowDisk("a/b", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))
    assert (tmp_path / "a" / "b").is_dir()
