"""Arguments of a call to bytes: top-level refs become slots, all else is pickled now (later changes are not seen)."""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from actorrt.api.refs import ObjectRef
from actorrt.kernel.limits import INLINE_VALUE_BYTES_MAX
from actorrt.wire import values
from actorrt.wire.records import Buffer, RefInfo

_PLAIN = frozenset({int, float, bool, type(None)})
"""Types that hold no ref and no large buffer and are pickled by C alone."""


class Packed(NamedTuple):
    """Arguments as bytes."""

    data: bytes
    buffers: tuple[Buffer, ...] = ()
    dependencies: tuple[RefInfo, ...] = ()
    """Top-level refs in slot order; behind them that of the stored arguments (``values.ARGUMENTS_STORED``)."""
    refs: tuple[RefInfo, ...] = ()
    """Refs nested in values."""
    held: ObjectRef[Any] | None = None
    """Keeps the stored arguments until the call has been submitted."""


_NOTHING = Packed(b"")


def pack(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
    put: Callable[[values.Pickled], ObjectRef[Any] | None] | None = None,
) -> Packed:
    """Serialise arguments. ``put`` stores large ones as an object of ours, if it can.

    Raises TypeError, naming the function, for what cannot be pickled.
    """
    if not args and not kwargs:
        return _NOTHING
    if not kwargs and all(type(argument) in _PLAIN for argument in args):
        return Packed(pickle.dumps((args, kwargs), 5))
    dependencies: list[RefInfo] = []
    for argument in args:
        if type(argument) is ObjectRef:
            args = tuple(_slot(a, dependencies) for a in args)
            break
    if kwargs:
        for argument in kwargs.values():
            if type(argument) is ObjectRef:
                kwargs = {k: _slot(a, dependencies) for k, a in kwargs.items()}
                break
    try:
        if "pyarrow" in sys.modules:
            args = tuple(map(values.compact, args))
        pickled = values.collecting((args, kwargs))
    except Exception as error:
        raise TypeError(f"an argument of {name} cannot be pickled: {type(error).__name__}: {error}") from error
    if not pickled.buffers and len(pickled.data) <= INLINE_VALUE_BYTES_MAX:
        return Packed(pickled.data, (), tuple(dependencies), pickled.refs)
    if put is not None and pickled.size_bytes() > INLINE_VALUE_BYTES_MAX:
        held = put(pickled)
        if held is not None:
            dependencies.append(RefInfo(held._id, held._owner))
            return Packed(values.ARGUMENTS_STORED, (), tuple(dependencies), (), held)
    snapshot = pickled.snapshot()
    return Packed(snapshot.data, snapshot.buffers, tuple(dependencies), snapshot.refs)


def _slot(argument: Any, dependencies: list[RefInfo]) -> Any:
    if type(argument) is not ObjectRef:
        return argument
    dependencies.append(RefInfo(argument._id, argument._owner))
    return values.Slot(len(dependencies) - 1)


def check_signature(
    signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> None:
    """Raise TypeError at the call site when the arguments do not fit."""
    if signature is None:
        return
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        # ``f(a=1)`` is fine for ``def f(a=0, /, **more)``, which ``bind`` of Python 3.11 does not know.
        positional = {parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_ONLY}
        kwargs = {key: value for key, value in kwargs.items() if key not in positional}
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}{signature}: {error}") from None


class Shape:
    """A signature reduced to what the common check needs (positional counts), with the full check behind it."""

    __slots__ = ("positional_max", "positional_min", "signature")

    def __init__(self, signature: inspect.Signature | None) -> None:
        self.signature = signature
        self.positional_min = 0
        self.positional_max = -1
        if signature is None:
            return
        for parameter in signature.parameters.values():
            if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
                self.positional_max = max(0, self.positional_max) + 1
                if parameter.default is parameter.empty:
                    self.positional_min += 1
            elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
                self.positional_max = -1
                return
        self.positional_max = max(0, self.positional_max)

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> None:
        """Raise TypeError when the arguments do not fit."""
        if not kwargs and self.positional_min <= len(args) <= self.positional_max:
            return
        check_signature(self.signature, args, kwargs, name)


def shape_of(function: Any, *, skip_self: bool = False) -> Shape:
    """Shape of a callable; anything goes where Python cannot tell."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return Shape(None)
    if skip_self:
        parameters = list(signature.parameters.values())
        if parameters and parameters[0].kind not in {parameters[0].VAR_POSITIONAL, parameters[0].VAR_KEYWORD}:
            parameters = parameters[1:]
        signature = signature.replace(parameters=parameters)
    return Shape(signature)
