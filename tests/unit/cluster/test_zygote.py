"""The fork server, as a process of its own: pytest has threads, and the point of a zygote is to have none."""

import os
import select
import signal
import socket
import subprocess
import sys
import time

import msgspec
import pytest

from actorrt.cluster import zygote
from actorrt.cluster.config import WorkerConfig
from actorrt.cluster.session import start_mark
from actorrt.kernel.message import NOWHERE
from actorrt.wire.records import Environment, JobConfig

SERVER = """
import socket, sys
from pathlib import Path
from actorrt.cluster.zygote import Zygote
fd, folder, spawn = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "spawn"
Zygote(socket.socket(fileno=fd), entry="entries:run", sockets_dir=folder, spawn=spawn).run()
"""
ENTRIES = """
import os, signal, subprocess, sys, time
def run(config):
    exec(config.job.entrypoint, {**globals(), "config": config})
"""
TIMEOUT_S = 20.0


class Client:
    """Speaks to a zygote and collects what it says."""

    def __init__(self, folder, mode, entries=ENTRIES):
        self.sockets = folder / "s" / "0"
        self.sockets.mkdir(parents=True)
        self.folder = folder
        (folder / "entries.py").write_text(entries)
        self.sock, its = socket.socketpair()
        self.sock.settimeout(TIMEOUT_S)
        with (folder / "zygote.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(its.fileno()), str(self.sockets), mode],
                pass_fds=[its.fileno()],
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(folder)])},
            )
        its.close()
        self.reader = zygote.FrameReader()
        self.reports = []
        self.numbers = 0

    def send(self, request):
        self.sock.sendall(zygote.frame(request))

    def expect(self, kind, wanted=lambda report: True):
        while True:
            for report in self.reports:
                if isinstance(report, kind) and wanted(report):
                    self.reports.remove(report)
                    return report
            data = self.sock.recv(65536)
            assert data, (self.folder / "zygote.log").read_text()
            self.reports += map(zygote.decode_report, self.reader.feed(data))

    def config(self, code, **variables):
        return WorkerConfig(
            worker_id=b"w",
            node_id=b"n",
            cluster_id=b"c",
            token=b"t",
            raylet=NOWHERE,
            gcs=NOWHERE,
            job=JobConfig(b"j", NOWHERE, "", entrypoint=code),
            environment=Environment(env_vars=tuple(variables.items())),
            session_dir="",
            sockets_dir="",
            log_dir=str(self.folder),
            node_host="",
            entry="entries:run",
        )

    def fork(self, code, **variables):
        self.numbers += 1
        data = msgspec.msgpack.encode(self.config(code, **variables))
        self.send(zygote.Fork(self.numbers, data, str(self.folder / "w")))
        return self.expect(zygote.Forked, lambda report: report.number == self.numbers).pid

    def ended(self, pid):
        report = self.expect(zygote.Exited, lambda report: report.pid == pid)
        return report.exit_code, report.signal_number

    def out(self, pid, stream="out"):
        return (self.folder / f"w-{pid}.{stream}").read_text()

    def line_of(self, pid):
        """The first line a worker prints (it is printed while it runs)."""
        return wait_for(lambda: self.out(pid) if (self.folder / f"w-{pid}.out").exists() else "").strip()

    def close(self):
        self.sock.close()
        self.process.wait(TIMEOUT_S)


def wait_for(condition):
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        assert time.monotonic() < deadline_s
        select.select([], [], [], 0.01)
    return value


@pytest.fixture
def client(tmp_path):
    made = Client(tmp_path, "fork")
    yield made
    made.close()


@pytest.fixture(params=["fork", "spawn"])
def either(tmp_path, request):
    made = Client(tmp_path, request.param)
    yield made
    made.close()


# ------------------------------------------------------------------------------------------------------------ processes
def test_a_worker(either):
    pid = either.fork("print(os.getpid(), os.getpgid(0) == os.getpid(), os.getenv('NAME'), file=sys.stderr)", NAME="x")
    assert either.ended(pid) == (0, 0)
    assert either.out(pid, "err") == f"{pid} True x\n"
    assert either.out(pid) == ""


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("sys.exit(3)", (3, 0)),
        ("sys.exit()", (0, 0)),
        ("sys.exit('why')", (1, 0)),
        ("os._exit(7)", (7, 0)),
        ("1 / 0", (1, 0)),
        ("os.kill(os.getpid(), signal.SIGKILL)", (0, signal.SIGKILL)),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", (0, signal.SIGTERM)),
        ("import ctypes; ctypes.string_at(0)", (0, signal.SIGSEGV)),
    ],
)
def test_ways_to_end(client, code, end):
    assert client.ended(client.fork(code)) == end


def test_errors_are_printed(client):
    pid = client.fork("1 / 0")
    client.ended(pid)
    assert "ZeroDivisionError" in client.out(pid, "err")


def test_exit_functions_run(client):
    pid = client.fork("import atexit; atexit.register(print, 'bye')")
    client.ended(pid)
    assert client.out(pid) == "bye\n"


def test_workers_draw_different_random_numbers(client):
    pids = [client.fork("import random; print(random.random())") for _ in range(2)]
    for pid in pids:
        client.ended(pid)
    assert client.out(pids[0]) != client.out(pids[1])


def test_interrupts_work_again(client):
    """Also when the driver was started in the background of a shell, which ignores SIGINT."""
    pid = client.fork("print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)")
    client.ended(pid)
    assert client.out(pid) == "True\n"


def test_no_descriptor_of_the_zygote_is_left(client):
    client.expect(zygote.Preloaded)
    pid = client.fork("print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1])")
    client.ended(pid)
    assert client.out(pid) == "[0, 1, 2]\n"


# --------------------------------------------------------------------------------------------------------------- ending
def test_signals(client):
    pid = client.fork("print('up'); time.sleep(60)")
    client.line_of(pid)
    client.send(zygote.Signal(pid, signal.SIGTERM, False))
    assert client.ended(pid) == (0, signal.SIGTERM)
    client.send(zygote.Signal(pid, signal.SIGTERM, True))
    client.ended(client.fork("pass"))  # it lives


GRANDCHILD = "p = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE); print(p.pid); "


@pytest.mark.parametrize("how", ["time.sleep(60)", "os._exit(0)"])
def test_grandchildren_end_with_their_worker(client, how):
    pid = client.fork(GRANDCHILD + how)
    grandchild = int(client.line_of(pid))
    client.send(zygote.Signal(pid, signal.SIGKILL, True))
    client.ended(pid)
    wait_for(lambda: not start_mark(grandchild))


def test_everything_ends_with_the_node_process(either):
    pid = either.fork(GRANDCHILD + "time.sleep(60)")
    grandchild = int(either.line_of(pid))
    (either.sockets / "x.sock").touch()
    either.close()
    assert not start_mark(pid)
    wait_for(lambda: not start_mark(grandchild))
    assert not either.sockets.exists()


def test_stop(client):
    pid = client.fork("print('up'); time.sleep(60)")
    client.line_of(pid)
    client.send(zygote.Stop())
    assert client.process.wait(TIMEOUT_S) == 0
    assert not start_mark(pid)


def test_terminated_zygote_takes_its_workers_along(client):
    pid = client.fork("print('up'); time.sleep(60)")
    client.line_of(pid)
    client.process.terminate()
    assert client.process.wait(TIMEOUT_S) == 0
    assert not start_mark(pid)


def test_killed_zygote_takes_its_workers_along(client):
    pid = client.fork("print('up'); time.sleep(60)")
    client.line_of(pid)
    client.process.kill()
    wait_for(lambda: not start_mark(pid))


# --------------------------------------------------------------------------------------------------------- bad requests
@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x91\xa4Fork", b"\x92\xa4Fork\xc0"])
def test_nonsense_is_refused(client, data):
    client.sock.sendall(len(data).to_bytes(4, "little") + data)
    assert "cannot decode" in client.expect(zygote.Refused).text
    assert client.ended(client.fork("pass")) == (0, 0)


def test_a_configuration_that_is_none(client):
    client.send(zygote.Fork(1, b"\xc1", str(client.folder / "w")))
    pid = client.expect(zygote.Forked).pid
    assert client.ended(pid) == (1, 0)
    assert "DecodeError" in client.out(pid, "err")


def test_no_place_for_output(client):
    client.send(zygote.Fork(1, b"", str(client.folder / "no" / "w")))
    assert client.ended(client.expect(zygote.Forked).pid) == (1, 0)


def test_strange_signals(client):
    pid = client.fork("time.sleep(60)")
    client.send(zygote.Signal(pid, 10**6, True))
    assert "signal 1000000" in client.expect(zygote.Refused).text
    client.send(zygote.Signal(1, signal.SIGKILL, True))
    client.send(zygote.Signal(pid, signal.SIGKILL, True))
    assert client.ended(pid) == (0, signal.SIGKILL)


def test_an_entry_that_cannot_be_imported(tmp_path):
    client = Client(tmp_path, "fork", "raise RuntimeError('broken')")
    assert client.expect(zygote.Preloaded).error == "RuntimeError: broken"
    pid = client.fork("pass")
    assert client.ended(pid) == (1, 0)
    assert "RuntimeError: broken" in client.out(pid, "err")
    client.close()


# --------------------------------------------------------------------------------------------------------------- frames
def test_frames_in_pieces():
    reader = zygote.FrameReader()
    data = zygote.frame(zygote.Stop()) + zygote.frame(zygote.Preloaded("x"))
    frames = [item for byte in data for item in reader.feed(bytes([byte]))]
    assert zygote.decode_request(frames[0]) == zygote.Stop()
    assert zygote.decode_report(frames[1]) == zygote.Preloaded("x")


def test_frames_are_bounded(monkeypatch):
    monkeypatch.setattr(zygote, "FRAME_BYTES_MAX", 100)
    with pytest.raises(ValueError, match="at most 100"):
        zygote.frame(zygote.Preloaded("x" * 200))
    with pytest.raises(ValueError, match="at most 100"):
        zygote.FrameReader().feed((200).to_bytes(4, "little"))
