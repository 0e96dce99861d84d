"""User values to bytes and back.

A value is one pickle stream (protocol 5). The C pickler goes first; cloudpickle follows when that refuses, or when the
stream names ``__main__`` (a class of the user's script pickled by reference would not be found in another process).
Buffers from 64 KiB travel beside the stream, uncopied from then on, and come back read-only. ``None`` is one byte.

Refs and actor handles met while pickling report themselves through ``note_ref``; outside ``dumps`` (a user pickling a
ref on their own) nobody collects them, and the object then stays alive as long as its owner (see docs/semantics.md).
"""

from __future__ import annotations

import pickle
import threading
from typing import Any

from actorrt.kernel.limits import BUFFER_OUT_OF_BAND_BYTES_MIN
from actorrt.wire.records import Buffer, RefInfo, Value

_NONE = b"N"
_STREAM_IN_FRAME = b"F"
NONE_VALUE = Value(_NONE)


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


def _keep_large(buffers: list[Buffer]) -> Any:
    def callback(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < BUFFER_OUT_OF_BAND_BYTES_MIN:
            return True
        buffers.append(Buffer(bytes(raw)))  # a snapshot: the user may change the array right after
        return False

    return callback


def pickle_any(value: Any, buffers: list[Buffer]) -> bytes:
    """Pickle with the C pickler, or by value with cloudpickle where that is needed. Large buffers go to ``buffers``."""
    callback = _keep_large(buffers)
    try:
        data = pickle.dumps(value, 5, buffer_callback=callback)
    except (pickle.PicklingError, AttributeError, TypeError):
        # Lambdas, local classes, modules...: cloudpickle knows more. What neither can pickle raises from there.
        pass
    else:
        if b"__main__" not in data:
            return data
    buffers.clear()
    if _collector.refs is not None:
        _collector.refs.clear()
    import cloudpickle

    return cloudpickle.dumps(value, 5, buffer_callback=callback)  # type: ignore[no-any-return]


def dumps(value: Any) -> Value:
    """Serialise one value. Raises what pickling raises (TypeError for things that cannot travel)."""
    if value is None:
        return NONE_VALUE
    return Value(*collecting(value))


def collecting(value: Any) -> tuple[bytes, tuple[Buffer, ...], tuple[RefInfo, ...]]:
    """Serialise for a message of its own making: (pickle stream, buffers, refs inside)."""
    buffers: list[Buffer] = []
    outer = _collector.refs
    refs: list[RefInfo] = []
    _collector.refs = refs
    try:
        data = pickle_any(value, buffers)
    finally:
        _collector.refs = outer
    if len(data) >= BUFFER_OUT_OF_BAND_BYTES_MIN:
        return _STREAM_IN_FRAME, (Buffer(data), *buffers), tuple(refs)
    return data, tuple(buffers), tuple(refs)


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
    return pickle.loads(data, buffers=[memoryview(b.data).toreadonly() for b in buffers])


class Slot:
    """Stands in a pickled argument list for a ref that the worker finds resolved in ``TaskCall.dependencies``."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[type[Slot], tuple[int]]:
        return Slot, (self.index,)
