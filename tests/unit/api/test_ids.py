"""The public id classes."""

import copy
import pickle

import pytest

from actorrt.api import ids
from actorrt.api.ids import ActorID, JobID, NodeID, TaskID, UniqueID

CLASSES = [getattr(ids, name) for name in ids.__all__]


@pytest.mark.parametrize("kind", CLASSES)
def test_there_and_back(kind):
    one = kind.from_random()
    assert len(one.binary()) == kind.size()
    assert one.hex() == one.binary().hex()
    assert kind.from_hex(one.hex()) == kind.from_binary(one.binary()) == kind(one.binary()) == one
    assert one != kind.from_random()
    assert repr(one) == f"{kind.__name__}({one.hex()})"
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.deepcopy(one) == one
    assert {one: 1}[kind(one.binary())] == 1


@pytest.mark.parametrize("kind", CLASSES)
def test_nil(kind):
    assert kind.nil().is_nil()
    assert kind.nil() == kind.nil()
    assert not kind(bytes(kind.size())).is_nil()


def test_kinds_differ():
    binary = bytes(range(16))
    assert ActorID(binary) != TaskID(binary)
    assert ActorID(binary) != binary
    assert len({ActorID(binary), TaskID(binary), UniqueID(binary)}) == 3


@pytest.mark.parametrize("binary", [b"", bytes(15), bytes(17)])
def test_wrong_length(binary):
    with pytest.raises(ValueError, match="NodeID has 16 bytes"):
        NodeID(binary)


@pytest.mark.parametrize("text", ["", "xyz", "f" * 10, "g" * 32, "ab " * 16, "0" * 33])
def test_wrong_hex(text):
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        NodeID.from_hex(text)


def test_wrong_types():
    with pytest.raises(TypeError, match=r"use NodeID\.from_hex"):
        NodeID("ab" * 16)
    with pytest.raises(TypeError, match="takes a string"):
        NodeID.from_hex(bytes(16))


def test_immutable():
    one = NodeID.from_random()
    with pytest.raises(AttributeError, match="immutable"):
        one._binary = bytes(16)
    with pytest.raises(AttributeError, match="immutable"):
        one.other = 1
    with pytest.raises(AttributeError, match="immutable"):
        del one._binary


def test_job_numbers():
    assert JobID.from_int(258).binary() == b"\x00\x00\x01\x02"
    assert JobID.size() == 4
