"""The contract of every object store, and the few values that travel between its sides.

An object is a key (opaque bytes), a size and that many bytes. It is created (room is found), written once, sealed
(immutable from then on), pinned by readers, deleted on its owner's word. A *client* (opaque bytes too) is a process
that writes or reads; when it dies, ``drop_client`` releases its pins, its unsealed objects and its slabs.

Guarantees, each held by ``conformance``:

* What was sealed is read back unchanged until deleted, whatever the pressure; or the get raises, never hands out less.
* A pinned object's extent is not reused, even after ``delete``. Views are read-only.
* A deleted key is unknown at once, and free to be created again, also while old views live.
* ``create`` raises ObjectStoreFull only when nothing can be spilled or released, OutOfDisk when spilling is refused.
* A get of a spilled object does not wait for other clients' pins (see ``ledger`` for the rule and why).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

MIB = 1 << 20


class Location(NamedTuple):
    """Where a sealed (or just created) object lies in shared memory. Good as long as it is pinned or being written."""

    segment: int
    offset: int
    """Of the payload, from the start of the segment."""
    size_bytes: int
    number: int
    """Of the object: unique for the life of the store; pins are released by it."""


class SpilledAt(NamedTuple):
    """A slice of a spill file: what a reader is given when memory cannot be had (``ledger`` says when)."""

    uri: str
    """Of the directory."""
    name: str
    offset: int
    size_bytes: int
    checksum: int
    """zlib.crc32 of the bytes."""
    number: int


Place = Location | SpilledAt


class Slab(NamedTuple):
    """A stretch of memory leased to a client, who carves objects from it without asking."""

    number: int
    segment: int
    offset: int
    length_bytes: int
    first_object: int
    """Objects carved get the numbers from here on; there are enough for the whole slab."""


class Carved(NamedTuple):
    """One sealed object in a slab, as reported by the client."""

    key: bytes
    slab: int
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every bound of a store. The defaults suit a node; ``segment.default_capacity`` finds the one that has none."""

    capacity_bytes: int
    slab_bytes: int = 8 * MIB
    """Leased at most; also at most 1/16 of the capacity, so that clients cannot lock up a small store."""
    reserve_step_bytes: int = 64 * MIB
    """Memory is reserved (and thereby touched) by the helper in such steps."""
    reserve_ahead_bytes: int = 64 * MIB
    """So much free and warm memory the helper keeps ready, while the capacity lasts."""
    spill_threshold: float = 0.8
    """Above this share of the capacity objects are written to disk ahead of need."""
    fuse_bytes: int = 100 * MIB
    """Small objects are written together until a file has this size."""
    fuse_objects_max: int = 2000
    spills_inflight_max: int = 2
    restores_inflight_max: int = 4
    requests_max: int = 10_000
    """Requests that wait for room; the next one is refused."""
    memory_retry_s: float = 1.0
    """Memory that the machine refused is asked for again at most so often."""
    full_grace_s: float = 2.0
    """A create that nothing can be done for waits so long for pins to go before it fails."""

    def __post_init__(self) -> None:
        if self.capacity_bytes <= 0:
            raise ValueError(f"capacity of {self.capacity_bytes} bytes: it must be positive")
        if not 0.0 < self.spill_threshold <= 1.0:
            raise ValueError(f"spill threshold {self.spill_threshold}: it must be above 0 and at most 1")

    @property
    def slab_bytes_max(self) -> int:
        return max(4096, min(self.slab_bytes, self.capacity_bytes // 16)) // 64 * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a store holds now, and what it has done."""

    capacity_bytes: int
    used_bytes: int = 0
    """Extents in use, slabs included."""
    leased_bytes: int = 0
    """Of those, slabs not yet carved or given back."""
    reserved_bytes: int = 0
    """Touched so far: the most the store's files occupy in memory."""
    objects: int = 0
    """Known by key, in whatever state."""
    lingering: int = 0
    """Deleted, but still pinned or in use by the disk."""
    pinned: int = 0
    pinned_bytes: int = 0
    creating: int = 0
    spilled: int = 0
    """Only on disk."""
    spilled_bytes: int = 0
    disk_files: int = 0
    disk_bytes: int = 0
    waiting: int = 0
    """Requests that wait for room."""
    objects_total: int = 0
    spilled_bytes_total: int = 0
    restored_bytes_total: int = 0
    served_from_disk_total: int = 0
    """Reads that got a slice of a spill file because no memory could be had."""


@runtime_checkable
class ObjectStore(Protocol):
    """The blocking face of a store. Methods may be called from any thread."""

    def create(self, key: bytes, size_bytes: int, client: bytes, *, secondary: bool = False) -> Location:
        """Find room. ``secondary``: a copy of another node's object, dropped under pressure instead of spilled.

        Raises ObjectExists, ObjectStoreFull (ObjectTooLarge), OutOfDisk.
        """
        ...

    def buffer(self, location: Location) -> memoryview:
        """The writable bytes of an object that is being created."""
        ...

    def seal(self, number: int) -> None:
        """The object is complete. Raises ObjectNotFound if it is not being created."""
        ...

    def abort(self, number: int) -> None:
        """The object will not be completed; as if it had never been created."""
        ...

    def get(self, key: bytes, client: bytes) -> memoryview:
        """A read-only view, pinned until it and all that was made from it is gone.

        Raises ObjectNotFound, NotSealed, ObjectDamaged.
        """
        ...

    def pin(self, key: bytes, client: bytes) -> Place:
        """Where the object is; it stays there until ``release``, once per pin, with the place's number."""
        ...

    def release(self, number: int, client: bytes) -> None: ...

    def contains(self, key: bytes) -> bool:
        """Sealed and not deleted."""
        ...

    def delete(self, key: bytes) -> None:
        """Forget the object; unknown keys are none of our business. Its room is free once nobody uses it."""
        ...

    def drop_client(self, client: bytes) -> None:
        """The client is dead: release its pins, reclaim what it was writing and the slabs it had."""
        ...

    def statistics(self) -> Statistics: ...

    def close(self) -> None: ...
