"""The port of a simulated node's object manager: a store whose objects are ``bytes`` in a table.

It keeps the promises of ``objects.operations``. Slabs, rooms, pins and pulls take a little (seeded) time; everything
else happens at once. Processes of the node write into it and read from it directly (``write``, ``read``): that is the
shared memory. A ``Town`` has one table of all storages, by node: that is the bulk network.

When more than ``capacity_bytes`` are used, secondary copies without pins are dropped, oldest first; what is still too
much counts as spilled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from actorrt.kernel.message import Message
from actorrt.objects import operations
from actorrt.objects.messages import (
    CarvedObject,
    ClientDied,
    CopiesDropped,
    Place,
    PullEnded,
    SlabLeased,
    StoreAnswered,
    StoredObject,
    StoreReported,
    UsageChanged,
)
from actorrt.sim.world import Process, SimulationError, Watcher
from actorrt.wire.records import Failure

SLAB_BYTES_MAX = 2048
USAGE_INTERVAL_S = 0.05


class StoragePace(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take at most, and how much there is room for."""

    open_s_max: float = 0.005
    answer_s_max: float = 0.0005
    transfer_s_max: float = 0.003
    death_s_max: float = 0.003
    """Until the death of a process is noticed."""
    capacity_bytes: int = 1 << 30


class SimObject:
    """One object, created or sealed."""

    __slots__ = ("client", "data", "is_copy", "is_deleted", "is_sealed", "key", "number", "pins", "size_bytes")

    def __init__(self, number: int, key: bytes, size_bytes: int, client: bytes, *, is_copy: bool) -> None:
        self.number = number
        self.key = key
        self.size_bytes = size_bytes
        self.client = client
        self.is_copy = is_copy
        self.data: bytes | None = None
        self.is_sealed = False
        self.is_deleted = False
        self.pins: dict[bytes, int] = {}

    def __repr__(self) -> str:
        return f"SimObject({self.number}, {self.key.hex()}, pins={self.pins})"


class SimStorage(Watcher):
    """See the module. ``process`` is the node's, with the object manager in it; ``storages`` are those of all nodes."""

    def __init__(self, process: Process, storages: dict[str, SimStorage], pace: StoragePace) -> None:
        self._process = process
        self._storages = storages
        self._pace = pace
        self._world = process.world
        self._rng = process.world.rng(f"storage {process.name}")
        self.is_open = False
        self.objects: dict[int, SimObject] = {}
        """All there are, deleted ones that are pinned included."""
        self.current: dict[bytes, SimObject] = {}
        """By key, without the deleted."""
        self.slabs: dict[int, bytes] = {}
        """Number -> client."""
        self.carved: dict[int, bytes] = {}
        """Bytes of objects written in slabs and not reported yet, by number."""
        self._carved_in: dict[int, int] = {}
        self._count = 0
        self._used_bytes = 0
        self._told_bytes = 0
        self._telling = False
        self._asked: dict[int, bytes] = {}
        """Ticket -> client of what is under way; empty for the manager's own."""
        self._added: dict[int, list[tuple[str, str]]] = {}
        self._watched: dict[str, None] = {}
        storages[process.name] = self
        process.world.observers.append(self)

    # ------------------------------------------------------------------ the shared memory
    def write(self, number: int, data: bytes) -> None:
        """Fill an object that is being created."""
        created = self.objects[number]
        assert not created.is_sealed
        assert len(data) == created.size_bytes
        created.data = data

    def carve(self, slab: int, number: int, data: bytes) -> None:
        """Write an object into a slab."""
        assert slab in self.slabs
        self.carved[number] = data
        self._carved_in[number] = slab

    def read(self, number: int, client: str) -> bytes:
        """The bytes of an object this client has pinned."""
        pinned = self.objects.get(number)
        if pinned is None or client.encode() not in pinned.pins:
            raise SimulationError(f"{client} reads object {number} of {self._process.name}, which it has not pinned")
        assert pinned.data is not None
        return pinned.data

    # ------------------------------------------------------------------ operations
    def perform(self, operation: Any) -> None:
        """Carry out one operation."""
        match operation:
            case operations.Open():
                self._begin(operation.ticket, b"", self._pace.open_s_max, self._open, operation)
            case operations.Create():
                self._begin(operation.ticket, operation.client, self._pace.answer_s_max, self._create, operation)
            case operations.Lease():
                self._begin(operation.ticket, operation.client, self._pace.answer_s_max, self._lease, operation)
            case operations.Pin():
                self._begin(operation.ticket, operation.client, self._pace.answer_s_max, self._pin, operation)
            case operations.Report():
                self._begin(operation.ticket, b"", self._pace.answer_s_max, self._report, operation)
            case operations.Pull():
                self._added[operation.ticket] = list(operation.sources)
                self._begin(operation.ticket, b"", self._pace.transfer_s_max, self._transfer, operation, ())
            case operations.AddSource():
                if operation.ticket in self._added:
                    self._added[operation.ticket].append(operation.source)
            case operations.Watch():
                self._watch(operation.process)
            case operations.Unwatch():
                self._watched.pop(operation.process, None)
            case _:
                self._do_now(operation)
        self._tell_usage()

    def _do_now(self, operation: Any) -> None:
        match operation:
            case operations.Seal():
                self._seal(operation)
            case operations.Abort(number):
                self._forget(self.objects[number])
            case operations.Release(numbers, client):
                for number in numbers:
                    self._release(number, client)
            case operations.Delete(keys):
                for key in keys:
                    self._delete(key)
            case operations.DropClient(client):
                self._drop_client(client)
            case _:
                raise TypeError(f"unknown operation {operation!r}")

    def _begin(
        self, ticket: int, client: bytes, delay_s_max: float, work: Callable[..., None], *arguments: Any
    ) -> None:
        self._asked[ticket] = client

        def begin() -> None:
            if ticket in self._asked:
                work(*arguments)
                self._tell_usage()

        self._later(delay_s_max, begin)

    def _later(self, delay_s_max: float, call: Callable[[], None]) -> None:
        self._world.after(delay_s_max * self._rng.random(), call, self._process)

    def _post(self, body: Message) -> None:
        self._process.post("objects", body)

    def _answer(
        self, ticket: int, place: Place | None = None, slab: SlabLeased | None = None, failure: Failure | None = None
    ) -> None:
        del self._asked[ticket]
        self._post(StoreAnswered(ticket, place, slab, failure))

    def _open(self, operation: operations.Open) -> None:
        self.is_open = True
        self._answer(operation.ticket)

    def _create(self, operation: operations.Create) -> None:
        if operation.key in self.current:
            text = f"the object {operation.key.hex()} exists"
            self._answer(operation.ticket, failure=Failure("InternalError", text))
            return
        self._make_room(operation.size_bytes)
        self._count += 1
        size_bytes, client = operation.size_bytes, operation.client
        made = SimObject(self._count, operation.key, size_bytes, client, is_copy=operation.secondary)
        self._enter(made)
        self._answer(operation.ticket, self._place(made))

    def _lease(self, operation: operations.Lease) -> None:
        length_bytes = min(operation.length_bytes, SLAB_BYTES_MAX)
        self._count += 1
        number = self._count
        self._count += length_bytes
        self.slabs[number] = operation.client
        self._answer(operation.ticket, slab=SlabLeased(number, 0, 0, length_bytes, number + 1))

    def _pin(self, operation: operations.Pin) -> None:
        found = self.current.get(operation.key)
        if found is None or not found.is_sealed:
            text = f"the object {operation.key.hex()} is not here"
            self._answer(operation.ticket, failure=Failure("ObjectLostError", text))
            return
        found.pins[operation.client] = found.pins.get(operation.client, 0) + 1
        self._answer(operation.ticket, self._place(found))

    def _report(self, operation: operations.Report) -> None:
        del self._asked[operation.ticket]
        lines = [
            StoredObject(item.key, item.size_bytes, "", "SEALED", item.is_copy, sum(item.pins.values()), ())
            for item in self.current.values()
            if item.is_sealed
        ][: operation.objects_max]
        figures = {"objects": len(self.current), "used_bytes": self._used_bytes}
        self._post(StoreReported(operation.ticket, figures, tuple(lines), len(self.current) - len(lines)))

    def _seal(self, operation: operations.Seal) -> None:
        for number in operation.created:
            made = self.objects[number]
            assert made.client == operation.client
            assert made.data is not None, f"{made!r} was never written"
            made.is_sealed = True
        for item in operation.carved:
            self._adopt(item, operation.client)
        for number in operation.done_slabs:
            assert self.slabs[number] == operation.client
            self._take_back(number)

    def _adopt(self, item: CarvedObject, client: bytes) -> None:
        data = self.carved.pop(item.number, None)
        slab = self._carved_in.pop(item.number, 0)
        if data is None or self.slabs.get(slab) != client or item.key in self.current:
            raise SimulationError(f"{client!r} reports {item!r}, which cannot be")
        made = SimObject(item.number, item.key, item.size_bytes, client, is_copy=False)
        made.data = data
        made.is_sealed = True
        self._enter(made)

    def _release(self, number: int, client: bytes) -> None:
        pinned = self.objects[number]
        pinned.pins[client] -= 1
        if not pinned.pins[client]:
            del pinned.pins[client]
            if pinned.is_deleted and not pinned.pins:
                self._forget(pinned)

    def _delete(self, key: bytes) -> None:
        deleted = self.current.pop(key, None)
        if deleted is not None:
            deleted.is_deleted = True
            if not deleted.pins:
                self._forget(deleted)

    def _drop_client(self, client: bytes) -> None:
        for ticket in [ticket for ticket, of in self._asked.items() if of == client]:
            del self._asked[ticket]
        for item in list(self.objects.values()):
            if item.client == client and not item.is_sealed:
                self._forget(item)
            elif client in item.pins:
                item.pins[client] = 1
                self._release(item.number, client)
        for slab in [slab for slab, of in self.slabs.items() if of == client]:
            self._take_back(slab)

    def _take_back(self, slab: int) -> None:
        """A slab, with what was written in it and never reported."""
        del self.slabs[slab]
        for number in [number for number, of in self._carved_in.items() if of == slab]:
            del self._carved_in[number], self.carved[number]

    # ------------------------------------------------------------------ pulls
    def _transfer(self, operation: operations.Pull, failed: tuple[str, ...]) -> None:
        """Try the next source; one that has failed takes its time."""
        sources = [source for source in self._added[operation.ticket] if source[0] not in failed]
        filled = self.objects.get(operation.place.number)
        if filled is None or not sources:
            del self._asked[operation.ticket], self._added[operation.ticket]
            why = "nobody who offered it has it" if filled is not None else "it was given up"
            self._post(PullEnded(operation.ticket, failed, Failure("ObjectLostError", why)))
            return
        holder, endpoint = sources[0]
        data = self._storages[endpoint].offer(operation.key)
        if data is not None:
            filled.data = data
            del self._asked[operation.ticket], self._added[operation.ticket]
            self._post(PullEnded(operation.ticket, failed))
        else:
            self._later(self._pace.transfer_s_max, functools.partial(self._transfer, operation, (*failed, holder)))

    def offer(self, key: bytes) -> bytes | None:
        """The bytes of an object, for another node; None if it cannot be had."""
        found = self.current.get(key)
        return found.data if self._process.alive and found is not None and found.is_sealed else None

    # ------------------------------------------------------------------ deaths of processes
    def _watch(self, name: str) -> None:
        self._watched[name] = None
        process = self._world.processes.get(name)
        if process is None or not process.alive:
            self._notice(name)

    def ended(self, process: Process, reason: str, now: float) -> None:  # noqa: ARG002
        """See ``Observer``."""
        if process.name in self._watched and self._process.alive:
            self._notice(process.name)

    def _notice(self, name: str) -> None:
        del self._watched[name]
        self._later(self._pace.death_s_max, functools.partial(self._post, ClientDied(name)))

    # ------------------------------------------------------------------ room
    def _enter(self, made: SimObject) -> None:
        self.objects[made.number] = self.current[made.key] = made
        self._used_bytes += made.size_bytes

    def _forget(self, item: SimObject) -> None:
        del self.objects[item.number]
        if self.current.get(item.key) is item:
            del self.current[item.key]
        self._used_bytes -= item.size_bytes

    def _make_room(self, size_bytes: int) -> None:
        dropped = []
        for item in list(self.current.values()):
            if self._used_bytes + size_bytes <= self._pace.capacity_bytes:
                break
            if item.is_copy and item.is_sealed and not item.pins:
                self._forget(item)
                dropped.append(item.key)
        if dropped:
            self._post(CopiesDropped(tuple(dropped)))

    def _tell_usage(self) -> None:
        """Soon, and not of every single object."""
        if self._used_bytes != self._told_bytes and not self._telling:
            self._telling = True
            self._world.after(USAGE_INTERVAL_S, self._tell, self._process)

    def _tell(self) -> None:
        self._telling = False
        if self._used_bytes != self._told_bytes:
            self._told_bytes = self._used_bytes
            self._post(UsageChanged(self._used_bytes))

    @staticmethod
    def _place(item: SimObject) -> Place:
        return Place(0, 0, item.size_bytes, item.number)
