"""What ``cluster.shelf`` is to a process: large values go to the store of its node, and come back.

Small ones stay as they are. Values up to ``CARVE_BYTES_MAX`` are carved from slabs, others get room of their own; the
report follows a moment later, so that the news of an object may be faster. What was read stays pinned for a while, as
if a program still looked at it. A request whose connection breaks is made again, unless it was withdrawn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

from actorrt.kernel.message import Address, Message, RequestFailed
from actorrt.objects.messages import (
    Attach,
    Attached,
    CarvedObject,
    CreateObject,
    Detach,
    LeaseSlab,
    ObjectCreated,
    ObjectsPinned,
    ObjectsSealed,
    ObjectWanted,
    PinObjects,
    PinsReleased,
    Place,
    SlabLeased,
    WithdrawRequest,
)
from actorrt.sim.storage import SLAB_BYTES_MAX, SimStorage
from actorrt.sim.world import Process, SimulationError
from actorrt.wire.records import Failure, Result, Stored, Value

INLINE_BYTES_MAX = 200
CARVE_BYTES_MAX = 600
UNIQUE_BYTES = 8
"""Behind the object's id in a key."""
REPORT_S_MAX = 0.002
"""An object is reported so long after it was sealed, at most."""
PINNED_S_MAX = 0.02
RETRY_S = 0.02
ATTEMPTS_MAX = 10

Kept: TypeAlias = Callable[[Result], None]
Loaded: TypeAlias = Callable[[list[Value | Failure]], None]
Retry: TypeAlias = Callable[[int], None]
"""Gets the number of the next attempt."""


class Slab:
    """A slab, and how much of it is used."""

    __slots__ = ("lease", "objects", "used_bytes")

    def __init__(self, lease: SlabLeased) -> None:
        self.lease = lease
        self.objects = 0
        self.used_bytes = 0

    def has_room(self, size_bytes: int) -> bool:
        """Whether an object of this size fits."""
        return self.used_bytes + size_bytes <= self.lease.length_bytes


class Load:
    """Objects somebody waits for."""

    __slots__ = ("_shelf", "over", "ticket", "withdrawn")

    def __init__(self, shelf: Shelf, ticket: int) -> None:
        self._shelf = shelf
        self.ticket = ticket
        self.over = False
        self.withdrawn = False

    def withdraw(self) -> None:
        """Nobody waits any more."""
        if not self.over and not self.withdrawn:
            self.withdrawn = True
            self._shelf.tell(WithdrawRequest(self.ticket))


class Shelf:
    """See the module. Without a ``storage`` everything stays inline."""

    def __init__(self, process: Process, manager: Address, storage: SimStorage | None) -> None:
        self._process = process
        self._manager = manager
        self._storage = storage
        self._world = process.world
        self._rng = process.world.rng(f"shelf {process.name}")
        self._attached = False
        self._attaching: list[Callable[[Message], None]] = []
        self._slab: Slab | None = None
        self._created: list[int] = []
        self._carved: list[CarvedObject] = []
        self._done_slabs: list[int] = []
        self._report_pending = False
        self._tickets = 0
        self._views: dict[int, int] = {}
        """Number -> how many programs look at it."""
        self.kept_count = 0
        self.loaded_count = 0

    @property
    def storage(self) -> SimStorage:
        """The memory shared with the node."""
        assert self._storage is not None, f"{self._process.name} has no store"
        return self._storage

    def takes(self, value: Value) -> bool:
        """Whether this value is too large to stay inline."""
        return self._storage is not None and len(value.data) > INLINE_BYTES_MAX

    # ------------------------------------------------------------------ writing
    def keep(self, value: Value, object_id: bytes, owner: str, kept: Kept, attempt: int = 0) -> None:
        """Put a value into the store if it is large; ``kept`` gets the result (perhaps at once)."""
        if not self.takes(value):
            kept(value)
            return
        size_bytes = len(value.data)
        retry = functools.partial(self.keep, value, object_id, owner, kept)
        key = object_id + self._rng.randbytes(UNIQUE_BYTES)

        def granted(answer: Message) -> None:
            if isinstance(answer, SlabLeased):
                self._use(Slab(answer))
                self.keep(value, object_id, owner, kept, attempt)
                return
            if not isinstance(answer, ObjectCreated):
                kept(_failure(answer))
                return
            number = answer.place.number
            self.storage.write(number, value.data)
            self._created.append(number)
            finish()

        def finish() -> None:
            self.kept_count += 1
            self._report_soon()
            kept(Stored(key, size_bytes, owner, (self._manager.process,), value.refs))

        if size_bytes > CARVE_BYTES_MAX:
            self._ask(CreateObject(key, size_bytes, owner), granted, retry, attempt)
        elif self._slab is not None and self._slab.has_room(size_bytes):
            self._carve(self._slab, key, owner, value.data)
            finish()
        else:
            self._ask(LeaseSlab(SLAB_BYTES_MAX), granted, retry, attempt)

    def _use(self, slab: Slab) -> None:
        if self._slab is not None:
            self._done_slabs.append(self._slab.lease.number)
            self._report_soon()
        self._slab = slab

    def _carve(self, slab: Slab, key: bytes, owner: str, data: bytes) -> None:
        lease = slab.lease
        number = lease.first_object + slab.objects
        self.storage.carve(lease.number, number, data)
        offset = lease.offset + slab.used_bytes
        self._carved.append(CarvedObject(key, owner, lease.number, lease.segment, offset, len(data), number))
        slab.objects += 1
        slab.used_bytes += len(data)

    def _report_soon(self) -> None:
        if not self._report_pending:
            self._report_pending = True
            self._world.after(REPORT_S_MAX * self._rng.random(), self.report, self._process)

    def report(self) -> None:
        """Tell the manager what is complete."""
        self._report_pending = False
        created, self._created = self._created, []
        carved, self._carved = self._carved, []
        done, self._done_slabs = self._done_slabs, []
        if created or carved or done:
            self.tell(ObjectsSealed(tuple(created), tuple(carved), tuple(done)))

    def close(self) -> None:
        """The last word, of a process that ends in order."""
        if self._attached:
            self.report()
            self.tell(Detach(tuple(number for number, count in self._views.items() for _ in range(count))))

    # ------------------------------------------------------------------ reading
    def load(self, stored: Sequence[Stored], loaded: Loaded, *, for_arguments: bool = False) -> Load:
        """Have these here; ``loaded`` gets a value or a failure for each."""
        self._tickets += 1
        load = Load(self, self._tickets)
        wanted = tuple(ObjectWanted(item.key, item.size_bytes, item.owner, item.holders) for item in stored)
        self._pin(load, PinObjects(wanted, for_arguments, load.ticket), stored, loaded, 0)
        return load

    def _pin(self, load: Load, body: PinObjects, stored: Sequence[Stored], loaded: Loaded, attempt: int) -> None:
        def retry(attempt: int) -> None:
            if load.withdrawn:
                loaded([Failure("GetTimeoutError", "withdrawn")] * len(stored))
            else:
                self._pin(load, body, stored, loaded, attempt)

        def pinned(answer: Message) -> None:
            load.over = True
            if not isinstance(answer, ObjectsPinned):
                loaded([_failure(answer)] * len(stored))
                return
            found: list[Value | Failure] = []
            places: list[tuple[int, bytes]] = []
            for item, place in zip(stored, answer.found, strict=True):
                if isinstance(place, Place):
                    data = self.storage.read(place.number, self._process.name)
                    places.append((place.number, data))
                    self._views[place.number] = self._views.get(place.number, 0) + 1
                    found.append(Value(data, (), item.refs))
                else:
                    found.append(place)
            self.loaded_count += len(places)
            if places:
                release = functools.partial(self._release, places)
                self._world.after(PINNED_S_MAX * self._rng.random(), release, self._process)
            loaded(found)

        self._ask(body, pinned, retry, attempt)

    def load_among(
        self, results: Sequence[Result], loaded: Callable[[Sequence[Result]], None], *, for_arguments: bool = False
    ) -> Load | None:
        """Have those of these here that lie in stores; ``loaded`` gets all of them, perhaps at once (then: None)."""
        stored = [result for result in results if isinstance(result, Stored)]
        if not stored:
            loaded(results)
            return None

        def found(there: list[Value | Failure]) -> None:
            rest = iter(there)
            loaded([next(rest) if isinstance(result, Stored) else result for result in results])

        return self.load(stored, found, for_arguments=for_arguments)

    def _release(self, places: list[tuple[int, bytes]]) -> None:
        """The views are gone; what they showed must not have changed."""
        for number, data in places:
            if self.storage.read(number, self._process.name) is not data:
                raise SimulationError(f"object {number} has changed under the eyes of {self._process.name}")
            self._views[number] -= 1
            if not self._views[number]:
                del self._views[number]
        self.tell(PinsReleased(tuple(number for number, _ in places)))

    # ------------------------------------------------------------------ requests
    def tell(self, body: Message) -> None:
        """Send something to the manager."""
        self._world.send(self._process, "owner", self._manager, body)

    def _ask(self, body: Message, answered: Callable[[Message], None], retry: Retry, attempt: int) -> None:
        """Ask the manager; ``answered`` gets its answer, unless the connection broke: then ``retry`` is called."""

        def finish(answer: Message) -> None:
            if _is_lost(answer) and attempt < ATTEMPTS_MAX:
                self._world.after(RETRY_S, functools.partial(retry, attempt + 1), self._process)
            else:
                answered(answer)

        def attached(answer: Message) -> None:
            if isinstance(answer, Attached):
                self._process.request(self._manager, body, finish)
            else:
                finish(answer)

        if self._attached:
            self._process.request(self._manager, body, finish)
            return
        self._attaching.append(attached)
        if len(self._attaching) == 1:
            self._process.request(self._manager, Attach(self._process.pid), self._attach_answered)

    def _attach_answered(self, answer: Message) -> None:
        self._attached = isinstance(answer, Attached)
        attaching, self._attaching = self._attaching, []
        for call in attaching:
            call(answer)


def _is_lost(answer: Message) -> bool:
    return isinstance(answer, RequestFailed) and "the peer is gone" in answer.text


def _failure(answer: Message) -> Failure:
    """Why there is nothing. A node that cannot be reached again and again is gone."""
    if _is_lost(answer):
        return Failure("LocalRayletDiedError", "the object store of this node cannot be reached")
    assert isinstance(answer, RequestFailed), f"{answer!r} is no answer of an object manager"
    return Failure(answer.kind, answer.text)
