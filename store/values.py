"""A value in an object: a pickle stream and its out-of-band buffers, laid out so that reading needs no copy.

    header | (offset, length) of each buffer | stream | buffer | buffer ...

All offsets count from the start of the object; buffers begin on 64-byte lines (objects do too), so NumPy and Arrow find
them aligned. ``kind`` is the caller's: it says what the stream is. What the format costs is one header line and the
padding.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from actorrt.store.copying import Buffer, copy
from actorrt.store.errors import ObjectDamaged
from actorrt.store.layout import round_up

BUFFERS_MAX: Final = 1 << 20

_MAGIC: Final = b"aVal"
_HEADER: Final = struct.Struct("<4sBxxxIxxxxQ")
_ENTRY: Final = struct.Struct("<QQ")


class Value(NamedTuple):
    kind: int
    stream: memoryview
    buffers: list[memoryview]


class Plan(NamedTuple):
    """Where everything goes. The buffers are those given, as plain bytes."""

    size_bytes: int
    stream: memoryview
    buffers: list[memoryview]
    offsets: list[int]


def _raw(buffer: Buffer) -> memoryview:
    # Never a PickleBuffer over a memoryview: when the two die in a reference cycle (a traceback is enough), CPython
    # 3.11 may clear the memoryview first, and crashes.
    if isinstance(buffer, memoryview) and buffer.c_contiguous:
        return buffer if buffer.format == "B" and buffer.ndim == 1 else _as_bytes(buffer)
    return (buffer if isinstance(buffer, pickle.PickleBuffer) else pickle.PickleBuffer(buffer)).raw()


def _as_bytes(view: memoryview) -> memoryview:
    return view.cast("B") if view.nbytes else memoryview(b"")  # what has no bytes cannot be cast


def plan(stream: Buffer, buffers: Sequence[Buffer] = ()) -> Plan:
    """How large the object must be. Buffers must be contiguous (BufferError otherwise), and unchanged until written."""
    if len(buffers) > BUFFERS_MAX:
        raise ValueError(f"{len(buffers)} buffers, at most {BUFFERS_MAX} are allowed")
    plain_stream = _raw(stream)
    plain = [_raw(buffer) for buffer in buffers]
    position = _HEADER.size + _ENTRY.size * len(plain) + plain_stream.nbytes
    offsets = []
    for buffer in plain:
        position = round_up(position)
        offsets.append(position)
        position += buffer.nbytes
    return Plan(position, plain_stream, plain, offsets)


def write(view: memoryview, planned: Plan, kind: int = 0) -> None:
    """One copy of everything; large buffers without the GIL and with several threads."""
    if view.nbytes != planned.size_bytes:
        raise ValueError(f"the object has {view.nbytes} bytes, planned were {planned.size_bytes}")
    _HEADER.pack_into(view, 0, _MAGIC, kind, len(planned.buffers), planned.stream.nbytes)
    position = _HEADER.size
    for offset, buffer in zip(planned.offsets, planned.buffers, strict=True):
        _ENTRY.pack_into(view, position, offset, buffer.nbytes)
        position += _ENTRY.size
        copy(view[offset : offset + buffer.nbytes], buffer)
    copy(view[position : position + planned.stream.nbytes], planned.stream)


def read(view: memoryview) -> Value:
    """Views into ``view``, read-only as it is. Raises ObjectDamaged if it holds no value."""
    size_bytes = view.nbytes
    if size_bytes < _HEADER.size:
        raise ObjectDamaged(f"{size_bytes} bytes are too few for a value")
    magic, kind, count, stream_bytes = _HEADER.unpack_from(view, 0)
    stream_at = _HEADER.size + _ENTRY.size * count
    if magic != _MAGIC or stream_at + stream_bytes > size_bytes:
        raise ObjectDamaged(f"this is no value: {magic!r}, {count} buffers, stream of {stream_bytes} bytes")
    buffers = []
    for number in range(count):
        offset, length = _ENTRY.unpack_from(view, _HEADER.size + _ENTRY.size * number)
        if offset + length > size_bytes:
            raise ObjectDamaged(f"buffer {number} ends at {offset + length} of {size_bytes} bytes")
        buffers.append(view[offset : offset + length])
    return Value(kind, view[stream_at : stream_at + stream_bytes], buffers)
