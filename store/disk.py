"""Spill directories on any file system that pyarrow.fs knows (s3, gcs, hdfs, a custom one), and one in memory.

The plain local directory is in ``filedisk``, which does not import pyarrow.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from pyarrow import fs

from actorrt.store.base import SpilledAt
from actorrt.store.copying import Buffer
from actorrt.store.errors import ObjectDamaged, OutOfDisk


class ArrowDisk:
    """A directory of a pyarrow file system, made if missing. Room is not known: the quota of the store is the bound."""

    def __init__(self, uri: str, filesystem: Any = None) -> None:
        """``filesystem``: a pyarrow.fs.FileSystem in which ``uri`` is a path; by default the URI says which."""
        self._uri = uri
        self._filesystem: Any = filesystem
        self._path = uri
        if filesystem is None:
            self._filesystem, self._path = fs.FileSystem.from_uri(uri)
        self._filesystem.create_dir(self._path, recursive=True)

    @property
    def uri(self) -> str:
        return self._uri

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _create(self, name: str) -> Any:
        try:
            return self._filesystem.open_output_stream(self._full(name))
        except FileNotFoundError:  # somebody removed the directory
            self._filesystem.create_dir(self._path, recursive=True)
            return self._filesystem.open_output_stream(self._full(name))

    def write(self, name: str, buffers: Iterable[Buffer]) -> None:
        try:
            with self._create(name) as stream:
                for buffer in buffers:
                    stream.write(pa.py_buffer(buffer))
        except BaseException:
            self.remove(name)
            raise

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        try:
            with self._filesystem.open_input_file(self._full(name)) as file:
                file.seek(offset)
                read = 0
                while read < target.nbytes:
                    count = file.readinto(target[read:])
                    if not count:
                        raise ObjectDamaged(f"{name} in {self._uri} ends {target.nbytes - read} bytes early")
                    read += count
        except (OSError, pa.ArrowException) as error:
            raise ObjectDamaged(f"{name} in {self._uri}: {error}") from error

    def remove(self, name: str) -> None:
        try:
            self._filesystem.delete_file(self._full(name))
        except FileNotFoundError:
            pass

    def names(self) -> list[str]:
        found = self._filesystem.get_file_info(fs.FileSelector(self._path))
        return sorted(info.base_name for info in found if info.is_file)

    def room_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass


def read_slice(place: SpilledAt) -> bytearray:
    """For ``Reader``: the bytes of a slice, from whatever file system; the reader checks them."""
    data = bytearray(place.size_bytes)
    ArrowDisk(place.uri).read_into(place.name, place.offset, memoryview(data))
    return data


class MemoryDisk:
    """Files in a dict: for tests and simulations. ``capacity_bytes`` is the whole disk."""

    def __init__(self, uri: str = "memory://spill", capacity_bytes: int = 1 << 40) -> None:
        self.uri = uri
        self.files: dict[str, bytes] = {}
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()

    def write(self, name: str, buffers: Iterable[Buffer]) -> None:
        data = b"".join(bytes(buffer) for buffer in buffers)
        with self._lock:
            room_bytes = self.room_bytes()
            if len(data) > room_bytes:
                raise OutOfDisk(f"{self.uri} may take {room_bytes} more bytes, {len(data)} are to be written")
            self.files[name] = data

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        data = self.files.get(name)
        if data is None or offset + target.nbytes > len(data):
            raise ObjectDamaged(f"{name} in {self.uri} is gone or too short")
        target[:] = data[offset : offset + target.nbytes]

    def remove(self, name: str) -> None:
        self.files.pop(name, None)

    def names(self) -> list[str]:
        return sorted(self.files)

    def room_bytes(self) -> int:
        return self._capacity_bytes - sum(map(len, self.files.values()))

    def read_slice(self, place: SpilledAt) -> bytes:
        return self.files[place.name][place.offset : place.offset + place.size_bytes]

    def close(self) -> None:
        self.files.clear()
