"""How to pickle what cannot say so itself: reducers that users registered, in this process only.

A table of our own, and not ``copyreg``'s: that one is process-wide, so it would change what ``pickle.dumps`` in the
user's program gives. While nothing is registered ``in_use()`` is false, and ``wire.values`` stays with
``pickle.dumps``, which costs a good deal less than a pickler object with a table.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Reducer: TypeAlias = Callable[[Any], tuple[Any, ...]]
"""Takes the object, gives what ``__reduce__`` may give."""

_lock = threading.Lock()
_table: dict[type, Reducer] = {}  # never changed, always replaced: picklers of other threads read it without a lock
_picklers: dict[type, type] = {}  # by their base; made for the table above, so they are dropped with it


def register(cls: type, reducer: Reducer) -> None:
    """From now on instances of exactly this class (not of classes below it) are pickled this way."""
    global _table
    with _lock:
        _table = {**_table, cls: reducer}
        _picklers.clear()


def deregister(cls: type) -> None:
    """As it was before (nothing happens if it was so)."""
    global _table
    with _lock:
        _table = {other: reducer for other, reducer in _table.items() if other is not cls}
        _picklers.clear()


def in_use() -> bool:
    """Whether there is any: if not, ``dumps`` does the same as the pickler's own module, only slower."""
    return bool(_table)


def dumps(
    base: type[pickle.Pickler],
    value: Any,
    buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
) -> bytes:
    """Pickle with this pickler (``pickle.Pickler`` or ``cloudpickle.Pickler``) and the table."""
    made = _picklers.get(base) or _pickler_with_table(base)
    stream = io.BytesIO()
    made(stream, 5, buffer_callback=buffer_callback).dump(value)
    return stream.getvalue()


def _pickler_with_table(base: type) -> type:
    # What the pickler knows already comes after ours; ``copyreg`` may get more entries later, so it is not copied.
    with _lock:
        before: Any = getattr(base, "dispatch_table", None)
        if not isinstance(before, Mapping):  # the C pickler's own is a slot
            before = copyreg.dispatch_table
        made = type(base.__name__, (base,), {"dispatch_table": _Layered(_table, before)})
        _picklers[base] = made
        return made


class _Layered(dict[type, Reducer]):
    """A dict, so that picklers look up the common case in C, with another mapping behind it."""

    __slots__ = ("_behind",)

    def __init__(self, first: Mapping[type, Reducer], behind: Mapping[type, Reducer]) -> None:
        super().__init__(first)
        self._behind = behind

    def __missing__(self, cls: type) -> Reducer:
        return self._behind[cls]
