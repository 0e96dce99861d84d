"""CPython's own tests of ``multiprocessing.Pool`` and of executors, run against ours, on real processes.

The cases come from the installed ``test`` package; where it lacks a module (some distributions cut it down), those
cases are skipped, and the documented behaviour that is tested at the end of this file, and in ``tests/unit/util``, has
to do. ``NOT_APPLICABLE`` is the table of the cases that cannot apply, with the reason of each; every other one has to
pass.
"""

import contextlib
import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
import warnings
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import pytest

import actorrt
from actorrt.testing import Cluster
from actorrt.util import Executor
from actorrt.util.multiprocessing import Pool

WAIT_S = 30

_FORKED = "shares a lock or an event of multiprocessing with its workers, which have to be its children for that"
_INSIDES = "looks at threads and queues inside the standard implementation"
_NAMED = "a script that imports the class under test from the standard library; see test_the_end_of_a_program"
_START_METHODS = "is about the start methods of multiprocessing, of which there are none"

NOT_APPLICABLE = {
    # The pool.
    "Pool.test_resource_warning": "sets a private attribute to make a terminated pool look alive; see test_pool.py",
    "PoolWorkerErrors.test_unpickleable_result": "a lambda is what cannot be pickled there; here it can",
    "PoolWorkerLifetime.test_pool_worker_lifetime": "calls a private method; see test_processes_are_replaced",
    "PoolWorkerLifetime.test_worker_finalization_via_atexit_handler_of_multiprocessing": _NAMED,
    # Executors.
    "Executor.test_max_workers_too_large": "a limit of Windows",
    "Executor.test_ressources_gced_in_workers": "a manager's proxies need the key of the process that started it",
    "Executor.test_saturation": _FORKED,
    "Executor.test_max_tasks_per_child_defaults_to_spawn_context": _START_METHODS,
    "Executor.test_python_finalization_error": _INSIDES,
    "Shutdown.test_interpreter_shutdown": _NAMED,
    "Shutdown.test_submit_after_interpreter_shutdown": _NAMED,
    "Shutdown.test_hang_gh83386": _NAMED,
    "Shutdown.test_hang_issue39205": _NAMED,
    "Shutdown.test_processes_terminate": _FORKED,
    "Shutdown.test_del_shutdown": _INSIDES,
    "Shutdown.test_shutdown_no_wait": _INSIDES,
    "FailingInitializer.test_initializer": "reports through a queue of multiprocessing; see test_executor.py",
}


# ------------------------------------------------------------------------------------------------ the stranger's cases
def standard(name):
    """A module of CPython's tests, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"test.{name}")
        except (ImportError, unittest.SkipTest):
            return None


class PoolOf(Pool):
    """Has the private attribute that some cases look at."""

    @property
    def _pool(self):
        return self._crew.members


class ExecutorOf(Executor):
    """As ``PoolOf``."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._max_workers = self._crew.size

    @property
    def _processes(self):
        return {id(member): Process(member) for member in self._crew.members}


class Process:
    def __init__(self, member):
        self._member = member

    def terminate(self):
        actorrt.kill(self._member.actor)

    def join(self):
        with contextlib.suppress(actorrt.exceptions.ActorError):
            actorrt.get(self._member.actor.pid.remote(), timeout=WAIT_S)


class PoolCase(unittest.TestCase):
    TYPE = "processes"
    Pool = PoolOf


class ExecutorCase(unittest.TestCase):
    executor_type = ExecutorOf
    ctx = "spawn"
    worker_count = 5
    executor_kwargs = {}

    def setUp(self):
        if any(cls.__name__ == "ExecutorMixin" for cls in type(self).__mro__):
            return  # it makes one by itself
        self.executor = self.executor_type(
            max_workers=self.worker_count, mp_context=self.get_context(), **self.executor_kwargs
        )

    def tearDown(self):
        if self.executor is not None:
            self.executor.shutdown(wait=True)

    def get_context(self):
        return multiprocessing.get_context(self.ctx)


def found():
    """Class and name of every case, under the name it has in the table."""
    pool = standard("_test_multiprocessing")
    for name in ("Pool", "PoolWorkerErrors", "PoolWorkerLifetime"):
        base = getattr(pool, f"_Test{name}", None)
        if base is not None:
            yield from cases(name, base, PoolCase)
    executors = {
        "Executor": ("test_process_pool", "ProcessPoolExecutorTest"),
        "Shutdown": ("test_shutdown", "ProcessPoolShutdownTest"),
        "Wait": ("test_wait", "WaitTests"),
        "AsCompleted": ("test_as_completed", "AsCompletedTests"),
        "Initializer": ("test_init", "InitializerMixin"),
        "FailingInitializer": ("test_init", "FailingInitializerMixin"),
    }
    whole = standard("test_concurrent_futures")  # one module, up to Python 3.11
    for name, (module, base_name) in executors.items():
        base = getattr(whole, base_name, None)
        if base is None:
            base = getattr(standard(f"test_concurrent_futures.{module}"), base_name, None)
        if base is not None:
            yield from cases(name, base, ExecutorCase)


def cases(name, base, ours):
    cls = type(f"Our{name}", (base, ours), {"__test__": False, "__module__": __name__})
    globals()[cls.__name__] = cls  # workers look for its methods here
    for case in unittest.defaultTestLoader.getTestCaseNames(cls):
        yield pytest.param(f"{name}.{case}", cls, case, id=f"{name}.{case}")


FOUND = list(found())


@pytest.fixture(scope="module")
def cluster():
    with tempfile.TemporaryDirectory(prefix="ac-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTORRT_TMPDIR", folder)
        patch.setenv("ACTORRT_LOG_TO_DRIVER", "0")
        patch.delenv("ACTORRT_ADDRESS", raising=False)
        with Cluster(initialize_head=True, head_node_args={"num_cpus": 4}) as cluster:
            cluster.connect()
            yield cluster


@pytest.mark.parametrize(("name", "cls", "case"), FOUND)
def test_stranger(cluster, monkeypatch, name, cls, case):
    if name in NOT_APPLICABLE:
        pytest.skip(f"not applicable: {NOT_APPLICABLE[name]}")
    monkeypatch.setattr(multiprocessing, "Pool", PoolOf)
    outcome = unittest.TestResult()
    unittest.TestSuite([cls(case)]).run(outcome)
    for _, reason in outcome.skipped:
        pytest.skip(f"skips itself: {reason}")
    assert outcome.testsRun == 1
    assert not outcome.errors + outcome.failures, "\n".join(text for _, text in outcome.errors + outcome.failures)


def test_most_cases_apply():
    if not FOUND:
        pytest.skip("this Python comes without its tests")
    names = [param.values[0] for param in FOUND]
    applicable = [name for name in names if name not in NOT_APPLICABLE]
    assert len(applicable) > len(names) / 2
    print(f"{len(names)} cases, {len(applicable)} applicable")


# ------------------------------------------------------------------------------------- documented, on real processes
@pytest.fixture
def executor(cluster):
    with Executor(2) as executor:
        yield executor


def test_workers_are_processes(executor):
    assert executor.submit(os.getpid).result(WAIT_S) != os.getpid()


def test_a_process_that_dies_breaks_the_executor(executor):
    waiting = executor.submit(time.sleep, 60)
    assert type(executor.submit(os._exit, 3).exception(WAIT_S)) is BrokenProcessPool
    assert type(waiting.exception(WAIT_S)) is BrokenProcessPool
    with pytest.raises(BrokenProcessPool, match="ended with exit code 3"):
        executor.submit(abs, 1)


def test_a_process_that_dies_is_replaced_in_a_pool(cluster):
    with Pool(1) as pool:
        before = pool.apply(os.getpid)
        with pytest.raises(actorrt.exceptions.ActorDiedError):
            pool.apply(os._exit, (3,))
        assert pool.apply(os.getpid) != before


def test_processes_are_replaced(cluster):
    with Executor(1, max_tasks_per_child=2) as executor:
        first, second, third, fourth = (executor.submit(os.getpid).result(WAIT_S) for _ in range(4))
    assert first == second != third == fourth
    with Pool(1, maxtasksperchild=3) as pool:
        assert len(set(pool.map(_pid, range(6), chunksize=1))) == 2


def _pid(_number):
    return os.getpid()


def test_more_processes_than_cpus(cluster):
    with Pool(8) as pool:
        assert len({member.pid for member in pool._crew.members}) == 8


@pytest.fixture
def run(tmp_path, cluster):
    """run(source): what a script prints, run as a program of its own."""

    def run(source):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(source))
        environment = {**os.environ, "ACTORRT_ADDRESS": cluster.address}
        done = subprocess.run(
            [sys.executable, str(path)], env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    return run


def test_the_end_of_a_program(run, tmp_path):
    """An executor finishes; a pool does not; what is submitted afterwards is refused."""
    done = run(
        f"""
        import atexit, pathlib, time, warnings
        from actorrt.util import Executor
        from actorrt.util.multiprocessing import Pool

        def mark(name, after_s=0):
            time.sleep(after_s)
            pathlib.Path({str(tmp_path)!r}, name).touch()

        @atexit.register
        def too_late():
            try:
                executor.submit(abs, 1)
            except RuntimeError as error:
                print(error)

        executor = Executor(1)
        executor.submit(mark, "executor first", 0.3)
        executor.submit(mark, "executor second")
        pool = Pool(1)
        pool.apply_async(time.sleep, (60,))
        warnings.simplefilter("ignore")
        """
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == "cannot schedule new futures after interpreter shutdown\n"
    assert (tmp_path / "executor first").exists()
    assert (tmp_path / "executor second").exists()


def test_globals_of_a_script(run):
    """What an initializer sets is there for the functions, as with processes that are forked."""
    done = run(
        """
        from actorrt.util import Executor
        from actorrt.util.multiprocessing import Pool

        base = 0

        def begin(value):
            global base, words
            base = value
            words = {"base": value}

        def helper(x):
            return x + base

        def work(x):
            return helper(x), words["base"]

        if __name__ == "__main__":
            with Pool(2, begin, (100,)) as pool:
                print(pool.map(work, range(3)))
                print(list(pool.imap(work, range(3), chunksize=2)))
            with Executor(1, initializer=begin, initargs=(200,)) as executor:
                print(executor.submit(work, 1).result(), list(executor.map(work, range(2), chunksize=2)))
        """
    )
    assert done.err == ""
    assert done.out.splitlines() == [
        "[(100, 100), (101, 100), (102, 100)]",
        "[(100, 100), (101, 100), (102, 100)]",
        "(201, 200) [(200, 200), (201, 200)]",
    ]
