"""What fails, how it is told, what is retried and what is cancelled; on real processes and inside one process alike."""

import asyncio
import subprocess
import threading
import time
import traceback
from pathlib import Path

import pytest

from actorrt import exceptions


class Coded(Exception):
    """Needs two arguments, keeps them as attributes."""

    def __init__(self, code, *, detail):
        super().__init__(f"code {code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self):
        return _coded, (self.code, self.detail)


def _coded(code, detail):
    return Coded(code, detail=detail)


class Stubborn(Exception):
    """Cannot be rebuilt from its pickle: ``args`` do not fit ``__init__``."""

    def __init__(self, code, detail):
        super().__init__(f"{code} {detail}")
        self.code = code


class Locked(Exception):
    """Cannot be pickled at all."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Plain(Exception):
    pass


class Final(BaseException):
    pass


def throw(error):
    raise error


@pytest.fixture
def run(rt):
    """``run(function, *arguments)`` submits it as a task that is not retried."""

    @rt.remote(max_retries=0)
    def call(function, *arguments):
        return function(*arguments)

    return call.remote


# ------------------------------------------------------------------ exceptions
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: throw(Plain("plain")), Plain),
        (lambda: throw(Coded(7, detail="d")), Coded),
        (lambda: throw(OSError(2, "nope")), FileNotFoundError),
        (lambda: throw(UnicodeDecodeError("utf8", b"x", 0, 1, "why")), UnicodeDecodeError),
        (lambda: throw(ExceptionGroup("g", [ValueError(1), KeyError(2)])), ExceptionGroup),
        (lambda: throw(StopIteration(5)), StopIteration),
        (lambda: 1 / 0, ZeroDivisionError),
        (lambda: [0][int("1")], IndexError),
        (lambda: compile("1 +", "f", "exec"), SyntaxError),
        (lambda: subprocess.run(["false"], check=True), subprocess.CalledProcessError),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else "",
)
def test_exceptions_keep_their_class(rt, run, make, kind):
    with pytest.raises(exceptions.TaskError) as caught:
        rt.get(run(make), timeout=20)
    assert isinstance(caught.value, kind)
    assert isinstance(caught.value.cause, kind)
    assert isinstance(caught.value, exceptions.ActorrtError)


@pytest.mark.parametrize(
    "kind", [GeneratorExit, asyncio.CancelledError, Final, KeyboardInterrupt], ids=lambda k: k.__name__
)
def test_control_flow_arrives_as_a_plain_task_error(rt, run, kind):
    """A get that raised these would end or cancel the caller."""
    with pytest.raises(exceptions.TaskError) as caught:
        rt.get(run(lambda: throw(kind())), timeout=20)
    assert isinstance(caught.value.cause, kind)
    assert kind.__name__ in str(caught.value)


def test_stop_iteration_where_it_is_awaited(rt, run):
    async def main():
        ref = run(lambda: throw(StopIteration(5)))
        return await asyncio.gather(ref, ref.as_future(), return_exceptions=True)

    for error in asyncio.run(main()):
        assert isinstance(error, exceptions.TaskError)
        assert isinstance(error.cause, StopIteration)


def test_attributes_text_and_remote_traceback(rt, run):
    def inner():
        raise Coded(418, detail="teapot") from KeyError("origin")

    with pytest.raises(Coded) as caught:
        rt.get(run(inner))
    assert (caught.value.code, caught.value.detail) == (418, "teapot")
    text = str(caught.value)
    assert "code 418: teapot" in text
    assert "in inner" in text
    assert "KeyError: 'origin'" in text
    assert Path(__file__).name in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("make", [lambda: throw(Stubborn(3, "detail")), lambda: throw(Locked("3 detail"))])
def test_exceptions_that_do_not_travel_keep_name_and_text(rt, run, make):
    with pytest.raises(exceptions.TaskError) as caught:
        rt.get(run(make))
    assert "3 detail" in str(caught.value)
    assert any(name in str(caught.value) for name in ("Stubborn", "Locked"))
    assert rt.get(run(lambda: 1)) == 1


def test_an_error_raised_again_and_again_is_a_fresh_one(rt, run):
    ref = run(lambda: throw(Plain("again")))
    seen = []
    for _ in range(3):
        with pytest.raises(Plain) as caught:
            rt.get(ref)
        seen.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(seen)) == 1, "the traceback does not grow"


def test_results_that_cannot_be_pickled(rt, run):
    with pytest.raises(exceptions.ActorrtError) as caught:
        rt.get(run(threading.Lock))
    assert isinstance(caught.value, TypeError)
    assert "lock" in str(caught.value)
    for ref in rt.remote(num_returns=2)(lambda: (1, threading.Lock())).remote():
        with pytest.raises(TypeError):
            rt.get(ref)


def test_values_that_cannot_be_rebuilt(rt, run):
    class Mine:
        def __reduce__(self):
            return throw, (Plain("in the making"),)

    def make():
        return Mine()

    for ref in (run(make), rt.put(Mine())):
        with pytest.raises(exceptions.ActorrtError) as caught:
            rt.get(ref)
        assert "in the making" in str(caught.value)
    with pytest.raises(exceptions.TaskError) as caught:
        rt.get(run(lambda x: 1, Mine()))
    assert "in the making" in str(caught.value)
    assert rt.get(run(lambda: 1)) == 1


def test_failures_go_through_dependents(rt, run, tally):
    @rt.remote
    def after(*xs, **named):
        tally.hit("ran")

    failed = run(lambda: throw(Coded(1, detail="first")))
    second = after.remote(1, failed)
    third = after.options(num_returns=2).remote(k=second)
    for ref in (second, *third):
        with pytest.raises(Coded) as caught:
            rt.get(ref, timeout=20)
        assert caught.value.code == 1
    assert rt.get(rt.remote(len).remote([failed])) == 1
    assert tally.lines() == []


def test_a_failed_dependency_of_an_actor_call(rt, run):
    @rt.remote(num_cpus=0)
    class A:
        def take(self, x):
            return x

    a = A.remote()
    with pytest.raises(Plain):
        rt.get(a.take.remote(run(lambda: throw(Plain("x")))), timeout=20)
    assert rt.get(a.take.remote(5), timeout=20) == 5


def test_errors_from_nested_tasks_can_be_caught_and_passed_on(rt):
    @rt.remote
    def inner():
        raise Plain("deep")

    @rt.remote
    def outer(catch):
        try:
            return rt.get(inner.remote())
        except Plain as error:
            if catch:
                return f"caught {type(error).__name__}"
            raise

    assert "caught" in rt.get(outer.remote(True))
    with pytest.raises(Plain) as caught:
        rt.get(outer.remote(False))
    assert "in inner" in str(caught.value)
    assert "in outer" in str(caught.value)


# ------------------------------------------------------------------ retries of exceptions
@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({"max_retries": 3}, 1),
        ({"retry_exceptions": True, "max_retries": 2}, 3),
        ({"retry_exceptions": [KeyError], "max_retries": 2}, 3),
        ({"retry_exceptions": [LookupError], "max_retries": 1}, 2),
        ({"retry_exceptions": [ValueError], "max_retries": 2}, 1),
        ({"retry_exceptions": True, "max_retries": 0}, 1),
    ],
    ids=str,
)
def test_retry_exceptions(rt, tally, options, runs):
    @rt.remote(**options)
    def fail():
        tally.hit()
        raise KeyError("k")

    with pytest.raises(KeyError):
        rt.get(fail.remote(), timeout=20)
    assert len(tally.lines()) == runs


def test_a_retry_that_succeeds(rt, tally):
    @rt.remote(retry_exceptions=[Plain], max_retries=-1)
    def flaky():
        if tally.hit() < 6:
            raise Plain
        return "at last"

    assert rt.get(flaky.remote(), timeout=20) == "at last"


# ------------------------------------------------------------------ cancelling
@pytest.fixture
def looper(rt, tally):
    """Notes its start, then loops until it is interrupted."""

    @rt.remote(num_cpus=1)
    def loop(tag="a", children=()):
        tally.hit(f"{tag} start")
        try:
            for _ in range(3000):
                time.sleep(0.01)
        except KeyboardInterrupt:
            tally.hit(f"{tag} interrupted")
            raise
        return "end"

    return loop


def test_cancel_of_a_running_task(rt, looper, tally, until):
    ref = looper.remote()
    until(tally.lines)
    rt.cancel(ref)
    for _ in range(2):
        with pytest.raises(exceptions.TaskCancelledError):
            rt.get(ref, timeout=20)
    until(lambda: tally.lines() == ["a start", "a interrupted"])
    rt.cancel(ref)
    until(lambda: rt.available_resources().get("CPU") == 4)


def test_cancel_of_pending_tasks(rt, tally, gate, until):
    blockers = [rt.remote(gate.wait).remote() for _ in range(4)]
    queued = [rt.remote(tally.hit).remote(i) for i in range(3)]
    waiting = rt.remote(tally.hit).remote(blockers[0])
    for ref in (*queued, waiting):
        rt.cancel(ref)
    for ref in (*queued, waiting):
        with pytest.raises(exceptions.TaskCancelledError):
            rt.get(ref, timeout=20)
    gate.open()
    assert rt.get(blockers, timeout=20) == [True] * 4
    assert rt.get(rt.remote(lambda: 1).remote(), timeout=20) == 1
    assert tally.lines() == []


def test_cancel_is_recursive_unless_told_otherwise(rt, tally, until, gate):
    @rt.remote(num_cpus=0)
    def child():
        tally.hit("child")
        try:
            gate.wait()
            tally.hit("end")
        except KeyboardInterrupt:
            tally.hit("interrupted")
            raise

    @rt.remote(num_cpus=0)
    def parent():
        return rt.get(child.remote())

    ref = parent.remote()
    until(lambda: tally.lines() == ["child"])
    rt.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        rt.get(ref, timeout=20)
    until(lambda: tally.lines() == ["child", "interrupted"])
    ref = parent.remote()
    until(lambda: len(tally.lines()) == 3)
    rt.cancel(ref, recursive=False)
    with pytest.raises(exceptions.TaskCancelledError):
        rt.get(ref, timeout=20)
    gate.open()
    until(lambda: tally.lines()[3:] == ["end"])


def test_cancelled_work_is_not_retried(rt, looper, tally, until):
    ref = looper.options(max_retries=5, retry_exceptions=True).remote()
    until(tally.lines)
    rt.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        rt.get(ref, timeout=20)
    assert rt.get(rt.remote(num_cpus=4)(lambda: 1).remote(), timeout=20) == 1
    assert tally.lines() == ["a start", "a interrupted"]


def test_cancel_while_the_task_is_in_get(rt, tally, gate, until):
    late = rt.remote(num_cpus=0)(gate.wait).remote()

    @rt.remote(num_cpus=0)
    def blocked(box):
        tally.hit()
        return rt.get(box[0])

    ref = blocked.remote([late])
    until(tally.lines)
    rt.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        rt.get(ref, timeout=20)
    gate.open()
    assert rt.get(late, timeout=20) is True


def test_cancel_of_actor_calls(rt, tally, until, gate):
    @rt.remote(num_cpus=0)
    class A:
        def work(self):
            tally.hit("start")
            deadline_s = time.monotonic() + 20
            while not rt.get_runtime_context().is_canceled() and time.monotonic() < deadline_s:
                time.sleep(0.01)
            tally.hit("noticed")
            return "value"

        def hit(self, x):
            tally.hit(x)

    a = A.remote()
    running, queued = a.work.remote(), a.hit.remote("queued")
    until(tally.lines)
    with pytest.raises(ValueError):
        rt.cancel(running, force=True)
    rt.cancel(queued)
    rt.cancel(running)
    for ref in (running, queued):
        with pytest.raises(exceptions.TaskCancelledError):
            rt.get(ref, timeout=20)
    rt.get(a.hit.remote("next"), timeout=20)
    assert tally.lines() == ["start", "noticed", "next"]


def test_cancel_of_async_actor_calls(rt, tally, until):
    @rt.remote(num_cpus=0, max_concurrency=2)
    class A:
        async def nap(self, tag):
            tally.hit(f"{tag} start")
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                tally.hit(f"{tag} cancelled")
                raise

        async def ping(self):
            return "pong"

    a = A.remote()
    first = a.nap.remote("a")
    until(lambda: len(tally.lines()) == 1)
    second = a.nap.remote("b")
    until(lambda: len(tally.lines()) == 2)
    third = a.nap.remote("c")
    for ref in (third, first):
        rt.cancel(ref)
        with pytest.raises(exceptions.TaskCancelledError):
            rt.get(ref, timeout=20)
    assert rt.get(a.ping.remote(), timeout=20) == "pong"
    rt.cancel(second)
    with pytest.raises(exceptions.TaskCancelledError):
        rt.get(second, timeout=20)
    until(lambda: tally.lines() == ["a start", "b start", "a cancelled", "b cancelled"])


def test_cancel_of_what_is_no_task(rt):
    for bad in (None, 5, "ref", [rt.put(1)]):
        with pytest.raises(TypeError):
            rt.cancel(bad)
    ref = rt.put(1)
    rt.cancel(ref)
    assert rt.get(ref) == 1


def test_cancel_of_a_borrowed_ref(rt, looper, tally, until):
    ref = looper.remote()
    until(tally.lines)
    rt.get(rt.remote(num_cpus=0)(lambda box: rt.cancel(box[0])).remote([ref]), timeout=20)
    with pytest.raises(exceptions.TaskCancelledError):
        rt.get(ref, timeout=20)
