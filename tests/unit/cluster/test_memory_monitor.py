"""How much memory is in use, by whom, and what the raylet is told."""

import asyncio
import os

import pytest

from actorrt.cluster import memory_monitor
from actorrt.cluster.config import MemoryMonitorConfig
from actorrt.cluster.memory_monitor import (
    TABLE_ROWS_MAX,
    MemoryGauge,
    MemoryMonitor,
    MemoryReading,
    Process,
    read_processes,
    report,
)
from actorrt.raylet.messages import MemoryPressed, ProcessMemory

GIB = 1 << 30


class System:
    """A machine of 16 GiB with 4 GiB in use, as files."""

    def __init__(self, folder):
        self.proc, self.cgroups, self.gauges = folder / "proc", folder / "cgroup", []
        (self.proc / "self").mkdir(parents=True)
        self.cgroups.mkdir()
        self.use(4 * GIB)

    def use(self, used_bytes):
        total_kib, free_kib = 16 * GIB >> 10, (16 * GIB - used_bytes) >> 10
        text = f"MemTotal:       {total_kib} kB\nMemFree:  1 kB\nMemAvailable:   {free_kib} kB\nSwapTotal: 0 kB\n"
        (self.proc / "meminfo").write_text(text)

    def be_in(self, *lines):
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def group(self, path, limit, used_bytes, inactive=0, active=0, version=2):
        folder = self.cgroups / path
        folder.mkdir(parents=True, exist_ok=True)
        total, names = ("", ("max", "current"))
        if version == 1:
            total, names = "total_", ("limit_in_bytes", "usage_in_bytes")
        (folder / f"memory.{names[0]}").write_text(f"{limit}\n")
        (folder / f"memory.{names[1]}").write_text(f"{used_bytes}\n")
        own = "inactive_file 99\nactive_file 99\n" if version == 1 else ""
        (folder / "memory.stat").write_text(
            f"anon 5\n{own}{total}inactive_file {inactive}\n{total}active_file {active}\n"
        )
        return folder

    def process(self, pid, group, resident, shared, name="python"):
        folder = self.proc / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} ({name}) S 1 {group} {group} 0 -1 4194560 1 1\n")
        (folder / "statm").write_text(f"9999 {resident} {shared} 1 0 9 0\n")

    def gauge(self):
        self.gauges.append(MemoryGauge(self.proc, self.cgroups))
        return self.gauges[-1]


@pytest.fixture
def system(tmp_path):
    made = System(tmp_path)
    yield made
    for gauge in made.gauges:
        gauge.close()


# ----------------------------------------------------------------------------------------------------------- the gauge
def test_a_machine(system):
    reading = system.gauge().read()
    assert reading == MemoryReading(4 * GIB, 16 * GIB, "this machine")
    assert reading.share == 0.25
    assert MemoryReading(5, 0, "").share == 0.0


def test_a_system_that_does_not_tell(tmp_path):
    assert MemoryGauge(tmp_path / "none", tmp_path / "nor").read() is None


def test_a_container_of_version_2(system):
    system.be_in("0::/")
    folder = system.group("", 2 * GIB, 2 * GIB - 5, inactive=GIB, active=GIB // 2)
    gauge = system.gauge()
    assert gauge.read().place == "this machine", "files in memory are given up first, so a quarter of it is in use"
    system.group("", 2 * GIB, 2 * GIB - 5, inactive=GIB // 2)
    assert gauge.read() == MemoryReading(GIB + GIB // 2 - 5, 2 * GIB, f"control group {folder}")


def test_the_tightest_of_nested_groups(system):
    system.be_in("0::/a/b/c")
    system.group("a", 8 * GIB, 4 * GIB)
    tight = system.group("a/b", 2 * GIB, GIB + 5)
    system.group("a/b/c", "max", 1)
    gauge = system.gauge()
    assert gauge.read() == MemoryReading(GIB + 5, 2 * GIB, f"control group {tight}")
    system.use(15 * GIB)
    assert gauge.read().place == "this machine"
    (tight / "memory.max").unlink()
    system.use(GIB)
    assert gauge.read().place.endswith("/a"), "a group that is gone is no news"


def test_version_1(system):
    system.be_in("5:cpu,cpuacct:/x", "4:memory:/docker/abc", "0::/")
    folder = system.group("memory/docker/abc", GIB, GIB - 7, inactive=5, active=6, version=1)
    system.group("memory", 9223372036854771712, 5 * GIB, version=1)
    assert system.gauge().read() == MemoryReading(GIB - 18, GIB, f"control group {folder}")


def test_a_path_of_the_machine_seen_from_a_container(system):
    system.be_in("4:memory:/docker/abc", "nonsense")
    folder = system.group("memory", GIB, GIB - 7, version=1)
    assert system.gauge().read() == MemoryReading(GIB - 7, GIB, f"control group {folder}")
    system.be_in("4:memory:/../abc")
    assert system.gauge().read().total_bytes == GIB


def test_this_very_machine():
    gauge = MemoryGauge()
    reading = gauge.read()
    assert 0 < reading.used_bytes < reading.total_bytes
    gauge.close()
    gauge.close()
    assert gauge.read() is None or gauge.read().place != "this machine"


# ------------------------------------------------------------------------------------------------------- the processes
def test_processes(system):
    page = os.sysconf("SC_PAGE_SIZE")
    system.process(10, 10, 500, 100)
    system.process(11, 10, 5, 50, name="a (b) c")
    (system.proc / "12").mkdir()  # ended meanwhile
    assert sorted(read_processes(system.proc), key=lambda process: process.pid) == [
        Process(10, 10, 400 * page, "python"),
        Process(11, 10, 0, "a (b) c"),
    ]


def test_we_are_among_them():
    [own] = [process for process in read_processes() if process.pid == os.getpid()]
    assert own.group == os.getpgrp()
    assert own.private_bytes > 1 << 20


def test_what_is_reported():
    processes = [Process(pid, 1, pid, f"p{pid}") for pid in range(100, 120)]
    processes += [Process(7, 7, 300, "worker"), Process(8, 7, 50, "its child"), Process(9, 9, 1, "other")]
    told = report(MemoryReading(90, 100, "here"), 0.5, processes, (7, 6))
    assert (told.used_bytes, told.total_bytes, told.threshold, told.place) == (90, 100, 0.5, "here")
    assert told.workers == (ProcessMemory(7, 350), ProcessMemory(6, 0)), "the whole group counts"
    assert told.biggest[:2] == (ProcessMemory(7, 300, "worker"), ProcessMemory(119, 119, "p119"))
    assert len(told.biggest) == TABLE_ROWS_MAX


# --------------------------------------------------------------------------------------------------------- the monitor
class Gauge:
    """Reads what it is told to."""

    def __init__(self, *shares):
        self.shares = list(shares)
        self.closed = False

    def close(self):
        self.closed = True

    def read(self):
        share = self.shares.pop(0) if self.shares else 0.0
        return None if share is None else MemoryReading(int(share * 100), 100, "here")


def monitor(gauge, *, pids=(7,), threshold=0.5, refresh_s=0.001):
    posted, scans = [], []

    def processes():
        scans.append(1)
        return [Process(7, 7, 30, "worker")]

    made = MemoryMonitor(
        MemoryMonitorConfig(usage_threshold=threshold, refresh_s=refresh_s),
        worker_pids=lambda: pids,
        post=posted.append,
        gauge=gauge,
        processes=processes,
    )
    return made, posted, scans


@pytest.mark.asyncio
async def test_only_above_the_threshold_anybody_is_looked_at(caplog):
    made, posted, scans = monitor(Gauge(0.4, 0.5, 0.6, 0.7, 0.3, None, 0.8))
    for _ in range(2):
        await made.look()
    assert (posted, scans) == ([], [])
    for _ in range(5):
        await made.look()
    assert [message.used_bytes for message in posted] == [60, 70, 80]
    assert type(posted[0]) is MemoryPressed
    assert posted[0].workers == (ProcessMemory(7, 30),)
    assert len(scans) == 3
    assert caplog.text.count("memory is short") == 2, "once each time it begins"


@pytest.mark.asyncio
async def test_without_workers_there_is_nobody_to_look_for():
    made, posted, scans = monitor(Gauge(0.9), pids=())
    await made.look()
    assert (posted, scans) == ([], [])


@pytest.mark.asyncio
async def test_it_looks_again_and_again():
    enough = asyncio.Event()
    made, posted, _ = monitor(Gauge(*[0.9] * 1000))
    post = made._post
    made._post = lambda message: (post(message), enough.set() if len(posted) > 2 else None)
    task = asyncio.create_task(made.run())
    await asyncio.wait_for(enough.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made._gauge.closed


@pytest.mark.asyncio
async def test_off(caplog):
    made, posted, _ = monitor(Gauge(0.9), refresh_s=0)
    await made.run()
    assert posted == []
    made, posted, _ = monitor(Gauge(None))
    await made.run()
    assert "does not tell" in caplog.text


def test_by_default_it_reads_this_machine():
    made = MemoryMonitor(MemoryMonitorConfig(), worker_pids=tuple, post=print)
    assert type(made._gauge) is MemoryGauge
    made._gauge.close()
    assert made._processes is memory_monitor.read_processes
