"""Who has which part of the arena: a free list with coalescing. Pure.

Regions (one per segment) are handed in with the part that may be used now and ``grow`` when more of the segment has
been reserved. Free extents sit in classes by powers of two, each class in the order of freeing. A search takes the
extent freed last (its pages are warm in the caches and certainly present) out of the classes where it fits; the tail
of untouched memory, being the largest, is used last and from its low end, so touched memory stays compact.

Bounds: an extent is a multiple of 64 bytes, so at most 63 bytes are lost inside it. Neighbours are merged at once, so
there are never more free extents than used ones plus regions. ``allocate`` fails only if no free extent is long enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from actorrt.store.layout import LINE_BYTES, round_up

_RECENT_TRIED_MAX: Final = 8
_REGION_SHIFT: Final = 48
_OFFSET_MASK: Final = (1 << _REGION_SHIFT) - 1


class Extent(NamedTuple):
    region: int
    offset: int
    length_bytes: int


@dataclass(slots=True)
class _Region:
    offset: int
    end: int
    """What may be used now ends here."""
    limit: int
    """What may ever be used ends here."""
    refused: bool = False
    """The memory behind ``end`` could not be had; asked for again after ``forgive``."""

    @property
    def growable_bytes(self) -> int:
        return 0 if self.refused else self.limit - self.end


class Allocator:
    """Free and used extents of all regions. An address is region << 48 | offset: regions never touch each other."""

    def __init__(self) -> None:
        self._regions: dict[int, _Region] = {}
        self._free: dict[int, int] = {}  # address -> length
        self._free_ends: dict[int, int] = {}  # end address -> address
        self._classes: dict[int, dict[int, None]] = {}  # bit length of the length -> addresses, last freed last
        self._used: dict[int, int] = {}
        self.used_bytes = 0
        self.free_bytes = 0

    def __repr__(self) -> str:
        return f"<Allocator {self.used_bytes} bytes used, {self.free_bytes} free in {len(self._free)} extents>"

    # ------------------------------------------------------------------------------------------------------- regions
    def add_region(self, region: int, offset: int, limit: int) -> None:
        """A further segment; nothing of it can be used before ``grow``."""
        assert region not in self._regions
        assert offset % LINE_BYTES == 0
        assert offset <= limit <= _OFFSET_MASK
        self._regions[region] = _Region(offset, offset, limit // LINE_BYTES * LINE_BYTES)

    def grow(self, region: int, length_bytes: int) -> None:
        """So much more of the region may be used."""
        place = self._regions[region]
        assert length_bytes % LINE_BYTES == 0
        assert place.end + length_bytes <= place.limit
        start = place.end
        place.end += length_bytes
        if length_bytes:
            self._insert(region << _REGION_SHIFT | start, length_bytes)

    def end(self, region: int) -> int:
        """Where the part in use ends: growth begins here."""
        return self._regions[region].end

    def growable_bytes(self, region: int) -> int:
        return self._regions[region].growable_bytes

    def refuse(self, region: int) -> None:
        """The memory behind the rest cannot be had: the region is as large as it is, until ``forgive``."""
        self._regions[region].refused = True

    def forgive(self) -> None:
        """What was refused may be asked for again."""
        for place in self._regions.values():
            place.refused = False

    @property
    def refused_bytes(self) -> int:
        """So much is missing because it could not be had."""
        return sum(place.limit - place.end for place in self._regions.values() if place.refused)

    def growth_to_fit(self, length_bytes: int) -> int | None:
        """The region at whose end the length would fit if it grew; None if growing does not help."""
        for region, place in self._regions.items():
            tail = self._free_ends.get(region << _REGION_SHIFT | place.end)
            have = 0 if tail is None else self._free[tail]
            missing = round_up(length_bytes) - have
            if 0 < missing <= place.growable_bytes:
                return region
        return None

    @property
    def regions(self) -> tuple[int, ...]:
        return tuple(self._regions)

    @property
    def capacity_bytes(self) -> int:
        """Without what is refused."""
        return sum(place.end + place.growable_bytes - place.offset for place in self._regions.values())

    @property
    def largest_possible_bytes(self) -> int:
        """What would fit if everything were free and nothing refused."""
        return max((place.limit - place.offset for place in self._regions.values()), default=0)

    # ------------------------------------------------------------------------------------------------------- extents
    def allocate(self, length_bytes: int) -> Extent | None:
        length = max(LINE_BYTES, round_up(length_bytes))
        address = self._find(length)
        if address is None:
            return None
        have = self._remove(address)
        self.free_bytes -= have
        if have > length:
            self._put(address + length, have - length)
            self.free_bytes += have - length
        self._used[address] = length
        self.used_bytes += length
        return Extent(address >> _REGION_SHIFT, address & _OFFSET_MASK, length)

    def free(self, extent: Extent) -> None:
        address = extent.region << _REGION_SHIFT | extent.offset
        length = extent.length_bytes
        assert self._used.get(address) == length, f"{extent} is not in use"
        del self._used[address]
        self.used_bytes -= length
        self._insert(address, length)

    def cut(self, extent: Extent, offset: int, length_bytes: int) -> tuple[Extent | None, Extent, Extent | None]:
        """Cut a used extent in up to three used ones: before, the wanted one, behind. Each is freed by itself."""
        base = extent.region << _REGION_SHIFT
        before = offset - extent.offset
        behind = extent.length_bytes - before - length_bytes
        assert before >= 0
        assert behind >= 0
        assert length_bytes > 0
        assert before % LINE_BYTES == 0
        assert length_bytes % LINE_BYTES == 0
        assert self._used.get(base | extent.offset) == extent.length_bytes, f"{extent} is not in use"
        del self._used[base | extent.offset]
        parts = (
            Extent(extent.region, extent.offset, before) if before else None,
            Extent(extent.region, offset, length_bytes),
            Extent(extent.region, offset + length_bytes, behind) if behind else None,
        )
        for part in parts:
            if part is not None:
                self._used[base | part.offset] = part.length_bytes
        return parts

    @property
    def largest_free_bytes(self) -> int:
        return max(self._free.values(), default=0)

    @property
    def free_extents(self) -> tuple[Extent, ...]:
        return tuple(
            Extent(address >> _REGION_SHIFT, address & _OFFSET_MASK, length) for address, length in self._free.items()
        )

    # --------------------------------------------------------------------------------------------------------- inside
    def _find(self, length: int) -> int | None:
        first = length.bit_length()
        own = self._classes.get(first)
        if own:
            for tried, address in enumerate(reversed(own)):
                if self._free[address] >= length:
                    return address
                if tried == _RECENT_TRIED_MAX:
                    break
        larger = [number for number in self._classes if number > first]
        if larger:
            return next(reversed(self._classes[min(larger)]))
        return next((address for address in own if self._free[address] >= length), None) if own else None

    def _insert(self, address: int, length: int) -> None:
        self.free_bytes += length
        behind = self._free.get(address + length)
        if behind is not None:
            self._remove(address + length)
            length += behind
        before = self._free_ends.get(address)
        if before is not None:
            length += self._remove(before)
            address = before
        self._put(address, length)

    def _put(self, address: int, length: int) -> None:
        self._free[address] = length
        self._free_ends[address + length] = address
        self._classes.setdefault(length.bit_length(), {})[address] = None

    def _remove(self, address: int) -> int:
        length = self._free.pop(address)
        del self._free_ends[address + length]
        number = length.bit_length()
        addresses = self._classes[number]
        del addresses[address]
        if not addresses:
            del self._classes[number]
        return length

    def check(self) -> None:
        """Every byte of every region is in exactly one extent; free neighbours are merged. For tests and debugging."""
        spans = sorted(
            [(address, length, True) for address, length in self._free.items()]
            + [(address, length, False) for address, length in self._used.items()]
        )
        position = 0
        was_free = False
        covered = dict.fromkeys(self._regions, 0)
        for address, length, free in spans:
            region = address >> _REGION_SHIFT
            if covered[region] == 0:
                position, was_free = region << _REGION_SHIFT | self._regions[region].offset, False
            assert address == position, f"gap or overlap at {position:x}, next extent at {address:x}"
            assert length > 0
            assert length % LINE_BYTES == 0
            assert not (free and was_free), f"free neighbours not merged at {address:x}"
            position, was_free = address + length, free
            covered[region] += length
        for region, place in self._regions.items():
            assert covered[region] == place.end - place.offset, f"region {region}: {covered[region]} bytes covered"
        assert self.free_bytes == sum(self._free.values())
        assert self.used_bytes == sum(self._used.values())
        listed = sorted(address for addresses in self._classes.values() for address in addresses)
        assert listed == sorted(self._free)
        assert sorted(self._free_ends.values()) == sorted(self._free)
