"""Every store under the one suite; and sudden death, sharing and leftovers in real processes."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from actorrt.store import segment
from actorrt.store.base import Carved, Limits, Location
from actorrt.store.conformance import CHECKS, KIB, MIB, Subject, pattern, put
from actorrt.store.disk import ArrowDisk, MemoryDisk
from actorrt.store.errors import ObjectStoreFull
from actorrt.store.filedisk import FileDisk
from actorrt.store.local import LocalStore, SpillDirectory
from actorrt.store.memory import MemoryStore

ROOT = Path(__file__).parents[2]
_numbers = itertools.count()


def new_prefix():
    return f"actorrt-test-{os.getpid()}-{next(_numbers)}"


def limits(capacity_bytes, **more):
    settings = {"fuse_bytes": 500 * KIB, "reserve_step_bytes": 256 * KIB, "reserve_ahead_bytes": 0, "full_grace_s": 0.0}
    return Limits(capacity_bytes=capacity_bytes, **(settings | more))


def leftovers(prefix):
    return [path.name for path in Path(segment.SHARED_MEMORY).iterdir() if path.name.startswith(prefix)]


def local_subject(capacity_bytes, disks=()):
    prefix = new_prefix()
    dropped = []
    spill = [SpillDirectory(disk) for disk in disks]
    store = LocalStore(segment.SHARED_MEMORY, prefix, limits(capacity_bytes), spill=spill, dropped=dropped.append)

    def after():
        assert leftovers(prefix) == []
        assert [disk.names() for disk in disks] == [[] for _ in disks]

    return Subject(store=store, dropped=dropped, spills=bool(disks), verify=store.check, after=after)


def maker(kind, folder):
    def make_store(capacity_bytes):
        if kind == "memory":
            dropped = []
            return Subject(store=MemoryStore(capacity_bytes, dropped=dropped.append), dropped=dropped)
        disks = {
            "local": [],
            "file disk": [FileDisk(str(folder / "a"))],
            "two file disks": [FileDisk(str(folder / "a")), FileDisk((folder / "b c").as_uri())],
            "arrow disk": [ArrowDisk((folder / "c").as_uri())],
            "memory disk": [MemoryDisk()],
        }[kind]
        return local_subject(capacity_bytes, disks)

    return make_store


KINDS = ["memory", "local", "file disk", "two file disks", "arrow disk", "memory disk"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("kind", KINDS)
def test_conformance(kind, check, tmp_path):
    check(maker(kind, tmp_path))


# ------------------------------------------------------------------------------------------------------- real processes
CHILD = """
import json, sys
from actorrt.store import segment
from actorrt.store.base import Limits, Location, Slab
from actorrt.store.conformance import pattern, put
from actorrt.store.local import LocalStore
from actorrt.store.reader import Reader
from actorrt.store.writer import Writer

prefix = sys.argv[1]
released = []
reader = Reader(segment.SHARED_MEMORY, prefix, released.append)
writer = Writer(segment.SHARED_MEMORY, prefix)
kept = []

def read(place):
    view = reader.view(Location(*place))
    kept.append(view)
    return [view.nbytes, sum(view[::4096]), bytes(view[:64]).hex()]

def write_half(place):
    view = writer.buffer(Location(*place))
    view[: view.nbytes // 2] = b"x" * (view.nbytes // 2)
    return True

def carve(slab, key, size_bytes):
    if not writer.room_bytes:
        writer.add_slab(Slab(*slab))
    reservation = writer.carve(key.encode(), size_bytes)
    reservation.view[:] = pattern(1, size_bytes)
    writer.seal(reservation)
    return writer.take_batch().reports[0].location

def node(capacity_bytes):
    kept.append(LocalStore(segment.SHARED_MEMORY, prefix, Limits(capacity_bytes=capacity_bytes)))
    return put(kept[-1], b"key", pattern(5, 100_000))

def let_go():
    kept.clear()
    return released

for line in sys.stdin:
    name, arguments = json.loads(line)
    print(json.dumps(globals()[name](*arguments)), flush=True)
"""


class Child:
    """Another process of the node."""

    def __init__(self, prefix):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, prefix], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, name, *arguments):
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def node(children, capacity_bytes=32 * MIB):
    subject = local_subject(capacity_bytes)
    prefix = subject.store._segments[0].path.name.rpartition("-")[0]
    started = [Child(prefix) for _ in range(children)]
    try:
        yield subject, started
    finally:
        for child in started:
            if child.process.returncode is None:
                child.kill()
        subject.verify()
        subject.store.close()
        subject.after()


def memory_of(pid, prefix):
    """(resident, proportional) bytes of the store's mappings in a process."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    parts = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)
    own = [part for part in parts if f"/{prefix}-" in part.partition("\n")[0]]
    assert own, "the store is not mapped"
    return tuple(
        sum(int(re.search(rf"(?m)^{name}: +(\d+) kB", part)[1]) for part in own) * KIB for name in ("Rss", "Pss")
    )


def test_two_processes_read_the_same_physical_pages():
    size_bytes = 16 * MIB
    with node(2) as (subject, children):
        store = subject.store
        location = put(store, b"key", pattern(1, size_bytes))
        prefix = store._segments[0].path.name.rpartition("-")[0]
        expected = [size_bytes, sum(pattern(1, size_bytes)[::4096]), pattern(1, 64).hex()]
        for child in children:
            store.pin(b"key", b"%d" % child.process.pid)
            assert child("read", location) == expected
        for child in children:
            resident, proportional = memory_of(child.process.pid, prefix)
            assert resident >= size_bytes
            assert proportional < 0.55 * resident, "three processes map it: each should count for a third"


def test_a_killed_writers_half_written_object_is_reclaimed():
    with node(1) as (subject, [child]):
        store = subject.store
        location = store.create(b"key", 20 * MIB, b"writer")
        assert child("write_half", location)
        with pytest.raises(ObjectStoreFull):
            store.create(b"other", 20 * MIB, b"us")
        child.kill()
        store.drop_client(b"writer")
        assert not store.contains(b"key")
        put(store, b"key", pattern(2, 20 * MIB))
        assert store.get(b"key", b"us") == pattern(2, 20 * MIB)


def test_a_killed_writers_slabs_come_back_and_its_reported_objects_stay():
    with node(1) as (subject, [child]):
        store = subject.store
        slab = store.lease_slab(MIB, b"writer")
        location = child("carve", slab, "key", 1000)
        child("carve", slab, "lost", 1000)
        assert store.adopt([Carved(b"key", slab.number, Location(*location))], b"writer") == []
        child.kill()
        store.drop_client(b"writer")
        assert store.get(b"key", b"us") == pattern(1, 1000)
        figures = store.statistics()
        assert (figures.leased_bytes, figures.objects) == (0, 1)
        store.delete(b"key")
        assert store.statistics().used_bytes == 0


def test_a_killed_readers_pins_are_released():
    with node(2) as (subject, [dying, living]):
        store = subject.store
        location = put(store, b"key", pattern(1, 20 * MIB))
        for name, child in ((b"dying", dying), (b"living", living)):
            store.pin(b"key", name)
            child("read", location)
        store.delete(b"key")
        dying.kill()
        store.drop_client(b"dying")
        with pytest.raises(ObjectStoreFull):
            store.create(b"new", 20 * MIB, b"us")
        for number in living("let_go"):
            store.release(number, b"living")
        assert store.statistics().used_bytes == 0


def test_the_files_of_a_killed_node_are_swept_and_those_of_a_living_one_are_not():
    root = new_prefix()
    dying, living = Child(f"{root}-dying"), Child(f"{root}-living")
    reader = Child(f"{root}-dying")
    try:
        location = dying("node", MIB)
        living("node", MIB)
        first = reader("read", location)
        dying.kill()
        assert sorted(leftovers(root)) == [f"{root}-dying-0000", f"{root}-living-0000"]
        assert segment.sweep(segment.SHARED_MEMORY, root) == [f"{root}-dying-0000"]
        assert reader("read", location) == first, "what is mapped stays readable"
    finally:
        for child in (dying, living, reader):
            if child.process.returncode is None:
                child.kill()
        segment.sweep(segment.SHARED_MEMORY, root)
    assert leftovers(root) == []
