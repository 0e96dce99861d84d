"""Actors that do jobs. Workers are threads of this process: see conftest.py."""

import contextlib
import functools
import gc
import os
import threading
import types
import weakref
from concurrent.futures import CancelledError

import pytest

from actorrt.exceptions import ActorDiedError, InternalError
from actorrt.util import crew as crew_module
from actorrt.util.crew import Batch, CarriedGlobals, Crew, JobError, globals_of

WAIT_S = 30


class Remote(Exception):
    """Stands for the traceback of a member."""


class Unsendable(Exception):
    pass


class Refusing:
    def __reduce__(self):
        raise KeyError("I stay")


class Broken(Exception):
    pass


@pytest.fixture
def make(rt):
    made = []

    def crew(size=2, **options):
        made.append(Crew(size, remote_traceback=Remote, unsendable=Unsendable, **options))
        return made[-1]

    yield crew
    for each in made:
        each.end(RuntimeError("the test is over"))
        each.join()


def call(*args, **kwargs):
    return args, kwargs


def one(crew, function, *args, **kwargs):
    return crew.submit(function, [call(*args, **kwargs)], is_single=True)


def busy(crew, gates, gate="go"):
    """Occupies a member until the gate is open."""

    def wait():
        gates.open(f"{gate} began")
        gates.wait(gate)
        return gate

    future = one(crew, wait)
    gates.wait(f"{gate} began")
    return future


# ------------------------------------------------------------------ jobs
def test_a_job_is_a_function_and_calls(make):
    crew = make()
    assert crew.submit(divmod, [call(7, 2), call(9, 4)]).result(WAIT_S) == [(3, 1), (2, 1)]
    assert one(crew, dict, a=1).result(WAIT_S) == {"a": 1}
    assert crew.submit(divmod, []).result(WAIT_S) == []


def test_jobs_wait_and_all_are_done(make):
    crew = make(3)
    futures = [one(crew, pow, 2, exponent) for exponent in range(50)]
    assert [future.result(WAIT_S) for future in futures] == [2**exponent for exponent in range(50)]
    assert 1 <= len(crew.members) <= 3


def test_members_are_made_when_they_are_needed(make, gates):
    crew = make(3)
    assert crew.members == []
    for number in range(3):
        assert one(crew, abs, -number).result(WAIT_S) == number
    first = busy(crew, gates, "a")
    second = busy(crew, gates, "b")
    assert len(crew.members) == 2
    gates.open("a")
    gates.open("b")
    assert (first.result(WAIT_S), second.result(WAIT_S)) == ("a", "b")


def test_what_waits_can_be_cancelled(make, gates):
    crew = make(1)
    running = busy(crew, gates)
    waiting = one(crew, gates.open, "should not be")
    assert not running.cancel()
    assert waiting.cancel()
    gates.open("go")
    assert running.result(WAIT_S) == "go"
    assert one(crew, abs, -1).result(WAIT_S) == 1
    assert not gates.is_open("should not be")


def test_callbacks_may_use_the_runtime(rt, make):
    crew, seen, done = make(), [], threading.Event()

    def callback(future):
        seen.append(rt.get(rt.put(future.result())))
        done.set()

    one(crew, abs, -3).add_done_callback(callback)
    assert done.wait(WAIT_S)
    assert seen == [3]


def test_nothing_holds_on_to_arguments_and_results(make):
    class Value:
        pass

    crew, value = make(1), Value()
    gone = weakref.ref(value)
    result = one(crew, lambda given: given, value).result(WAIT_S)
    result_gone = weakref.ref(result)
    del value, result
    one(crew, abs, 1).result(WAIT_S)
    gc.collect()
    assert gone() is None
    assert result_gone() is None


# ------------------------------------------------------------------ errors
def test_errors_arrive_as_they_were_raised(make):
    future = make().submit(divmod, [call(1, 1), call(1, 0), call("not reached", 0)])
    error = future.exception(WAIT_S)
    assert type(error) is ZeroDivisionError
    assert type(error.__cause__) is Remote
    assert "ZeroDivisionError" in str(error.__cause__)


def test_an_exit_is_an_error_of_the_job(make):
    crew = make(1)

    def leave():
        raise SystemExit(3)

    assert type(one(crew, leave).exception(WAIT_S)) is SystemExit
    assert one(crew, abs, -1).result(WAIT_S) == 1


def test_errors_that_cannot_be_pickled_keep_their_text(make):
    class Stubborn(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    def fail():
        raise Stubborn(1, 2)

    assert "Stubborn: 1 and 2" in str(one(make(), fail).exception(WAIT_S))


def test_results_and_arguments_that_cannot_be_pickled(make):
    crew = make(1)
    error = one(crew, threading.Lock).exception(WAIT_S)
    assert type(error) is Unsendable
    assert "cannot pickle" in str(error.args[0])
    assert type(one(crew, id, threading.Lock()).exception(WAIT_S)) is TypeError
    assert type(one(crew, id, Refusing()).exception(WAIT_S)) is KeyError
    assert one(crew, abs, -1).result(WAIT_S) == 1


def test_a_member_that_dies_is_replaced(rt, make, gates):
    crew = make(1)
    future = busy(crew, gates)
    rt.kill(crew.members[0].actor)
    assert type(future.exception(WAIT_S)) is ActorDiedError
    assert one(crew, abs, -1).result(WAIT_S) == 1


def test_or_breaks_the_crew(rt, make, gates):
    crew = make(2, broken=Broken)
    futures = [busy(crew, gates, "a"), busy(crew, gates, "b"), one(crew, abs, 1)]
    rt.kill(crew.members[0].actor)
    assert {type(future.exception(WAIT_S)) for future in futures} == {Broken}
    with pytest.raises(Broken):
        one(crew, abs, 1)
    assert crew.members == []


# ------------------------------------------------------------------ members
def test_each_member_is_initialized(make, gates):
    crew = make(2, initializer=gates.open, initargs=["initialized"])
    assert not gates.is_open("initialized")
    crew.start_all()
    assert gates.is_open("initialized")
    assert [member.pid for member in crew.members] == [os.getpid()] * 2
    assert one(crew, abs, -1).result(WAIT_S) == 1
    assert len(crew.members) == 2


def test_an_initializer_that_fails(make):
    crew = make(2, initializer=divmod, initargs=(1, 0))
    with pytest.raises(ActorDiedError, match="ZeroDivisionError"):
        crew.start_all()
    with pytest.raises(RuntimeError, match="could not be started"):
        one(crew, abs, 1)
    lazy = make(1, initializer=divmod, initargs=(1, 0))
    assert type(one(lazy, abs, 1).exception(WAIT_S)) is ActorDiedError


def test_members_leave_after_their_share(make):
    crew = make(1, jobs_max=2)
    seen = []
    for _ in range(5):
        one(crew, abs, 1).result(WAIT_S)
        one(crew, abs, 1)  # the member of the first is put back before the second is taken up
        seen += crew.members
    assert len({id(member) for member in seen}) >= 2
    assert all(member.job_count <= 2 for member in seen)


def test_options_reach_the_members(rt, make):
    one(make(1, actor_options={"name": "the-member"}), abs, 1).result(WAIT_S)
    assert rt.get(rt.get_actor("the-member").pid.remote()) == os.getpid()


# ------------------------------------------------------------------ the end
def test_closing_does_what_is_there(make, gates):
    crew = make(1)
    futures = [busy(crew, gates), one(crew, abs, -1)]
    crew.close()
    gates.open("go")
    crew.join()
    assert [future.result(0) for future in futures] == ["go", 1]
    assert crew.members == []


def test_a_closed_crew_takes_no_jobs(make):
    crew = make(1)
    crew.close()
    with pytest.raises(RuntimeError, match="closed"):
        one(crew, abs, 1)


def test_members_of_a_runtime_that_ends_are_let_go(make, monkeypatch):
    crew = make(1, jobs_max=1)
    crew.start_all()

    class Ending:
        def __init__(self, actor):
            self.actor = actor

        def __getattr__(self, name):
            if name == "__ray_terminate__":
                raise InternalError("the runtime ends")
            return getattr(self.actor, name)

    crew.members[0].actor = Ending(crew.members[0].actor)
    assert one(crew, abs, -1).result(WAIT_S) == 1
    assert one(crew, abs, -2).result(WAIT_S) == 2


def test_jobs_of_many_threads_are_all_done_or_refused(make):
    crew, futures = make(2), []

    def submit():
        with contextlib.suppress(RuntimeError):
            while True:
                futures.append(one(crew, abs, -1))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(futures) < 20:
        one(crew, abs, 1).result(WAIT_S)
    crew.close()
    for thread in threads:
        thread.join(WAIT_S)
    crew.join()
    assert {future.result(0) for future in futures} == {1}


def test_closing_may_cancel_what_waits(make, gates):
    crew = make(1)
    running, waiting = busy(crew, gates), one(crew, abs, -1)
    crew.close(cancel_waiting=True)
    with pytest.raises(CancelledError):
        waiting.result(0)
    gates.open("go")
    crew.join()
    assert running.result(0) == "go"


def test_closing_lets_idle_members_go(make):
    crew = make(2)
    crew.start_all()
    crew.close()
    crew.join()
    assert crew.members == []
    make(2).close()


def test_the_end_fails_everything(make, gates):
    crew = make(1)
    futures = [busy(crew, gates), one(crew, abs, -1)]
    crew.end(Broken("enough"))
    crew.join()
    errors = [future.exception(WAIT_S) for future in futures]
    assert [repr(error) for error in errors] == ["Broken('enough')"] * 2
    assert errors[0] is not errors[1]
    with pytest.raises(Broken):
        one(crew, abs, 1)


def test_an_abandoned_crew_finishes(make, gates):
    crew = make(1)
    futures = [busy(crew, gates), one(crew, abs, -1)]
    crew.abandon()
    gates.open("go")
    assert [future.result(WAIT_S) for future in futures] == ["go", 1]
    crew.join()
    assert crew.members == []


def test_the_end_of_the_program(make, gates, monkeypatch):
    patient = make(1, finishes_at_exit=True)
    other = make(1)
    futures = [busy(patient, gates, "a"), busy(other, gates, "b")]
    threading.Timer(0.05, gates.open, ["a"]).start()
    monkeypatch.setattr(crew_module, "_is_exiting", False)
    monkeypatch.setattr(crew_module, "_crews", weakref.WeakSet([patient, other]))
    crew_module._exit_crews()
    assert crew_module.is_exiting()
    assert [future.done() for future in futures] == [True, False]


def test_without_a_runtime_nothing_is_begun(rt, make, monkeypatch):
    crew = make(1)
    with monkeypatch.context() as patch:
        patch.setattr(rt, "is_initialized", lambda: False)
        with pytest.raises(RuntimeError, match="was shut down"):
            one(crew, abs, 1)
    assert one(crew, abs, -1).result(WAIT_S) == 1
    monkeypatch.setattr(rt, "is_initialized", lambda: False)
    assert "shut down" in str(one(crew, abs, 1).exception(WAIT_S))
    monkeypatch.undo()
    assert one(crew, abs, -1).result(WAIT_S) == 1


# ------------------------------------------------------------------ globals of the user's script
def script(source, name="__main__"):
    """The functions of a script, each with globals of its own, as unpickling them makes them."""
    names = {"__name__": name}
    exec(source, names)
    functions = {key: value for key, value in names.items() if isinstance(value, types.FunctionType)}
    return types.SimpleNamespace(
        **{
            key: types.FunctionType(value.__code__, {k: v for k, v in names.items() if k not in functions})
            for key, value in functions.items()
        }
    )


SOURCE = """
total = 0
untouched = 0
def begin(start):
    global total, connection
    total = start
    connection = "open"
def add(number):
    global total, untouched
    total += number
    untouched += number
    return total, untouched, connection
"""


def run(carried, function, *args):
    names = carried.enter(function)
    try:
        return function(*args)
    finally:
        carried.leave(names)


def test_globals_set_by_an_initializer_are_carried_on():
    carried, first, second = CarriedGlobals(), script(SOURCE), script(SOURCE)
    carried.initialize(first.begin, (100,))
    assert run(carried, first.add, 1) == (101, 1, "open")
    assert run(carried, second.add, 1) == (102, 1, "open")
    assert run(carried, functools.partial(script(SOURCE).add, 5)) == (107, 5, "open")


def test_globals_of_other_modules_are_left_alone():
    carried = CarriedGlobals()
    carried.initialize(script(SOURCE).begin, (100,))
    with pytest.raises(NameError):
        run(carried, script(SOURCE, "elsewhere").add, 1)
    assert run(CarriedGlobals(), abs, -1) == 1


def test_globals_of_callables():
    class Callable:
        def __call__(self):
            return None

        def method(self):
            return None

    function = script(SOURCE).add
    for each in (function, functools.partial(function), Batch(function), Batch(functools.partial(function, 1))):
        assert globals_of(each) is function.__globals__
    assert globals_of(Callable()) is globals()
    assert globals_of(Callable().method) is globals()
    assert globals_of(abs) == {}


def test_a_batch_calls_with_each():
    assert Batch(divmod)([(7, 2), (9, 4)]) == [(3, 1), (2, 1)]


def test_job_errors_show_the_traceback():
    assert str(JobError(ValueError("x"), "the text")) == "\nthe text"
