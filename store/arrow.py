"""Arrow tables and record batches as Arrow IPC streams in an object, read back without a copy.

Against the pickle of a table this form is readable by any Arrow implementation, and a slice takes only its own bytes.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import ipc

from actorrt.store.errors import ObjectDamaged

Table = Any
"""pyarrow.Table or pyarrow.RecordBatch (pyarrow publishes no types)."""


def _stream(sink: Any, value: Table) -> None:
    with ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)


def plan(value: Table) -> int:
    """How large the object must be; writes nothing."""
    sink = pa.MockOutputStream()
    _stream(sink, value)
    return int(sink.size())


def write(view: memoryview, value: Table) -> None:
    """One copy, without the GIL, with several threads for large buffers."""
    sink = pa.FixedSizeBufferWriter(pa.py_buffer(view))
    sink.set_memcopy_threads(4)
    _stream(sink, value)
    sink.close()


def read(view: memoryview) -> Table:
    """A Table whose buffers lie in ``view``, and keep it."""
    try:
        with ipc.open_stream(pa.py_buffer(view)) as reader:
            return reader.read_all()
    except pa.ArrowException as error:
        raise ObjectDamaged(f"this is no Arrow stream: {error}") from error


def read_batch(view: memoryview) -> Table:
    """The only RecordBatch of a stream."""
    try:
        with ipc.open_stream(pa.py_buffer(view)) as reader:
            return reader.read_next_batch()
    except (pa.ArrowException, StopIteration) as error:
        raise ObjectDamaged(f"this is no Arrow stream of a batch: {error}") from error
