import pytest

from actorrt.sim import values
from actorrt.sim.values import Actor, Ref
from actorrt.wire.records import RefInfo
from actorrt.wire.values import NONE_VALUE

REF = Ref(b"o" * 20, "somewhere")
ACTOR = Actor(b"a" * 16, "Counter", "elsewhere", 2)


@pytest.mark.parametrize("value", [None, 0, 78, True, "text", b"bytes", [1, [2]], {"a": [1.5, None]}])
def test_values_come_back(value):
    assert values.loads(values.dumps(value)) == (value, [])


def test_no_value_looks_like_none():
    """78 alone would be the byte that stands for None."""
    assert values.dumps(78).data != NONE_VALUE.data
    assert values.dumps(None) == NONE_VALUE


def test_refs_and_handles_are_listed_as_often_as_they_occur():
    value = values.dumps({"refs": [REF, REF], "actor": ACTOR})
    assert value.refs == (
        RefInfo(REF.object_id, "somewhere"),
        RefInfo(REF.object_id, "somewhere"),
        RefInfo(ACTOR.actor_id + b"\xff" * 4, "elsewhere"),
    )
    assert values.loads(value) == ({"refs": [REF, REF], "actor": ACTOR}, [REF, REF, ACTOR])


def test_top_level_refs_become_slots_and_nested_ones_stay():
    data, slots, refs = values.pack((1, REF, [REF], ACTOR))
    assert slots == (values.info_of(REF),)
    assert refs == (values.info_of(REF), values.info_of(ACTOR))
    assert values.unpack(data, ["value"]) == ([1, "value", [REF], ACTOR], [REF, ACTOR])


def test_no_arguments_are_no_bytes():
    assert values.pack(()) == (b"", (), ())
    assert values.unpack(b"", []) == ([], [])
