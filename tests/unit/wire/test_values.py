import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.kernel.limits import BUFFER_OUT_OF_BAND_BYTES_MIN, INLINE_VALUE_BYTES_MAX
from actorrt.wire import reducers, values
from actorrt.wire.records import Buffer, RefInfo, Stored, Value

LARGE = BUFFER_OUT_OF_BAND_BYTES_MIN
REF = RefInfo(b"o" * 20, "owner")


class Referrer:
    """Pickles like an ObjectRef."""

    def __init__(self, info=REF, fails=False):
        self.info = info
        self.fails = fails

    def __reduce__(self):
        values.note_ref(self.info)
        if self.fails:
            raise pickle.PicklingError("only cloudpickle can")
        return Referrer, (self.info,)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    )
)
def test_plain_values_come_back(value):
    assert values.loads(values.dumps(value)) == value


def test_none_is_one_byte():
    assert values.dumps(None) == values.NONE_VALUE
    assert values.NONE_VALUE.size_bytes() == 1


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1])
def test_large_buffers_travel_beside_the_stream_uncopied_and_come_back_read_only(size):
    array = np.arange(size, dtype=np.uint8)
    value = values.dumps([array, array])
    assert len(value.buffers) == (1 if size >= LARGE else 0) + (1 if len(value.data) == 1 else 0)
    first, second = values.loads(value)
    assert (first == array).all()
    if size >= LARGE:
        assert not first.flags.writeable
        assert first.base is not None
        assert np.shares_memory(first, second)


def test_a_snapshot_is_taken():
    array = np.zeros(LARGE, dtype=np.uint8)
    value = values.dumps(array)
    array[:] = 7
    assert not values.loads(value).any()


def test_a_large_stream_travels_as_a_buffer_too():
    text = "x" * (LARGE + 1)
    value = values.dumps(text)
    assert len(value.data) == 1
    assert value.size_bytes() > LARGE
    assert values.loads(value) == text


def test_what_the_c_pickler_refuses_goes_by_value():
    offset = 3
    assert values.loads(values.dumps(lambda x: x + offset))(4) == 7

    class Local:
        pass

    assert type(values.loads(values.dumps(Local()))).__name__ == "Local"


def test_what_nobody_can_pickle_raises():
    with pytest.raises(TypeError):
        values.dumps(x for x in ())


def test_classes_of_the_users_script_go_by_value():
    """Another process has another ``__main__``."""
    script = """
        import subprocess, sys
        from actorrt.wire import values
        class Point:
            x = 5
        reader = "import sys, pickle; print(pickle.loads(sys.stdin.buffer.read()).x)"
        data = values.dumps(Point()).data
        done = subprocess.run([sys.executable, "-c", reader], input=data, capture_output=True, check=True)
        print(done.stdout.decode())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.split() == ["5"]


def test_refs_report_themselves_once_also_when_cloudpickle_has_to_help():
    assert values.dumps([Referrer(), Referrer()]).refs == (REF, REF)
    assert values.dumps([Referrer(), lambda: None]).refs == (REF,)


def test_refs_of_an_inner_value_are_not_those_of_the_outer_one():
    class Nests:
        def __reduce__(self):
            self.inner = values.dumps(Referrer())
            return (object, ())

    nests = Nests()
    assert values.dumps([nests, 1]).refs == ()
    assert nests.inner.refs == (REF,)


def test_nobody_collects_outside_and_after_a_failure():
    assert not values.note_ref(REF)
    with pytest.raises(Exception, match="only cloudpickle"):
        values.dumps(Referrer(fails=True))
    assert not values.note_ref(REF)


def test_slots_keep_their_index():
    slot = values.loads(values.dumps(values.Slot(4)))
    assert type(slot) is values.Slot
    assert slot.index == 4


def test_memoryviews_of_the_wire_are_enough():
    value = values.dumps(np.arange(LARGE))
    received = Value(value.data, tuple(Buffer(memoryview(bytes(b.data))) for b in value.buffers))
    assert (values.loads(received) == np.arange(LARGE)).all()


def keep_all(kept):
    def keep(pickled, whose):
        kept.append((pickled, whose))
        return Stored(b"key", pickled.size_bytes(), "owner", ("node",), pickled.refs)

    return keep


def test_only_large_values_are_kept_and_their_buffers_are_the_users_memory():
    kept = []
    keep = keep_all(kept)
    small = np.zeros(INLINE_VALUE_BYTES_MAX - 1000, np.uint8)
    large = np.zeros(INLINE_VALUE_BYTES_MAX + 1, np.uint8)
    assert isinstance(values.dumps(small, keep, (b"t", 0, "o")), Value)
    assert isinstance(values.dumps(None, keep, (b"t", 0, "o")), Value)
    assert isinstance(values.dumps("x" * 1000, keep, (b"t", 0, "o")), Value)
    assert kept == []
    stored = values.dumps([large, Referrer()], keep, (b"t", 3, "o"))
    assert isinstance(stored, Stored)
    assert stored.refs == (REF,)
    ((pickled, whose),) = kept
    assert whose == (b"t", 3, "o")
    assert np.shares_memory(np.frombuffer(pickled.buffers[0], np.uint8), large)
    back = values.rebuilt(pickled.data, pickled.buffers)
    assert np.shares_memory(back[0], large)


def test_without_a_store_within_reach_a_snapshot_travels():
    large = np.zeros(INLINE_VALUE_BYTES_MAX + 1, np.uint8)
    value = values.dumps(large, lambda _pickled, _whose: None, (b"t", 0, "o"))
    large[:] = 1
    assert not values.loads(value).any()
    assert not np.shares_memory(values.loads(values.inline(large)), large)


def test_large_bytes_are_not_copied_on_their_way():
    data = bytes(range(256)) * 1000
    value = values.dumps(data)
    assert value.buffers[0].data.obj is data
    assert values.loads(value) == data
    assert type(values.loads(value)) is bytes


def test_a_memoryview_comes_back_as_a_read_only_one():
    source = bytearray(b"abc")
    for value in (values.dumps(memoryview(source)), values.dumps(memoryview(np.arange(100_000)))):
        back = values.loads(value)
        assert isinstance(back, memoryview)
        assert back.readonly
    value = values.dumps(memoryview(source))
    source[0] = 0
    assert values.loads(value) == b"abc"


def test_a_slice_of_an_arrow_table_leaves_the_rest_behind():
    table = pa.table({"a": np.arange(100_000), "b": [str(i) for i in range(100_000)]})
    whole, part = values.dumps(table), values.dumps(table.slice(10, 5))
    assert whole.size_bytes() > table.nbytes
    assert part.size_bytes() < 5_000
    assert values.loads(whole).equals(table)
    assert values.loads(part).equals(table.slice(10, 5))
    batch = table.to_batches()[0].slice(3, 4)
    assert values.dumps(batch).size_bytes() < 5_000
    assert values.loads(values.dumps(batch)).equals(batch)


ARRAYS = [
    np.arange(50_000),
    np.arange(20_000, dtype=np.float32).reshape(100, 200),
    np.ones((3, 4, 5000), bool),
    np.zeros(9000, np.complex64),
    np.arange(20_000, dtype=">i8"),
    np.asfortranarray(np.arange(20_000).reshape(100, 200)),
    np.arange(40_000)[::2],
    np.array(["2024-01-01"] * 20_000, "M8[D]"),
    np.array(["abc"] * 20_000),
    np.array([1, "a", None] * 3000, object),
    np.zeros(5000, dtype=[("a", "i4"), ("b", "f8")]),
    np.arange(100_000).view(type("Sub", (np.ndarray,), {})),
    np.zeros((0, 5)),
    np.zeros(100),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str} {a.shape}")
@pytest.mark.parametrize("writeable", [True, False])
def test_arrays_of_all_kinds_come_back_also_by_the_short_way(array, writeable):
    array = array.copy(order="K")
    for turn in range(3):  # the first makes the stream that the others use
        if array.size and array.dtype.kind in "biufc":
            array.flags.writeable = True
            array.flat[turn] = turn
        array.flags.writeable = writeable
        back = values.loads(values.dumps(array))
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert np.array_equal(back, array)
        assert back.flags.f_contiguous == array.flags.f_contiguous
        assert type(values.loads(values.dumps([array]))[0]).__name__ == type(back).__name__


def test_streams_of_arrays_are_bounded():
    for number in range(values.STREAMS_KEPT_MAX + 10):
        values.dumps(np.zeros(values.ARRAY_BYTES_MIN + number, np.uint8))
    assert len(values._streams) <= values.STREAMS_KEPT_MAX


def test_a_registered_serializer_for_arrays_is_heard():
    reducers.register(np.ndarray, lambda array: (list, ([array.size],)))
    try:
        assert values.loads(values.dumps(np.zeros(50_000))) == [50_000]
    finally:
        reducers.deregister(np.ndarray)
