import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.store import values
from actorrt.store.errors import ObjectDamaged


def stored(stream, buffers, kind=0):
    planned = values.plan(stream, buffers)
    memory = bytearray(planned.size_bytes)
    values.write(memoryview(memory), planned, kind)
    return memory


@given(st.binary(max_size=300), st.lists(st.binary(max_size=200), max_size=8), st.integers(0, 255))
def test_round_trip(stream, buffers, kind):
    value = values.read(memoryview(stored(stream, buffers, kind)).toreadonly())
    assert (value.kind, bytes(value.stream), [bytes(part) for part in value.buffers]) == (kind, stream, buffers)
    assert value.stream.readonly and all(part.readonly for part in value.buffers)


def test_nothing_is_copied_on_reading():
    memory = stored(b"s", [b"abc", b"defg"])
    value = values.read(memoryview(memory))
    memory[memory.index(b"defg")] = ord("D")
    assert bytes(value.buffers[1]) == b"Defg"


def test_buffers_begin_on_lines():
    planned = values.plan(b"stream", [b"1", b"2" * 65, b""])
    assert planned.offsets[0] % 64 == planned.offsets[1] % 64 == 0
    assert planned.size_bytes < 6 * 64


def test_arrays_of_any_order_through_pickle():
    rng = np.random.default_rng(1)
    given = {"c": rng.random((30, 40)), "fortran": np.asfortranarray(rng.random((7, 9))), "empty": np.empty((0, 3))}
    buffers = []
    stream = pickle.dumps(given, 5, buffer_callback=buffers.append)
    value = values.read(memoryview(stored(stream, buffers)).toreadonly())
    back = pickle.loads(value.stream, buffers=value.buffers)
    for name, array in given.items():
        np.testing.assert_array_equal(back[name], array)
        assert not back[name].flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        back["c"][0, 0] = 1


def test_what_has_no_plain_bytes_is_refused():
    with pytest.raises(BufferError):
        values.plan(b"", [memoryview(bytes(10))[::2]])
    with pytest.raises(TypeError):
        values.plan(b"", ["text"])
    with pytest.raises(ValueError, match="planned were"):
        values.write(memoryview(bytearray(5)), values.plan(b"stream"))


def test_damage_is_noticed():
    memory = stored(b"stream", [b"buffer"])
    for broken in (memory[:10], b"x" + memory[1:], memory[:30], memory[:-1]):
        with pytest.raises(ObjectDamaged):
            values.read(memoryview(bytes(broken)))


def test_memoryviews_are_taken_as_they_are():
    """Whatever exports a memoryview must not die in a cycle with it (CPython 3.11 crashes); nothing of ours does."""
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    plain = memoryview(b"abc")
    assert values.plan(b"", [plain]).buffers[0] is plain
    (shaped,) = values.plan(b"", [memoryview(array)]).buffers
    assert (shaped.format, shaped.nbytes) == ("B", 48)
    (empty,) = values.plan(b"", [memoryview(np.zeros((0, 3)))]).buffers
    assert empty.nbytes == 0
    (columns,) = values.plan(b"", [memoryview(np.asfortranarray(array))]).buffers
    assert columns.nbytes == 48
