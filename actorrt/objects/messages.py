"""What an object manager understands: from processes of its node, from owners, from other managers, from its store."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from actorrt.kernel.message import LANE_CONTROL, LANE_SUPERVISION, Message, Record
from actorrt.wire.records import Failure


class Place(msgspec.Struct, frozen=True, array_like=True, tag="p", gc=False):
    """Where a pinned (or just created) object lies: in a segment, or, with ``uri``, as a slice of a spill file.

    ``number`` names the pin when it is released, and the object when it is sealed.
    """

    segment: int
    offset: int
    size_bytes: int
    number: int
    uri: str = ""
    name: str = ""
    checksum: int = 0


Found: TypeAlias = Place | Failure


class ObjectWanted(Record):
    """An object somebody wants here: ``holders`` are process addresses of nodes that had it when the wish was made."""

    key: bytes
    size_bytes: int
    owner: str
    holders: tuple[str, ...]


class CarvedObject(Record):
    """One object its writer sealed in a slab."""

    key: bytes
    owner: str
    slab: int
    segment: int
    offset: int
    size_bytes: int
    number: int


# ---- from processes of the node (clients: whoever writes or reads; ``src.process`` names them)
class Attach(Message):
    """(R: Attached) The sender wants to use the store. ``pid`` is watched: with the process go its pins and slabs."""

    pid: int


class Attached(Message):
    """Answer: where the segments are (``store.reader``, ``store.writer``)."""

    directory: str
    prefix: str
    slab_bytes: int
    capacity_bytes: int
    bulk_endpoint: str = ""
    """Where objects can be read as a stream of bytes: for a client that cannot map the segments (another machine)."""


class LeaseSlab(Message):
    """(R: SlabLeased)."""

    length_bytes: int


class SlabLeased(Message):
    """Answer: as ``store.base.Slab``."""

    number: int
    segment: int
    offset: int
    length_bytes: int
    first_object: int


class CreateObject(Message):
    """(R: ObjectCreated) Room for one large object of ``owner``."""

    key: bytes
    size_bytes: int
    owner: str


class ObjectCreated(Message):
    """Answer: where to write it."""

    place: Place


class ObjectsSealed(Message):
    """Complete: ``created`` by number, ``carved`` in slabs of the sender; ``done_slabs`` are given back after that."""

    created: tuple[int, ...] = ()
    carved: tuple[CarvedObject, ...] = ()
    done_slabs: tuple[int, ...] = ()


class CreateAborted(Message):
    """The object with this number will not be completed."""

    number: int


class PinObjects(Message):
    """(R: ObjectsPinned) Have these here and pinned for the sender; answered when the last of them is (or cannot be).

    ``for_arguments``: of a task that is about to run; served before other wishes.
    """

    wanted: tuple[ObjectWanted, ...]
    for_arguments: bool = False
    ticket: int = 0
    """Of the sender's choice, for ``WithdrawRequest``; 0: it will not be withdrawn."""


class ObjectsPinned(Message):
    """Answer: one entry per wish, in order. What was found is pinned, once per entry."""

    found: tuple[Found, ...]


class PinsReleased(Message):
    """The sender's views of these are gone (one entry per pin)."""

    numbers: tuple[int, ...]


class FetchObjects(Message):
    """(R: ObjectsFetched) Have these here, without a pin (``wait(fetch_local=True)``)."""

    wanted: tuple[ObjectWanted, ...]
    ticket: int = 0
    """As in ``PinObjects``."""


class ObjectsFetched(Message):
    """Answer: the failures, by position; what is not listed is (or was just) here."""

    failed: tuple[tuple[int, Failure], ...] = ()


class WithdrawRequest(Message):
    """The sender does not want the answer to its request with this ticket any more: it fails, if it is still open."""

    ticket: int


class Detach(Message):
    """The sender needs the store no more: all that is its own goes, except these pins, of views that still live."""

    pinned: tuple[int, ...] = ()


# ---- from owners, anywhere
class PrefetchObjects(Message):
    """Work that needs these may soon run here: pull them when nothing more urgent is to be done. A hint, no promise."""

    wanted: tuple[ObjectWanted, ...]


class FreeObjects(Message):
    """Nobody refers to these any more (or the sender never heard of them)."""

    LANE = LANE_CONTROL
    keys: tuple[bytes, ...]


class ObjectLocated(Message):
    """Answer of an owner to ``owner.messages.LocateObject``: who has it now; no holder and a failure: it is gone."""

    key: bytes
    holders: tuple[str, ...]
    failure: Failure | None = None


# ---- between managers
class AskForObject(Message):
    """The sender wants to pull this object."""

    key: bytes


class ObjectOffered(Message):
    """Pull it from ``endpoint`` (comma-joined addresses of the holder's bulk server)."""

    key: bytes
    endpoint: str
    size_bytes: int


class ObjectMissing(Message):
    """The sender does not have that object (any more)."""

    key: bytes


# ---- from the port (completions of the manager's operations; never travel)
class StoreAnswered(Message):
    """The store's answer to the operation with this ticket: a place, a slab, or the error (``failure.kind`` names a
    class of ``kernel.errors``; ``ObjectLostError`` for an object the store does not know).
    """

    ticket: int
    place: Place | None = None
    slab: SlabLeased | None = None
    failure: Failure | None = None


class PullEnded(Message):
    """The operation ``Pull`` ended: all bytes are written, or no source is left (``failed`` names those that failed).

    ``failure`` is set when the bytes are not complete.
    """

    ticket: int
    failed: tuple[str, ...] = ()
    failure: Failure | None = None


class CopiesDropped(Message):
    """The store dropped these copies to make room."""

    keys: tuple[bytes, ...]


class ClientDied(Message):
    """The process of this client has ended."""

    LANE = LANE_SUPERVISION
    process: str


class UsageChanged(Message):
    """So much of the store is in use (uncarved parts of slabs not counted)."""

    used_bytes: int


class StoredObject(Record):
    """One line of a report."""

    key: bytes
    size_bytes: int
    owner: str
    state: str
    """Of the store's table: CREATED, SEALED, SPILLING, SPILLED, RESTORING, ..."""
    is_copy: bool
    pins: int
    pinned_by: tuple[str, ...]
    """Process addresses."""


class StoreReported(Message):
    """The store's answer to ``Report``: the manager adds ``owner`` and ``is_copy`` to the objects, and its figures."""

    ticket: int
    figures: dict[str, int]
    objects: tuple[StoredObject, ...] = ()
    omitted: int = 0
    """Objects there are besides."""


# ---- timers
class AuditDue(Message):
    """Time to ask owners about objects, and to look for what waits too long."""


# ---- operator
class GetStoreReport(Message):
    """(R: StoreReport) For ``actorrt memory``, ``actorrt status`` and tests."""

    objects_max: int = 0


class StoreReport(Message):
    """Answer: figures of the store (``store.base.Statistics``) and of transfers, and the largest objects."""

    figures: dict[str, int]
    objects: tuple[StoredObject, ...] = ()
    omitted: int = 0
