"""What the programs beside this one share: a session of their own, what it must not leave behind, and the report.

A *check* decides about the exit status. A *target* is a speed: it is printed with what was wanted, and decides only
with ``--strict``, as the machine may have been busy.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

import actorrt as ray

MB = 1_000_000
SHARED_MEMORY = Path("/dev/shm")
GONE_WITHIN_S = 10.0
FREED_WITHIN_S = 20.0
LEAST_STORE_BYTES = 75 << 20  # what init() accepts


class Report:
    """Collects rows, prints them at once, and knows the exit status."""

    def __init__(self, title, *, strict=False):
        self.strict = strict
        self.failed = []
        self.missed = []
        print(f"{title}; load {os.getloadavg()[0]:.2f}, {os.cpu_count()} CPUs")

    def figure(self, name, value, unit="", note=""):
        text = f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1e4 else f"{value:,.0f}"
        print(f"  {name:<58}{text:>14} {unit:<6} {note}".rstrip(), flush=True)

    def check(self, name, fine, detail=""):
        if not fine:
            self.failed.append(name)
        print(f"  {name:<58}{'ok' if fine else 'FAILED':>14} {detail}".rstrip(), flush=True)
        return fine

    def target(self, name, value, wanted, unit="", *, at_most=False):
        reached = value <= wanted if at_most else value >= wanted
        if not reached:
            self.missed.append(name)
        word = "at most" if at_most else "at least"
        self.figure(name, float(value), unit, f"{'ok' if reached else 'MISSED'}, wanted {word} {wanted:,.4g}")

    def status(self):
        if self.missed:
            print(f"missed: {'; '.join(self.missed)}")
        print(f"FAILED: {'; '.join(self.failed)}" if self.failed else "all checks passed")
        return 1 if self.failed or (self.strict and self.missed) else 0


def add_common_arguments(parser, limit_s):
    parser.add_argument("--strict", action="store_true", help="missed speeds count as failures")
    parser.add_argument("--limit", type=float, default=limit_s, help="seconds after which the program gives up")


@contextlib.contextmanager
def limited(limit_s):
    """After that long, print where every thread is and end the process (its cluster ends with it)."""
    faulthandler.dump_traceback_later(limit_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class Session:
    """Processes, shared memory and files of the clusters that are started within; nothing of them may be left."""

    def __init__(self, report):
        self.report = report
        self.mark = f"ACTORRT_BENCH_MARK={uuid.uuid4().hex}"
        self.segments = set()
        self._before = {}
        self._folder = None

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="am-")  # a short path: it holds sockets
        self.folder = Path(self._folder.name)
        self.spill = self.folder / "spill"
        self.spill.mkdir()
        (self.folder / "run").mkdir(mode=0o700)
        name, _, value = self.mark.partition("=")
        for variable, wanted in (
            (name, value),
            ("ACTORRT_TMPDIR", str(self.folder / "run")),
            ("ACTORRT_ADDRESS", None),
        ):
            self._before[variable] = os.environ.pop(variable, None)
            if wanted is not None:
                os.environ[variable] = wanted
        return self

    def __exit__(self, kind, error, trace):
        try:
            if ray.is_initialized():
                self.note_segments()
                ray.shutdown()
            if kind is None:
                self._check_nothing_left()
            else:
                self._end_processes()
        finally:
            for variable, value in self._before.items():
                os.environ.pop(variable, None)
                if value is not None:
                    os.environ[variable] = value
            self._folder.cleanup()

    def pids(self):
        """Processes of our clusters that live; without this one."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(entry.name) == os.getpid() or self.mark.encode() not in (entry / "environ").read_bytes():
                    continue
                if (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                    found.append(int(entry.name))
        return found

    def note_segments(self):
        """Remember the shared-memory files that processes of ours have mapped or open; returns all so far."""
        for pid in [os.getpid(), *self.pids()]:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                    path = line.split(maxsplit=5)[-1]
                    if path.startswith(f"{SHARED_MEMORY}/") and "actorrt" in path:
                        self.segments.add(path.removesuffix(" (deleted)"))
        return self.segments

    def spill_files(self):
        return files_below(self.spill)

    def _check_nothing_left(self):
        gone = wait_until(lambda: not self.pids(), GONE_WITHIN_S)
        self.report.check("no process left", gone, "" if gone else str(self.pids()))
        left = [path for path in sorted(self.segments) if Path(path).exists()]
        self.report.check(f"no shared memory left (of {len(self.segments)} files seen)", not left, " ".join(left))
        left = self.spill_files()
        self.report.check("no spill file left", not left, " ".join(map(str, left[:5])))
        self._end_processes()

    def _end_processes(self):
        for pid in self.pids():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def files_below(folder):
    found = []
    for where, _folders, names in os.walk(folder):
        found += [Path(where, name) for name in names]
    return sorted(found)


def bytes_below(folder):
    total = 0
    for path in files_below(folder):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def wait_until(predicate, timeout_s, pause_s=0.02):
    """The predicate's value as soon as it is true, or its last one."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := predicate()) and time.monotonic() < deadline_s:
        time.sleep(pause_s)
    return value


def store_bytes_in_use():
    """By the nodes' own account."""
    name = "object_store_memory"
    return round(ray.cluster_resources().get(name, 0) - ray.available_resources().get(name, 0))


def check_all_freed(report, allowed_bytes=0):
    """After the last ref: the store's account must come back to nothing."""
    freed = wait_until(lambda: store_bytes_in_use() <= allowed_bytes, FREED_WITHIN_S)
    report.check("the store's account is back to zero", freed, f"{store_bytes_in_use():,} bytes in use")


def timed(function):
    start_s = time.perf_counter()
    value = function()
    return time.perf_counter() - start_s, value


def median(figures):
    return float(statistics.median(figures))


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def run(main):
    """The exit status of a program, also when it breaks off."""
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
