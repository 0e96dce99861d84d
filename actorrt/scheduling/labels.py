"""Node labels and selectors over them.

A selector maps a label's key to a requirement: ``v`` (equal), ``!v`` (not equal), ``in(a,b)`` (one of), ``!in(a,b)``
(none of). A node without the label meets the negative forms. Syntax of keys and values is that of Kubernetes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

NAME_CHARACTERS_MAX: Final = 63
PREFIX_CHARACTERS_MAX: Final = 253

Selector: TypeAlias = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_LIST = re.compile(r"(!?)in\((.*)\)", re.DOTALL)


class Requirement(msgspec.Struct, frozen=True):
    """One parsed entry of a selector."""

    key: str
    values: tuple[str, ...]
    negated: bool

    def met_by(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy it."""
        return (labels.get(self.key) in self.values) is not self.negated


def check_key(key: object) -> None:
    """Raise TypeError or ValueError unless ``key`` is ``name`` or ``prefix/name``."""
    if not isinstance(key, str):
        raise TypeError(f"label keys must be strings, got {key!r} of type {type(key).__name__}")
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > PREFIX_CHARACTERS_MAX or not _PREFIX.fullmatch(prefix)):
        raise ValueError(
            f"the prefix of label key {key!r} must be a DNS name of at most {PREFIX_CHARACTERS_MAX} characters"
        )
    _check_name(name, f"label key {key!r}")


def check_value(value: object, what: str = "label value") -> None:
    """Raise TypeError or ValueError unless ``value`` can be a label's value (it may be empty)."""
    if not isinstance(value, str):
        raise TypeError(f"{what}s must be strings, got {value!r} of type {type(value).__name__}")
    if value:
        _check_name(value, f"{what} {value!r}")


def check_labels(labels: object) -> dict[str, str]:
    """Return a node's labels, checked."""
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels must be a dict of strings, got {labels!r} of type {type(labels).__name__}")
    for key, value in labels.items():
        check_key(key)
        check_value(value)
    return dict(labels)


def parse_selector(selector: object) -> Selector:
    """Return a user's ``label_selector`` as it travels in a ``LeaseSpec``. Raises TypeError or ValueError."""
    if selector is None:
        return ()
    if not isinstance(selector, Mapping):
        raise TypeError(f"label_selector must be a dict of strings, got {selector!r} of type {type(selector).__name__}")
    for key, value in selector.items():
        parse_requirement(key, value)
    return tuple(selector.items())


def parse_requirement(key: object, text: object) -> Requirement:
    """Parse one entry of a selector."""
    check_key(key)
    assert isinstance(key, str)
    if not isinstance(text, str):
        raise TypeError(f"label_selector[{key!r}] must be a string, got {text!r} of type {type(text).__name__}")
    listed = _LIST.fullmatch(text)
    if listed:
        values = tuple(value.strip() for value in listed[2].split(","))
        negated = bool(listed[1])
    else:
        values, negated = (text.removeprefix("!"),), text.startswith("!")
    for value in values:
        if listed and not value:
            raise ValueError(f"label_selector[{key!r}]: {text!r} lists an empty value; write in(a,b) or !in(a,b)")
        try:
            check_value(value)
        except ValueError as error:
            raise ValueError(
                f"label_selector[{key!r}] = {text!r}: {error} (allowed forms: v, !v, in(a,b), !in(a,b))"
            ) from error
    return Requirement(key, values, negated)


@functools.lru_cache(maxsize=1024)
def requirements(selector: Selector) -> tuple[Requirement, ...]:
    """Parse a whole selector (cached: the same few are asked again and again)."""
    return tuple(parse_requirement(key, text) for key, text in selector)


def matches(labels: Mapping[str, str], selector: Selector) -> bool:
    """Whether a node with these labels meets the selector. Raises ValueError for a selector that is none."""
    return all(requirement.met_by(labels) for requirement in requirements(selector))


def describe(selector: Selector) -> str:
    """Return a selector for people."""
    return "{" + ", ".join(f"{key}: {text}" for key, text in selector) + "}"


def _check_name(name: str, what: str) -> None:
    if len(name) > NAME_CHARACTERS_MAX or not _NAME.fullmatch(name):
        raise ValueError(
            f"{what}: must be 1 to {NAME_CHARACTERS_MAX} letters, digits, '-', '_' or '.', "
            "beginning and ending with a letter or digit"
        )
