import os

import pytest

from actorrt.cluster import hardware
from actorrt.scheduling.resources import UNIT


@pytest.fixture
def cgroup(tmp_path):
    def make(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 64),
        ({"cpu_DOT_max": "max 100000\n"}, 64),
        ({"cpu_DOT_max": "250000 100000\n"}, 3),
        ({"cpu_DOT_max": "1000 100000\n"}, 1),
        ({"cpu_DOT_max": "rubbish"}, 64),
        ({"cpu__cpu.cfs_quota_us": "200000", "cpu__cpu.cfs_period_us": "100000"}, 2),
        ({"cpu__cpu.cfs_quota_us": "-1", "cpu__cpu.cfs_period_us": "100000"}, 64),
    ],
)
def test_cpus(cgroup, monkeypatch, files, count):
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)
    assert hardware.cpu_count(cgroup(**files)) == count


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "1048576\n"}, 1 << 20),
        ({"memory__memory.limit_in_bytes": "2097152"}, 2 << 20),
    ],
)
def test_memory(cgroup, files, limit):
    assert hardware.memory_bytes(cgroup(**files)) == limit


def test_memory_without_a_limit(cgroup):
    whole = hardware.memory_bytes(cgroup())
    assert whole > 1 << 20
    assert hardware.memory_bytes(cgroup(**{"memory.max": "max"})) == whole


def test_what_a_node_offers():
    offered = hardware.node_resources(
        host="h", is_head=True, num_cpus=2, num_gpus=0.5, memory=100, object_store_memory=50, resources={"disk": 1.5}
    )
    assert offered == {
        "CPU": 2 * UNIT,
        "GPU": UNIT // 2,
        "memory": 100 * UNIT,
        "object_store_memory": 50 * UNIT,
        "disk": UNIT * 3 // 2,
        "node:h": UNIT,
        hardware.HEAD_RESOURCE: UNIT,
    }


def test_a_store_of_the_size_that_was_asked_for(tmp_path):
    assert hardware.store_capacity(hardware.OBJECT_STORE_BYTES_MIN, str(tmp_path)) == hardware.OBJECT_STORE_BYTES_MIN
    assert hardware.store_capacity(2e6, str(tmp_path)) == 2_000_000
    free = os.statvfs(tmp_path)
    assert 0 < hardware.store_capacity(None, str(tmp_path)) <= free.f_blocks * free.f_frsize
    assert hardware.store_capacity(None, str(tmp_path / "missing")) > 0


@pytest.mark.parametrize(
    ("wanted", "error", "text"),
    [
        ("1", TypeError, "number of bytes"),
        (True, TypeError, "number of bytes"),
        (0, ValueError, "at least 1048576"),
        (-1, ValueError, "at least"),
        (float("inf"), ValueError, "at least"),
        (float("nan"), ValueError, "at least"),
        (1 << 60, ValueError, "object_store_memory=1152921504606846976: .* bytes free"),
    ],
)
def test_a_store_that_cannot_be(wanted, error, text):
    with pytest.raises(error, match=text):
        hardware.store_capacity(wanted)


@pytest.mark.parametrize(
    ("visible", "gpus", "ids"),
    [("3, 5", 2, ("3", "5")), ("3,5", 1, ("3",)), ("3,5", 0.5, ("3",)), ("3", 2, None), ("3", 0, None), ("", 1, None)],
)
def test_names_of_devices(monkeypatch, visible, gpus, ids):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.device_ids({"GPU": int(gpus * UNIT)}) == (None if ids is None else {"GPU": ids})


def test_looking():
    offered = hardware.node_resources(host="h", is_head=False)
    assert offered["CPU"] >= UNIT
    assert offered["memory"] > offered["object_store_memory"] > 0
    assert hardware.HEAD_RESOURCE not in offered


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"resources": {"disk": -1}}, ValueError, "disk"),
        ({"resources": {"disk": "x"}}, TypeError, "disk"),
        ({"num_cpus": -1}, ValueError, "CPU"),
    ],
)
def test_nonsense(arguments, error, text):
    with pytest.raises(error, match=text):
        hardware.node_resources(host="h", is_head=True, **arguments)
