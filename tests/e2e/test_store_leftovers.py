"""Objects in shared memory and on disk: gone with their node, however it ends."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import actorrt
from actorrt.cluster import session
from actorrt.testing import Cluster

MIB = 1 << 20
STORE_BYTES = 80 * MIB
OBJECTS = 30
"""Of 4 MB: more than the store has room for."""


@pytest.fixture
def place(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="ac-") as folder:
        monkeypatch.setenv(session.TEMP_VARIABLE, folder)
        monkeypatch.delenv("ACTORRT_ADDRESS", raising=False)
        yield Path(folder)


def segments(node_id):
    return [path.name for path in Path(session.SHARED_MEMORY).glob(f"actorrt-{node_id[:16]}-*")]


def spilled(*folders):
    return [path for folder in folders for path in Path(folder).rglob("*.spill")]


def sockets(place):
    return list((session.root_folder(str(place)) / "s").iterdir())


def put_much():
    return [actorrt.put(np.full(500_000, number)) for number in range(OBJECTS)]


DRIVER = """
import sys, time
import numpy as np
import actorrt
from actorrt.testing import Cluster
cluster = Cluster(initialize_head=True, connect=True, in_process=$IN_PROCESS, head_node_args=$ARGUMENTS)
refs = [actorrt.put(np.full(500_000, number)) for number in range($OBJECTS)]
assert actorrt.get(refs[0])[0] == 0
print("ready", cluster.head_node.node_id, getattr(cluster.head_node, "pid", 0), flush=True)
time.sleep($SLEEP_S)
"""


def start_driver(place, *, in_process=False, sleep_s=600, **arguments):
    """A driver with a cluster and objects; returns it, and its head's node id and pid."""
    source = DRIVER.replace("$IN_PROCESS", repr(in_process)).replace("$OBJECTS", repr(OBJECTS))
    source = source.replace("$SLEEP_S", repr(sleep_s))
    source = source.replace("$ARGUMENTS", repr({"num_cpus": 1, "object_store_memory": STORE_BYTES, **arguments}))
    path = place / "driver.py"
    path.write_text(source)
    driver = subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True)
    for line in driver.stdout:
        found = re.match(r"ready (\w+) (\d+)", line)
        if found:
            return driver, found[1], int(found[2])
    raise AssertionError(f"the driver ended: {driver.wait()}")


@pytest.fixture(params=["session", "own"])
def spill(request, place):
    """Arguments of a node, and the folder that its spill files are in."""
    if request.param == "session":
        return {}, place
    return {"object_spilling_directory": str(place / "spill")}, place / "spill"


@pytest.mark.parametrize("in_process", [False, True])
def test_an_orderly_end(place, spill, in_process):
    arguments, folder = spill
    head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, **arguments}
    with Cluster(initialize_head=True, connect=True, head_node_args=head, in_process=in_process) as cluster:
        node_id = cluster.head_node.node_id
        assert segments(node_id) == []  # nothing is made before it is needed
        refs = put_much()
        assert len(segments(node_id)) == 1
        assert spilled(folder)
        assert [int(actorrt.get(ref)[0]) for ref in refs] == list(range(OBJECTS))
        del refs
    assert segments(node_id) == []
    assert spilled(place) == []
    assert sockets(place) == []


@pytest.mark.parametrize("in_process", [False, True])
def test_a_program_that_ends_without_a_word(place, spill, until, in_process):
    """Its node sees it end, and follows."""
    arguments, _ = spill
    driver, node_id, _ = start_driver(place, in_process=in_process, sleep_s=0, **arguments)
    assert driver.wait(20) == 0
    driver.stdout.close()
    until(lambda: not segments(node_id) and not spilled(place) and not sockets(place), timeout_s=5)


def test_a_node_that_is_killed(place, spill, until):
    arguments, folder = spill
    head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, **arguments}
    with Cluster(initialize_head=True, head_node_args=head) as cluster:
        cluster.connect()
        node_id, pid = cluster.head_node.node_id, cluster.head_node.pid
        refs = put_much()
        assert segments(node_id)
        assert spilled(folder)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not segments(node_id) and not spilled(folder) and not sockets(place), timeout_s=5)
        del refs


@pytest.mark.parametrize("in_process", [False, True])
def test_everything_is_killed_at_once(place, spill, until, in_process):
    """Nobody is left to clean up but the next cluster."""
    arguments, folder = spill
    driver, node_id, node_pid = start_driver(place, in_process=in_process, **arguments)
    with driver:
        if not in_process:
            node = psutil.Process(node_pid)
            node.suspend()  # or it would see the others die
            for process in node.children(recursive=True):
                process.kill()
        driver.kill()
        if not in_process:
            node.kill()
    assert segments(node_id)
    assert spilled(folder)
    with Cluster(initialize_head=True, connect=True):
        until(lambda: not segments(node_id) and not spilled(place))
        until(lambda: len(sockets(place)) == 1)


def test_the_memory_of_a_killed_process_is_given_back(place, until):
    """Pins and slabs go with the process that had them."""
    with Cluster(initialize_head=True, connect=True, head_node_args={"object_store_memory": STORE_BYTES}):

        @actorrt.remote(max_retries=0)
        def hold(refs):
            values = actorrt.get(refs)
            own = actorrt.put(np.zeros(100_000))
            Path(place / "ready").touch()
            time.sleep(600)
            return values, own

        refs = [actorrt.put(np.zeros(1_000_000)) for _ in range(5)]
        running = hold.remote([*refs])
        until((place / "ready").exists)
        del refs
        actorrt.cancel(running, force=True)
        with pytest.raises(actorrt.exceptions.ActorrtError):
            actorrt.get(running, timeout=20)
        # 72 MB in one piece: only when all of it is free again.
        until(lambda: len(actorrt.get(actorrt.put(np.zeros(9_000_000)))) == 9_000_000)


@pytest.mark.parametrize("start", ["init", "add_node", "in_process"])
def test_a_store_that_does_not_fit_is_refused_before_anything_is_started(place, start):
    with pytest.raises(ValueError, match=r"object_store_memory=35184372088832: .* bytes free"):
        if start == "init":
            actorrt.init("local", object_store_memory=1 << 45)
        else:
            head = {"object_store_memory": 1 << 45}
            Cluster(initialize_head=True, head_node_args=head, in_process=start == "in_process")
    assert not (session.root_folder(str(place)) / "s").exists()
    assert not actorrt.is_initialized()
