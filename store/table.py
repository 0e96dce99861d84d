"""The life of an object as a table, and the book of all objects. Pure.

``NEXT`` is the whole life cycle; an event that a state does not know raises by lookup. Two things are orthogonal to the
state and kept beside it: *pins* (a reader's views keep the extent, or the spill file, where it is) and *doomed*
(deleted by its owner while a writer, the disk or a pin still needs the memory; the object is gone for everybody else).

A record is found by its number, which is never reused; the key leads to the current record. So a key can be created
again while views of its predecessor live, and a late release can never hit the wrong object.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from actorrt.store.allocator import Extent
from actorrt.store.base import SpilledAt
from actorrt.store.errors import NotSealed, ObjectExists, ObjectNotFound
from actorrt.store.layout import extent_bytes


class State(enum.Enum):
    CREATED = "created"
    """A writer fills the extent."""
    SEALED = "sealed"
    """In memory, immutable; perhaps also on disk."""
    SPILLING = "spilling"
    """In memory, being written to disk."""
    SPILLED = "spilled"
    """Only on disk."""
    RESTORING = "restoring"
    """Being read back."""
    DELETED = "deleted"


class Event(enum.Enum):
    SEAL = "seal"
    ABORT = "abort"
    SPILL = "spill"
    WRITTEN = "written"
    WRITE_FAILED = "write failed"
    EVICT = "evict"
    RESTORE = "restore"
    READ = "read"
    READ_FAILED = "read failed"
    FREE = "free"


NEXT: Final[Mapping[tuple[State, Event], State]] = {
    (State.CREATED, Event.SEAL): State.SEALED,
    (State.CREATED, Event.ABORT): State.DELETED,
    (State.SEALED, Event.SPILL): State.SPILLING,
    (State.SPILLING, Event.WRITTEN): State.SEALED,
    (State.SPILLING, Event.WRITE_FAILED): State.SEALED,
    (State.SEALED, Event.EVICT): State.SPILLED,
    (State.SPILLED, Event.RESTORE): State.RESTORING,
    (State.RESTORING, Event.READ): State.SEALED,
    (State.RESTORING, Event.READ_FAILED): State.SPILLED,
    (State.SEALED, Event.FREE): State.DELETED,
    (State.SPILLED, Event.FREE): State.DELETED,
}
"""WRITTEN leads back to SEALED: the object is then in both places, and EVICT drops the memory when it is needed."""

_IN_MEMORY: Final = (State.SEALED, State.SPILLING)


@dataclass(slots=True, eq=False)
class Record:
    number: int
    key: bytes
    size_bytes: int
    writer: bytes
    extent: Extent | None
    secondary: bool = False
    state: State = State.CREATED
    copy: SpilledAt | None = None
    """Its slice of a spill file, if there is one."""
    pins: dict[bytes, int] = field(default_factory=dict)
    doomed: bool = False

    def __repr__(self) -> str:
        doomed = ", doomed" if self.doomed else ""
        return f"<Record {self.number} {self.state.value}, {self.size_bytes} bytes, {self.pins}{doomed}>"

    @property
    def in_memory(self) -> bool:
        return self.state in _IN_MEMORY


class Table:
    """All records, by number, by key, by client, and the idle ones in the order of their last use."""

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}
        self._current: dict[bytes, int] = {}
        self._writing: dict[bytes, dict[int, None]] = {}  # client -> numbers it is creating
        self._pinned: dict[bytes, dict[int, None]] = {}  # client -> numbers it pins
        # Sealed, unpinned, wanted; least recently used first. Clean ones can be dropped at once: a copy is on disk,
        # or the object is secondary.
        self._clean: dict[int, None] = {}
        self._dirty: dict[int, None] = {}
        self._held: dict[int, int] = {}  # pinned -> bytes it holds in memory
        self._on_disk: dict[int, int] = {}  # only on disk -> bytes
        self.held_bytes = 0
        self.on_disk_bytes = 0
        # Of their extents.
        self.clean_bytes = 0
        self.dirty_bytes = 0

    def __len__(self) -> int:
        return len(self._current)

    @property
    def held(self) -> int:
        return len(self._held)

    @property
    def on_disk(self) -> int:
        return len(self._on_disk)

    @property
    def lingering(self) -> int:
        return len(self._records) - len(self._current)

    @property
    def records(self) -> Iterator[Record]:
        return iter(self._records.values())

    # -------------------------------------------------------------------------------------------------------- look up
    def find(self, key: bytes) -> Record | None:
        number = self._current.get(key)
        return None if number is None else self._records[number]

    def at(self, number: int) -> Record:
        record = self._records.get(number)
        if record is None:
            raise ObjectNotFound(f"no object has the number {number}")
        return record

    def readable(self, key: bytes) -> Record:
        """The record of a key that may be read."""
        record = self.find(key)
        if record is None:
            raise ObjectNotFound(f"no object has the key {key.hex()}")
        if record.state is State.CREATED:
            raise NotSealed(f"the object {key.hex()} is still being written")
        return record

    def clean(self) -> Iterator[Record]:
        """What can be dropped from memory at once, least recently used first. Do not change the table meanwhile."""
        return (self._records[number] for number in self._clean)

    def dirty(self) -> Iterator[Record]:
        """What must be written to disk before it can be dropped, least recently used first."""
        return (self._records[number] for number in self._dirty)

    # --------------------------------------------------------------------------------------------------------- change
    def add(self, record: Record) -> None:
        if record.key in self._current:
            raise ObjectExists(f"the object {record.key.hex()} exists")
        assert record.number not in self._records
        self._records[record.number] = record
        self._current[record.key] = record.number
        if record.state is State.CREATED:
            self._writing.setdefault(record.writer, {})[record.number] = None
        self._place(record)

    def fire(self, record: Record, event: Event) -> State:
        """One step of the life cycle; KeyError for a step that does not exist."""
        before = record.state
        self._unplace(record)
        record.state = NEXT[before, event]
        if before is State.CREATED:
            self._drop_from(self._writing, record.writer, record.number)
        if record.state is State.DELETED:
            assert not record.pins, f"{record!r} is pinned"
            self._forget_key(record)
            del self._records[record.number]
        else:
            self._place(record)
        return record.state

    def doom(self, record: Record) -> None:
        """Deleted for everybody who does not hold it already."""
        self._unplace(record)
        record.doomed = True
        self._forget_key(record)
        self._place(record)

    def add_copy(self, record: Record, copy: SpilledAt | None) -> None:
        self._unplace(record)
        record.copy = copy
        self._place(record)

    def pin(self, record: Record, client: bytes) -> None:
        assert record.state in (State.SEALED, State.SPILLING, State.SPILLED, State.RESTORING)
        self._unplace(record)
        record.pins[client] = record.pins.get(client, 0) + 1
        self._pinned.setdefault(client, {})[record.number] = None
        self._place(record)

    def unpin(self, record: Record, client: bytes, *, all_of_them: bool = False) -> None:
        count = record.pins.get(client, 0)
        if not count:
            raise ObjectNotFound(f"client {client.hex()} does not pin {record.number}")
        self._unplace(record)
        if count == 1 or all_of_them:
            del record.pins[client]
            self._drop_from(self._pinned, client, record.number)
        else:
            record.pins[client] = count - 1
        self._place(record)

    def written_by(self, client: bytes) -> list[Record]:
        return [self._records[number] for number in self._writing.get(client, ())]

    def pinned_by(self, client: bytes) -> list[Record]:
        return [self._records[number] for number in self._pinned.get(client, ())]

    # --------------------------------------------------------------------------------------------------------- inside
    def _forget_key(self, record: Record) -> None:
        if self._current.get(record.key) == record.number:
            del self._current[record.key]

    @staticmethod
    def _drop_from(index: dict[bytes, dict[int, None]], client: bytes, number: int) -> None:
        numbers = index[client]
        del numbers[number]
        if not numbers:
            del index[client]

    def _place(self, record: Record) -> None:
        """Whatever becomes idle becomes so as the most recently used."""
        if record.pins:
            held_bytes = record.size_bytes if record.in_memory else 0
            self._held[record.number] = held_bytes
            self.held_bytes += held_bytes
        if record.state is State.SPILLED:
            self._on_disk[record.number] = record.size_bytes
            self.on_disk_bytes += record.size_bytes
        if record.state is not State.SEALED or record.pins or record.doomed:
            return
        if record.copy is not None or record.secondary:
            self._clean[record.number] = None
            self.clean_bytes += extent_bytes(record.size_bytes)
        else:
            self._dirty[record.number] = None
            self.dirty_bytes += extent_bytes(record.size_bytes)

    def _unplace(self, record: Record) -> None:
        self.held_bytes -= self._held.pop(record.number, 0)
        self.on_disk_bytes -= self._on_disk.pop(record.number, 0)
        if record.number in self._clean:
            del self._clean[record.number]
            self.clean_bytes -= extent_bytes(record.size_bytes)
        elif record.number in self._dirty:
            del self._dirty[record.number]
            self.dirty_bytes -= extent_bytes(record.size_bytes)

    def check(self) -> None:
        """The indexes say what the records say. For tests and debugging."""
        for key, number in self._current.items():
            record = self._records[number]
            assert (record.key, record.doomed) == (key, False)
        for record in self._records.values():
            assert record.state is not State.DELETED
            assert record.doomed == (self._current.get(record.key) != record.number)
            in_memory = record.state in (State.CREATED, State.SEALED, State.SPILLING, State.RESTORING)
            assert in_memory == (record.extent is not None), record
            assert record.copy is not None or record.state not in (State.SPILLED, State.RESTORING), record
            idle = record.state is State.SEALED and not record.pins and not record.doomed
            clean = idle and (record.copy is not None or record.secondary)
            assert clean == (record.number in self._clean)
            assert (idle and not clean) == (record.number in self._dirty)
            assert all(count > 0 for count in record.pins.values())
        pairs = {(client, number) for client, numbers in self._pinned.items() for number in numbers}
        assert pairs == {(client, record.number) for record in self._records.values() for client in record.pins}
        writing = {(client, number) for client, numbers in self._writing.items() for number in numbers}
        created = [record for record in self._records.values() if record.state is State.CREATED]
        assert writing == {(record.writer, record.number) for record in created}
        pinned = [record for record in self._records.values() if record.pins]
        assert sorted(self._held) == sorted(record.number for record in pinned)
        assert self.held_bytes == sum(record.size_bytes for record in pinned if record.in_memory)
        spilled = [record for record in self._records.values() if record.state is State.SPILLED]
        assert sorted(self._on_disk) == sorted(record.number for record in spilled)
        assert self.on_disk_bytes == sum(record.size_bytes for record in spilled)
        assert self.clean_bytes == sum(extent_bytes(self._records[number].size_bytes) for number in self._clean)
        assert self.dirty_bytes == sum(extent_bytes(self._records[number].size_bytes) for number in self._dirty)
