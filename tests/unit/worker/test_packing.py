import pytest

from actorrt.wire import values
from actorrt.wire.records import Failure, TaskTemplate, Value
from actorrt.worker import packing


def template(**options):
    return TaskTemplate(1, b"k", "f", "f", b"job", **options)


def test_arguments_are_rebuilt_with_refs_in_their_places():
    packed = values.dumps((("a", values.Slot(1)), {"k": values.Slot(0)}))
    assert packing.unpack(packed, (values.dumps(1), values.dumps(2))) == (("a", 2), {"k": 1})
    assert packing.unpack(values.dumps(((1,), {})), ()) == ((1,), {})
    with pytest.raises(AssertionError, match="failed argument"):
        packing.unpack(packed, (Failure("TaskError", "x"), values.dumps(2)))


def test_the_users_own_error_while_iterating_is_theirs():
    def broken():
        yield 1
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        packing.split(broken(), template(num_returns=2))
    with pytest.raises(ValueError, match="cannot be split"):
        packing.split(1, template(num_returns=2))


def test_only_exceptions_are_retried():
    always = template(retry_exceptions=values.dumps(True))
    assert packing.retry_wanted(always, ValueError())
    assert not packing.retry_wanted(always, KeyboardInterrupt())
    assert not packing.retry_wanted(template(), ValueError())
    assert not packing.retry_wanted(template(retry_exceptions=Value(b"?")), ValueError())


def test_groups_are_named():
    error = packing.no_group(template(concurrency_group="x"), ["", "b", "a"])
    assert "'x' does not exist; there are ['a', 'b']" in str(error)
