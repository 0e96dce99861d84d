import msgspec
import pytest

from actorrt.kernel.message import (
    LANE_CONTROL,
    LANE_NORMAL,
    LANE_SUPERVISION,
    NOWHERE,
    Address,
    Done,
    Envelope,
    Message,
    PeerGone,
    RequestFailed,
)


def test_messages_are_tagged_arrays():
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(RequestFailed("InternalError", "x"))) == [
        "RequestFailed",
        "InternalError",
        "x",
    ]
    decode = msgspec.msgpack.Decoder(Done | RequestFailed).decode
    assert decode(msgspec.msgpack.encode(Done())) == Done()


def test_fields_may_be_appended():
    class Older(Message, tag="M"):
        a: int

    class Newer(Message, tag="M"):
        a: int
        b: str = "default"

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Older(1)), type=Newer) == Newer(1)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Newer(1, "x")), type=Older) == Older(1)


def test_everything_is_frozen_and_printable():
    address = Address("unix:///x", "owner")
    assert str(address) == "owner@unix:///x"
    assert hash(address) == hash(Address("unix:///x", "owner"))
    envelope = Envelope(address, PeerGone("p", "died"))
    for value, field in ((address, "actor"), (envelope, "request_id"), (envelope.body, "reason")):
        with pytest.raises(AttributeError):
            setattr(value, field, "x")
    assert envelope.request_id == 0
    assert Address("", "") == NOWHERE


def test_lanes():
    assert LANE_CONTROL < LANE_SUPERVISION < LANE_NORMAL
    assert Done.LANE == LANE_NORMAL
    assert PeerGone.LANE == LANE_SUPERVISION
