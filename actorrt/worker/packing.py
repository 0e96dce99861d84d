"""What user code takes and returns, between bytes and objects: arguments, results, ``retry_exceptions``.

Only the executor calls this: it is here that user values are pickled and unpickled in a worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from actorrt.wire import values
from actorrt.wire.records import Result, Stored, TaskCall, TaskTemplate, Value
from actorrt.wire.values import Keep

logger = logging.getLogger("actorrt.worker")


Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def no_group(template: TaskTemplate, groups: Iterable[str]) -> ValueError:
    """What a call raises that names a concurrency group its actor does not have."""
    names = sorted(name for name in groups if name)
    return ValueError(f"concurrency group {template.concurrency_group!r} does not exist; there are {names}")


def packed(value: Any, template: TaskTemplate, task_id: bytes, owner: str, keep: Keep) -> tuple[Value | Stored, ...]:
    """Serialise what a function returned; large parts go to the node's store, as objects of ``owner``."""
    if template.num_returns == 1:
        return (values.dumps(value, keep, (task_id, 0, owner)),)
    if template.is_streaming:
        return ()
    parts = split(value, template)
    return tuple(values.dumps(part, keep, (task_id, index, owner)) for index, part in enumerate(parts))


def split(value: Any, template: TaskTemplate) -> list[Any]:
    """The parts of what a function with ``num_returns`` other than 1 returned."""
    count = template.num_returns
    if count == 0:
        return []
    try:
        parts = list(value)
    except TypeError:
        if hasattr(value, "__iter__"):
            raise  # the user's own iteration went wrong
        raise ValueError(
            f"{template.name} declares num_returns={count} but returned {type(value).__name__}, which cannot be split"
        ) from None
    if len(parts) != count:
        raise ValueError(f"{template.name} declares num_returns={count} but returned {len(parts)} values")
    return parts


Load: TypeAlias = Callable[[Sequence[Result]], list[Any]]
"""Rebuilds values, fetching those that lie in stores; raises the failure there is instead of one."""


def unpack_call(call: TaskCall, load: Load) -> Arguments:
    """Rebuild the arguments of a call, with the values of top-level refs in their places."""
    if not call.arguments:
        return (), {}
    if not call.dependencies:
        return values.loads(Value(call.arguments, call.buffers))  # type: ignore[no-any-return]
    return unpack_loaded(call, load(call.dependencies))


def unpack_loaded(call: TaskCall, resolved: list[Any]) -> Arguments:
    """The same, with the dependencies rebuilt already."""
    if call.arguments == values.ARGUMENTS_STORED:
        return fill(resolved.pop(), resolved)
    return fill(values.loads(Value(call.arguments, call.buffers)), resolved)


def unpack(packed: Value, dependencies: tuple[Result, ...], load: Load) -> Arguments:
    """Rebuild the arguments of an actor's constructor."""
    if not packed.data:
        return (), {}
    return fill(values.loads(packed), load(dependencies) if dependencies else [])


def fill(arguments: Arguments, resolved: list[Any]) -> Arguments:
    """Put the values of top-level refs in their places."""
    args, kwargs = arguments
    if resolved:
        args = tuple(resolved[a.index] if type(a) is values.Slot else a for a in args)
        kwargs = {k: resolved[a.index] if type(a) is values.Slot else a for k, a in kwargs.items()}
    return args, kwargs


def retry_wanted(template: TaskTemplate, error: BaseException) -> bool:
    """Whether the function's ``retry_exceptions`` name this exception."""
    wanted = template.retry_exceptions
    if wanted is None or not isinstance(error, Exception):
        return False
    try:
        classes = values.loads(wanted)
    except Exception:
        logger.exception("retry_exceptions of %s cannot be unpickled here: no retry", template.name)
        return False
    return classes is True or isinstance(error, classes)
