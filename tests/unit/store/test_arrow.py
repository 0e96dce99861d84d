import pyarrow as pa
import pytest

from actorrt.store import arrow
from actorrt.store.errors import ObjectDamaged

TABLE = pa.table({"number": list(range(1000)), "text": [str(n) for n in range(1000)], "gap": [None, 1.5] * 500})


def stored(value):
    memory = bytearray(arrow.plan(value))
    arrow.write(memoryview(memory), value)
    return memory


def inside(buffer, memory):
    start = pa.py_buffer(memory).address
    return start <= buffer.address and buffer.address + buffer.size <= start + len(memory)


def test_a_table_comes_back_without_a_copy():
    memory = stored(TABLE)
    back = arrow.read(memoryview(memory).toreadonly())
    assert back.equals(TABLE)
    buffers = [part for column in back.columns for chunk in column.chunks for part in chunk.buffers() if part]
    assert len(buffers) >= 4
    assert all(inside(part, memory) and not part.is_mutable for part in buffers)


def test_a_slice_takes_only_its_own_bytes():
    assert len(stored(TABLE.slice(10, 5))) < len(stored(TABLE)) / 10
    assert arrow.read(memoryview(stored(TABLE.slice(10, 5)))).equals(TABLE.slice(10, 5))


def test_a_batch_and_an_empty_table():
    batch = TABLE.to_batches()[0]
    assert arrow.read_batch(memoryview(stored(batch))).equals(batch)
    assert arrow.read(memoryview(stored(TABLE.slice(0, 0)))).num_rows == 0


def test_damage_is_noticed():
    for broken in (b"", b"no arrow at all, certainly", bytes(stored(TABLE)[:300])):
        with pytest.raises(ObjectDamaged):
            arrow.read(memoryview(broken))
    with pytest.raises(ObjectDamaged):
        arrow.read_batch(memoryview(b"no arrow at all, certainly"))
