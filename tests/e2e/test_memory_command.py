"""``actorrt memory`` and the store figures of ``actorrt status``, against real processes."""

import json
import os
import signal
import subprocess
import sys

import pytest

from actorrt.cluster.interpreter import PACKAGE_PARENT
from actorrt.testing import Cluster

STORE_BYTES = 80_000_000
TIMEOUT_S = 40


@pytest.fixture(scope="module")
def cluster(sessions):
    small = {"num_cpus": 2, "object_store_memory": STORE_BYTES}
    with Cluster(initialize_head=True, head_node_args=small) as cluster:
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, resources={"second": 1}, node_name="second")
        yield cluster


@pytest.fixture
def command(cluster):
    def run(*arguments):
        ended = subprocess.run(
            [sys.executable, "-m", "actorrt.cluster.cli", *arguments, f"--address={cluster.address}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            cwd=PACKAGE_PARENT,
        )
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr
        return ended.stdout

    return run


DRIVER = """
import numpy as np
rt.init(address=$address, log_to_driver=False)

@rt.remote(num_cpus=0)
class Keeper:
    def keep(self, refs):
        self.ref = refs[0]
        self.view = rt.get(self.ref)
        return os.getpid()

@rt.remote(num_cpus=0, resources={"second": 1})
def look(array):
    return array.nbytes

@rt.remote
def late(gate):
    while not os.path.exists(gate):
        time.sleep(0.05)

big = [rt.put(np.full(4 << 20, i, np.uint8)) for i in range(30)]
shared = rt.put(np.zeros(5 << 20, np.uint8))
assert rt.get(look.remote(shared)) == 5 << 20
keeper = Keeper.remote()
pid = rt.get(keeper.keep.remote([shared]))
box = rt.put([shared])
waiting = late.remote($gate)
say("ready", shared.hex(), big[0].hex(), waiting.hex(), os.getpid(), pid)
input()
"""


@pytest.fixture
def busy(drivers, cluster, command, until, tmp_path):
    until(lambda: " 0 objects" in command("memory", "--stats-only"), 30.0)  # what dead drivers left goes after a while
    process = drivers.start(DRIVER, address=cluster.address, gate=str(tmp_path / "gate"))
    shared, spilled, waiting, driver, keeper = drivers.read_line(process, "ready").split()
    yield {"shared": shared, "spilled": spilled, "waiting": waiting, "driver": int(driver), "keeper": int(keeper)}
    (tmp_path / "gate").touch()
    process.communicate(b"\n", timeout=20)
    assert process.returncode == 0


def test_an_idle_cluster(command, until):
    text = until(lambda: text if "Objects (by size)\n  none" in (text := command("memory")) else "")
    assert "second" in text
    assert "Total: 2 nodes" in text
    assert "object store, 0 objects, 0 B spilled" in command("status")


def line_of(text, object_id):
    (line,) = [line for line in text.split("\n") if line.startswith(f"  {object_id} ")]
    return line


def test_who_holds_what(busy, command):
    text = command("memory", "--limit=1000")
    shared = line_of(text, busy["shared"])
    assert f"driver {busy['driver']}" in shared
    assert "LOCAL_REFERENCE=1" in shared
    assert "CAPTURED_IN_OBJECT=1" in shared
    assert "BORROWED_BY=1" in shared
    assert f"actor Keeper {busy['keeper']}: LOCAL_REFERENCE=1" in shared
    assert shared.endswith(f"actor Keeper {busy['keeper']}")  # pins it
    assert "(copy)" in shared  # on the second node
    assert "5 MiB" in shared
    assert "PENDING (late)" in line_of(text, busy["waiting"])
    assert " SPILLED " in line_of(text, busy["spilled"])
    assert "ACTOR_HANDLE=1" in text
    assert "Did not answer" not in text


def test_for_programs(busy, command):
    report = json.loads(command("memory", "--json", "--limit=5"))
    assert len(report["objects"]) == 5
    assert report["omitted"] > 0
    largest = report["objects"][0]
    assert largest["object_id"] == busy["shared"]
    assert len(largest["places"]) == 2
    assert sum(node["figures"]["spilled"] for node in report["nodes"]) > 0
    assert {item["role"] for item in report["processes"]} >= {"driver", "actor Keeper"}
    assert busy["driver"] in {item["pid"] for item in report["processes"]}


@pytest.mark.usefixtures("busy")
def test_figures_alone(command):
    text = command("memory", "--stats-only")
    assert "Objects" not in text
    assert "spilled" in text
    status = command("status", "-v")
    assert status.count(" object store, ") == 3  # two nodes and their sum
    assert "0 objects, 0 B spilled" not in status.rpartition("Resources")[2]


def test_an_owner_that_does_not_answer_holds_nobody_up(busy, command):
    os.kill(busy["driver"], signal.SIGSTOP)
    try:
        text = command("memory", "--sort-by=owner")
        assert f"Did not answer\n  driver {busy['driver']}: " in text
        assert f"driver {busy['driver']}" in line_of(text, busy["shared"])
    finally:
        os.kill(busy["driver"], signal.SIGCONT)
