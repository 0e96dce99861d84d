"""The port to spill directories, and the plain local directory behind it: nothing but the standard library.

The default needs no pyarrow, whose import costs every node 0.1 to 0.3 s and 40 MB; ``disk`` has the other file systems.
"""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Iterable
from typing import Final, Protocol

from actorrt.store.copying import Buffer
from actorrt.store.errors import ObjectDamaged, OutOfDisk
from actorrt.store.reader import local_path

DISK_SHARE_MAX: Final = 0.95
"""The last part of a disk is never taken: a full disk breaks more than spilling."""


class SpillDisk(Protocol):
    """One directory for spill files. Methods are called from helper threads, several at a time."""

    @property
    def uri(self) -> str: ...

    def write(self, name: str, buffers: Iterable[Buffer]) -> None:
        """A new file of these bytes; all of it or, on any error, none. Raises OutOfDisk before the disk is full."""
        ...

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Raises ObjectDamaged if the file is gone or too short."""
        ...

    def remove(self, name: str) -> None:
        """Also if it is gone already."""
        ...

    def names(self) -> list[str]: ...

    def room_bytes(self) -> int | None:
        """How much may still be written; None if nobody knows."""
        ...

    def close(self) -> None: ...


class FileDisk:
    """A local directory, made if missing; again if somebody removes it (what was in it is lost, what comes is not)."""

    def __init__(self, uri: str, *, share_max: float = DISK_SHARE_MAX) -> None:
        path = local_path(uri)
        if path is None:
            raise ValueError(f"{uri} is no local directory")
        self._path = pathlib.Path(path).absolute()
        self._share_max = share_max
        self._make()

    def _make(self) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def uri(self) -> str:
        return str(self._path)

    def write(self, name: str, buffers: Iterable[Buffer]) -> None:
        self._make()
        parts = [memoryview(buffer) for buffer in buffers]
        wanted_bytes = sum(part.nbytes for part in parts)
        room_bytes = self.room_bytes()
        if wanted_bytes > room_bytes:
            raise OutOfDisk(f"{self._path} may take {room_bytes} more bytes, {wanted_bytes} are to be written")
        path = self._path / name
        try:
            with path.open("xb", buffering=0) as file:
                for part in parts:
                    written = 0
                    while written < part.nbytes:
                        written += file.write(part[written:])
        except OSError as error:
            self.remove(name)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutOfDisk(f"{self._path}: {error}") from error
            raise

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        path = self._path / name
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                read = 0
                while read < target.nbytes:
                    count = file.readinto(target[read:])
                    if not count:
                        raise ObjectDamaged(f"{path} ends at {offset + read}, {target.nbytes - read} bytes are missing")
                    read += count
        except OSError as error:
            raise ObjectDamaged(f"{path}: {error}") from error

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        return sorted(path.name for path in self._path.iterdir())

    def room_bytes(self) -> int:
        figures = os.statvfs(self._path)
        kept_bytes = int(figures.f_blocks * figures.f_frsize * (1 - self._share_max))
        return max(0, figures.f_bavail * figures.f_frsize - kept_bytes)

    def close(self) -> None:
        pass
