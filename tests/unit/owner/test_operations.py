import typing

import pytest

from actorrt.owner import operations
from actorrt.owner.messages import LogLines, Published
from actorrt.owner.tasks import Waiter

EXAMPLES = [
    operations.Wake(Waiter((), 0, None)),
    operations.PrintLines(LogLines("n", 1, "h", False, ())),
    operations.Deliver(Published("c", b"d")),
    operations.LosePeer("p", "killed"),
]


def test_the_union_is_closed():
    assert {type(example) for example in EXAMPLES} == set(typing.get_args(operations.Operation))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_operations_are_values(example):
    with pytest.raises(AttributeError):
        setattr(example, example.__struct_fields__[0], None)
