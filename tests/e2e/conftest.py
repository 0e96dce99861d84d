"""Shared by the end-to-end tests: places to run in, clusters of both kinds, drivers of their own, and how to wait."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import types
import uuid
from pathlib import Path

import pytest

import actorrt
from actorrt.testing import Cluster

TEMP_VARIABLE = "ACTORRT_TMPDIR"


@pytest.fixture(scope="session")
def until():
    """``until(predicate)`` polls it until it is true and returns its value."""

    def poll(predicate, timeout_s=15.0):
        deadline_s = time.monotonic() + timeout_s
        while not (value := predicate()):
            assert time.monotonic() < deadline_s, f"not true within {timeout_s} s: {predicate}"
            time.sleep(0.02)
        return value

    return poll


@pytest.fixture(scope="module")
def sessions():
    """A short temporary directory for the clusters of a module."""
    before = os.environ.get(TEMP_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="ac-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv(TEMP_VARIABLE, folder)
        patch.delenv("ACTORRT_ADDRESS", raising=False)
        yield Path(folder)
    assert os.environ.get(TEMP_VARIABLE) == before


@pytest.fixture(scope="module", params=["processes", "in_process"])
def mode(request):
    return request.param


@pytest.fixture(scope="module")
def both_clusters(sessions, mode):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTORRT_LOG_TO_DRIVER", "0")
        yield from _connected(mode)


def _connected(mode):
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 4}, in_process=mode == "in_process") as cluster:
        cluster.connect(namespace="sweep")
        yield cluster


@pytest.fixture
def rt(both_clusters):
    """The package, connected to a cluster of 4 CPUs: once of processes, once inside this process."""
    yield actorrt
    gc.collect()


@pytest.fixture
def tally(tmp_path):
    """A counter that all processes share: ``tally.hit(text)``, ``tally.lines()``."""
    path = str(tmp_path / f"tally-{uuid.uuid4().hex}")

    def lines():
        return Path(path).read_text().split("\n")[:-1] if Path(path).exists() else []

    def hit(text="x"):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{text}\n".encode())
        os.close(fd)
        return len(lines())

    return types.SimpleNamespace(hit=hit, lines=lines)


@pytest.fixture
def gate(tmp_path):
    """``gate.wait()`` blocks in any process until ``gate.open()`` was called."""
    path = str(tmp_path / f"gate-{uuid.uuid4().hex}")

    def wait(timeout_s=30):
        deadline_s = time.monotonic() + timeout_s
        while not Path(path).exists():
            if time.monotonic() > deadline_s:
                raise RuntimeError("gate never opened")
            time.sleep(0.01)
        return True

    yield types.SimpleNamespace(wait=wait, open=lambda: Path(path).touch())
    Path(path).touch()


@pytest.fixture
def unique():
    return lambda stem="name": f"{stem}-{uuid.uuid4().hex[:10]}"


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(scope="session")
def alive():
    return is_alive


PRELUDE = """
import os, signal, sys, time
import actorrt as rt
def say(*words):
    print(*words, flush=True)
"""


class Drivers:
    """Runs Python source as driver processes of their own; all their descendants bear a mark."""

    def __init__(self, folder, sessions):
        self.folder = folder
        self.sessions = sessions
        self.mark = f"ACTORRT_TEST_MARK={uuid.uuid4().hex}"
        self.started = []

    def environment(self, more=None):
        name, _, value = self.mark.partition("=")
        return {**os.environ, name: value, TEMP_VARIABLE: str(self.sessions), **(more or {})}

    def start(self, source, *, command=None, env=None, cwd=None, **substitutes):
        source = textwrap.dedent(source)
        for name, value in substitutes.items():
            source = source.replace(f"${name}", repr(value))
        if command is None:
            path = self.folder / f"driver_{uuid.uuid4().hex[:8]}.py"
            path.write_text(PRELUDE + source)
            command = [sys.executable, "-u", str(path)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(env),
            cwd=cwd or self.folder,
        )
        self.started.append(process)
        return process

    def run(self, source, *, timeout=40, check=True, **arguments):
        process = self.start(source, **arguments)
        out, err = (data.decode("utf-8", "replace") for data in process.communicate(timeout=timeout))
        if check:
            assert process.returncode == 0, f"the driver ended with {process.returncode}\n{out}\n{err[-3000:]}"
        return types.SimpleNamespace(code=process.returncode, out=out, err=err)

    def read_line(self, process, prefix):
        """The rest of the first line of stdout that starts with ``prefix``."""
        for line in process.stdout:
            if line.startswith(prefix.encode()):
                return line.decode()[len(prefix) :].strip()
        raise AssertionError(f"the driver ended before {prefix!r}: {process.stderr.read()[-3000:].decode()}")

    def pids(self):
        """Living processes that bear the mark."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in (entry / "environ").read_bytes() and is_alive(int(entry.name)):
                    found.append(int(entry.name))
        return found

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for pid in self.pids():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def drivers(tmp_path, sessions):
    made = Drivers(tmp_path, sessions)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(sessions):
    """A cluster of which nobody here is a driver; its address."""
    from actorrt.testing import Cluster

    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2}) as cluster:
        yield cluster.address
