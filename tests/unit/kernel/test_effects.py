import typing

import pytest

from actorrt.kernel import effects
from actorrt.kernel.message import Address, Done

PEER = Address("unix:///x", "owner")
EXAMPLES = [
    effects.Send(PEER, Done()),
    effects.Reply(PEER, 1, Done()),
    effects.Fail(PEER, 1, "InternalError", "x"),
    effects.SetTimer("key", 1.0, Done()),
    effects.CancelTimer("key"),
    effects.Do("operation"),
]


def test_the_union_is_closed():
    assert {type(example) for example in EXAMPLES} == set(typing.get_args(effects.Effect))


@pytest.mark.parametrize("example", EXAMPLES)
def test_effects_are_values(example):
    assert example == type(example)(*(getattr(example, field) for field in example.__struct_fields__))
    assert repr(example).startswith(type(example).__name__)
    with pytest.raises(AttributeError):
        setattr(example, example.__struct_fields__[0], None)
