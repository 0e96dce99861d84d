"""What to write to disk together, where, and when a file can go. Pure planner and book of files.

Objects are fused, least recently used first, until a file has ``fuse_bytes`` or ``fuse_objects_max`` objects. Files are
written once and never changed; a file is removed when the last of its objects is gone. Several directories share
the load: the next file goes where most room is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from actorrt.store.base import SpilledAt
from actorrt.store.layout import extent_bytes, round_up
from actorrt.store.table import Record

NO_QUOTA = 1 << 62


def plan_file(
    dirty: Iterable[Record], *, needed_bytes: int, fuse_bytes: int, objects_max: int, room_bytes: int
) -> list[Record]:
    """The objects of the next file, least recently used first; empty if not even one may be written.

    It fills a whole file when there is enough to write, which frees more than ``needed_bytes``: one large write now is
    cheaper than another small one soon. An object that does not fit into the room is passed over.
    """
    chosen: list[Record] = []
    size_bytes = 0
    freed_bytes = 0
    for record in dirty:
        length = round_up(record.size_bytes)
        if size_bytes + length > room_bytes:
            continue
        chosen.append(record)
        size_bytes += length
        freed_bytes += extent_bytes(record.size_bytes)
        if (size_bytes >= fuse_bytes and freed_bytes >= needed_bytes) or len(chosen) >= objects_max:
            break
    return chosen


class Slice(NamedTuple):
    number: int
    offset: int
    size_bytes: int


@dataclass(slots=True)
class SpillFile:
    name: str
    directory: int
    size_bytes: int
    live: dict[int, Slice] = field(default_factory=dict)
    writing: bool = True


@dataclass(slots=True)
class _Directory:
    uri: str
    quota_bytes: int
    used_bytes: int = 0
    refused: bool = False
    """It said it is full, or failed; asked again after ``forgive``."""

    @property
    def room_bytes(self) -> int:
        return 0 if self.refused else self.quota_bytes - self.used_bytes


class SpillFiles:
    """Which files exist, with what in them, in which directory."""

    def __init__(self, directories: Sequence[tuple[str, int | None]], prefix: str) -> None:
        """Directories as (uri, quota in bytes or None for as much as the disk gives)."""
        self._directories = [
            _Directory(uri, NO_QUOTA if quota_bytes is None else quota_bytes) for uri, quota_bytes in directories
        ]
        self._prefix = prefix
        self._files: dict[tuple[int, str], SpillFile] = {}
        self._by_object: dict[int, SpillFile] = {}
        self._named = 0

    def __len__(self) -> int:
        return len(self._files)

    @property
    def enabled(self) -> bool:
        return bool(self._directories)

    @property
    def used_bytes(self) -> int:
        return sum(directory.used_bytes for directory in self._directories)

    @property
    def room_bytes(self) -> int:
        """The most a single file may have now."""
        return max((directory.room_bytes for directory in self._directories), default=0)

    def open(self, records: Sequence[Record]) -> SpillFile:
        """A new file with these objects in it, in the emptiest directory; its room is taken at once."""
        index = max(range(len(self._directories)), key=lambda number: (self._directories[number].room_bytes, -number))
        self._named += 1
        file = SpillFile(f"{self._prefix}-{self._named:08x}.spill", index, 0)
        for record in records:
            file.live[record.number] = Slice(record.number, file.size_bytes, record.size_bytes)
            file.size_bytes += round_up(record.size_bytes)
            self._by_object[record.number] = file
        directory = self._directories[index]
        assert file.size_bytes <= directory.room_bytes
        directory.used_bytes += file.size_bytes
        self._files[index, file.name] = file
        return file

    def written(self, file: SpillFile, checksums: dict[int, int]) -> dict[int, SpilledAt]:
        """The file is complete: where each object lies in it."""
        file.writing = False
        uri = self._directories[file.directory].uri
        return {
            part.number: SpilledAt(uri, file.name, part.offset, part.size_bytes, checksums[part.number], part.number)
            for part in file.live.values()
        }

    def failed(self, file: SpillFile) -> None:
        """Nothing was written. The directory is left alone until ``forgive``."""
        self._directories[file.directory].refused = True
        for number in file.live:
            del self._by_object[number]
        file.live.clear()
        self._close(file)

    def drop(self, number: int) -> SpillFile | None:
        """The object is gone; returns its file if it was the last in it: remove it."""
        file = self._by_object.pop(number)
        assert not file.writing
        del file.live[number]
        if file.live:
            return None
        self._close(file)
        self._directories[file.directory].refused = False  # there is room again
        return file

    def _close(self, file: SpillFile) -> None:
        del self._files[file.directory, file.name]
        directory = self._directories[file.directory]
        directory.used_bytes -= file.size_bytes

    def forgive(self) -> None:
        """Directories that refused are tried again."""
        for directory in self._directories:
            directory.refused = False

    def names(self) -> list[tuple[int, str]]:
        """(directory, name) of all."""
        return list(self._files)

    def check(self) -> None:
        for index, directory in enumerate(self._directories):
            files = [file for file in self._files.values() if file.directory == index]
            assert directory.used_bytes == sum(file.size_bytes for file in files)
            assert directory.used_bytes <= directory.quota_bytes
        assert all(file.live for file in self._files.values())
        assert sum(len(file.live) for file in self._files.values()) == len(self._by_object)
