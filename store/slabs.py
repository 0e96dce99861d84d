"""Slabs: memory leased to clients, who carve objects from it and report them later. Pure.

A slab is a used extent of the allocator. Every reported object is cut out of it and lives and dies on its own from then
on; what is left when the slab is given back, or its client dies, is freed. So one long-lived object never holds a slab.
"""

from __future__ import annotations

from dataclasses import dataclass

from actorrt.store.allocator import Allocator, Extent
from actorrt.store.base import Carved, Slab
from actorrt.store.errors import StoreError
from actorrt.store.layout import EXTENT_HEADER_BYTES, LINE_BYTES, extent_bytes


@dataclass(slots=True)
class _Lease:
    slab: Slab
    client: bytes
    pieces: list[Extent]
    """What is not carved yet, in address order."""
    objects_max: int


class Slabs:
    """Who has leased what."""

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._leases: dict[int, _Lease] = {}
        self._of_client: dict[bytes, dict[int, None]] = {}
        self.leased_bytes = 0

    def __len__(self) -> int:
        return len(self._leases)

    @staticmethod
    def objects_max(length_bytes: int) -> int:
        """How many objects, and so object numbers, a slab can need: an empty one takes a header line."""
        return length_bytes // LINE_BYTES

    def lease(self, number: int, extent: Extent, client: bytes, first_object: int) -> Slab:
        slab = Slab(number, extent.region, extent.offset, extent.length_bytes, first_object)
        self._leases[number] = _Lease(slab, client, [extent], self.objects_max(extent.length_bytes))
        self._of_client.setdefault(client, {})[number] = None
        self.leased_bytes += extent.length_bytes
        return slab

    def carve(self, carved: Carved, client: bytes) -> Extent:
        """The extent of a reported object, from now on on its own. StoreError if the report cannot be true."""
        lease = self._leases.get(carved.slab)
        if lease is None or lease.client != client:
            raise StoreError(f"client {client.hex()} has no slab {carved.slab}")
        location = carved.location
        start = location.offset - EXTENT_HEADER_BYTES
        length = extent_bytes(location.size_bytes)
        first = lease.slab.first_object
        if location.segment != lease.slab.segment or not first <= location.number < first + lease.objects_max:
            raise StoreError(f"{location} is not of slab {carved.slab}")
        for index, piece in enumerate(lease.pieces):
            if (
                piece.offset <= start
                and start + length <= piece.offset + piece.length_bytes
                and start % LINE_BYTES == 0
            ):
                before, extent, behind = self._allocator.cut(piece, start, length)
                lease.pieces[index : index + 1] = [part for part in (before, behind) if part is not None]
                self.leased_bytes -= length
                return extent
        raise StoreError(f"{location} is outside of slab {carved.slab}, or carved already")

    def give_back(self, number: int, client: bytes) -> None:
        """The client will carve no more; everything it sealed has been reported."""
        lease = self._leases.get(number)
        if lease is None or lease.client != client:
            raise StoreError(f"client {client.hex()} has no slab {number}")
        self._end(lease)

    def drop_client(self, client: bytes) -> None:
        for number in list(self._of_client.get(client, ())):
            self._end(self._leases[number])

    def _end(self, lease: _Lease) -> None:
        for piece in lease.pieces:
            self._allocator.free(piece)
            self.leased_bytes -= piece.length_bytes
        del self._leases[lease.slab.number]
        numbers = self._of_client[lease.client]
        del numbers[lease.slab.number]
        if not numbers:
            del self._of_client[lease.client]
