import asyncio
import os
import signal
import socket
import subprocess
import sys

import msgspec
import pytest

from actorrt.cluster import zygote
from actorrt.cluster.config import WorkerConfig
from actorrt.cluster.pool import WorkerPool, ZygoteClient, death_cause
from actorrt.kernel.message import NOWHERE
from actorrt.raylet.messages import LogsFlushed, WorkerDied, WorkerStarted, WorkerStartFailed
from actorrt.raylet.operations import FlushLogs, KillWorker, StartWorker, StopProcess
from actorrt.wire.records import Environment, JobConfig

JOB = JobConfig(b"job1", NOWHERE, "")
START = StartWorker(b"worker-1", JOB, Environment())
BASE = "logs/worker-" + b"worker-1".hex()[:12]


class Logs:
    def __init__(self):
        self.calls = []

    def add(self, *arguments):
        self.calls.append(("add", *arguments))

    def ended(self, pid):
        self.calls.append(("ended", pid))

    def flush(self, job_id):
        self.calls.append(("flush", job_id))

    def stderr_tail(self, pid):
        return (f"last words of {pid}",)


class Pool:
    """A WorkerPool between fakes."""

    def __init__(self):
        self.posted, self.sent, self.stops = [], [], []
        self.logs = Logs()
        self.pool = WorkerPool(
            node_id=b"node",
            make_config=self.make_config,
            log_dir="logs",
            logs=self.logs,
            post=self.posted.append,
            stop=self.stops.append,
        )
        self.pool.zygote = self

    def send(self, request):
        self.sent.append(request)

    @staticmethod
    def make_config(worker_id, job, environment):
        return WorkerConfig(
            worker_id=worker_id,
            node_id=b"node",
            cluster_id=b"c",
            token=b"t",
            raylet=NOWHERE,
            gcs=NOWHERE,
            job=job,
            environment=environment,
            session_dir="",
            sockets_dir="",
            log_dir="logs",
            node_host="",
        )

    def started(self):
        self.pool.perform(START)
        self.pool.report(zygote.Forked(1, 77))
        return self


@pytest.fixture
def made():
    return Pool()


def test_start(made):
    made.pool.perform(START)
    (fork,) = made.sent
    assert (fork.number, fork.log_base) == (1, BASE)
    assert msgspec.msgpack.decode(fork.config, type=WorkerConfig).worker_id == b"worker-1"
    assert made.posted == []
    made.pool.report(zygote.Forked(1, 77))
    assert made.posted == [WorkerStarted(b"worker-1", 77)]
    assert made.logs.calls == [("add", 77, JOB, f"{BASE}-77.out", f"{BASE}-77.err")]
    assert made.pool.pids == (77,)


def test_start_failed(made):
    made.pool.perform(START)
    made.pool.report(zygote.ForkFailed(1, "no memory"))
    assert made.posted == [WorkerStartFailed(b"worker-1", "no memory")]
    made.pool.perform(KillWorker(b"worker-1"))
    assert len(made.sent) == 1


def test_start_with_too_much(made):
    def refuse(_request):
        raise ValueError("too large")

    made.send = refuse
    made.pool.perform(START)
    assert made.posted == [WorkerStartFailed(b"worker-1", "too large")]


def test_death(made):
    made.started()
    made.pool.report(zygote.Exited(77, 3, 0))
    (_, died) = made.posted
    assert died == WorkerDied(b"worker-1", death_cause(77, 3, 0, b"node", ("last words of 77",)))
    assert made.logs.calls[-1] == ("ended", 77)
    assert made.pool.pids == ()


def test_kill(made):
    made.started()
    made.pool.perform(KillWorker(b"worker-1"))
    made.pool.perform(KillWorker(b"worker-1", signal.SIGTERM, False))
    assert made.sent[1:] == [zygote.Signal(77, 9, True), zygote.Signal(77, signal.SIGTERM, False)]


def test_kill_before_it_exists(made):
    made.pool.perform(START)
    made.pool.perform(KillWorker(b"worker-1"))
    assert len(made.sent) == 1
    made.pool.report(zygote.Forked(1, 77))
    assert made.sent[1:] == [zygote.Signal(77, 9, True)]


def test_unknown_workers_are_ignored(made):
    made.pool.perform(KillWorker(b"nobody"))
    assert made.sent == []


def test_flush(made):
    made.pool.perform(FlushLogs(b"job1", 5))
    assert made.logs.calls == [("flush", b"job1")]
    assert made.posted == [LogsFlushed(5)]


def test_stop(made):
    made.pool.perform(StopProcess("why"))
    assert made.stops == ["why"]


def test_reports_for_the_log_only(made, caplog):
    made.pool.report(zygote.Preloaded())
    made.pool.report(zygote.Preloaded("cannot import"))
    made.pool.report(zygote.Refused("nonsense"))
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_kill_all(made):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, process_group=0)
    made.pool.perform(START)
    made.pool.report(zygote.Forked(1, child.pid))
    made.pool.kill_all()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    made.pool.kill_all()


@pytest.mark.parametrize(
    ("exit_code", "signal_number", "kind", "text"),
    [
        (1, 0, "exit", "the worker process 7 ended with exit code 1"),
        (0, 9, "signal", "the worker process 7 was killed by SIGKILL"),
        (0, 40, "signal", "the worker process 7 was killed by signal 40"),
    ],
)
def test_causes(exit_code, signal_number, kind, text):
    cause = death_cause(7, exit_code, signal_number, b"node", ("a",))
    assert (cause.kind, cause.text, cause.pid) == (kind, text, 7)
    assert (cause.exit_code, cause.signal, cause.node_id) == (exit_code, signal_number, b"node")
    assert cause.stderr_tail == ("a",)


# --------------------------------------------------------------------------------------------------------------- client
@pytest.mark.asyncio
async def test_client():
    ours, its = socket.socketpair()
    heard, lost = [], []
    client = await ZygoteClient.connect(ours, heard.append, lost.append)
    client.send(zygote.Signal(1, 2, True))
    data = await asyncio.to_thread(its.recv, 1000)
    assert zygote.decode_request(zygote.FrameReader().feed(data)[0]) == zygote.Signal(1, 2, True)
    its.sendall(zygote.frame(zygote.Forked(1, 2)) + zygote.frame(zygote.Preloaded()))
    its.close()
    await asyncio.wait_for(client.gone.wait(), 10)
    assert heard == [zygote.Forked(1, 2), zygote.Preloaded()]
    assert lost == ["the zygote is gone"]
    client.send(zygote.Stop())


@pytest.mark.asyncio
async def test_client_that_wanted_the_end():
    ours, its = socket.socketpair()
    lost = []
    client = await ZygoteClient.connect(ours, print, lost.append)
    client.stop()
    its.close()
    await asyncio.wait_for(client.gone.wait(), 10)
    assert lost == []
    assert os.getpid()
