"""Why can this not be pickled? Searches a value for the part that is to blame."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from actorrt.wire import values

_RULE_WIDTH_MAX = 80
_MEMBER_TEXT_MAX = 200
_ADVICE = (
    "Leave them out (__getstate__), make them where they are needed (inside the function or method), or tell how "
    "they travel with actorrt.util.register_serializer. There may be others: of each object the first one is shown."
)


class FailureTuple:
    """Something that cannot be pickled: the object, how to get there from the value, and what refers to it.

    Attributes:
        obj: the object.
        path: names from the outermost value to ``obj``.
        parent: the object that refers to it; None for the outermost value.
    """

    __slots__ = ("obj", "parent", "path")

    def __init__(self, obj: Any, path: tuple[str, ...], parent: Any) -> None:
        self.obj = obj
        self.path = path
        self.parent = parent

    @property
    def name(self) -> str:
        """The last name of the path; empty if there is none."""
        return self.path[-1] if self.path else ""

    def __repr__(self) -> str:
        where = " -> ".join(self.path) or "the value itself"
        return f"FailureTuple({where}, obj={_text(self.obj)}, parent={_text(self.parent)})"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Can this be an argument, a result, or put? If not, what in it is to blame?

    Prints what it finds on the way. Each object along the way is pickled once more, so large values take a while.

    Args:
        base_obj: the value, function or class.
        name: what to call it in the printed text.
        depth: so many steps inwards: from a function to what it uses, from an object to its attributes or items.
        print_file: where to print; None: ``sys.stdout``.

    Returns:
        (whether it can be pickled, what is to blame). The innermost object within ``depth`` that still fails.
        The set is empty if the answer is True.

    Raises TypeError or ValueError for a ``depth`` that is no count.
    """
    if type(depth) is not int:
        raise TypeError(f"depth must be an int, got {depth!r} of type {type(depth).__name__}")
    if depth < 0:
        raise ValueError(f"depth must not be negative, got {depth}")
    printer = _Printer(print_file)
    printer.banner(f"Can {_text(base_obj)} be pickled?")
    error = _refusal(base_obj)
    if error is None:
        printer.line("Yes.")
        return True, set()
    printer.refused(name or "it", base_obj, error)
    found = _search(base_obj, (name,) if name else (), None, depth, printer)
    printer.banner(f"To blame: {found!r}", _ADVICE)
    return False, {found}


def _search(value: Any, path: tuple[str, ...], parent: Any, depth: int, printer: _Printer) -> FailureTuple:
    """The first innermost failure below a value that cannot be pickled."""
    if depth > 0:
        with printer:
            for name, member in _members(value):
                error = _refusal(member)
                if error is not None:
                    printer.refused(name, member, error)
                    return _search(member, (*path, name), value, depth - 1, printer)
            printer.line("nothing in it is to blame, so it is this itself")
    return FailureTuple(value, path, parent)


def _refusal(value: Any) -> Exception | None:
    try:
        values.dumps(value)
    except Exception as error:  # noqa: BLE001 - reductions are user code; whatever they raise is the answer
        return error
    return None


# ----------------------------------------------------------------------------------------------- what an object holds
def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """What is pickled with a value: names for the reader, and the objects."""
    for kind, list_members in _LISTERS:
        if isinstance(value, kind):
            yield from list_members(value)
            return
    yield from _attributes(value)


def _of_function(function: Any) -> Iterator[tuple[str, Any]]:
    try:
        used = inspect.getclosurevars(function)
    except ValueError:  # a cell that is still empty
        yield from _cells(function)
    else:
        yield from used.nonlocals.items()
        yield from used.globals.items()
    names = list(inspect.signature(function).parameters)
    defaults = function.__defaults__ or ()
    yield from zip(names[-len(defaults) :] if defaults else (), defaults, strict=False)
    yield from (function.__kwdefaults__ or {}).items()
    yield from vars(function).items()


def _cells(function: Any) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if not _is_empty(cell):
            yield name, cell.cell_contents


def _is_empty(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False


def _of_method(method: Any) -> Iterator[tuple[str, Any]]:
    yield "__self__", method.__self__
    yield "__func__", method.__func__


def _of_partial(partial: Any) -> Iterator[tuple[str, Any]]:
    yield "func", partial.func
    yield from _of_sequence(partial.args)
    yield from partial.keywords.items()


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(cls).items():
        plain = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
        if inspect.isfunction(plain) or not (name.startswith("__") and name.endswith("__")):
            yield name, plain
    yield from ((base.__name__, base) for base in cls.__bases__ if base is not object)


def _of_mapping(mapping: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, member in mapping.items():
        yield f"[{_text(key)}]", member
        yield f"key {_text(key)}", key


def _of_sequence(sequence: Any) -> Iterator[tuple[str, Any]]:
    return ((f"[{index}]", member) for index, member in enumerate(sequence))


def _of_set(members: Any) -> Iterator[tuple[str, Any]]:
    return ((f"{{{_text(member)}}}", member) for member in members)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield name, getattr(value, name)
    yield "its class", type(value)


_LISTERS: tuple[tuple[Any, Callable[[Any], Iterator[tuple[str, Any]]]], ...] = (
    (types.FunctionType, _of_function),
    (types.MethodType, _of_method),
    (functools.partial, _of_partial),
    (type, _of_class),
    (dict, _of_mapping),
    ((list, tuple), _of_sequence),
    ((set, frozenset), _of_set),
)


# ------------------------------------------------------------------------------------------------------------ printing
def _text(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - user code; the search goes on
        text = f"<{type(value).__name__} whose repr fails: {type(error).__name__}>"
    return text if len(text) <= _MEMBER_TEXT_MAX else text[: _MEMBER_TEXT_MAX - 3] + "..."


class _Printer:
    """Prints, further to the right within ``with``."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = sys.stdout if file is None else file
        self._level = 0

    def __enter__(self) -> None:
        self._level += 1

    def __exit__(self, *_: object) -> None:
        self._level -= 1

    def line(self, text: str) -> None:
        print("    " * self._level + text, file=self._file)

    def banner(self, *lines: str) -> None:
        rule = "=" * min(_RULE_WIDTH_MAX, max(len(line) for line in lines))
        for line in (rule, *lines, rule):
            self.line(line)

    def refused(self, name: str, value: Any, error: Exception) -> None:
        self.line(f"{name}: {_text(value)} cannot be pickled: {type(error).__name__}: {error}")
