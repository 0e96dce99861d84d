"""The store of a node once it is open: the operations of its object manager, carried out on a ``LocalStore``.

Loaded with the first large object (``storage``): what the store needs costs every node 50 ms that a script of small
values need not pay.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from actorrt.cluster.bulk import WAITING_INTERVAL_S, BulkError
from actorrt.cluster.bulk_server import OpenedObject
from actorrt.cluster.config import FUSE_BYTES, SpillTarget, StoreConfig
from actorrt.kernel.message import Message
from actorrt.objects.messages import CarvedObject, SlabLeased, StoreAnswered, StoredObject, StoreReported
from actorrt.objects.messages import Place as ObjectPlace
from actorrt.objects.operations import Create, Lease, Pin, Report, Seal
from actorrt.store import errors
from actorrt.store.base import Carved, Limits, Location, Place, Slab
from actorrt.store.copying import copy
from actorrt.store.filedisk import FileDisk, SpillDisk
from actorrt.store.local import LocalStore, SpillDirectory
from actorrt.store.reader import Reader, local_path
from actorrt.store.table import Record
from actorrt.wire.records import Failure

logger = logging.getLogger("actorrt.cluster.storage")

SLAB_BYTES_MIN: Final = 4096
BULK_CLIENT: Final = b"bulk-transfer"
"""Pins of transfers are in the books under this name and a number."""

FILES_PER_STORE_MIN: Final = 8
"""A full store fits into so many spill files at least, unless the user wants them larger."""
_KINDS: Final = (
    (errors.ObjectStoreFull, "ObjectStoreFullError"),
    (errors.OutOfDisk, "OutOfDiskError"),
    (errors.ObjectNotFound, "ObjectLostError"),
    (errors.ObjectDamaged, "ObjectLostError"),
    (errors.TooManyRequests, "Overloaded"),
)


def failure_of(error: Exception) -> Failure:
    """What the manager, and then perhaps a user, is told."""
    kind = next((kind for each, kind in _KINDS if isinstance(error, each)), "InternalError")
    return Failure(kind, str(error))


def _fuse_bytes(config: StoreConfig) -> int:
    """A file goes with the last of its objects, so those of a small store shall not be large, unless asked for."""
    if config.fuse_bytes != FUSE_BYTES:
        return config.fuse_bytes
    return min(FUSE_BYTES, config.capacity_bytes // FILES_PER_STORE_MIN)


class StoreRoom:
    """One open store. Methods may be called from any thread; answers are posted from any thread."""

    def __init__(
        self,
        config: StoreConfig,
        prefix: str,
        *,
        post: Callable[[Message], None],
        dropped: Callable[[bytes], None],
    ) -> None:
        self._post = post
        self._disks = [SpillDirectory(_disk(target), target.quota_bytes) for target in config.spill]
        limits = Limits(
            capacity_bytes=config.capacity_bytes,
            spill_threshold=config.spill_threshold,
            fuse_bytes=_fuse_bytes(config),
        )
        self._store = LocalStore(config.directory, prefix, limits, spill=self._disks, dropped=dropped)
        self._reader = Reader(config.directory, prefix, _keep, read_spilled=_read_slice)
        self._opened = 0
        self._lock = threading.Lock()
        self.closed = False

    def __repr__(self) -> str:
        return f"StoreRoom({self._store!r})"

    # ---- operations with a ticket
    def create(self, operation: Create) -> None:
        """Answered with the place."""
        self._submit(
            operation.ticket,
            lambda done: self._store.submit_create(
                operation.key, operation.size_bytes, operation.client, done, secondary=operation.secondary
            ),
        )

    def lease(self, operation: Lease) -> None:
        """Answered with the slab."""
        length = max(SLAB_BYTES_MIN, operation.length_bytes)
        self._submit(operation.ticket, lambda done: self._store.submit_slab(length, operation.client, done))

    def pin(self, operation: Pin) -> None:
        """Answered with the place."""
        self._submit(operation.ticket, lambda done: self._store.submit_pin(operation.key, operation.client, done))

    def _submit(self, ticket: int, submit: Callable[[Callable[[Any], None]], None]) -> None:
        try:
            submit(functools.partial(self._answer, ticket))
        except (errors.StoreError, ValueError) as error:
            self._answer(ticket, error)

    def _answer(self, ticket: int, result: object) -> None:
        if isinstance(result, Slab):
            self._post(StoreAnswered(ticket, slab=SlabLeased(*result)))
        elif isinstance(result, Exception):
            self._post(StoreAnswered(ticket, failure=failure_of(result)))
        else:
            assert isinstance(result, Place)
            self._post(StoreAnswered(ticket, place=_place(result)))

    def report(self, operation: Report) -> None:
        """Answered with figures, and the largest objects."""
        try:
            figures = dataclasses.asdict(self._store.statistics())
            records = self._store.records() if operation.objects_max > 0 else []
        except errors.StoreError as error:
            logger.info("no report: %s", error)
            figures, records = {}, []
        largest = heapq.nlargest(operation.objects_max, records, key=lambda record: record.size_bytes)
        omitted = max(0, figures.get("objects", 0) - len(largest))
        self._post(StoreReported(operation.ticket, figures, tuple(map(_described, largest)), omitted))

    # ---- operations without an answer
    def seal(self, operation: Seal) -> None:
        """Seal created objects, adopt carved ones, take slabs back, in this order."""
        for number in operation.created:
            self._try(f"seal {number}", functools.partial(self._store.seal, number))
        if operation.carved:
            reports = [_carved(carved) for carved in operation.carved if carved.size_bytes >= 0]
            refused = self._try("adopt", lambda: self._store.adopt(reports, operation.client)) or []
            for carved, error in refused:
                logger.warning("the object %s of %r is refused: %s", carved.key.hex(), operation.client, error)
        for number in operation.done_slabs:
            self._try("take a slab back", functools.partial(self._store.give_back_slab, number, operation.client))

    def abort(self, number: int) -> None:
        """Give up an object that is being created."""
        self._try(f"abort {number}", lambda: self._store.abort(number))

    def release(self, numbers: tuple[int, ...], client: bytes) -> None:
        """Release pins."""
        for number in numbers:
            self._try(f"release {number}", functools.partial(self._store.release, number, client))

    def delete(self, keys: tuple[bytes, ...]) -> None:
        """Forget objects."""
        for key in keys:
            self._try(f"delete {key.hex()}", functools.partial(self._store.delete, key))

    def drop_client(self, client: bytes) -> None:
        """The client is dead."""
        self._try(f"drop {client!r}", lambda: self._store.drop_client(client))

    def _try(self, what: str, act: Callable[[], Any]) -> Any:
        """Nobody waits for an answer: what cannot be done is for the log. (A client may be wrong, or dead.)"""
        try:
            return act()
        except errors.StoreClosed:
            return None
        except errors.StoreError as error:
            logger.info("could not %s: %s", what, error)
            return None

    # ---- now and then
    def expire(self) -> None:
        """Fail the requests that waited too long for nothing."""
        self._try("expire", self._store.expire)

    def figures(self) -> tuple[int, int]:
        """Bytes in use (uncarved parts of slabs not counted), and how many requests wait."""
        try:
            figures = self._store.statistics()
        except errors.StoreError:
            return 0, 0
        return figures.used_bytes - figures.leased_bytes, figures.waiting

    # ---- memory
    def buffer(self, place: ObjectPlace) -> memoryview:
        """The writable bytes of an object that is being created."""
        return self._store.buffer(Location(place.segment, place.offset, place.size_bytes, place.number))

    def open_object(self, key: bytes, still_waiting: Callable[[], None]) -> OpenedObject:
        """Pin an object for being sent (blocks): see ``bulk_server.OpenObject``."""
        with self._lock:
            self._opened += 1
            client = b"%s %d" % (BULK_CLIENT, self._opened)
        answered = threading.Event()
        results: list[Any] = []

        def done(result: object) -> None:
            results.append(result)
            answered.set()

        try:
            self._store.submit_pin(key, client, done)
            while not answered.wait(WAITING_INTERVAL_S):
                still_waiting()
            return self._opened_at(results[0], client)
        except BaseException as error:
            self.drop_client(client)
            if isinstance(error, errors.StoreError):
                raise BulkError(str(error)) from error
            raise

    def _opened_at(self, result: Place | errors.StoreError, client: bytes) -> OpenedObject:
        if isinstance(result, errors.StoreError):
            raise result
        if isinstance(result, Location):
            view = self._store.buffer(result).toreadonly()
            if view.nbytes != result.size_bytes:
                raise BulkError("the store was closed meanwhile")
        else:
            view = self._reader.view(result)
        return OpenedObject(view, functools.partial(self.release, (result.number,), client))

    # ---- the end
    def close(self) -> None:
        """Remove the segments and spill files (blocks until the helpers are done)."""
        self.closed = True
        self._reader.close()
        self._store.close()


class DirectSource:
    """Parts of objects from another store of this process, copied by the thread that wants them."""

    def __init__(self, room: StoreRoom) -> None:
        self._room = room
        self._asked: deque[tuple[bytes, int, int]] = deque()
        self._key = b""
        self._opened: OpenedObject | None = None

    def request(self, key: bytes, offset: int, length_bytes: int) -> None:
        """Remember what is wanted."""
        self._asked.append((key, offset, length_bytes))

    def receive_into(self, target: memoryview) -> None:
        """Copy the part that was asked for first. Raises BulkError."""
        key, offset, length_bytes = self._asked.popleft()
        if self._room.closed:
            raise BulkError("that node has ended")
        if self._opened is None or self._key != key:
            self.rest()
            self._opened, self._key = self._room.open_object(key, self._look), key
        part = self._opened.view[offset : offset + length_bytes]
        if part.nbytes != target.nbytes:
            raise BulkError(f"asked for {length_bytes} bytes at {offset} of {self._opened.view.nbytes} bytes")
        copy(target, part, threads=1)

    def _look(self) -> None:
        if self._room.closed:
            raise BulkError("that node has ended")

    def rest(self) -> None:
        """Release the object."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.release()

    def abort(self) -> None:
        """Nothing here waits for long."""

    def close(self) -> None:
        """Release the object."""
        self.rest()


def _keep(pin: object) -> None:
    """Pins of transfers are released by number, not with their views."""


def _read_slice(place: Any) -> bytes | bytearray:
    disk = importlib.import_module("actorrt.store.disk")  # pyarrow: only for directories that are not local
    data: bytearray = disk.read_slice(place)
    return data


def _disk(target: SpillTarget) -> SpillDisk:
    if local_path(target.uri) is not None:
        return FileDisk(target.uri)
    disk: SpillDisk = importlib.import_module("actorrt.store.disk").ArrowDisk(target.uri)  # as above
    return disk


def _place(place: Place) -> ObjectPlace:
    if isinstance(place, Location):
        return ObjectPlace(*place)
    return ObjectPlace(
        segment=0,
        offset=place.offset,
        size_bytes=place.size_bytes,
        number=place.number,
        uri=place.uri,
        name=place.name,
        checksum=place.checksum,
    )


def _carved(carved: CarvedObject) -> Carved:
    location = Location(carved.segment, carved.offset, carved.size_bytes, carved.number)
    return Carved(carved.key, carved.slab, location)


def _described(record: Record) -> StoredObject:
    pins = list(record.pins.items())  # at once: other threads change it
    return StoredObject(
        key=record.key,
        size_bytes=record.size_bytes,
        owner="",
        state=record.state.name,
        is_copy=record.secondary,
        pins=sum(count for _, count in pins),
        pinned_by=tuple(client.decode("utf-8", "replace") for client, _ in pins),
    )
