"""Serializers for classes that cannot say themselves how they travel (usually somebody else's)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from actorrt.wire import reducers

_T = TypeVar("_T")


def register_serializer(cls: type[_T], *, serializer: Callable[[_T], Any], deserializer: Callable[[Any], _T]) -> None:
    """Use these whenever an instance of ``cls`` is pickled by the runtime, at any depth of a value.

    The registration holds in this process: a worker that returns or passes on such objects registers for itself. To
    read them nothing is needed, ``deserializer`` travels with the value. Exactly ``cls`` is meant, not classes below
    it. Another registration replaces the one before. Python's built-in containers, numbers and texts cannot be
    registered for: their own way is wired into the pickler.

    Args:
        cls: the class.
        serializer: takes an instance, returns something that can be pickled.
        deserializer: takes that, returns an instance.

    Raises TypeError for arguments of a wrong type, ValueError for a class that the pickler treats itself.
    """
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a class, got {cls!r} of type {type(cls).__name__}")
    for name, function in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(function):
            raise TypeError(f"{name} must be callable, got {function!r} of type {type(function).__name__}")
    if cls in _WIRED_IN:
        raise ValueError(f"no serializer can be registered for {cls.__name__}: the pickler never asks for one")

    def reducer(value: _T) -> tuple[Callable[[Any], _T], tuple[Any]]:
        return deserializer, (serializer(value),)

    reducers.register(cls, reducer)


def deregister_serializer(cls: type) -> None:
    """Forget the serializer of ``cls`` in this process (nothing happens if there is none).

    Raises TypeError if ``cls`` is no class.
    """
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a class, got {cls!r} of type {type(cls).__name__}")
    reducers.deregister(cls)


def _no_function() -> None:
    """Its type is that of all functions."""


_WIRED_IN = frozenset(
    {
        type(None),
        type(...),
        type(NotImplemented),
        bool,
        int,
        float,
        bytes,
        bytearray,
        str,
        tuple,
        list,
        dict,
        set,
        frozenset,
        type,
        type(_no_function),
    }
)
