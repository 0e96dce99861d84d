import pytest

from actorrt.kernel.message import Address
from actorrt.raylet.messages import LogsFlushed, WorkerDied, WorkerStarted, WorkerStartFailed
from actorrt.raylet.operations import FlushLogs, KillWorker, StartWorker, StopProcess
from actorrt.sim.pool import Pace, ScriptedPool
from actorrt.sim.world import World
from actorrt.wire.records import DeathCause, Environment, JobConfig

WORKER = b"w" * 16
JOB = JobConfig(b"job1", Address("driver", "owner"), "")
START = StartWorker(WORKER, JOB, Environment())


class Bench:
    def __init__(self, seed=1, **pace):
        self.world = World(seed)
        self.process = self.world.spawn("node")
        self.process.attach("raylet", self, print)
        self.bodies, self.stopped = [], []
        self.pool = ScriptedPool(self.process, self._make, self.stopped.append, Pace(**pace))

    def _make(self, operation):
        return self.world.spawn(f"worker {operation.worker_id[:1]!r}")

    def handle(self, envelope, _now):
        self.bodies.append(envelope.body)
        return []

    def check(self):
        pass

    def perform(self, operation):
        self.pool.perform(operation)
        self.world.run_for(1)


def test_a_worker_starts_after_a_while_and_dies_when_killed():
    bench = Bench()
    bench.pool.perform(START)
    assert not bench.bodies
    bench.world.run_for(1)
    [process] = bench.pool.processes()
    assert bench.bodies == [WorkerStarted(WORKER, process.pid)]
    bench.perform(KillWorker(WORKER))
    assert not process.alive
    died = DeathCause("signal", "killed by signal 9", pid=process.pid, signal=9)
    assert bench.bodies[1:] == [WorkerDied(WORKER, died)]
    bench.perform(KillWorker(WORKER))
    assert len(bench.bodies) == 2, "the dead are ignored"


def test_killed_before_it_exists():
    bench = Bench(fork_s_max=0.1)
    bench.pool.perform(START)
    bench.pool.perform(KillWorker(WORKER))
    bench.world.run_for(1)
    assert [type(body) for body in bench.bodies] == [WorkerStartFailed]
    assert not bench.pool.children


def test_a_fork_that_fails():
    bench = Bench(start_fails=1.0)
    bench.perform(START)
    assert [type(body) for body in bench.bodies] == [WorkerStartFailed]


def test_a_worker_that_left_by_itself_is_reaped_with_its_own_words():
    bench = Bench()
    bench.perform(START)
    [process] = bench.pool.processes()
    cause = DeathCause("exit_actor", "bye")
    bench.pool.left(WORKER, cause)
    bench.world.end(process, "bye", orderly=True)
    bench.world.run_for(1)
    assert bench.bodies[1:] == [WorkerDied(WORKER, cause)]


def test_nobody_is_reaped_by_a_dead_node():
    bench = Bench()
    bench.perform(START)
    [process] = bench.pool.processes()
    bench.world.end(bench.process, "power failure", orderly=False)
    bench.world.end(process, "power failure", orderly=False)
    bench.world.run_for(1)
    assert len(bench.bodies) == 1


def test_flushing_stopping_and_nonsense():
    bench = Bench()
    bench.perform(FlushLogs(b"job1", 7))
    bench.perform(StopProcess("enough"))
    assert bench.bodies == [LogsFlushed(7)]
    assert bench.stopped == ["enough"]
    with pytest.raises(TypeError, match="unknown operation"):
        bench.pool.perform("nonsense")
