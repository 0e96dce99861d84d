import asyncio
import pickle

import pytest

from actorrt.kernel import errors
from actorrt.wire import failures
from actorrt.wire.failures import TRACEBACK_CHARACTERS_MAX, exception_of, failure_of, plain
from actorrt.wire.records import Failure, Value


class Plain(Exception):
    def __init__(self, code, *, detail):
        super().__init__(code)
        self.detail = detail

    def __reduce__(self):
        return _plain, (self.args[0], self.detail)


def _plain(code, detail):
    return Plain(code, detail=detail)


class Slotted(Exception):
    __slots__ = ("extra",)

    def __init__(self, extra):
        super().__init__(extra)
        self.extra = extra


class CannotTravel(Exception):
    def __reduce__(self):
        raise RuntimeError("never")


class CannotBeRebuilt(Exception):
    def __init__(self, a, b):
        super().__init__("one argument too few")


def sent(error):
    """What the caller's ``get`` raises for what the worker's code raised."""
    try:
        raise error
    except BaseException as raised:
        return exception_of(failure_of(raised, "work", 77, b"node"))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("k"),
        Plain(3, detail="d"),
        Slotted("e"),
        UnicodeDecodeError("utf8", b"x", 0, 1, "bad"),
        FileNotFoundError(2, "gone", "name"),
        ExceptionGroup("many", [ValueError(1), KeyError(2)]),
        errors.GetTimeoutError("late"),
        ImportError("m", name="module"),
        SyntaxError("bad", ("file.py", 3, 4, "text")),
    ],
    ids=lambda e: type(e).__name__,
)
def test_both_classes_catch_and_attributes_are_the_users(error):
    raised = sent(error)
    assert isinstance(raised, errors.TaskError)
    assert isinstance(raised, type(error))
    assert repr(raised.args) == repr(error.args)
    assert type(raised.cause) is type(error)
    assert (raised.function_name, raised.pid, raised.type_name) == ("work", 77, type(error).__name__)
    assert "Traceback" in str(raised)
    for name in ("detail", "extra", "errno", "filename", "strerror", "exceptions", "name", "lineno", "start", "reason"):
        if hasattr(error, name):
            assert str(getattr(raised, name)) == str(getattr(error, name)), name
    assert not hasattr(raised, "no_such_attribute")
    again = pickle.loads(pickle.dumps(raised))
    assert type(again) is type(raised)
    assert str(again) == str(raised)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
def test_control_flow_of_the_worker_is_none_of_the_caller(error):
    raised = sent(error)
    assert type(raised) is errors.TaskError
    assert type(raised.cause) is type(error)


def test_a_stop_iteration_can_be_caught_as_one_but_has_a_plain_form_for_await():
    raised = sent(StopIteration(5))
    assert isinstance(raised, StopIteration)
    assert type(plain(raised)) is errors.TaskError
    assert isinstance(plain(raised).cause, StopIteration)
    assert str(plain(raised)) == str(raised)


def test_except_star_finds_what_is_inside():
    found = []
    try:
        raise sent(ExceptionGroup("many", [ValueError(1), KeyError(2)]))
    except* KeyError as group:
        found.append(group)
    except* ValueError:
        pass
    assert found


@pytest.mark.parametrize("error", [CannotTravel("x"), CannotBeRebuilt(1, 2)], ids=lambda e: type(e).__name__)
def test_what_cannot_be_sent_arrives_as_text(error):
    raised = sent(error)
    assert type(raised) is errors.TaskError
    assert isinstance(raised.cause, errors.UnserializableException)
    assert raised.type_name == type(error).__name__
    assert "could not be sent" in raised.remote_traceback


def test_what_cannot_be_rebuilt_here_arrives_as_text():
    raised = exception_of(Failure("TaskError", "the text", Value(b"\x80garbage"), type_name="X"))
    assert isinstance(raised.cause, errors.UnserializableException)
    assert "could not be rebuilt here" in str(raised.cause)


def test_the_first_cause_stays_what_users_catch():
    inner = sent(KeyError("first"))
    outer = sent(inner)
    assert isinstance(outer, KeyError)
    assert type(outer.cause) is KeyError


def test_long_tracebacks_are_shortened_in_the_middle():
    failure = failure_of(ValueError("a" * 200_000), "work", 1)
    assert len(failure.text) < TRACEBACK_CHARACTERS_MAX + 100
    assert "shortened" in failure.text


@pytest.mark.parametrize(
    ("kind", "attribute"),
    [("ActorDiedError", "actor_id"), ("OwnerDiedError", "object_id"), ("TaskCancelledError", "task_id")],
)
def test_failures_of_the_runtime_name_their_subject(kind, attribute):
    raised = exception_of(Failure(kind, "why", subject_id=b"\x01\x02"))
    assert type(raised).__name__ == kind
    assert getattr(raised, attribute) == "0102"
    assert str(raised) == "why"


def test_kinds_of_a_newer_peer_are_internal_errors():
    assert type(exception_of(Failure("FromTheFuture", "x"))) is errors.InternalError
    assert type(exception_of(Failure("WorkerCrashedError", "x"))) is errors.WorkerCrashedError


def test_made_classes_are_bounded(monkeypatch):
    monkeypatch.setattr(failures, "_dual_classes", {})
    monkeypatch.setattr(failures, "_DUAL_CLASSES_MAX", 3)
    for number in range(10):
        failures._dual_class(type(f"E{number}", (Exception,), {}))
    assert 0 < len(failures._dual_classes) <= 3
