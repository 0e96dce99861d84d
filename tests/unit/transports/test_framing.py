import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.transports.errors import PeerGone, TooLarge
from actorrt.transports.framing import LARGE_BYTES_MIN, Outbox, Parser, flat, pack

LIMITS = {"bytes_max": 1 << 20, "frames_max": 100}
messages_strategy = st.lists(
    st.lists(st.binary(max_size=40) | st.integers(0, 90_000).map(bytes), min_size=1, max_size=5), max_size=12
)


def wire(messages):
    return b"".join(b"".join(pack(message, **LIMITS)[0]) for message in messages)


def copied(messages):
    return [[bytes(frame) for frame in message] for message in messages]


def read_like_a_socket(parser, stream, cuts, *, directly):
    """Feed the stream in pieces, through one reused buffer or straight into the vacant place, as ``unix`` does."""
    received = []
    buffer = bytearray(1 << 20)
    position = 0
    for cut in [*sorted(cuts), len(stream)]:
        while position < cut:
            vacant = parser.vacant() if directly else None
            if vacant is None:
                count = cut - position
                buffer[:count] = stream[position:cut]
                batch = []
                parser.feed(memoryview(buffer)[:count], batch)
                received.extend(batch)
                buffer[:count] = b"\xff" * count  # whoever kept a view of it would notice
            else:
                count = min(cut - position, len(vacant))
                vacant[:count] = stream[position : position + count]
                parser.filled(count, received)
            position += count
    return copied(received)


@given(messages=messages_strategy, data=st.data(), directly=st.booleans())
def test_round_trip_however_the_stream_is_cut(messages, data, directly):
    stream = wire(messages)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert read_like_a_socket(Parser(**LIMITS), stream, cuts, directly=directly) == messages


@given(junk=st.binary(max_size=200), data=st.data())
def test_random_bytes_never_crash_and_never_take_more_than_the_limit(junk, data):
    parser = Parser(bytes_max=1000, frames_max=10)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(junk)), max_size=5)))
    try:
        for start, end in zip([0, *cuts], [*cuts, len(junk)], strict=True):
            batch = []
            parser.feed(junk[start:end], batch)
            assert sum(len(frame) for message in batch for frame in message) <= len(junk)
            vacant = parser.vacant()
            assert vacant is None or len(vacant) <= 1000 + 8 * 10
    except (TooLarge, PeerGone):
        return


@given(
    body_bytes=st.integers(0, 2**64 - 1) | st.integers(0, 4 * LARGE_BYTES_MIN),
    count=st.integers(0, 2**32 - 1) | st.integers(0, 12),
    rest=st.binary(max_size=100),
)
def test_headers_are_judged_before_memory_is_taken(body_bytes, count, rest):
    parser = Parser(bytes_max=2 * LARGE_BYTES_MIN, frames_max=10)
    batch = []
    try:
        parser.feed(struct.pack("<QI", body_bytes, count) + rest, batch)
    except TooLarge:
        assert body_bytes > 2 * LARGE_BYTES_MIN or count > 10
    except PeerGone:
        assert count == 0 or count > 1
    else:
        assert body_bytes <= 2 * LARGE_BYTES_MIN
        assert 1 <= count <= 10
        assert parser.vacant() is None or parser.vacant().nbytes <= 2 * LARGE_BYTES_MIN + 80


@given(lengths=st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=5), body=st.binary(max_size=50))
def test_lying_length_tables_are_refused(lengths, body):
    parser = Parser(**LIMITS)
    stream = struct.pack(f"<QI{len(lengths)}Q", len(body), len(lengths), *lengths) + body
    if sum(lengths) == len(body):
        return
    with pytest.raises(PeerGone):
        parser.feed(stream, [])


def test_large_messages_are_views_of_one_buffer_and_small_ones_are_bytes():
    large = [bytes(100_000), b"x"]
    stream = wire([[b"small", b""], large])
    parser = Parser(**LIMITS)
    received = []
    parser.feed(stream[:5000], received)
    vacant = parser.vacant()
    assert vacant is not None
    vacant[:] = stream[5000:]
    parser.filled(len(vacant), received)
    assert [type(frame) for frame in received[0]] == [bytes, bytes]
    assert [type(frame) for frame in received[1]] == [memoryview, memoryview]
    assert received[1][0].obj is received[1][1].obj
    assert copied(received) == [[b"small", b""], large]


def test_a_message_over_the_limit_waits_for_the_judgement_of_those_before():
    stream = wire([[b"hello"], [bytes(2000)], [b"after"]])
    for raised in (True, False):
        parser = Parser(bytes_max=100, frames_max=10)
        received = []
        parser.feed(stream, received)
        assert received == [[b"hello"]]
        assert parser.held
        received = []
        if raised:
            parser.bytes_max = 5000
            parser.feed(b"", received)
            assert copied(received) == [[bytes(2000)], [b"after"]]
            assert not parser.held
        else:
            with pytest.raises(TooLarge):
                parser.feed(b"", received)


def test_limits_on_sending():
    with pytest.raises(TooLarge, match="1048577 bytes"):
        pack([bytes((1 << 20) + 1)], **LIMITS)
    with pytest.raises(TooLarge, match="1048578 bytes"):
        pack([bytes(1 << 20), b"ab"], **LIMITS)
    with pytest.raises(TooLarge, match="101 frames"):
        pack([b""] * 101, **LIMITS)
    with pytest.raises(AssertionError):
        pack([], **LIMITS)


def test_views_of_larger_items_count_in_bytes():
    doubles = memoryview(bytearray(range(16))).cast("d")
    matrix = memoryview(bytes(range(12))).cast("B", (3, 4))
    assert bytes(flat(doubles)) == bytes(range(16))
    assert len(flat(matrix)) == 12
    assert len(flat(memoryview(b"").cast("d"))) == 0
    buffers, size_bytes = pack([doubles, matrix], **LIMITS)
    assert size_bytes == sum(map(len, buffers)) == 12 + 16 + 28


def test_large_frames_are_not_copied_and_small_neighbours_are_joined():
    large = bytes(300_000)
    buffers, size_bytes = pack([b"a", b"b", large, b"c", b"d"], **LIMITS)
    assert [len(buffer) for buffer in buffers] == [12 + 40 + 2, 300_000, 2]
    assert buffers[1] is large
    assert size_bytes == 300_056


@given(
    messages=messages_strategy,
    writes=st.lists(st.tuples(st.integers(1, 200_000), st.integers(1, 9), st.floats(0, 1)), max_size=40),
)
def test_outbox_gives_out_the_stream_once_and_in_order(messages, writes):
    outbox = Outbox()
    for message in messages:
        outbox.push(*pack(message, **LIMITS))
    stream = wire(messages)
    written = b""
    for bytes_max, buffers_max, share in [*writes, *[(1 << 20, 512, 1.0)] * 20]:
        buffers, size_bytes = outbox.peek(bytes_max, buffers_max)
        assert sum(map(len, buffers)) == size_bytes <= bytes_max
        assert len(buffers) <= buffers_max
        count = int(size_bytes * share)
        written += b"".join(buffers)[:count]
        outbox.advance(count)
        assert outbox.pending_bytes == len(stream) - len(written)
        assert bool(outbox) == (len(outbox) > 0) == (written != stream)
    assert written == stream


def test_outbox_clear():
    outbox = Outbox()
    outbox.push([b"abc"], 3)
    outbox.advance(1)
    outbox.clear()
    assert not outbox
    assert (len(outbox), outbox.pending_bytes) == (0, 0)
    outbox.push([b"d"], 1)
    assert outbox.peek(10) == ([b"d"], 1)
