import msgspec
import pytest

from actorrt.wire import records
from actorrt.wire.records import Buffer, Failure, Result, TaskCall, TaskOutcome, Value


def structs():
    return [
        value
        for value in vars(records).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == records.__name__
    ]


@pytest.mark.parametrize("cls", structs(), ids=lambda c: c.__name__)
def test_records_are_frozen_arrays(cls):
    assert cls.__struct_config__.frozen
    assert cls.__struct_config__.array_like  # fields may be appended, never removed


def test_buffers_compare_by_content_whatever_holds_it():
    data = b"x" * 10
    assert Buffer(data) == Buffer(bytearray(data)) == Buffer(memoryview(data))
    assert Buffer(data) != Buffer(b"y" * 10)
    assert Buffer(data) != data
    assert hash(Buffer(data)) == hash(Buffer(memoryview(data)))
    assert len(Buffer(memoryview(b"\0" * 16).cast("q"))) == 16  # bytes, not items
    assert repr(Buffer(data)) == "Buffer(10 bytes)"


def test_size_counts_stream_and_buffers():
    assert Value(b"abc", (Buffer(b"12345"),)).size_bytes() == 8


def test_values_and_failures_are_told_apart():
    decode = msgspec.msgpack.Decoder(Result).decode
    for result in (Value(b"v"), Failure("TaskError", "x", Value(b"c"))):
        assert decode(msgspec.msgpack.encode(result)) == result


def test_outcomes_and_calls_survive_the_wire():
    outcome = TaskOutcome(b"t", (Value(b"v"), Failure("X", "y")), 0.5, retry_wanted=True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=TaskOutcome) == outcome
    call = TaskCall(b"t", 3, b"args", attempt=2)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(call), type=TaskCall) == call


def test_an_older_peer_leaves_out_what_it_does_not_know():
    shortened = msgspec.msgpack.encode((b"t", 3, b"args"))
    assert msgspec.msgpack.decode(shortened, type=TaskCall) == TaskCall(b"t", 3, b"args")
