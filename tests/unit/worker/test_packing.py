import pytest

from actorrt.kernel.limits import INLINE_VALUE_BYTES_MAX
from actorrt.wire import values
from actorrt.wire.records import Stored, TaskCall, TaskTemplate, Value
from actorrt.worker import packing


def template(**options):
    return TaskTemplate(1, b"k", "f", "f", b"job", **options)


def load(results):
    return [values.loads(result) for result in results]


def test_arguments_are_rebuilt_with_refs_in_their_places():
    packed = values.dumps((("a", values.Slot(1)), {"k": values.Slot(0)}))
    assert packing.unpack(packed, (values.dumps(1), values.dumps(2)), load) == (("a", 2), {"k": 1})
    assert packing.unpack(values.dumps(((1,), {})), (), load) == ((1,), {})
    assert packing.unpack(Value(b""), (), load) == ((), {})


def call(arguments, *dependencies):
    return TaskCall(b"t" * 16, 1, arguments, (), dependencies)


def test_arguments_of_a_call():
    packed = values.dumps((("a", values.Slot(0)), {}))
    assert packing.unpack_call(call(b""), load) == ((), {})
    assert packing.unpack_call(call(values.dumps(((1,), {"k": 2})).data), load) == ((1,), {"k": 2})
    assert packing.unpack_call(call(packed.data, values.dumps(7)), load) == (("a", 7), {})


def test_stored_arguments_are_the_last_dependency():
    """Slots in them count from the first one, as ever."""
    packed = values.dumps((("a", values.Slot(0)), {}))
    with_slot = call(values.ARGUMENTS_STORED, values.dumps(7), packed)
    assert packing.unpack_call(with_slot, load) == (("a", 7), {})
    without = call(values.ARGUMENTS_STORED, values.dumps((("b",), {"c": 1})))
    assert packing.unpack_call(without, load) == (("b",), {"c": 1})


def test_large_results_are_kept_each_by_its_own_name():
    kept = []

    def keep(pickled, whose):
        kept.append(whose)
        return Stored(b"key", pickled.size_bytes(), "owner", ("node",))

    large, small = b"x" * (INLINE_VALUE_BYTES_MAX + 1), b"x"
    one = packing.packed(large, template(), b"t" * 16, "owner", keep)
    three = packing.packed([small, large, large], template(num_returns=3), b"u" * 16, "owner", keep)
    assert [type(result) for result in (*one, *three)] == [Stored, Value, Stored, Stored]
    assert kept == [(b"t" * 16, 0, "owner"), (b"u" * 16, 1, "owner"), (b"u" * 16, 2, "owner")]
    assert packing.packed(iter(()), template(num_returns=0, is_streaming=True), b"t" * 16, "owner", keep) == ()
    assert packing.packed(None, template(num_returns=0), b"t" * 16, "owner", keep) == ()


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
