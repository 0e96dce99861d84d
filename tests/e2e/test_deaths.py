"""Workers and actors whose process ends: how it is told, what is retried and restarted, and what else goes with it."""

import ctypes
import gc
import os
import signal
import subprocess
import sys
import time

import pytest

import actorrt
from actorrt import exceptions


@pytest.fixture(scope="module")
def mode():
    return "processes"


@pytest.fixture
def run(rt):
    """``run(function, *arguments)`` submits it as a task that is not retried."""

    @rt.remote(max_retries=0)
    def call(function, *arguments):
        return function(*arguments)

    return call.remote


WAYS = {
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(20), "SIGTERM"),
    "segfault": (lambda: ctypes.string_at(0), "SIGSEGV"),
    "abort": (os.abort, "SIGABRT"),
    "sys.exit": (lambda: sys.exit(3), "3"),
    "os._exit": (lambda: os._exit(4), "4"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_death_of_a_worker_is_told_in_full(rt, run, way):
    die, how = WAYS[way]

    def last_words():
        for number in range(30):
            print(f"stderr line {number} of {os.getpid()}", file=sys.stderr, flush=True)
        die()

    with pytest.raises(exceptions.WorkerCrashedError) as caught:
        rt.get(run(last_words), timeout=30)
    text = str(caught.value)
    assert how in text
    assert "stderr line 29 of " in text
    assert text.split("stderr line 29 of ")[1].split(maxsplit=1)[0] in text.split("stderr line", maxsplit=1)[0], (
        "the pid stands in the text"
    )


def test_death_is_retried_up_to_max_retries(rt, tally):
    @rt.remote(max_retries=2)
    def die():
        tally.hit()
        os._exit(1)

    @rt.remote
    def once():
        if tally.hit("once") == 4:
            os._exit(1)
        return "again"

    with pytest.raises(exceptions.WorkerCrashedError):
        rt.get(die.remote(), timeout=30)
    assert len(tally.lines()) == 3
    assert rt.get(once.remote(), timeout=30) == "again"


def test_the_death_of_one_worker_spares_the_others(rt, run, gate):
    good = [rt.remote(num_cpus=1)(lambda i: gate.wait() and i).remote(i) for i in range(2)]
    queued = [rt.remote(lambda i: i).remote(i) for i in range(20)]
    with pytest.raises(exceptions.WorkerCrashedError):
        rt.get(run(lambda: os._exit(1)), timeout=30)
    gate.open()
    assert rt.get([*good, *queued], timeout=30) == [0, 1, *range(20)]


def test_cancel_with_force_kills_the_process(rt, tally, until, alive):
    @rt.remote(max_retries=5)
    def stubborn():
        tally.hit(os.getpid())
        while True:
            try:
                time.sleep(1)
            except KeyboardInterrupt:
                pass

    ref = stubborn.remote()
    until(tally.lines)
    rt.cancel(ref, force=True)
    with pytest.raises((exceptions.TaskCancelledError, exceptions.WorkerCrashedError)):
        rt.get(ref, timeout=20)
    until(lambda: not alive(int(tally.lines()[0])))
    assert rt.get(rt.remote(num_cpus=4)(lambda: 1).remote(), timeout=20) == 1
    assert len(tally.lines()) == 1


@pytest.fixture
def Mortal(rt, tally):
    @rt.remote(num_cpus=0)
    class Mortal:
        def __init__(self):
            self.n = 0
            tally.hit("init")

        def inc(self):
            self.n += 1
            return self.n

        def pid(self):
            return os.getpid()

        def die(self):
            print("my last words", file=sys.stderr, flush=True)
            os._exit(7)

        def die_once(self):
            if tally.hit("try") and tally.lines().count("try") == 1:
                os._exit(7)
            return "second"

        def reconstructed(self):
            return rt.get_runtime_context().was_current_actor_reconstructed

    return Mortal


def test_the_death_of_an_actor_is_told_in_full(rt, Mortal):
    a = Mortal.remote()
    pid = rt.get(a.pid.remote(), timeout=20)
    refs = [a.die.remote(), a.inc.remote()]
    for ref in (*refs, a.inc.remote()):
        with pytest.raises(exceptions.ActorDiedError) as caught:
            rt.get(ref, timeout=20)
        text = str(caught.value)
        assert str(pid) in text
        assert "7" in text
        assert "Mortal" in text
        assert "my last words" in text


def test_max_restarts(rt, Mortal, tally, until):
    a = Mortal.options(max_restarts=1).remote()
    assert rt.get([a.inc.remote(), a.inc.remote(), a.reconstructed.remote()], timeout=20) == [1, 2, False]
    with pytest.raises(exceptions.ActorUnavailableError):
        rt.get(a.die.remote(), timeout=20)

    def call(method):
        deadline_s = time.monotonic() + 20
        while True:
            try:
                return rt.get(method.remote(), timeout=20)
            except exceptions.ActorUnavailableError:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)

    assert call(a.inc) == 1
    assert call(a.reconstructed) is True
    with pytest.raises(exceptions.ActorDiedError):
        rt.get(a.die.remote(), timeout=20)
    assert tally.lines() == ["init", "init"]


def test_max_task_retries(rt, Mortal, tally):
    a = Mortal.options(max_restarts=-1, max_task_retries=1).remote()
    assert rt.get(a.die_once.remote(), timeout=20) == "second"
    assert tally.lines() == ["init", "try", "init", "try"]


def test_kill_with_restart(rt, Mortal, tally, until):
    a = Mortal.options(max_restarts=1, max_task_retries=-1).remote()
    first = rt.get(a.pid.remote(), timeout=20)
    rt.kill(a, no_restart=False)
    until(lambda: rt.get(a.pid.remote(), timeout=20) != first)
    assert tally.lines() == ["init", "init"]
    rt.kill(a)
    with pytest.raises(exceptions.ActorDiedError):
        rt.get(a.pid.remote(), timeout=20)


@pytest.mark.parametrize("how", ["scope", "terminate", "exit_actor", "kill"])
def test_atexit_runs_unless_killed(rt, tally, until, alive, how):
    @rt.remote(num_cpus=0)
    class A:
        def __init__(self):
            import atexit

            atexit.register(lambda: tally.hit("atexit"))

        def pid(self):
            return os.getpid()

        def leave(self):
            actorrt.actor.exit_actor()

    a = A.remote()
    pid = rt.get(a.pid.remote(), timeout=20)
    if how == "terminate":
        a.__ray_terminate__.remote()
    elif how == "exit_actor":
        a.leave.remote()
    elif how == "kill":
        rt.kill(a)
    else:
        del a
        gc.collect()
    until(lambda: not alive(pid))
    assert tally.lines() == ([] if how == "kill" else ["atexit"])


def test_children_of_a_dead_worker_die_too(rt, tally, until, alive):
    @rt.remote(num_cpus=0)
    class A:
        def start(self):
            self.child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            return self.child.pid

    a = A.remote()
    child = rt.get(a.start.remote(), timeout=20)
    assert alive(child)
    rt.kill(a)
    until(lambda: not alive(child))
