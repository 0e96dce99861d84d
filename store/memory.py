"""A store in plain memory, for tests and simulations: the same promises, no files, no threads, no spilling.

Independent of the ``ledger`` on purpose: it is the model that the real one is compared with. A deleted object's room is
counted until its pins are gone, as in the real one; it is never short of a contiguous piece.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from actorrt.store.base import Location, Statistics
from actorrt.store.copying import pinned_address
from actorrt.store.errors import NotSealed, ObjectExists, ObjectNotFound, ObjectStoreFull, ObjectTooLarge, StoreClosed
from actorrt.store.layout import KEY_BYTES_MAX, extent_bytes
from actorrt.store.reader import Exports


@dataclass(slots=True, eq=False)
class _Object:
    key: bytes
    number: int
    data: bytearray
    writer: bytes
    secondary: bool
    sealed: bool = False
    doomed: bool = False
    pins: dict[bytes, int] = field(default_factory=dict)

    @property
    def extent_bytes(self) -> int:
        return extent_bytes(len(self.data))


class MemoryStore:
    """See the module."""

    def __init__(self, capacity_bytes: int, *, dropped: Callable[[bytes], None] | None = None) -> None:
        self._capacity_bytes = capacity_bytes
        self._dropped = dropped
        self._objects: dict[int, _Object] = {}
        self._current: dict[bytes, _Object] = {}
        self._number = 0
        self._objects_total = 0
        self._closed = False
        self._lock = threading.RLock()
        self._gone: collections.deque[tuple[int, bytes]] = collections.deque()
        self._exports = Exports(self._gone.append)

    def _open(self) -> None:
        if self._closed:
            raise StoreClosed("the store is closed")
        while self._gone:
            number, client = self._gone.popleft()
            try:
                self._release(number, client)
            except ObjectNotFound:
                pass  # its client was dropped while the view lived

    @property
    def _used_bytes(self) -> int:
        return sum(item.extent_bytes for item in self._objects.values())

    def create(self, key: bytes, size_bytes: int, client: bytes, *, secondary: bool = False) -> Location:
        with self._lock:
            self._open()
            if not 0 < len(key) <= KEY_BYTES_MAX or size_bytes < 0:
                raise ValueError(f"a key of {len(key)} bytes for an object of {size_bytes} bytes")
            if key in self._current:
                raise ObjectExists(f"the object {key.hex()} exists")
            length = extent_bytes(size_bytes)
            if length > self._capacity_bytes:
                raise ObjectTooLarge(f"{size_bytes} bytes do not fit into a store of {self._capacity_bytes} bytes")
            idle = [item for item in self._current.values() if item.secondary and item.sealed and not item.pins]
            for item in idle:
                if self._used_bytes + length <= self._capacity_bytes:
                    break
                self.delete(item.key)
                if self._dropped is not None:
                    self._dropped(item.key)
            if self._used_bytes + length > self._capacity_bytes:
                raise ObjectStoreFull(f"{self._used_bytes} of {self._capacity_bytes} bytes are in use")
            self._number += 1
            item = _Object(key, self._number, bytearray(size_bytes), client, secondary)
            self._objects[item.number] = self._current[key] = item
            return Location(0, 0, size_bytes, item.number)

    def buffer(self, location: Location) -> memoryview:
        with self._lock:
            self._open()
            return memoryview(self._at(location.number).data)

    def _at(self, number: int) -> _Object:
        item = self._objects.get(number)
        if item is None:
            raise ObjectNotFound(f"no object has the number {number}")
        return item

    def _creating(self, number: int) -> _Object:
        item = self._at(number)
        if item.sealed:
            raise ObjectNotFound(f"the object with number {number} is not being created")
        return item

    def seal(self, number: int) -> None:
        with self._lock:
            self._open()
            item = self._creating(number)
            item.sealed = True
            self._objects_total += 1
            self._settle(item)

    def abort(self, number: int) -> None:
        with self._lock:
            self._open()
            item = self._creating(number)
            self._forget(item)
            del self._objects[number]

    def _forget(self, item: _Object) -> None:
        if self._current.get(item.key) is item:
            del self._current[item.key]

    def _settle(self, item: _Object) -> None:
        if item.doomed and item.sealed and not item.pins:
            del self._objects[item.number]

    def pin(self, key: bytes, client: bytes) -> Location:
        with self._lock:
            self._open()
            item = self._current.get(key)
            if item is None:
                raise ObjectNotFound(f"no object has the key {key.hex()}")
            if not item.sealed:
                raise NotSealed(f"the object {key.hex()} is still being written")
            item.pins[client] = item.pins.get(client, 0) + 1
            return Location(0, 0, len(item.data), item.number)

    def get(self, key: bytes, client: bytes) -> memoryview:
        with self._lock:
            self._open()
            location = self.pin(key, client)
            data = self._objects[location.number].data
            held = [(location.number, client)]
            try:
                with pinned_address(data) as (address, _):
                    return self._exports.export(data, address, len(data), held)
            except BaseException:
                self._exports.release(held)
                raise

    def release(self, number: int, client: bytes) -> None:
        with self._lock:
            self._open()
            self._release(number, client)

    def _release(self, number: int, client: bytes) -> None:
        item = self._at(number)
        count = item.pins.get(client, 0)
        if not count:
            raise ObjectNotFound(f"client {client.hex()} does not pin {number}")
        if count == 1:
            del item.pins[client]
        else:
            item.pins[client] = count - 1
        self._settle(item)

    def contains(self, key: bytes) -> bool:
        with self._lock:
            self._open()
            item = self._current.get(key)
            return item is not None and item.sealed

    def delete(self, key: bytes) -> None:
        with self._lock:
            self._open()
            item = self._current.pop(key, None)
            if item is not None:
                item.doomed = True
                self._settle(item)

    def drop_client(self, client: bytes) -> None:
        with self._lock:
            self._open()
            for item in list(self._objects.values()):
                if item.writer == client and not item.sealed:
                    self.abort(item.number)
                elif item.pins.pop(client, 0):
                    self._settle(item)

    def statistics(self) -> Statistics:
        with self._lock:
            self._open()
            pinned = [item for item in self._objects.values() if item.pins]
            return Statistics(
                capacity_bytes=self._capacity_bytes,
                used_bytes=self._used_bytes,
                reserved_bytes=self._used_bytes,
                objects=len(self._current),
                lingering=len(self._objects) - len(self._current),
                pinned=len(pinned),
                pinned_bytes=sum(len(item.data) for item in pinned),
                creating=sum(not item.sealed for item in self._objects.values()),
                objects_total=self._objects_total,
            )

    def close(self) -> None:
        self._closed = True
        self._objects.clear()
        self._current.clear()
