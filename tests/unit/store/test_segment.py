import errno
import fcntl
import os

import pytest

from actorrt.store import layout, segment
from actorrt.store.errors import CapacityRefused, StoreError
from actorrt.store.segment import Mapping, Mappings, Segment

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def test_what_one_writes_the_other_reads(folder, tmp_path):
    made = Segment(folder, "p", 3, MIB)
    assert [path.name for path in tmp_path.iterdir()] == ["p-0003"]
    writer, reader = Mappings(folder, "p", writable=True)[3], Mappings(folder, "p", writable=False)[3]
    writer.view[5000] = 77
    assert (made.view[5000], reader.view[5000], reader.view.readonly) == (77, 77, True)
    made.close()
    made.close()
    assert list(tmp_path.iterdir()) == []
    assert reader.view[5000] == 77


def test_a_segment_is_mapped_once(folder):
    made = Segment(folder, "p", 0, MIB)
    mappings = Mappings(folder, "p", writable=False)
    assert mappings[0] is mappings[0]
    made.close()
    with pytest.raises(StoreError, match="cannot be mapped"):
        mappings[1]


def test_names_are_taken_once(folder):
    made = Segment(folder, "p", 0, MIB)
    with pytest.raises(FileExistsError):
        Segment(folder, "p", 0, MIB)
    made.close()


def test_files_are_for_their_owner_only(folder):
    made = Segment(folder, "p", 0, MIB)
    assert made.path.stat().st_mode & 0o777 == 0o600
    made.close()


def test_reserving_makes_memory_present(folder):
    made = Segment(folder, "p", 0, 8 * MIB)
    before = made.path.stat().st_blocks * 512
    assert made.reserve(4096, 4 * MIB)
    assert made.path.stat().st_blocks * 512 - before >= 4 * MIB - 8192
    made.close()


def test_memory_that_cannot_be_had_is_no_exception(folder, tmp_path, monkeypatch):
    made = Segment(folder, "p", 0, MIB)

    def refuse(number):
        def fallocate(*_):
            raise OSError(number, "no")

        return fallocate

    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
    assert made.reserve(4096, 4096) is False
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.EIO))
    with pytest.raises(OSError, match="no"):
        made.reserve(4096, 4096)
    made.close()
    with pytest.raises(OSError, match="no"):
        Segment(folder, "q", 0, MIB)
    assert list(tmp_path.iterdir()) == []


def test_touch_each_chunk_once(folder, monkeypatch):
    made = Segment(folder, "p", 0, 9 * MIB)
    mapping = Mapping(made.path, 0, writable=True)
    calls = []
    monkeypatch.setattr(segment, "populate", lambda address, size: calls.append((address - mapping.address, size)))
    mapping.touch(3 * MIB, MIB)
    mapping.touch(3 * MIB, MIB)
    mapping.touch(0, 9 * MIB)
    assert calls == [(2 * MIB, 2 * MIB), (0, 2 * MIB), (4 * MIB, 5 * MIB)]
    monkeypatch.undo()
    Mapping(made.path, 0, writable=True).touch(0, 9 * MIB)
    made.close()


def test_sweep_removes_what_nobody_holds(folder, tmp_path):
    living = Segment(folder, "session-b", 0, MIB)
    for name in ("session-a-0000", "session-a-0001", "other-0000", "session-notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert segment.sweep(folder, "session-") == ["session-a-0000", "session-a-0001"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other-0000", "session-b-0000", "session-notes.txt"]
    living.close()


def test_a_file_swept_between_creation_and_lock_is_made_again(folder, tmp_path, monkeypatch):
    original = fcntl.flock
    swept = []

    def flock(descriptor, how):
        if not swept:
            swept.append(True)
            (tmp_path / "p-0000").unlink()
        original(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    made = Segment(folder, "p", 0, MIB)
    assert [path.name for path in tmp_path.iterdir()] == ["p-0000"]
    made.close()


# ------------------------------------------------------------------------------------------------------------ capacity
def machine(root, meminfo_kb=1000, cgroup="", files=()):
    for name, text in (("proc/meminfo", f"MemTotal: {meminfo_kb} kB\n"), ("proc/self/cgroup", cgroup), *files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return segment.memory_limit_bytes(str(root))


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("", [], 1_024_000),
        ("0::/\n", [("sys/fs/cgroup/memory.max", "500000\n")], 500_000),
        ("0::/a/b\n", [("sys/fs/cgroup/a/memory.max", "300000"), ("sys/fs/cgroup/a/b/memory.max", "max")], 300_000),
        ("0::/hidden/by/the/container\n", [("sys/fs/cgroup/memory.max", "200000")], 200_000),
        ("4:memory:/x\n0::/\n", [("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "100000")], 100_000),
        ("4:memory:/\n", [("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")], 1_024_000),
        ("3:cpu:/x\n", [("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1")], 1_024_000),
    ],
)
def test_the_memory_limit_of_machine_or_container(tmp_path, cgroup, files, limit):
    assert machine(tmp_path, cgroup=cgroup, files=files) == limit


def test_the_real_machine_has_memory():
    assert segment.memory_limit_bytes() > 64 * MIB
    assert 0 < segment.default_capacity() <= segment.memory_limit_bytes() * 0.3


def test_default_capacity_is_30_percent_or_what_the_mount_has(monkeypatch):
    monkeypatch.setattr(segment, "free_bytes", lambda _: 1000 * MIB)
    assert segment.default_capacity(memory_bytes=1000 * MIB) == 300 * MIB
    assert segment.default_capacity(memory_bytes=10_000 * MIB) == 950 * MIB


def test_a_capacity_that_cannot_be_filled_is_refused_with_figures():
    figures = {"memory_limit": lambda: 1000 * MIB, "mount_free": lambda _: 64 * MIB}
    segment.check_capacity(60 * MIB, **figures)
    with pytest.raises(CapacityRefused, match=r"67108864 bytes free.*--shm-size"):
        segment.check_capacity(62 * MIB, **figures)
    with pytest.raises(CapacityRefused, match="1048576000 bytes of memory"):
        segment.check_capacity(999 * MIB, **(figures | {"mount_free": lambda _: 1 << 40}))


def test_a_mapping_checks_what_it_maps(tmp_path):
    path = tmp_path / "p-0000"
    path.write_bytes(bytes(8192))
    with pytest.raises(StoreError, match="is not a segment"):
        Mapping(path, 0, writable=False)
    assert layout.SEGMENT_HEADER_BYTES == 4096
