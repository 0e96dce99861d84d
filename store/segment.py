"""Segments: files in shared memory, created by the node's store and mapped once by every process that needs them.

* Memory is *reserved* with ``posix_fallocate`` before it is used: pages exist from then on, so a full mount is an error
  here and never a SIGBUS in some writer. Reserving is also the warming (the kernel zeroes the pages without the GIL).
* The creator holds a file lock for as long as it lives. ``sweep`` removes files whose lock is free: their creator is
  dead, however it died. A file is unlinked by its creator's ``close`` or by a sweep; existing mappings stay good.
* Read-only mappings are read-only for the hardware too: no extension can write through a view.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import pathlib
from collections.abc import Callable
from typing import Final

from actorrt.store import layout
from actorrt.store.copying import pinned_address, populate
from actorrt.store.errors import CapacityRefused, StoreError

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - the mount, not a file; names in it are created exclusively
CAPACITY_SHARE: Final = 0.3
"""Of the memory, if no capacity is asked for."""
MOUNT_SHARE_MAX: Final = 0.95
CHUNK_BYTES: Final = 2 << 20
"""A process enters pages of a mapping into its page table in such chunks, each once."""
_NO_LIMIT: Final = 1 << 60


class Segment:
    """A segment that this process created. ``view`` is all of it, writable."""

    def __init__(self, directory: str, prefix: str, number: int, size_bytes: int) -> None:
        self.number = number
        self.path = pathlib.Path(directory) / layout.segment_name(prefix, number)
        self._descriptor = _create_locked(self.path)
        try:
            os.ftruncate(self._descriptor, size_bytes)
            self._reserve(0, layout.SEGMENT_HEADER_BYTES)
            self.view = memoryview(mmap.mmap(self._descriptor, size_bytes))
        except BaseException:
            self._unlink()
            raise
        layout.write_segment_header(self.view, number)

    def __repr__(self) -> str:
        return f"<Segment {self.path}, {self.view.nbytes} bytes>"

    def reserve(self, offset: int, length_bytes: int) -> bool:
        """Have these pages present; takes a while, without the GIL. False if the memory cannot be had."""
        try:
            self._reserve(offset, length_bytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EBADF):
                return False
            raise
        return True

    def _reserve(self, offset: int, length_bytes: int) -> None:
        os.posix_fallocate(self._descriptor, offset, length_bytes)

    def close(self) -> None:
        """Unlink the file. The memory is given back when the last mapping of any process is gone."""
        self._unlink()
        self.view = memoryview(b"")

    def _unlink(self) -> None:
        if self._descriptor < 0:
            return
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


def _create_locked(path: pathlib.Path) -> int:
    """A new file, locked. A sweep may remove it between the two steps: then again."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def sweep(directory: str, prefix: str) -> list[str]:
    """Remove the segments whose name begins so and whose creator is dead; returns their names."""
    removed = []
    for path in sorted(pathlib.Path(directory).iterdir()):
        if not path.name.startswith(prefix) or layout.parse_segment_name(path.name) is None:
            continue
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # gone meanwhile, or another user's
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed.append(path.name)
        except OSError:
            continue  # its creator lives
        finally:
            os.close(descriptor)
    return removed


class Mapping:
    """A segment of another process (or our own), mapped."""

    def __init__(self, path: pathlib.Path, number: int, *, writable: bool) -> None:
        descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
            self.memory = mmap.mmap(descriptor, 0, prot=protection)
        finally:
            os.close(descriptor)
        self.view = memoryview(self.memory)
        layout.check_segment_header(self.view, number)
        with pinned_address(self.memory) as (address, _):
            self.address = address
        self._touched = bytearray(-(-self.view.nbytes // CHUNK_BYTES))

    def touch(self, offset: int, length_bytes: int) -> None:
        """Have these pages, which the store has reserved, in our page table before they are written; once is enough."""
        first, end = offset // CHUNK_BYTES, -(-(offset + length_bytes) // CHUNK_BYTES)
        while first < end:
            first = self._touched.find(0, first, end)
            if first < 0:
                return
            last = self._touched.find(1, first, end)
            last = end if last < 0 else last
            start = first * CHUNK_BYTES
            populate(self.address + start, min(last * CHUNK_BYTES, self.view.nbytes) - start)
            self._touched[first:last] = bytes([1]) * (last - first)
            first = last


class Mappings:
    """The segments of one store, each mapped when first needed and then for good."""

    def __init__(self, directory: str, prefix: str, *, writable: bool) -> None:
        self._directory = pathlib.Path(directory)
        self._prefix = prefix
        self._writable = writable
        self._mappings: dict[int, Mapping] = {}

    def __getitem__(self, number: int) -> Mapping:
        mapping = self._mappings.get(number)
        if mapping is None:
            path = self._directory / layout.segment_name(self._prefix, number)
            try:
                mapping = Mapping(path, number, writable=self._writable)
            except OSError as error:
                raise StoreError(f"the segment {path} cannot be mapped: {error}") from error
            # Two threads may have mapped it; the first in the book counts.
            mapping = self._mappings.setdefault(number, mapping)
        return mapping

    def clear(self) -> None:
        """Forget the mappings; those with living views are unmapped with the last of them."""
        self._mappings.clear()


# ------------------------------------------------------------------------------------------------------------ capacity
def _figure(path: pathlib.Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def memory_limit_bytes(root: str = "/", cgroups: str | None = None) -> int:
    """What this process may use: the machine's memory, or less inside a container (cgroup v2 and v1, all levels)."""
    base = pathlib.Path(root)
    limits = [_NO_LIMIT]
    for line in (base / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) * 1024)
    if cgroups is None:
        try:
            cgroups = (base / "proc/self/cgroup").read_text()
        except OSError:
            cgroups = ""
    for line in cgroups.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0":
            mounts, name = ["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.max"
        elif "memory" in controllers.split(","):
            mounts, name = ["sys/fs/cgroup/memory"], "memory.limit_in_bytes"
        else:
            continue
        parts = pathlib.PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            # A limit of any ancestor holds too; inside a container the path may not be visible, its root is.
            for part in (parts, *parts.parents):
                limits.append(_figure(base / mount / part / name) or _NO_LIMIT)
    return min(limits)


def default_capacity(directory: str = SHARED_MEMORY, memory_bytes: int | None = None) -> int:
    """30 % of the memory, or what the mount can give if that is less."""
    share = int((memory_limit_bytes() if memory_bytes is None else memory_bytes) * CAPACITY_SHARE)
    return min(share, int(free_bytes(directory) * MOUNT_SHARE_MAX)) // mmap.PAGESIZE * mmap.PAGESIZE


def free_bytes(directory: str) -> int:
    figures = os.statvfs(directory)
    return figures.f_bavail * figures.f_frsize


def check_capacity(
    capacity_bytes: int,
    directory: str = SHARED_MEMORY,
    *,
    memory_limit: Callable[[], int] = memory_limit_bytes,
    mount_free: Callable[[str], int] = free_bytes,
) -> None:
    """Raises CapacityRefused, with figures, if the store could not be filled."""
    there = mount_free(directory)
    if capacity_bytes > there * MOUNT_SHARE_MAX:
        raise CapacityRefused(
            f"an object store of {capacity_bytes} bytes does not fit: {directory} has {there} bytes free, of which "
            f"{MOUNT_SHARE_MAX:.0%} may be used. Ask for less, or enlarge the mount (Docker: --shm-size)"
        )
    limit = memory_limit()
    if capacity_bytes > limit * MOUNT_SHARE_MAX:
        raise CapacityRefused(
            f"an object store of {capacity_bytes} bytes does not fit: this machine or container has {limit} bytes "
            "of memory"
        )
