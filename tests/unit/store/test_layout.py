import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.store import layout
from actorrt.store.errors import StaleLocation, StoreError
from actorrt.store.layout import ExtentHeader, Mark


@given(st.integers(0, 1 << 40))
def test_extents_are_whole_lines_with_room_for_header_and_payload(size_bytes):
    length = layout.extent_bytes(size_bytes)
    assert length % layout.LINE_BYTES == 0
    assert 0 <= length - layout.EXTENT_HEADER_BYTES - size_bytes < layout.LINE_BYTES


def test_names():
    assert layout.parse_segment_name(layout.segment_name("session-node", 300)) == ("session-node", 300)
    assert layout.parse_segment_name("session-node-012c.spill") is None
    assert layout.parse_segment_name("012c") is None
    with pytest.raises(ValueError, match="segment number"):
        layout.segment_name("x", layout.SEGMENTS_MAX)


@pytest.fixture
def segment():
    view = memoryview(bytearray(3 * 4096))
    layout.write_segment_header(view, 7)
    return view


def test_segment_header(segment):
    layout.check_segment_header(segment, 7)
    assert (
        bytes(segment[:32]).hex() == "6163746f72727453" + "0100" + "0000" + "07000000" + "0030000000000000" + "00" * 8
    )
    for broken, text in ((segment[:100], "only 100"), (segment[:8192], "calls itself"), (segment, "calls itself")):
        with pytest.raises(StoreError, match=text):
            layout.check_segment_header(broken, 8)
    segment[8] = 99
    with pytest.raises(StoreError, match="format 99"):
        layout.check_segment_header(segment, 7)
    segment[0] = 0
    with pytest.raises(StoreError, match="is not a segment"):
        layout.check_segment_header(segment, 7)


def test_extent_header(segment):
    header = ExtentHeader(Mark.CREATED, 5, 100, layout.key_crc(b"key"))
    layout.write_extent_header(segment, 4096 + 64, header)
    assert layout.read_extent_header(segment, 4096 + 64) == header
    with pytest.raises(StaleLocation, match="created"):
        layout.check_sealed(segment, 4096 + 64, 100, 5)
    layout.set_mark(segment, 4096 + 64, Mark.SEALED)
    layout.check_sealed(segment, 4096 + 64, 100, 5)
    for size_bytes, number in ((101, 5), (100, 6)):
        with pytest.raises(StaleLocation):
            layout.check_sealed(segment, 4096 + 64, size_bytes, number)
    layout.set_mark(segment, 4096 + 64, Mark.FREED)
    with pytest.raises(StaleLocation, match="freed"):
        layout.check_sealed(segment, 4096 + 64, 100, 5)


@pytest.mark.parametrize("offset", [0, 64, 4096, 4096 + 100, 3 * 4096 + 64, 8192])
def test_no_extent_where_none_can_be(segment, offset):
    with pytest.raises(StaleLocation):
        layout.read_extent_header(segment, offset)


def test_unknown_mark(segment):
    layout.write_extent_header(segment, 8192, ExtentHeader(Mark.SEALED, 5, 100, 0))
    segment[8192 - 64 + 4] = 77
    with pytest.raises(StaleLocation, match="unknown mark 77"):
        layout.read_extent_header(segment, 8192)
