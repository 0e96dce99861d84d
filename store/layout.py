"""The format of a segment: header, extents, alignment. Pure arithmetic; ``docs/store-format.md`` is the same in prose.

A segment is one file in shared memory: a header page, then extents back to back. An extent is one 64-byte header and
the payload, rounded up to whole 64-byte lines, so that every payload starts on a cache line. The header carries the
*number* of the object, unique for the life of the store. A reader that was given (segment, offset, size, number)
compares all of it with what stands in the header: a location that outlived its object is noticed, not read.
"""

from __future__ import annotations

import enum
import re
import struct
import zlib
from typing import Final, NamedTuple

from actorrt.store.errors import StaleLocation, StoreError

LINE_BYTES: Final = 64
SEGMENT_HEADER_BYTES: Final = 4096
EXTENT_HEADER_BYTES: Final = LINE_BYTES
FORMAT_VERSION: Final = 1
SEGMENTS_MAX: Final = 1 << 16
KEY_BYTES_MAX: Final = 1024

_SEGMENT: Final = struct.Struct("<8sHxxIQ")
_SEGMENT_MAGIC: Final = b"actorrtS"
_EXTENT: Final = struct.Struct("<4sBxxxQQI")
_EXTENT_MAGIC: Final = b"aExt"
_STATE_OFFSET: Final = 4
_NAME: Final = re.compile(r"(?P<prefix>.+)-(?P<number>[0-9a-f]{4})")


class Mark(enum.IntEnum):
    """The state byte of an extent header."""

    CREATED = 1
    SEALED = 2
    FREED = 3


class ExtentHeader(NamedTuple):
    mark: Mark
    number: int
    size_bytes: int
    key_crc: int


def round_up(size_bytes: int, to_bytes: int = LINE_BYTES) -> int:
    return (size_bytes + to_bytes - 1) // to_bytes * to_bytes


def extent_bytes(size_bytes: int) -> int:
    """What an object of this size occupies, its header included."""
    return EXTENT_HEADER_BYTES + round_up(size_bytes)


def usable_bytes(segment_bytes: int) -> int:
    """What a segment of this size offers to extents."""
    return (segment_bytes - SEGMENT_HEADER_BYTES) // LINE_BYTES * LINE_BYTES


def segment_name(prefix: str, number: int) -> str:
    if not 0 <= number < SEGMENTS_MAX:
        raise ValueError(f"segment number {number}, allowed are 0 to {SEGMENTS_MAX - 1}")
    return f"{prefix}-{number:04x}"


def parse_segment_name(name: str) -> tuple[str, int] | None:
    """(prefix, number) of a file name, None if it is not one of ours."""
    match = _NAME.fullmatch(name)
    return (match["prefix"], int(match["number"], 16)) if match else None


def write_segment_header(view: memoryview, number: int) -> None:
    _SEGMENT.pack_into(view, 0, _SEGMENT_MAGIC, FORMAT_VERSION, number, view.nbytes)


def check_segment_header(view: memoryview, number: int) -> None:
    """Raises StoreError unless this is the segment it should be, whole and of our version."""
    if view.nbytes < SEGMENT_HEADER_BYTES:
        raise StoreError(f"segment {number} has only {view.nbytes} bytes")
    magic, version, found, size_bytes = _SEGMENT.unpack_from(view, 0)
    if magic != _SEGMENT_MAGIC:
        raise StoreError(f"segment {number} is not a segment: it starts with {magic!r}")
    if version != FORMAT_VERSION:
        raise StoreError(f"segment {number} has format {version}, this is format {FORMAT_VERSION}")
    if (found, size_bytes) != (number, view.nbytes):
        raise StoreError(f"segment {number} of {view.nbytes} bytes calls itself {found} of {size_bytes} bytes")


def key_crc(key: bytes) -> int:
    return zlib.crc32(key)


def write_extent_header(view: memoryview, payload_offset: int, header: ExtentHeader) -> None:
    mark, number, size_bytes, crc = header
    _EXTENT.pack_into(view, payload_offset - EXTENT_HEADER_BYTES, _EXTENT_MAGIC, mark, number, size_bytes, crc)


def read_extent_header(view: memoryview, payload_offset: int) -> ExtentHeader:
    start = payload_offset - EXTENT_HEADER_BYTES
    if start < SEGMENT_HEADER_BYTES or start % LINE_BYTES or payload_offset > view.nbytes:
        raise StaleLocation(f"no extent can start at {start} of {view.nbytes} bytes")
    magic, mark, number, size_bytes, crc = _EXTENT.unpack_from(view, start)
    if magic != _EXTENT_MAGIC or payload_offset + size_bytes > view.nbytes:
        raise StaleLocation(f"there is no extent at {start}")
    try:
        return ExtentHeader(Mark(mark), number, size_bytes, crc)
    except ValueError:
        raise StaleLocation(f"the extent at {start} has the unknown mark {mark}") from None


def set_mark(view: memoryview, payload_offset: int, mark: Mark) -> None:
    view[payload_offset - EXTENT_HEADER_BYTES + _STATE_OFFSET] = mark


def check_sealed(view: memoryview, payload_offset: int, size_bytes: int, number: int) -> None:
    """Raises StaleLocation unless the sealed object of this number and size is there."""
    found = read_extent_header(view, payload_offset)
    if (found.mark, found.number, found.size_bytes) != (Mark.SEALED, number, size_bytes):
        raise StaleLocation(
            f"expected object {number} of {size_bytes} bytes at {payload_offset}, found number {found.number} "
            f"of {found.size_bytes} bytes, {found.mark.name.lower()}"
        )
