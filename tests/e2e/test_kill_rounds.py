"""kill -9 of the driver, of a node, of the head, in mid-job: within 5 s nothing of the cluster is left.

One round of each per run; ``ACTORRT_KILL_ROUNDS=20`` makes it the acceptance run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROUNDS = int(os.environ.get("ACTORRT_KILL_ROUNDS", "1"))
GONE_WITHIN_S = 5.0

DRIVER = """
import os, sys, time
import actorrt
from actorrt.testing import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
others = [cluster.add_node(num_cpus=1, resources={"other": 1}) for _ in range(int(sys.argv[1]))]
actorrt.init(address=cluster.address, log_to_driver=False)

@actorrt.remote(max_retries=0)
def busy():
    os.system("sleep 600 &")  # a grandchild
    time.sleep(600)

@actorrt.remote
class Actor:
    def pid(self):
        return os.getpid()

actors = [Actor.remote() for _ in range(2)]
refs = [busy.remote() for _ in range(2)] + [busy.options(resources={"other": 0.1}).remote() for _ in others]
actorrt.get([a.pid.remote() for a in actors])
surviving = actorrt.remote(num_cpus=0)(lambda: 42)
alive = lambda: sum(node["Alive"] for node in actorrt.nodes())
while alive() != 1 + len(others) or actorrt.available_resources().get("CPU", 0) > 0:
    time.sleep(0.02)
print("ready", cluster.head_node.pid, *[n.pid for n in others], flush=True)
if sys.argv[2] == "stay":
    sys.stdin.readline()
    print("still", actorrt.get(surviving.remote(), timeout=10), flush=True)
    actorrt.shutdown()
    cluster.shutdown()
    print("done", flush=True)
else:
    time.sleep(600)
"""


class Marked:
    """A process tree found by a mark in its environment."""

    def __init__(self) -> None:
        self.mark = f"ACTORRT_TEST_MARK={uuid.uuid4().hex}"

    def pids(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() not in (entry / "environ").read_bytes():
                    continue
                if (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                    found.append(int(entry.name))
        return found


@pytest.fixture
def marked() -> Iterator[Marked]:
    mark = Marked()
    yield mark
    for pid in mark.pids():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def start(tmp_path: Path, marked: Marked, others: int, mode: str) -> tuple[subprocess.Popen[str], list[int]]:
    name, _, value = marked.mark.partition("=")
    script = tmp_path / f"driver_{uuid.uuid4().hex}.py"
    script.write_text(DRIVER)
    environment = {**os.environ, name: value, "ACTORRT_TMPDIR": str(tmp_path / "sessions")}
    process = subprocess.Popen(
        [sys.executable, str(script), str(others), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    line = process.stdout.readline().split()
    assert line[:1] == ["ready"], line
    return process, [int(pid) for pid in line[1:]]


def left_over(tmp_path: Path) -> list[str]:
    """Sockets of the sessions, and shared memory of ours."""
    sockets = []
    for folder, _folders, files in os.walk(tmp_path / "sessions"):  # unlike rglob, bears with folders that go meanwhile
        sockets += [str(path) for name in files if (path := Path(folder, name)).is_socket()]
    return sockets + [str(path) for path in Path("/dev/shm").glob("*actorrt*")]


def await_nothing(marked: Marked, tmp_path: Path, *, but: int = 0) -> float:
    began_s = time.monotonic()
    while True:
        pids = [pid for pid in marked.pids() if pid != but]
        left = left_over(tmp_path)
        took_s = time.monotonic() - began_s
        if not pids and not left:
            return took_s
        assert took_s < GONE_WITHIN_S, f"after {took_s:.1f} s: processes {pids}, files {left}"
        time.sleep(0.02)


@pytest.fixture
def sessions() -> Iterator[Path]:
    """A short path: socket paths have 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        Path(folder, "sessions").mkdir(mode=0o700)
        yield Path(folder)


@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_killed_driver(sessions: Path, marked: Marked) -> None:
    took_s = []
    for _ in range(ROUNDS):
        process, _nodes = start(sessions, marked, 0, "sleep")
        assert len(marked.pids()) > 6
        process.kill()
        process.communicate()
        took_s.append(await_nothing(marked, sessions))
    print(f"driver killed {ROUNDS}x: all gone after at most {max(took_s):.2f} s")


@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_killed_head(sessions: Path, marked: Marked) -> None:
    took_s = []
    for _ in range(ROUNDS):
        process, (head, _other) = start(sessions, marked, 1, "sleep")
        os.kill(head, signal.SIGKILL)
        took_s.append(await_nothing(marked, sessions, but=process.pid))
        process.kill()
        process.communicate()
    print(f"head killed {ROUNDS}x: all gone after at most {max(took_s):.2f} s")


@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_killed_node_and_its_surviving_cluster(sessions: Path, marked: Marked) -> None:
    took_s = []
    for _ in range(ROUNDS):
        process, (_head, first, second) = start(sessions, marked, 2, "stay")
        began_s = time.monotonic()
        tree = tree_of(first, marked)
        assert len(tree) >= 3, "node process, zygote, worker"
        os.kill(first, signal.SIGKILL)
        while alive := [pid for pid in tree if pid in marked.pids()]:
            assert time.monotonic() - began_s < GONE_WITHIN_S, f"left of the killed node: {alive}"
            time.sleep(0.02)
        took_s.append(time.monotonic() - began_s)
        assert second in marked.pids(), "the other node lives"
        out, _ = process.communicate("go on\n", timeout=30)
        assert "still 42" in out, "the cluster works on"
        assert "done" in out
        await_nothing(marked, sessions)
    print(f"node killed {ROUNDS}x: all of it gone after at most {max(took_s):.2f} s")


def tree_of(root: int, marked: Marked) -> list[int]:
    """A process and its descendants (by parent ids; sessions differ)."""
    parents: dict[int, int] = {}
    for pid in marked.pids():
        with contextlib.suppress(OSError):
            parents[pid] = int(Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()[1])
    tree = [root]
    for pid in tree:
        tree.extend(child for child, parent in parents.items() if parent == pid)
    return tree
