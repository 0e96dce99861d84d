"""What the machine of a store wants done: answers to requests, header marks, and jobs for the helpers. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorrt.store.base import Location, Slab, SpilledAt
from actorrt.store.errors import StoreError
from actorrt.store.spill import SpillFile

Ticket = Any
"""The caller's own mark of a request; comes back in its Answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To a request: a Location, a Slab, a Place, or the error."""

    ticket: Ticket
    result: Location | Slab | SpilledAt | StoreError


@dataclass(frozen=True, slots=True)
class Created:
    """An extent header is to be written."""

    location: Location
    key: bytes


@dataclass(frozen=True, slots=True)
class Freed:
    """The extent is about to be used again: mark its header, so that a stale location is noticed."""

    location: Location


@dataclass(frozen=True, slots=True)
class Reserve:
    """Have the memory of this part of a segment present."""

    segment: int
    offset: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Write:
    """Write these objects, in this order, to a new file."""

    file: SpillFile
    locations: tuple[Location, ...]


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Read the slice into the extent, check it, and mark the header sealed."""

    copy: SpilledAt
    location: Location
    key: bytes


@dataclass(frozen=True, slots=True)
class Remove:
    """The file is needed no more."""

    directory: int
    name: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A secondary object was dropped from this node to make room; whoever keeps lists of copies should know."""

    key: bytes


Effect = Answer | Created | Freed | Reserve | Write | ReadBack | Remove | Dropped
