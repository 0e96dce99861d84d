"""The command line against real nodes."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from actorrt.cluster import session
from actorrt.cluster.addresses import resolve_address
from actorrt.cluster.interpreter import PACKAGE_PARENT

TIMEOUT_S = 30


@pytest.fixture(autouse=True)
def place(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="ac-") as folder:
        monkeypatch.setenv(session.TEMP_VARIABLE, folder)
        for name in ("ACTORRT_ADDRESS", "ACTORRT_AUTH_TOKEN", "ACTORRT_AUTH_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", folder)
        yield Path(folder)
        run("stop", "-f")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "actorrt.cluster.cli", *arguments]


def run(*arguments: str, code: int = 0, **options) -> str:
    ended = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        cwd=PACKAGE_PARENT,
        **options,
    )
    assert ended.returncode == code, f"{ended.stdout}\n{ended.stderr}"
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr


def wait_for(condition, timeout_s=10.0):
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.02)
    return value


def records() -> list[session.NodeRecord]:
    return session.list_records(session.root_folder())


def test_start_status_stop():
    text = run("start", "--head", "--port=0", "--num-cpus=3", "--node-name=first", "--labels=zone=a")
    assert "Started the head" in text
    assert "actorrt stop" in text
    (head,) = records()
    status = run("status", "-v")
    assert head.node_id in status
    assert "first (head)" in status
    assert "0 / 3 CPU" in status
    assert "zone=a" in status
    assert "Stopped 1 node." in run("stop")
    assert records() == []
    assert resolve_address(None) is None
    run("status", code=1)
    assert "No node" in run("stop")


def test_a_second_node_by_tcp():
    run("start", "--head", "--port=0", "--num-cpus=1")
    address = resolve_address("auto").address
    assert address.startswith("127.0.0.1:")
    run("start", f"--address={address}", "--num-cpus=2", '--resources={"disk": 2}')
    status = run("status", f"--address={address}")
    assert "0 / 3 CPU" in status
    assert "0 / 2 disk" in status
    assert "Stopped 2 nodes." in run("stop")


def test_a_token_of_ones_own(place, monkeypatch):
    (place / "mine").write_text("chosen")
    monkeypatch.setenv("ACTORRT_AUTH_TOKEN_PATH", str(place / "mine"))
    run("start", "--head", "--port=0", "--num-cpus=1")
    run("status")
    (place / "mine").write_text("another")
    assert "token" in run("status", code=1)
    (place / "mine").unlink()
    assert "cannot be read" in run("status", code=1)


def test_one_head_at_a_time():
    run("start", "--head", "--port=0", "--num-cpus=1")
    assert "runs already" in run("start", "--head", "--port=0", code=1)


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in run("start", "--head", f"--port={port}", code=1)
    assert records() == []


def test_nobody_at_the_address():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "no cluster answers" in run("start", f"--address=127.0.0.1:{port}", code=1)


def test_a_killed_head_is_not_found_any_more():
    run("start", "--head", "--port=0", "--num-cpus=1")
    (head,) = records()
    os.kill(head.pid, signal.SIGKILL)
    wait_for(lambda: not Path(head.sockets_dir).exists(), 5.0)
    assert "no running cluster" in run("status", code=1)
    run("start", "--head", "--port=0", "--num-cpus=1")


def test_stopping_a_node_that_does_not_listen():
    run("start", "--head", "--port=0", "--num-cpus=1")
    (head,) = records()
    os.kill(head.pid, signal.SIGSTOP)
    began_s = time.monotonic()
    assert "Stopped 1 node." in run("stop", "--grace-period=0.5")
    assert time.monotonic() - began_s < 10
    assert not Path(head.sockets_dir).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_block(number):
    process = subprocess.Popen(
        command("start", "--head", "--port=0", "--num-cpus=1", "--block"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=PACKAGE_PARENT,
    )
    assert "Started" in process.stdout.readline()
    wait_for(records)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert records() == []


def test_blocking_tells_of_the_end():
    process = subprocess.Popen(
        command("start", "--head", "--port=0", "--num-cpus=1", "--block"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PACKAGE_PARENT,
    )
    process.stdout.readline()
    (head,) = wait_for(records)
    os.kill(head.pid, signal.SIGKILL)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "has ended" in error
