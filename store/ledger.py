"""The machine of a store: who has what, who waits for room, what the disk should do. Pure; ``local`` is its shell.

Calls change the books and leave *effects* behind (``take_effects``): answers to requests, and jobs for the helpers,
each of which comes back through ``reserved``, ``written`` / ``write_failed`` or ``read_back`` / ``read_failed``.

**The admission rule.** Whatever needs memory (create, slab, restore) is a request in one queue, served in order of
arrival. For the first that does not fit, in this order: untouched memory is reserved; clean objects (copy on disk, or
secondary) are dropped, least recently used first; dirty ones are written to disk. While any of this is under way the
others wait, so a large request cannot be starved by small ones. When nothing is under way and nothing is left to drop
or write, the request is *stuck*: all memory is pinned, being written by clients, or leased. Then

* a restore is answered at once with the slice of the spill file; the reader maps or reads it there, without store
  memory;
* a create stays and is tried again after every change, others may overtake it, and it fails with ObjectStoreFull (or
  OutOfDisk, if the disk refused to take what could have been written) when its grace is over.

**Why there is no deadlock.** A request takes its whole extent at once or nothing, so nobody waits while holding part of
what they need. A get never waits for a pin: only for jobs, and every job ends. A create may wait for pins, but not
longer than its grace. ``tests/unit/store/test_ledger.py`` holds the machine to it: no jobs under way means no restore
waits.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from actorrt.store.allocator import Extent
from actorrt.store.base import Carved, Limits, Location, Statistics
from actorrt.store.effects import Answer, Created, Effect, ReadBack, Reserve, Ticket, Write
from actorrt.store.errors import (
    ObjectExists,
    ObjectNotFound,
    ObjectStoreFull,
    ObjectTooLarge,
    OutOfDisk,
    StoreError,
    TooManyRequests,
)
from actorrt.store.layout import KEY_BYTES_MAX, SEGMENT_HEADER_BYTES, extent_bytes, usable_bytes
from actorrt.store.room import Room, location_of
from actorrt.store.slabs import Slabs
from actorrt.store.spill import SpillFiles
from actorrt.store.table import Event, Record, State, Table


class _Kind(enum.Enum):
    CREATE = enum.auto()
    SLAB = enum.auto()
    RESTORE = enum.auto()


@dataclass(slots=True)
class _Request:
    ticket: Ticket
    kind: _Kind
    client: bytes
    length_bytes: int
    deadline_s: float
    key: bytes = b""
    size_bytes: int = 0
    secondary: bool = False
    number: int = 0
    """Of the object to restore."""


class _Verdict(enum.Enum):
    DONE = enum.auto()
    WAIT = enum.auto()
    """Something is under way that will help: the order is kept."""
    STUCK = enum.auto()


class Ledger:
    """See the module. Tickets are the caller's; each gets exactly one Answer unless its client is dropped."""

    def __init__(self, limits: Limits, files: SpillFiles) -> None:
        self.limits = limits
        self._table = Table()
        self._room = Room(limits, self._table, files)
        self._slabs = Slabs(self._room.allocator)
        self._queue: dict[int, _Request] = {}
        self._arrivals = 0
        self._waiters: dict[int, list[tuple[Ticket, bytes]]] = {}  # object being restored -> who waits
        self._number = 0
        self._slab_number = 0
        self._creating = 0
        self._objects_total = 0
        self._restored_bytes_total = 0
        self._served_from_disk_total = 0

    def take_effects(self) -> list[Effect]:
        effects, self._room.effects = self._room.effects, []
        return effects

    def add_segment(self, number: int, size_bytes: int) -> None:
        limit = SEGMENT_HEADER_BYTES + usable_bytes(size_bytes)
        self._room.allocator.add_region(number, SEGMENT_HEADER_BYTES, limit)
        self._pump()

    # ------------------------------------------------------------------------------------------------------- requests
    def request_create(
        self, ticket: Ticket, key: bytes, size_bytes: int, client: bytes, now_s: float, *, secondary: bool = False
    ) -> None:
        """Answered with the Location to write to, or the error."""
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise ValueError(f"a key of {len(key)} bytes; allowed are 1 to {KEY_BYTES_MAX}")
        if size_bytes < 0:
            raise ValueError(f"an object of {size_bytes} bytes")
        length = extent_bytes(size_bytes)
        deadline_s = now_s + self.limits.full_grace_s
        self._enqueue(_Request(ticket, _Kind.CREATE, client, length, deadline_s, key, size_bytes, secondary))

    def request_slab(self, ticket: Ticket, length_bytes: int, client: bytes, now_s: float) -> None:
        """Answered with a Slab of this length or the most that is leased at once."""
        length = min(length_bytes, self.limits.slab_bytes_max)
        self._enqueue(_Request(ticket, _Kind.SLAB, client, length, now_s + self.limits.full_grace_s))

    def request_pin(self, ticket: Ticket, key: bytes, client: bytes, now_s: float) -> None:
        """Answered with the Place, pinned, or the error. Objects in memory are answered at once."""
        try:
            record = self._table.readable(key)
        except ObjectNotFound as error:
            self._room.effects.append(Answer(ticket, error))
            return
        length = extent_bytes(record.size_bytes)
        request = _Request(ticket, _Kind.RESTORE, client, length, now_s, key, number=record.number)
        if not self._serve_without_memory(request):
            self._enqueue(request)

    def _enqueue(self, request: _Request) -> None:
        if len(self._queue) >= self.limits.requests_max:
            error: StoreError = TooManyRequests(f"{len(self._queue)} requests wait for room already")
        elif request.kind is not _Kind.RESTORE and request.length_bytes > self._room.allocator.largest_possible_bytes:
            error = ObjectTooLarge(
                f"{request.size_bytes} bytes do not fit into a store of {self.limits.capacity_bytes} bytes"
            )
        elif request.kind is _Kind.CREATE and self._table.find(request.key) is not None:
            error = ObjectExists(f"the object {request.key.hex()} exists")
        else:
            self._arrivals += 1
            self._queue[self._arrivals] = request
            self._pump()
            return
        self._room.effects.append(Answer(request.ticket, error))

    def expire(self, now_s: float) -> None:
        """Fail the creates and slabs whose grace is over although nothing is under way for them.

        Also the time at which memory and disks that refused are asked again.
        """
        if self._room.forgive_memory(now_s):
            self._pump()
        if self._helping:
            return
        for arrival, request in list(self._queue.items()):
            if request.deadline_s <= now_s:
                del self._queue[arrival]
                self._room.effects.append(Answer(request.ticket, self._full(request)))
        if self._queue:
            self._room.files.forgive()  # a directory that refused is asked again: perhaps there is room by now
            self._pump()

    def _full(self, request: _Request) -> StoreError:
        figures = self.statistics()
        what = "a slab" if request.kind is _Kind.SLAB else "an object"
        text = (
            f"no room for {what} of {request.length_bytes} bytes: {figures.used_bytes} of {figures.capacity_bytes} "
            f"bytes are in use, of which {figures.pinned_bytes} pinned by readers, {figures.leased_bytes} leased to "
            f"writers, {self._table.dirty_bytes} not on disk yet, {self._table.clean_bytes} droppable but not in one "
            "piece"
        )
        missing_bytes = self._room.allocator.refused_bytes
        if missing_bytes:
            text += f"; {missing_bytes} bytes more were refused: the machine is short of shared memory"
        could_write = self._table.dirty_bytes > 0 and self._room.files.enabled
        if could_write and self._room.obtainable_bytes >= request.length_bytes:
            return OutOfDisk(f"{text}; the spill directories take no more ({figures.disk_bytes} bytes are there)")
        return ObjectStoreFull(text)

    # -------------------------------------------------------------------------------------------------------- objects
    def seal(self, number: int) -> None:
        """The writer is done. The caller has marked the header."""
        self.being_created(number)
        record = self._table.at(number)
        self._creating -= 1
        self._table.fire(record, Event.SEAL)
        self._objects_total += 1
        self._room.settle(record)
        self._pump()

    def being_created(self, number: int) -> Location:
        """Raises ObjectNotFound if nobody is writing it."""
        record = self._table.at(number)
        if record.state is not State.CREATED:
            raise ObjectNotFound(f"the object with number {number} is not being created")
        return location_of(record)

    def abort(self, number: int) -> None:
        self.being_created(number)
        self._abort(self._table.at(number))
        self._pump()

    def _abort(self, record: Record) -> None:
        self._creating -= 1
        self._room.free_memory(record)
        self._table.fire(record, Event.ABORT)

    def adopt(self, reports: Sequence[Carved], client: bytes) -> list[tuple[Carved, StoreError]]:
        """A client sealed these objects in its slabs. Returns those that were refused, and why."""
        refused: list[tuple[Carved, StoreError]] = []
        for carved in reports:
            key, location = carved.key, carved.location
            try:
                if self._table.find(key) is not None:
                    raise ObjectExists(f"the object {key.hex()} exists")
                extent = self._slabs.carve(carved, client)
            except StoreError as error:
                refused.append((carved, error))
                continue
            self._table.add(Record(location.number, key, location.size_bytes, client, extent, state=State.SEALED))
            self._objects_total += 1
        self._pump()
        return refused

    def give_back_slab(self, number: int, client: bytes) -> None:
        self._slabs.give_back(number, client)
        self._pump()

    def release(self, number: int, client: bytes) -> None:
        record = self._table.at(number)
        self._table.unpin(record, client)
        self._room.settle(record)
        self._pump()

    def delete(self, key: bytes) -> None:
        record = self._table.find(key)
        if record is None:
            return
        self._table.doom(record)
        self._room.settle(record)
        self._pump()

    def drop_client(self, client: bytes) -> None:
        for record in self._table.written_by(client):
            self._abort(record)
        for record in self._table.pinned_by(client):
            self._table.unpin(record, client, all_of_them=True)
            self._room.settle(record)
        self._slabs.drop_client(client)
        for arrival, request in list(self._queue.items()):
            if request.client == client:
                del self._queue[arrival]
        for number, waiters in list(self._waiters.items()):
            self._waiters[number] = [waiter for waiter in waiters if waiter[1] != client]
        self._pump()

    def contains(self, key: bytes) -> bool:
        record = self._table.find(key)
        return record is not None and record.state is not State.CREATED

    def waiting(self) -> list[Ticket]:
        """The tickets that have no answer yet."""
        restoring = [ticket for waiters in self._waiters.values() for ticket, _ in waiters]
        return [request.ticket for request in self._queue.values()] + restoring

    def files(self) -> list[tuple[int, str]]:
        """(directory, name) of every spill file, for the end."""
        return self._room.files.names()

    def records(self) -> list[Record]:
        """All there are, for ``actorrt memory``. Read only."""
        return list(self._table.records)

    # ---------------------------------------------------------------------------------------------------- completions
    def reserved(self, job: Reserve, *, ok: bool) -> None:
        self._room.reserved(job, ok=ok)
        self._pump()

    def written(self, job: Write, checksums: dict[int, int]) -> None:
        """The file is complete; the checksums are by object number."""
        self._room.written(job, checksums)
        self._pump()

    def write_failed(self, job: Write) -> None:
        """Nothing remains of the file; the objects stay in memory."""
        self._room.write_failed(job)
        self._pump()

    def read_back(self, job: ReadBack) -> None:
        record = self._table.at(job.location.number)
        self._table.fire(record, Event.READ)
        self._restored_bytes_total += record.size_bytes
        for ticket, client in self._waiters.pop(record.number):
            if record.doomed:
                self._room.effects.append(Answer(ticket, ObjectNotFound(f"the object {record.key.hex()} was deleted")))
            else:
                self._table.pin(record, client)
                self._room.effects.append(Answer(ticket, job.location))
        self._room.settle(record)
        self._pump()

    def read_failed(self, job: ReadBack, error: StoreError) -> None:
        record = self._table.at(job.location.number)
        self._room.free_memory(record)
        self._table.fire(record, Event.READ_FAILED)
        for ticket, _ in self._waiters.pop(record.number):
            self._room.effects.append(Answer(ticket, error))
        self._room.settle(record)
        self._pump()

    # ----------------------------------------------------------------------------------------------------------- room
    @property
    def _helping(self) -> bool:
        """Jobs are under way that may make room. Each of them ends."""
        return self._room.helping or bool(self._waiters)

    def _pump(self) -> None:
        for arrival, request in list(self._queue.items()):
            verdict = self._serve(request)
            if verdict is _Verdict.DONE:
                del self._queue[arrival]
            elif verdict is _Verdict.WAIT:
                break
        self._room.prepare()

    def _serve(self, request: _Request) -> _Verdict:
        if request.kind is _Kind.RESTORE:
            if self._serve_without_memory(request):
                return _Verdict.DONE
            if len(self._waiters) >= self.limits.restores_inflight_max:
                return _Verdict.WAIT
        elif request.kind is _Kind.CREATE and self._table.find(request.key) is not None:
            self._room.effects.append(Answer(request.ticket, ObjectExists(f"the object {request.key.hex()} exists")))
            return _Verdict.DONE
        extent = self._room.take(request.length_bytes)
        if extent is not None:
            self._grant(request, extent)
            return _Verdict.DONE
        if self._helping:
            return _Verdict.WAIT
        if request.kind is _Kind.RESTORE:
            record = self._table.at(request.number)
            assert record.copy is not None
            self._table.pin(record, request.client)
            self._served_from_disk_total += 1
            self._room.effects.append(Answer(request.ticket, record.copy))
            return _Verdict.DONE
        return _Verdict.STUCK

    def _serve_without_memory(self, request: _Request) -> bool:
        """A read that needs no room: in memory already, on its way there, or gone."""
        record = self._table.find(request.key)
        if record is None or record.number != request.number:
            error = ObjectNotFound(f"the object {request.key.hex()} was deleted")
            self._room.effects.append(Answer(request.ticket, error))
        elif record.in_memory:
            self._table.pin(record, request.client)
            self._room.effects.append(Answer(request.ticket, location_of(record)))
        elif record.state is State.RESTORING:
            self._waiters[record.number].append((request.ticket, request.client))
        else:
            return False
        return True

    def _grant(self, request: _Request, extent: Extent) -> None:
        if request.kind is _Kind.SLAB:
            self._slab_number += 1
            slab = self._slabs.lease(self._slab_number, extent, request.client, self._number + 1)
            self._number += Slabs.objects_max(extent.length_bytes)
            self._room.effects.append(Answer(request.ticket, slab))
            return
        if request.kind is _Kind.CREATE:
            self._number += 1
            record = Record(
                self._number, request.key, request.size_bytes, request.client, extent, secondary=request.secondary
            )
            self._table.add(record)
            self._creating += 1
            location = location_of(record)
            self._room.effects.append(Created(location, record.key))
            self._room.effects.append(Answer(request.ticket, location))
            return
        record = self._table.at(request.number)
        job = self._room.restore(record, extent)
        self._waiters[record.number] = [(request.ticket, request.client)]
        self._room.effects += (Created(job.location, record.key), job)

    def statistics(self) -> Statistics:
        """In constant time: it is asked for with every report of the node."""
        allocator = self._room.allocator
        table = self._table
        return Statistics(
            capacity_bytes=allocator.capacity_bytes,
            used_bytes=allocator.used_bytes,
            leased_bytes=self._slabs.leased_bytes,
            reserved_bytes=allocator.used_bytes + allocator.free_bytes,
            objects=len(table),
            lingering=table.lingering,
            pinned=table.held,
            pinned_bytes=table.held_bytes,
            creating=self._creating,
            spilled=table.on_disk,
            spilled_bytes=table.on_disk_bytes,
            disk_files=len(self._room.files),
            disk_bytes=self._room.files.used_bytes,
            waiting=len(self._queue) + sum(len(waiters) for waiters in self._waiters.values()),
            objects_total=self._objects_total,
            spilled_bytes_total=self._room.spilled_bytes_total,
            restored_bytes_total=self._restored_bytes_total,
            served_from_disk_total=self._served_from_disk_total,
        )

    def check(self) -> None:
        """The books agree with each other. For tests and debugging."""
        self._room.allocator.check()
        self._table.check()
        self._room.files.check()
        extents = sum(record.extent.length_bytes for record in self._table.records if record.extent is not None)
        assert extents + self._slabs.leased_bytes == self._room.allocator.used_bytes
        assert all(self._table.at(number).state is State.RESTORING for number in self._waiters)
        restores = [request for request in self._queue.values() if request.kind is _Kind.RESTORE]
        assert self._helping or not restores, "a get waits although nothing is under way"
