"""What user code takes and returns, between bytes and objects: arguments, results, ``retry_exceptions``.

Only the executor calls this: it is here that user values are pickled and unpickled in a worker.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from actorrt.wire import values
from actorrt.wire.records import Result, TaskTemplate, Value

logger = logging.getLogger("actorrt.worker")


def no_group(template: TaskTemplate, groups: Iterable[str]) -> ValueError:
    """What a call raises that names a concurrency group its actor does not have."""
    names = sorted(name for name in groups if name)
    return ValueError(f"concurrency group {template.concurrency_group!r} does not exist; there are {names}")


def split(value: Any, template: TaskTemplate) -> tuple[Value, ...]:
    """Serialise the parts of what a function with ``num_returns`` other than 1 returned."""
    count = template.num_returns
    if count == 0:
        return ()
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
    return tuple(values.dumps(part) for part in parts)


def unpack(packed: Value, dependencies: tuple[Result, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Rebuild arguments, with the values of top-level refs in their places."""
    args, kwargs = values.loads(packed)
    if dependencies:
        resolved = [_load_dependency(result) for result in dependencies]
        args = tuple(resolved[a.index] if type(a) is values.Slot else a for a in args)
        kwargs = {k: resolved[a.index] if type(a) is values.Slot else a for k, a in kwargs.items()}
    return args, kwargs


def _load_dependency(result: Result) -> Any:
    assert isinstance(result, Value), "a failed argument reached a worker"
    return values.loads(result)


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
