import threading
import types

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.kernel.message import Done, Message
from actorrt.wire.codec import BadMessage, Codec, _envelope_type
from actorrt.wire.records import Buffer, Value


class Small(Message):
    number: int
    text: str = ""


class Large(Message):
    values: tuple[Value, ...]
    extra: Buffer | None = None


UNION = Done | Small | Large
codec = Codec(UNION)


def test_round_trip():
    frames = codec.encode("owner", "raylet", Small(7, "é"), request_id=3, reply_to=4)
    assert len(frames) == 1
    wire = codec.decode(frames)
    assert (wire.dst, wire.src, wire.request_id, wire.reply_to, wire.body) == ("owner", "raylet", 3, 4, Small(7, "é"))


def test_buffers_travel_beside_and_are_not_copied():
    blocks = [bytearray(b"a" * 10), b"b", memoryview(b"ccc"), b""]
    body = Large((Value(b"p", (Buffer(blocks[0]), Buffer(blocks[1]))), Value(b"q", (Buffer(blocks[2]),))), Buffer(b""))
    frames = codec.encode("owner", "worker", body)
    assert len(frames) == 5
    assert all(sent is block for sent, block in zip(frames[1:], blocks[:3], strict=False))
    decoded = codec.decode(frames).body
    assert decoded == body
    assert decoded.values[0].buffers[0].data is blocks[0]


def test_what_cannot_travel():
    with pytest.raises(TypeError, match="SimpleNamespace cannot travel"):
        codec.encode("a", "b", Small(types.SimpleNamespace()))
    with pytest.raises(TypeError, match="cannot travel"):
        codec.encode("a", "b", Large((Value(b"p", (Buffer(b"x"),)),), types.SimpleNamespace()))
    # What the failed attempt left is gone.
    assert len(codec.encode("a", "b", Small(1))) == 1
    assert codec._outgoing == {}


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"\xc1"],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Unknown"]])],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Small", "no number"]])],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Large", [], 1]])],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Large", [], 2]]), b"x"],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Large", [], 0]]), b"x"],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Large", [], -1]]), b"x"],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Large", [], True]]), b"x"],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Large", [], "x"]]), b"x"],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Small", 1, b"\xff"]])],
        [msgspec.msgpack.encode(["a", "b", 0, 0, ["Small", 1, "text"]]).replace(b"text", b"\xff\xff\xff\xff")],
        [b"\x91" * 100_000],
    ],
)
def test_bad_messages(frames):
    with pytest.raises(BadMessage):
        codec.decode(frames)
    assert codec._incoming == {}


@given(st.lists(st.binary(max_size=100), max_size=3))
def test_random_bytes_are_bad_messages_or_messages(frames):
    try:
        codec.decode(frames)
    except BadMessage:
        return


@given(st.integers(0, 10_000), st.integers(0, 7), st.booleans())
def test_damaged_messages_are_bad_messages_or_messages(index, bit, cut):
    frames = codec.encode("owner", "raylet", Large((Value(b"p" * 20, (Buffer(b"x"),)),)))
    head = bytearray(frames[0])
    if cut:
        del head[index % len(head) :]
    else:
        head[index % len(head)] ^= 1 << bit
    try:
        wire = codec.decode([bytes(head), *frames[1:]])
    except BadMessage:
        return
    assert type(wire.body) in {Done, Small, Large}


def test_threads_do_not_mix_their_buffers():
    failures = []
    start = threading.Barrier(4)

    def work(index):
        start.wait(10)
        mine = Large(tuple(Value(b"p", (Buffer(bytes([index]) * n),)) for n in range(1, 5)))
        for _ in range(300):
            frames = codec.encode("a", "b", mine)
            if len(frames) != 5 or codec.decode(frames).body != mine:
                failures.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert failures == []
    assert codec._outgoing == codec._incoming == {}


def test_codecs_of_one_union_share_its_type():
    assert _envelope_type(UNION) is _envelope_type(UNION)
