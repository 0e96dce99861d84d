"""The store of a node: the ``ledger`` in a shell of shared memory, spill directories and helper threads.

Two faces. ``submit_*`` never wait: the answer goes to a callback, on whatever thread produced it, never under a lock;
this is the raylet's. The methods of ``base.ObjectStore`` wait; they are for everybody else. All are safe from any
thread.

Files: segments ``prefix-*`` in ``directory``, removed by ``close``; after a sudden death ``segment.sweep`` finds them.
Spill files ``prefix-*.spill`` are removed with their objects and by ``close``.
"""

from __future__ import annotations

import collections
import functools
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

from actorrt.store import layout
from actorrt.store.base import Carved, Limits, Location, Place, Slab, SpilledAt, Statistics
from actorrt.store.effects import Answer, Created, Dropped, Effect, Freed, ReadBack, Remove, Reserve, Ticket, Write
from actorrt.store.errors import ObjectDamaged, ObjectNotFound, StoreClosed, StoreError
from actorrt.store.filedisk import SpillDisk
from actorrt.store.ledger import Ledger
from actorrt.store.reader import Reader
from actorrt.store.segment import Segment
from actorrt.store.spill import SpillFiles
from actorrt.store.table import Record

T = TypeVar("T")
Done = Callable[[Any], None]
"""Gets the result or the StoreError."""
EXPIRE_INTERVAL_S: Final = 0.05


class SpillDirectory(NamedTuple):
    disk: SpillDisk
    quota_bytes: int | None = None
    """None: as much as the disk gives."""


class _Waiter:
    def __init__(self) -> None:
        self.answered = threading.Event()
        self.result: Any = None

    def __call__(self, result: Any) -> None:
        self.result = result
        self.answered.set()


class LocalStore:
    """See the module. ``prefix`` must be unique on the machine: session and node."""

    def __init__(
        self,
        directory: str,
        prefix: str,
        limits: Limits,
        *,
        spill: Sequence[SpillDirectory] = (),
        segment_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        dropped: Callable[[bytes], None] | None = None,
    ) -> None:
        """``segment_bytes``: by default one segment of the whole capacity (files are sparse; memory is reserved as
        needed).

        ``dropped`` hears the keys of secondary objects that were dropped to make room.
        """
        self.limits = limits
        self._clock = clock
        self._dropped = dropped
        self._disks = [item.disk for item in spill]
        self._lock = threading.Lock()
        self._closed = False
        self._fault: Exception | None = None  # a bug that a helper met
        self._released: collections.deque[tuple[int, bytes]] = (
            collections.deque()
        )  # by readers in this process, from finalizers
        self._ledger = Ledger(limits, SpillFiles([(item.disk.uri, item.quota_bytes) for item in spill], prefix))
        self._helpers = ThreadPoolExecutor(
            1 + limits.spills_inflight_max + limits.restores_inflight_max, thread_name_prefix="actorrt-store"
        )
        self._reader = Reader(directory, prefix, self._note_release, read_spilled=self._read_slice)
        self.disk_error: Exception | None = None
        """The last one, for people."""
        self._segments: list[Segment] = []
        size_bytes = layout.round_up(segment_bytes or limits.capacity_bytes + layout.SEGMENT_HEADER_BYTES, 4096)
        try:
            offered_bytes = 0
            while offered_bytes < limits.capacity_bytes:
                self._segments.append(Segment(directory, prefix, len(self._segments), size_bytes))
                offered_bytes += layout.usable_bytes(size_bytes)
        except BaseException:
            self._helpers.shutdown()
            self._remove_segments()
            raise
        for segment in self._segments:
            self._change(functools.partial(Ledger.add_segment, number=segment.number, size_bytes=segment.view.nbytes))

    def __repr__(self) -> str:
        return f"<LocalStore {self._segments}>"

    # ------------------------------------------------------------------------------------------------- without waiting
    def submit_create(self, key: bytes, size_bytes: int, client: bytes, done: Done, *, secondary: bool = False) -> None:
        """``done`` gets the Location to write to."""
        now_s = self._clock()
        self._change(lambda ledger: ledger.request_create(done, key, size_bytes, client, now_s, secondary=secondary))

    def submit_slab(self, length_bytes: int, client: bytes, done: Done) -> None:
        """``done`` gets a Slab, perhaps shorter than asked for."""
        now_s = self._clock()
        self._change(lambda ledger: ledger.request_slab(done, length_bytes, client, now_s))

    def submit_pin(self, key: bytes, client: bytes, done: Done) -> None:
        """``done`` gets the Place."""
        now_s = self._clock()
        self._change(lambda ledger: ledger.request_pin(done, key, client, now_s))

    def expire(self) -> None:
        """To be called now and then (the submitting face only): fails creates that waited too long for nothing, asks
        again for memory that was refused.
        """
        now_s = self._clock()
        self._change(lambda ledger: ledger.expire(now_s))

    def adopt(self, reports: Sequence[Carved], client: bytes) -> list[tuple[Carved, StoreError]]:
        """Objects a client sealed in its slabs. Returns the refused ones."""
        return self._change(lambda ledger: ledger.adopt(reports, client))

    def give_back_slab(self, number: int, client: bytes) -> None:
        self._change(lambda ledger: ledger.give_back_slab(number, client))

    def buffer(self, location: Location) -> memoryview:
        view = self._segments[location.segment].view
        return view[location.offset : location.offset + location.size_bytes]

    def seal(self, number: int) -> None:
        def act(ledger: Ledger) -> None:
            location = ledger.being_created(number)
            layout.set_mark(self._segments[location.segment].view, location.offset, layout.Mark.SEALED)
            ledger.seal(number)

        self._change(act)

    def abort(self, number: int) -> None:
        self._change(lambda ledger: ledger.abort(number))

    def release(self, number: int, client: bytes) -> None:
        self._change(lambda ledger: ledger.release(number, client))

    def delete(self, key: bytes) -> None:
        self._change(lambda ledger: ledger.delete(key))

    def drop_client(self, client: bytes) -> None:
        self._change(lambda ledger: ledger.drop_client(client))

    def contains(self, key: bytes) -> bool:
        return self._change(lambda ledger: ledger.contains(key))

    def records(self) -> list[Record]:
        """Every object with its state, size and pins, for ``actorrt memory``."""
        return self._change(lambda ledger: ledger.records())

    def statistics(self) -> Statistics:
        return self._change(lambda ledger: ledger.statistics())

    def check(self) -> None:
        """The books agree with each other. For tests and debugging."""
        self._change(lambda ledger: ledger.check())

    # -------------------------------------------------------------------------------------------------------- waiting
    def create(self, key: bytes, size_bytes: int, client: bytes, *, secondary: bool = False) -> Location:
        result: Location = self._wait(
            lambda done: self.submit_create(key, size_bytes, client, done, secondary=secondary)
        )
        return result

    def lease_slab(self, length_bytes: int, client: bytes) -> Slab:
        result: Slab = self._wait(lambda done: self.submit_slab(length_bytes, client, done))
        return result

    def pin(self, key: bytes, client: bytes) -> Place:
        result: Place = self._wait(lambda done: self.submit_pin(key, client, done))
        return result

    def get(self, key: bytes, client: bytes) -> memoryview:
        place = self.pin(key, client)
        return self._reader.view(place, (place.number, client))

    def _wait(self, submit: Callable[[Done], None]) -> Any:
        waiter = _Waiter()
        submit(waiter)
        while not waiter.answered.wait(EXPIRE_INTERVAL_S):
            self.expire()
        if isinstance(waiter.result, StoreError):
            raise waiter.result
        return waiter.result

    # --------------------------------------------------------------------------------------------------------- inside
    def _note_release(self, pin: tuple[int, bytes]) -> None:
        """Called from finalizers, in any thread, perhaps while we hold the lock: nothing but a note is allowed."""
        self._released.append(pin)

    def _change(self, act: Callable[[Ledger], T]) -> T:
        with self._lock:
            if self._closed:
                raise StoreClosed("the store is closed")
            if self._fault is not None:
                raise StoreError(f"the store is broken: {self._fault!r}") from self._fault
            try:
                self._release_noted()
                result = act(self._ledger)
            finally:
                effects = self._mark(self._ledger.take_effects())
        self._carry_out(effects)
        return result

    def _release_noted(self) -> None:
        while self._released:
            number, client = self._released.popleft()
            try:
                self._ledger.release(number, client)
            except ObjectNotFound:
                pass  # its client was dropped while the view lived

    def _mark(self, effects: list[Effect]) -> list[Effect]:
        """Headers are written under the lock, in order: the extent freed last may be the one just created."""
        others: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Created):
                segment, offset, size_bytes, number = effect.location
                header = layout.ExtentHeader(layout.Mark.CREATED, number, size_bytes, layout.key_crc(effect.key))
                layout.write_extent_header(self._segments[segment].view, offset, header)
            elif isinstance(effect, Freed):
                location = effect.location
                layout.set_mark(self._segments[location.segment].view, location.offset, layout.Mark.FREED)
            else:
                others.append(effect)
        return others

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Answer):
                effect.ticket(effect.result)
            elif isinstance(effect, Dropped):
                if self._dropped is not None:
                    self._dropped(effect.key)
            else:
                self._help(effect)

    def _help(self, job: Effect) -> None:
        try:
            self._helpers.submit(self._run, job)
        except RuntimeError:
            if not self._closed:  # the pool was shut down by close, which nobody waits behind
                raise

    def _run(self, job: Effect) -> None:
        try:
            if isinstance(job, Remove):
                self._remove(job)
            elif self._closed:
                return  # nobody waits for it any more
            elif isinstance(job, Reserve):
                ok = self._segments[job.segment].reserve(job.offset, job.length_bytes)
                self._change(lambda ledger: ledger.reserved(job, ok=ok))
            elif isinstance(job, Write):
                self._write(job)
            elif isinstance(job, ReadBack):
                self._read_back(job)
        except StoreClosed:
            pass  # by close, which removes everything anyway
        except Exception as error:  # noqa: BLE001 - raised by the next call: nobody looks at a helper's result
            self._fault = error

    def _write(self, job: Write) -> None:
        disk = self._disks[job.file.directory]
        parts: list[memoryview] = []
        checksums: dict[int, int] = {}
        for location in job.locations:
            view = self.buffer(location)
            checksums[location.number] = zlib.crc32(view)
            parts.append(view)
            padding = layout.round_up(view.nbytes) - view.nbytes
            if padding:
                parts.append(memoryview(bytes(padding)))
        try:
            disk.write(job.file.name, parts)
        except Exception as error:  # noqa: BLE001 - a disk may fail in any way; a job must end, or all wait for it
            self.disk_error = error
            self._change(lambda ledger: ledger.write_failed(job))
        else:
            self._change(lambda ledger: ledger.written(job, checksums))

    def _read_back(self, job: ReadBack) -> None:
        location = job.location
        view = self.buffer(location)
        try:
            self._disk_of(job.copy).read_into(job.copy.name, job.copy.offset, view)
            _verify(view, job.copy)
        except Exception as error:  # noqa: BLE001 - as above
            self.disk_error = error
            damaged = error if isinstance(error, StoreError) else ObjectDamaged(f"{job.copy.name}: {error}")
            self._change(lambda ledger: ledger.read_failed(job, damaged))
            return

        def act(ledger: Ledger) -> None:
            layout.set_mark(self._segments[location.segment].view, location.offset, layout.Mark.SEALED)
            ledger.read_back(job)

        self._change(act)

    def _remove(self, job: Remove) -> None:
        try:
            self._disks[job.directory].remove(job.name)
        except Exception as error:  # noqa: BLE001 - as above
            self.disk_error = error

    def _disk_of(self, copy: SpilledAt) -> SpillDisk:
        return next(disk for disk in self._disks if disk.uri == copy.uri)

    def _read_slice(self, place: SpilledAt) -> bytearray:
        data = bytearray(place.size_bytes)
        self._disk_of(place).read_into(place.name, place.offset, memoryview(data))
        return data

    # ------------------------------------------------------------------------------------------------------------ end
    def close(self) -> None:
        """Remove all files. Requests that wait are failed; views that live stay good."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            tickets: list[Ticket] = self._ledger.waiting()
            files = self._ledger.files()
        self._helpers.shutdown()
        for ticket in tickets:
            ticket(StoreClosed("the store is closed"))
        for directory, name in files:
            self._remove(Remove(directory, name))
        self._reader.close()
        self._remove_segments()
        for disk in self._disks:
            disk.close()

    def _remove_segments(self) -> None:
        for segment in self._segments:
            segment.close()


def _verify(view: memoryview, copy: SpilledAt) -> None:
    if zlib.crc32(view) != copy.checksum:
        raise ObjectDamaged(f"{copy.name} in {copy.uri}: the checksum is not what was written")
