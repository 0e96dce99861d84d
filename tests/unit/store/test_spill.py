from types import SimpleNamespace

import pytest

from actorrt.store import spill
from actorrt.store.spill import SpillFiles


def records(*sizes):
    return [SimpleNamespace(number=number, size_bytes=size) for number, size in enumerate(sizes, 1)]


def sizes(chosen):
    return [item.size_bytes for item in chosen]


def plan(items, **more):
    return spill.plan_file(
        items, **({"needed_bytes": 1, "fuse_bytes": 1000, "objects_max": 100, "room_bytes": 1 << 40} | more)
    )


def test_objects_are_fused_until_the_file_is_large_enough():
    assert sizes(plan(records(640, 320, 320, 64))) == [640, 320, 320]
    assert sizes(plan(records(64, 64))) == [64, 64], "or there are no more"
    assert sizes(plan(records(2000, 64))) == [2000]
    assert sizes(plan(records(*[64] * 10), objects_max=3)) == [64] * 3
    assert sizes(plan(records(640, 640, 640), needed_bytes=1900)) == [640] * 3
    assert plan([]) == []


def test_what_does_not_fit_on_disk_is_passed_over():
    assert sizes(plan(records(640, 6400, 64), room_bytes=710)) == [640, 64]
    assert plan(records(640), room_bytes=639) == []


def test_a_file_goes_with_its_last_object():
    files = SpillFiles([("a", None)], "p")
    file = files.open(records(100, 200))
    assert (file.size_bytes, files.used_bytes, len(files)) == (128 + 256, 384, 1)
    copies = files.written(file, {1: 11, 2: 22})
    assert (copies[2].name, copies[2].offset, copies[2].size_bytes, copies[2].checksum) == (file.name, 128, 200, 22)
    assert files.drop(1) is None
    files.check()
    assert files.drop(2) is file
    assert (files.used_bytes, len(files), files.names()) == (0, 0, [])
    files.check()


def test_directories_share_the_load_and_keep_their_quota():
    files = SpillFiles([("a", 1000), ("b", 700)], "p")
    opened = [files.open([SimpleNamespace(number=number, size_bytes=640)]) for number in (1, 2)]
    assert [file.directory for file in opened] == [0, 1]
    assert files.room_bytes == 360
    with pytest.raises(AssertionError):
        files.open(records(640))
    files.check()


def test_a_directory_that_failed_is_left_alone_until_forgiven():
    files = SpillFiles([("a", 1000)], "p")
    file = files.open(records(640))
    files.failed(file)
    assert (files.room_bytes, files.used_bytes, len(files)) == (0, 0, 0)
    files.forgive()
    assert files.room_bytes == 1000


def test_a_removed_file_makes_its_directory_worth_another_try():
    files = SpillFiles([("a", None)], "p")
    good = files.open(records(64))
    files.written(good, {1: 0})
    files.failed(files.open([SimpleNamespace(number=5, size_bytes=64)]))
    assert files.room_bytes == 0
    files.drop(1)
    assert files.room_bytes > 0


def test_no_directory():
    files = SpillFiles([], "p")
    assert (files.enabled, files.room_bytes) == (False, 0)
