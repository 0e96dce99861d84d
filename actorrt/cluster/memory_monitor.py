"""The raylet's eye on memory: looks at the node's memory every so often, and says so when too much of it is in use.

What is looked at each time is one small file of the kernel per limit there is: the machine's memory, and that of every
control group above this process that has a limit (version 1 and 2, as of the start of the node). The tightest counts.
Caches of files are not "in use", as the kernel gives them up first; shared memory, the object store among it, is.

Only above the threshold the processes are looked at, which takes some 50 us each: in a thread, and only files that need
no lock of the process looked at (``cmdline`` would, and a process short of memory may hold it for long). What a worker
*group* holds counts, with the children of the worker, and of that only what is shared with nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from actorrt.cluster.config import MemoryMonitorConfig
from actorrt.raylet.messages import MemoryPressed, ProcessMemory

logger = logging.getLogger("actorrt.cluster.memory_monitor")

TABLE_ROWS_MAX: Final = 10
"""Processes a report lists."""
PROC: Final = Path("/proc")
CGROUPS: Final = Path("/sys/fs/cgroup")

MEMINFO_BYTES: Final = 256
"""The two figures wanted stand in the first three lines."""

_MEMORY = re.compile(rb"MemTotal:\s+(\d+) kB.*?MemAvailable:\s+(\d+) kB", re.DOTALL)


class MemoryReading(msgspec.Struct, frozen=True):
    """How much of some memory is in use."""

    used_bytes: int
    total_bytes: int
    place: str

    @property
    def share(self) -> float:
        """In use, from 0 to 1."""
        return self.used_bytes / self.total_bytes if self.total_bytes else 0.0


class _Layout(msgspec.Struct, frozen=True):
    """How a version of control groups calls things."""

    limit: str
    usage: str
    cached: re.Pattern[bytes]


_VERSION_1 = _Layout(
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    re.compile(rb"^total_(?:in)?active_file (\d+)$", re.MULTILINE),
)
_VERSION_2 = _Layout("memory.max", "memory.current", re.compile(rb"^(?:in)?active_file (\d+)$", re.MULTILINE))


class MemoryGauge:
    """Reads how much memory is in use. Keeps a file open: opening it each time would cost more than all the rest."""

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._meminfo_fd = -1
        with contextlib.suppress(OSError):  # this system has none
            self._meminfo_fd = os.open(proc / "meminfo", os.O_RDONLY | os.O_CLOEXEC)
        machine = self._read_machine()
        total_bytes = machine.total_bytes if machine is not None else 0
        self._groups = [
            (folder, layout)
            for folder, layout in _memory_groups(proc, cgroups)
            if 0 < _limit(folder / layout.limit) < (total_bytes or 1 << 62)
        ]

    def read(self) -> MemoryReading | None:
        """The tightest memory there is; None: this system does not tell."""
        readings = [self._read_machine(), *(_read_group(folder, layout) for folder, layout in self._groups)]
        return max((reading for reading in readings if reading is not None), key=lambda r: r.share, default=None)

    def _read_machine(self) -> MemoryReading | None:
        found = None if self._meminfo_fd < 0 else _MEMORY.match(os.pread(self._meminfo_fd, MEMINFO_BYTES, 0))
        if found is None:
            return None
        total_bytes, available_bytes = int(found[1]) << 10, int(found[2]) << 10
        return MemoryReading(total_bytes - available_bytes, total_bytes, "this machine")

    def close(self) -> None:
        """Read nothing any more (idempotent)."""
        if self._meminfo_fd >= 0:
            os.close(self._meminfo_fd)
            self._meminfo_fd = -1


def _memory_groups(proc: Path, cgroups: Path) -> list[tuple[Path, _Layout]]:
    """Control groups this process may be limited by: its own and those above, as far as they are visible.

    In a container the path may be the machine's, of which only the lower end is mounted: what is not there is skipped.
    """
    found = []
    for line in _read(proc / "self" / "cgroup").decode("utf-8", "replace").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            root, layout = cgroups, _VERSION_2
        elif "memory" in controllers.split(","):
            root, layout = cgroups / "memory", _VERSION_1
        else:
            continue
        own = root / path.strip("/")
        if ".." in own.parts:
            own = root
        for folder in (own, *own.parents):
            if (folder / layout.limit).is_file():
                found.append((folder, layout))
            if folder == root:
                break
    return found


def _limit(path: Path) -> int:
    """The limit in this file; 0: none ("max")."""
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _read_group(folder: Path, layout: _Layout) -> MemoryReading | None:
    limit_bytes, used_bytes = _limit(folder / layout.limit), _limit(folder / layout.usage)
    if not limit_bytes:
        return None
    cached_bytes = sum(map(int, layout.cached.findall(_read(folder / "memory.stat"))))
    return MemoryReading(max(0, used_bytes - cached_bytes), limit_bytes, f"control group {folder}")


def _read(path: Path) -> bytes:
    """What the file says; empty when it is not there (any more)."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


class Process(msgspec.Struct, frozen=True):
    """A process with memory of its own."""

    pid: int
    group: int
    private_bytes: int
    name: str


def read_processes(proc: Path = PROC) -> list[Process]:
    """All processes there are, as far as we may see them."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        head, _, tail = _read(folder / "stat").rpartition(b")")
        state, pages = tail.split(), _read(folder / "statm").split()
        if len(state) > 2 and len(pages) > 2:  # it has not ended meanwhile
            private_bytes = max(0, int(pages[1]) - int(pages[2])) * page_bytes
            title = head.partition(b"(")[2].decode("utf-8", "replace")
            found.append(Process(int(folder.name), int(state[2]), private_bytes, title))
    return found


def report(
    reading: MemoryReading, threshold: float, processes: Iterable[Process], worker_pids: Iterable[int]
) -> MemoryPressed:
    """What the raylet is told. Each worker leads a process group of its own."""
    groups = dict.fromkeys(worker_pids, 0)
    ranked = sorted(processes, key=lambda process: (-process.private_bytes, process.pid))
    for process in ranked:
        if process.group in groups:
            groups[process.group] += process.private_bytes
    return MemoryPressed(
        reading.used_bytes,
        reading.total_bytes,
        threshold,
        reading.place,
        tuple(ProcessMemory(pid, private_bytes) for pid, private_bytes in groups.items()),
        tuple(ProcessMemory(process.pid, process.private_bytes, process.name) for process in ranked[:TABLE_ROWS_MAX]),
    )


class MemoryMonitor:
    """Looks, and posts ``MemoryPressed``. Lives on the loop's thread.

    Args:
        config: how often, and from when on memory is short.
        worker_pids: the worker processes there are.
        post: hands a message to the raylet.
    """

    def __init__(
        self,
        config: MemoryMonitorConfig,
        *,
        worker_pids: Callable[[], tuple[int, ...]],
        post: Callable[[MemoryPressed], None],
        gauge: MemoryGauge | None = None,
        processes: Callable[[], list[Process]] = read_processes,
    ) -> None:
        self._config = config
        self._worker_pids = worker_pids
        self._post = post
        self._gauge = gauge or MemoryGauge()
        self._processes = processes
        self._pressed = False

    async def run(self) -> None:
        """Look until cancelled; returns at once when there is nothing to look at, or nobody wants it."""
        try:
            if self._config.refresh_s <= 0:
                return
            if self._gauge.read() is None:
                logger.warning("this system does not tell how much memory is in use: nobody looks after it")
                return
            while True:
                await asyncio.sleep(self._config.refresh_s)
                await self.look()
        finally:
            self._gauge.close()

    async def look(self) -> None:
        """Look once."""
        reading = self._gauge.read()
        if reading is None or reading.share <= self._config.usage_threshold:
            self._pressed = False
            return
        if not self._pressed:
            self._pressed = True
            used_mib, total_mib = reading.used_bytes >> 20, reading.total_bytes >> 20
            logger.warning("memory is short: %d of %d MiB of %s are in use", used_mib, total_mib, reading.place)
        pids = self._worker_pids()
        if pids:
            processes = await asyncio.to_thread(self._processes)
            self._post(report(reading, self._config.usage_threshold, processes, pids))
