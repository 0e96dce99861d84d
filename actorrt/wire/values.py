"""User values to bytes and back.

A value is one pickle stream (protocol 5). The C pickler goes first; cloudpickle follows when that refuses, or when the
stream names ``__main__`` (a class of the user's script pickled by reference would not be found in another process).
Buffers from 64 KiB stay beside the stream and come back read-only. ``None`` is one byte.

A large value goes to an object store, if there is one to ``keep`` it: its buffers are then copied once, from the user's
memory into the store's. All else travels in messages, as a snapshot: the user may change an array right after.

Refs and actor handles met while pickling report themselves through ``note_ref``; outside ``dumps`` (a user pickling a
ref on their own) nobody collects them, and the object then stays alive as long as its owner (see docs/semantics.md).
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from actorrt.kernel.limits import BUFFER_OUT_OF_BAND_BYTES_MIN, INLINE_VALUE_BYTES_MAX
from actorrt.wire import reducers
from actorrt.wire.records import Buffer, RefInfo, Stored, Value

_NONE = b"N"
_STREAM_IN_FRAME = b"F"
_VIEW = b"M"
"""Stream of a memoryview: its bytes are the only buffer."""
_BYTES = b"B"
"""The same of a large bytes object."""
NONE_VALUE = Value(_NONE)
ARRAY_BYTES_MIN = 8192
STREAMS_KEPT_MAX = 1000
_streams: dict[tuple[str, tuple[int, ...], bool], bytes] = {}
"""Pickle streams of plain arrays, by what they depend on."""
PLAIN_BYTES_MIN = 2048
"""Bytes objects from this size are not pickled: a frame of their own costs less than a copy."""
_NUMBERS = frozenset({int, float, bool})
_PLAIN = frozenset({bytes, str})
"""Types that hold nothing but themselves (a character has four bytes at most)."""
ARGUMENTS_STORED = b"S"
"""``TaskCall.arguments`` of a call whose arguments lie in a store, as the last of its dependencies."""


Whose: TypeAlias = tuple[bytes, int, str]
"""What a stored value will be called: the id of its task, the return index, its owner's process address.

A bare tuple, for one is made per task, and seldom looked at.
"""


class Pickled(NamedTuple):
    """A value as a stream and the buffers beside it, which are still the user's memory."""

    data: bytes
    buffers: list[memoryview]
    refs: tuple[RefInfo, ...]

    def size_bytes(self) -> int:
        """Bytes of the stream and its buffers."""
        return len(self.data) + sum(buffer.nbytes for buffer in self.buffers)

    def snapshot(self) -> Value:
        """Copy the buffers: this travels in messages."""
        if self.data == _BYTES:
            return Value(_BYTES, (Buffer(self.buffers[0]),), self.refs)  # cannot change: no copy is needed
        buffers = tuple(Buffer(bytes(buffer)) for buffer in self.buffers)
        if len(self.data) >= BUFFER_OUT_OF_BAND_BYTES_MIN:
            return Value(_STREAM_IN_FRAME, (Buffer(self.data), *buffers), self.refs)
        return Value(self.data, buffers, self.refs)


Keep: TypeAlias = Callable[[Pickled, Whose], Stored | None]
"""Puts a value into an object store. None: there is none within reach."""


class _Collector(threading.local):
    refs: list[RefInfo] | None = None


_collector = _Collector()


def note_ref(info: RefInfo) -> bool:
    """Called by a ref that is being pickled. Returns False when nobody collects (pickled outside the runtime)."""
    refs = _collector.refs
    if refs is None:
        return False
    refs.append(info)
    return True


def _keep_large(buffers: list[memoryview]) -> Any:
    def callback(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < BUFFER_OUT_OF_BAND_BYTES_MIN:
            return True
        buffers.append(raw)
        return False

    return callback


def pickle_any(value: Any, buffers: list[memoryview]) -> bytes:
    """Pickle with the C pickler, or by value with cloudpickle where that is needed. Large buffers go to ``buffers``."""
    kind = type(value)
    if kind is bytes and len(value) >= BUFFER_OUT_OF_BAND_BYTES_MIN:
        buffers.append(memoryview(value))
        return _BYTES
    if kind is memoryview and value.c_contiguous:
        buffers.append(value.cast("B") if value.nbytes else memoryview(b""))  # what has no bytes cannot be cast
        return _VIEW
    callback = _keep_large(buffers)
    try:
        if reducers.in_use():
            data = reducers.dumps(pickle.Pickler, value, callback)
        else:
            data = pickle.dumps(value, 5, buffer_callback=callback)
    except (pickle.PicklingError, AttributeError, TypeError):
        # Lambdas, local classes, modules...: cloudpickle knows more. What neither can pickle raises from there.
        pass
    else:
        if (kind.__name__ == "ndarray" and kind.__module__ == "numpy" and not value.dtype.hasobject) or (
            b"__main__" not in data
        ):
            return data
    buffers.clear()
    if _collector.refs is not None:
        _collector.refs.clear()
    import cloudpickle

    return reducers.dumps(cloudpickle.Pickler, value, callback)


def dumps(value: Any, keep: Keep | None = None, whose: Whose | None = None) -> Value | Stored:
    """Serialise one value; with ``keep``, a large one into the store, by the name ``whose``.

    Raises what pickling raises (TypeError for things that cannot travel), and what ``keep`` raises.
    """
    if value is None:
        return NONE_VALUE
    kind = type(value)
    if kind in _NUMBERS:
        return Value(pickle.dumps(value, 5))
    if kind in _PLAIN:
        if kind is bytes and PLAIN_BYTES_MIN <= len(value) <= INLINE_VALUE_BYTES_MAX:
            return Value(_BYTES, (Buffer(value),))  # cannot change: not even copied
        if len(value) < BUFFER_OUT_OF_BAND_BYTES_MIN // 4:
            return Value(pickle.dumps(value, 5))
    pickled = _array(value) if kind.__name__ == "ndarray" and kind.__module__ == "numpy" else None
    if pickled is None:
        buffers: list[memoryview] = []
        outer = _collector.refs
        refs: list[RefInfo] = []
        _collector.refs = refs
        try:
            data = pickle_any(compact(value), buffers)
        finally:
            _collector.refs = outer
        if not buffers and len(data) < BUFFER_OUT_OF_BAND_BYTES_MIN:
            return Value(data, (), tuple(refs))
        pickled = Pickled(data, buffers, tuple(refs))
    if keep is not None and pickled.size_bytes() > INLINE_VALUE_BYTES_MAX:
        assert whose is not None
        stored = keep(pickled, whose)
        if stored is not None:
            return stored
    return pickled.snapshot()


def _array(array: Any) -> Pickled | None:
    """A plain NumPy array without pickling it: the stream, which its bytes are no part of, is that of the last array of
    the same type and shape. None: it is small, or not so plain.
    """
    if array.nbytes < ARRAY_BYTES_MIN or array.dtype.kind not in "biufc" or reducers.in_use():
        return None
    flags = array.flags
    if not flags.c_contiguous:
        return None
    key = (array.dtype.str, array.shape, flags.writeable)
    stream = _streams.get(key)
    if stream is None:
        if len(_streams) >= STREAMS_KEPT_MAX:
            _streams.clear()
        stream = _streams[key] = pickle.dumps(array, 5, buffer_callback=_leave_out)
    return Pickled(stream, [memoryview(array).cast("B")], ())


def _leave_out(_buffer: pickle.PickleBuffer) -> bool:
    return False


def inline(value: Any) -> Value:
    """Serialise for a message, however large it is."""
    return NONE_VALUE if value is None else collecting(value).snapshot()


def collecting(value: Any) -> Pickled:
    """Serialise, and collect the refs inside."""
    buffers: list[memoryview] = []
    outer = _collector.refs
    refs: list[RefInfo] = []
    _collector.refs = refs
    try:
        data = pickle_any(value, buffers)
    finally:
        _collector.refs = outer
    return Pickled(data, buffers, tuple(refs))


def compact(value: Any) -> Any:
    """An Arrow table that is a slice of a larger one on its own: pickled, it would take all of that along."""
    kind = type(value)
    if kind.__module__ != "pyarrow.lib" or kind.__name__ not in {"Table", "RecordBatch"}:
        return value
    if value.get_total_buffer_size() <= value.nbytes + value.nbytes // 8 + 4096:
        return value
    import pyarrow as pa  # loaded already: there is a table

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)
    reader = pa.ipc.open_stream(sink.getvalue())
    return reader.read_all() if kind.__name__ == "Table" else reader.read_next_batch()


def loads(value: Value) -> Any:
    """Rebuild the value (a fresh object each time). Raises whatever the user's own reconstruction code raises."""
    data: Any = value.data
    if data == _NONE:
        return None
    buffers = value.buffers
    if not buffers:
        return pickle.loads(data)
    if data == _STREAM_IN_FRAME:
        data = buffers[0].data
        buffers = buffers[1:]
    return rebuilt(data, [memoryview(b.data).toreadonly() for b in buffers])


def rebuilt(stream: bytes | memoryview, buffers: list[memoryview]) -> Any:
    """Rebuild a value from its stream and its read-only buffers, which it may keep."""
    if len(stream) == 1:
        return buffers[0] if bytes(stream) == _VIEW else bytes(buffers[0])
    return pickle.loads(stream, buffers=buffers)


class Slot:
    """Stands in a pickled argument list for a ref that the worker finds resolved in ``TaskCall.dependencies``."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[type[Slot], tuple[int]]:
        return Slot, (self.index,)
