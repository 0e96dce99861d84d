"""Failures to exceptions and back.

What ``get`` raises for a user's exception is an instance of a class made on the spot that derives from ``TaskError``
*and* from the user's class, so that ``except KeyError`` and ``except TaskError`` both work. Attributes of the user's
exception are read through to it.

Some causes are control flow of the interpreter and mean something to whoever sees them pass: a ``get`` that raised an
``asyncio.CancelledError`` would look like the cancelling of the *caller*, ``SystemExit`` would end it silently. Those
arrive as a plain ``TaskError`` with the cause; so does, where it is awaited, a ``StopIteration``, which cannot leave a
generator (``plain``).
"""

from __future__ import annotations

import contextlib
import traceback
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from actorrt.kernel.errors import (
    ActorError,
    InternalError,
    ObjectLostError,
    TaskCancelledError,
    TaskError,
    UnserializableException,
    error_class,
)
from actorrt.wire import values
from actorrt.wire.records import Failure

TRACEBACK_CHARACTERS_MAX = 32_768

_dual_classes: dict[type[BaseException], type[TaskError]] = {}
_DUAL_CLASSES_MAX = 1000


def failure_of(error: BaseException, function_name: str, pid: int, node_id: bytes = b"") -> Failure:
    """Describe an exception of user code so that another process can raise it."""
    if isinstance(error, TaskError) and error.cause is not None:
        # A task that fails because a task it waited for failed: the first cause stays the class users catch.
        error_to_send: BaseException = error.cause
    else:
        error_to_send = error
    text = "".join(traceback.format_exception(error))
    if len(text) > TRACEBACK_CHARACTERS_MAX:
        half = TRACEBACK_CHARACTERS_MAX // 2
        text = text[:half] + "\n  ... (shortened) ...\n" + text[-half:]
    cause = None
    try:
        cause = values.inline(error_to_send)
        values.loads(cause)  # what pickles may still refuse to be rebuilt; find out here, not at the caller
    except Exception as problem:  # noqa: BLE001 - any user code may run in there; the text says what happened
        text += f"\n(the exception itself could not be sent: {type(problem).__name__}: {problem})"
        cause = None
    return Failure(
        kind="TaskError",
        text=text,
        cause=cause,
        type_name=type(error_to_send).__name__,
        function_name=function_name,
        pid=pid,
        node_id=node_id,
    )


def _dual_class(cause_class: type[BaseException]) -> type[TaskError]:
    known = _dual_classes.get(cause_class)
    if known is not None:
        return known
    if not issubclass(cause_class, Exception):
        return TaskError

    stored = [
        name
        for base in cause_class.__mro__
        if base is not BaseException
        for name, value in vars(base).items()
        if isinstance(value, (MemberDescriptorType, GetSetDescriptorType)) and not name.startswith("__")
    ]

    def __init__(self: Any, function_name: str, remote_traceback: str, cause: BaseException, **rest: Any) -> None:  # noqa: N807
        TaskError.__init__(self, function_name, remote_traceback, cause, **rest)
        self.args = cause.args
        for attribute in stored:  # these shadow __getattr__: the new instance has its own, empty
            with contextlib.suppress(AttributeError, TypeError):
                setattr(self, attribute, getattr(cause, attribute))

    def __getattr__(self: Any, name: str) -> Any:  # noqa: N807
        if name.startswith("__") or name == "cause":
            raise AttributeError(name)
        return getattr(self.cause, name)

    def __reduce__(self: Any) -> Any:  # noqa: N807
        return _rebuild, (self.function_name, self.remote_traceback, self.cause, self.pid, self.type_name)

    namespace: dict[str, Any] = {
        "__init__": __init__,
        "__getattr__": __getattr__,
        "__reduce__": __reduce__,
        "__str__": TaskError.__str__,
        "__module__": "actorrt.exceptions",
    }
    if issubclass(cause_class, BaseExceptionGroup):

        def __new__(cls: Any, _name: str, _traceback: str, cause: Any, **_rest: Any) -> Any:  # noqa: N807
            return cause_class.__new__(cls, cause.message, cause.exceptions)

        namespace["__new__"] = __new__
    elif issubclass(cause_class, OSError):
        # OSError.__new__ picks a subclass by errno and would look at our arguments; give it none.

        def new_os_error(cls: Any, *_arguments: Any, **_rest: Any) -> Any:
            return cause_class.__new__(cls)

        namespace["__new__"] = new_os_error
    name = f"TaskError({cause_class.__name__})"
    try:
        made: type[TaskError] = type(name, (TaskError, cause_class), namespace)
    except TypeError:
        made = TaskError  # layouts that do not mix, final classes
    if len(_dual_classes) >= _DUAL_CLASSES_MAX:
        _dual_classes.clear()
    _dual_classes[cause_class] = made
    return made


def _rebuild(function_name: str, text: str, cause: BaseException, pid: int, type_name: str) -> TaskError:
    dual = _dual_class(type(cause))
    try:
        error = dual(function_name, text, cause, pid=pid, type_name=type_name)
    except Exception:  # noqa: BLE001 - a user class whose layout needs its own __new__ arguments
        error = TaskError(function_name, text, cause, pid=pid, type_name=type_name)
    error.__cause__ = cause if isinstance(cause, Exception) else None
    return error


def plain(error: Exception) -> Exception:
    """Return what may leave a coroutine or an asyncio future in place of this error: itself, unless it would end the
    generator it passes through.
    """
    if isinstance(error, (StopIteration, StopAsyncIteration)) and isinstance(error, TaskError):
        return TaskError(
            error.function_name, error.remote_traceback, error.cause, pid=error.pid, type_name=error.type_name
        )
    return error


def exception_of(failure: Failure) -> Exception:
    """Return the exception that ``get`` raises for this failure."""
    if failure.kind == "TaskError":
        if failure.cause is None:
            return TaskError(
                failure.function_name,
                failure.text,
                UnserializableException(failure.text),
                pid=failure.pid,
                type_name=failure.type_name,
            )
        try:
            cause = values.loads(failure.cause)
        except Exception as problem:  # noqa: BLE001 - the user's own reconstruction code
            unreadable = UnserializableException(f"{failure.text}\n(could not be rebuilt here: {problem})")
            return TaskError(
                failure.function_name, failure.text, unreadable, pid=failure.pid, type_name=failure.type_name
            )
        return _rebuild(failure.function_name, failure.text, cause, failure.pid, failure.type_name)
    cls = error_class(failure.kind)
    subject = failure.subject_id.hex()
    if issubclass(cls, ActorError):
        return cls(failure.text, actor_id=subject)
    if issubclass(cls, ObjectLostError):
        return cls(failure.text, object_id=subject)
    if issubclass(cls, TaskCancelledError):
        return cls(failure.text, task_id=subject)
    if issubclass(cls, InternalError):
        return InternalError(failure.text)
    return cls(failure.text)
