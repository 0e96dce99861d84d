"""Write objects into leased slabs without asking anybody, and into extents that were granted.

The flow for a small object: ``carve`` (None: no slab has room, get one and ``add_slab``), fill the view, ``seal``. Now
and then, ``take_batch``: send the reports and the numbers of the slabs that are used up to the store, in this order,
one batch after the other. An object may be told to others only behind the batch that reports it.

Nothing is lost when the process dies in between: slabs go back to the store with their client, and what was not
reported never existed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple

from actorrt.store import layout
from actorrt.store.base import Carved, Location, Slab
from actorrt.store.segment import Mappings


class Batch(NamedTuple):
    reports: list[Carved]
    """For ``adopt``."""
    done_slabs: list[int]
    """To be given back after the reports were adopted."""


@dataclass(slots=True)
class _Lease:
    slab: Slab
    position: int
    """Where the next extent begins."""
    carved: int = 0
    open: int = 0
    """Carved, neither sealed nor aborted."""
    closing: bool = False

    @property
    def room_bytes(self) -> int:
        return self.slab.offset + self.slab.length_bytes - self.position


class Reservation(NamedTuple):
    key: bytes
    slab: int
    location: Location
    view: memoryview
    """Writable, as long as it is neither sealed nor aborted."""


class Writer:
    """Safe to use from several threads."""

    def __init__(self, directory: str, prefix: str) -> None:
        self._mappings = Mappings(directory, prefix, writable=True)
        self._lock = threading.Lock()
        self._leases: dict[int, _Lease] = {}
        self._reports: list[Carved] = []
        self._done: list[int] = []

    @property
    def room_bytes(self) -> int:
        """Of the roomiest slab: the size of object that fits is a header less."""
        with self._lock:
            return max((lease.room_bytes for lease in self._leases.values() if not lease.closing), default=0)

    def add_slab(self, slab: Slab) -> None:
        self._mappings[slab.segment].touch(slab.offset, slab.length_bytes)
        with self._lock:
            self._leases[slab.number] = _Lease(slab, slab.offset)

    def carve(self, key: bytes, size_bytes: int) -> Reservation | None:
        """Room for an object, from the oldest slab that has it. Older slabs that have none left are given up."""
        length = layout.extent_bytes(size_bytes)
        with self._lock:
            found = None
            for lease in self._leases.values():
                if not lease.closing and lease.room_bytes >= length:
                    found = lease
                    break
            if found is None:
                return None
            if len(self._leases) > 1:
                self._give_up_before(found)
            slab = found.slab
            location = Location(
                slab.segment,
                found.position + layout.EXTENT_HEADER_BYTES,
                size_bytes,
                slab.first_object + found.carved,
            )
            found.position += length
            found.carved += 1
            found.open += 1
        view = self._mappings[slab.segment].view[location.offset : location.offset + size_bytes]
        return Reservation(key, slab.number, location, view)

    def _give_up_before(self, found: _Lease) -> None:
        for lease in list(self._leases.values()):
            if lease is found:
                return
            self._close(lease)

    def _close(self, lease: _Lease) -> None:
        lease.closing = True
        if not lease.open:
            del self._leases[lease.slab.number]
            self._done.append(lease.slab.number)

    def seal(self, reservation: Reservation) -> None:
        """Complete: to be reported with the next batch."""
        key, slab, location, view = reservation
        header = layout.ExtentHeader(layout.Mark.SEALED, location.number, location.size_bytes, layout.key_crc(key))
        layout.write_extent_header(self._mappings[location.segment].view, location.offset, header)
        view.release()
        with self._lock:
            self._reports.append(Carved(key, slab, location))
            self._ended(slab)

    def abort(self, reservation: Reservation) -> None:
        """The room is lost until the slab is given back."""
        reservation.view.release()
        with self._lock:
            self._ended(reservation.slab)

    def _ended(self, number: int) -> None:
        lease = self._leases[number]
        lease.open -= 1
        if lease.closing:
            self._close(lease)

    def take_batch(self) -> Batch:
        with self._lock:
            batch = Batch(self._reports, self._done)
            self._reports, self._done = [], []
        return batch

    def give_up_slabs(self) -> None:
        """On request of a store short of memory, or before the end: the slabs are in the next batch, or a later one."""
        with self._lock:
            for lease in list(self._leases.values()):
                self._close(lease)

    def buffer(self, location: Location) -> memoryview:
        """The writable bytes of an extent that was granted by ``create``. Release the view before sealing."""
        mapping = self._mappings[location.segment]
        mapping.touch(location.offset, location.size_bytes)
        return mapping.view[location.offset : location.offset + location.size_bytes]

    def close(self) -> None:
        self._mappings.clear()
