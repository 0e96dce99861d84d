"""Making room: reserve, drop, write to disk. Pure; the part of the ``ledger`` that knows memory and disk."""

from __future__ import annotations

from actorrt.store import eviction, spill
from actorrt.store.allocator import Allocator, Extent
from actorrt.store.base import Limits, Location, SpilledAt
from actorrt.store.effects import Dropped, Effect, Freed, ReadBack, Remove, Reserve, Write
from actorrt.store.layout import EXTENT_HEADER_BYTES, extent_bytes
from actorrt.store.spill import SpillFiles
from actorrt.store.table import Event, Record, State, Table


def location_of(record: Record) -> Location:
    extent = record.extent
    assert extent is not None
    return Location(extent.region, extent.offset + EXTENT_HEADER_BYTES, record.size_bytes, record.number)


class Room:
    """Memory and disk of the records in the table. What it wants done goes to ``effects``."""

    def __init__(self, limits: Limits, table: Table, files: SpillFiles) -> None:
        self.allocator = Allocator()
        self.effects: list[Effect] = []
        self.files = files
        self._limits = limits
        self._table = table
        self._reserving: int | None = None
        self._forgive_memory_at_s = 0.0
        self._writes = 0
        self._spilling_bytes = 0
        self.spilled_bytes_total = 0

    @property
    def helping(self) -> bool:
        """Jobs of ours are under way that may make room. Each of them ends."""
        return self._writes > 0 or self._reserving is not None

    def take(self, length_bytes: int) -> Extent | None:
        """Memory now; or None, and whatever can be done about it has been started."""
        allocator = self.allocator
        extent = allocator.allocate(length_bytes)
        if extent is not None or self._reserving is not None or self.obtainable_bytes < length_bytes:
            return extent
        if self._grow_to_fit(length_bytes):
            return None
        for record in list(eviction.victims(self._table.clean(), self._table.clean_bytes)):
            self._evict(record)
            extent = allocator.allocate(length_bytes)
            if extent is not None:
                return extent
        if not self._grow_to_fit(length_bytes) and not self._writes:
            self._spill(length_bytes)
        return None

    @property
    def obtainable_bytes(self) -> int:
        """An upper bound: without it, everything would be dropped for a request that cannot be helped."""
        table, allocator = self._table, self.allocator
        growable_bytes = sum(map(allocator.growable_bytes, allocator.regions))
        idle_bytes = table.clean_bytes + table.dirty_bytes + self._spilling_bytes
        return allocator.free_bytes + growable_bytes + idle_bytes

    def prepare(self) -> None:
        """Work ahead of need: write above the threshold, keep some memory warm."""
        table, allocator = self._table, self.allocator
        if table.dirty_bytes and not self._writes and self.files.enabled:
            excess = eviction.excess_bytes(
                capacity_bytes=allocator.capacity_bytes,
                used_bytes=allocator.used_bytes,
                clean_bytes=table.clean_bytes,
                spilling_bytes=self._spilling_bytes,
                threshold=self._limits.spill_threshold,
            )
            self._spill(excess)
        if self._reserving is None and allocator.free_bytes < self._limits.reserve_ahead_bytes:
            for region in allocator.regions:
                if allocator.growable_bytes(region):
                    self._reserve(region)
                    return

    # --------------------------------------------------------------------------------------------------------- memory
    def free_memory(self, record: Record) -> None:
        assert record.extent is not None
        self.effects.append(Freed(location_of(record)))
        self.allocator.free(record.extent)
        record.extent = None

    def settle(self, record: Record) -> None:
        """End a doomed object as soon as nobody uses it."""
        if not record.doomed or record.pins or record.state not in (State.SEALED, State.SPILLED):
            return
        if record.extent is not None:
            self.free_memory(record)
        if record.copy is not None:
            file = self.files.drop(record.number)
            if file is not None:
                self.effects.append(Remove(file.directory, file.name))
        self._table.fire(record, Event.FREE)

    def _evict(self, record: Record) -> None:
        self.free_memory(record)
        if record.copy is not None:
            self._table.fire(record, Event.EVICT)
        else:
            assert record.secondary
            self._table.fire(record, Event.FREE)
            self.effects.append(Dropped(record.key))

    # ---------------------------------------------------------------------------------------------------- reservation
    def _grow_to_fit(self, length_bytes: int) -> bool:
        region = self.allocator.growth_to_fit(length_bytes)
        if region is None:
            return False
        self._reserve(region)
        return True

    def _reserve(self, region: int) -> None:
        """One step at a time: what is ready is used while the next step is made."""
        length = min(self.allocator.growable_bytes(region), self._limits.reserve_step_bytes)
        self._reserving = region
        self.effects.append(Reserve(region, self.allocator.end(region), length))

    def reserved(self, job: Reserve, *, ok: bool) -> None:
        assert self._reserving == job.segment
        self._reserving = None
        if ok:
            self.allocator.grow(job.segment, job.length_bytes)
        else:
            self.allocator.refuse(job.segment)

    def forgive_memory(self, now_s: float) -> bool:
        """Memory that was refused is asked for again when it is needed: others may have left. Not at every call: an
        attempt may fill what there is with zeros before it fails, and takes it from everybody meanwhile.
        """
        if not self.allocator.refused_bytes or now_s < self._forgive_memory_at_s:
            return False
        self._forgive_memory_at_s = now_s + self._limits.memory_retry_s
        self.allocator.forgive()
        return True

    # ----------------------------------------------------------------------------------------------------------- disk
    def _spill(self, needed_bytes: int) -> None:
        """Start writing until so much is on its way, as far as there is something to write and room on disk."""
        while needed_bytes > 0 and self._writes < self._limits.spills_inflight_max and self.files.enabled:
            chosen = spill.plan_file(
                self._table.dirty(),
                needed_bytes=needed_bytes,
                fuse_bytes=self._limits.fuse_bytes,
                objects_max=self._limits.fuse_objects_max,
                room_bytes=self.files.room_bytes,
            )
            if not chosen:
                return
            file = self.files.open(chosen)
            for record in chosen:
                self._table.fire(record, Event.SPILL)
            self._writes += 1
            chosen_bytes = sum(extent_bytes(record.size_bytes) for record in chosen)
            self._spilling_bytes += chosen_bytes
            needed_bytes -= chosen_bytes
            self.effects.append(Write(file, tuple(location_of(record) for record in chosen)))

    def written(self, job: Write, checksums: dict[int, int]) -> None:
        self._write_ended(job)
        self.spilled_bytes_total += job.file.size_bytes
        for number, copy in self.files.written(job.file, checksums).items():
            record = self._table.at(number)
            self._table.add_copy(record, copy)
            self._table.fire(record, Event.WRITTEN)
            self.settle(record)

    def write_failed(self, job: Write) -> None:
        self._write_ended(job)
        self.files.failed(job.file)
        for location in job.locations:
            record = self._table.at(location.number)
            self._table.fire(record, Event.WRITE_FAILED)
            self.settle(record)

    def _write_ended(self, job: Write) -> None:
        self._writes -= 1
        self._spilling_bytes -= sum(extent_bytes(location.size_bytes) for location in job.locations)

    def restore(self, record: Record, extent: Extent) -> ReadBack:
        copy: SpilledAt | None = record.copy
        assert copy is not None
        record.extent = extent
        self._table.fire(record, Event.RESTORE)
        return ReadBack(copy, location_of(record), record.key)
