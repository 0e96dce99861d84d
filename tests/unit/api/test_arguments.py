"""Arguments of a call: what fits a signature, and what becomes of refs in it."""

import functools
import inspect
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.api.actors import MethodInfo, _parameters_of, _shape_from
from actorrt.api.arguments import Shape, pack, shape_of
from actorrt.api.refs import ObjectRef
from actorrt.kernel.limits import INLINE_VALUE_BYTES_MAX
from actorrt.wire import values
from actorrt.wire.records import RefInfo, Value

NAMES = "abcdef"
KINDS = ("positional", "both", "rest", "keyword", "more")


@st.composite
def functions(draw):
    """A real function of a random signature, by its source."""
    names = iter(NAMES)
    parts = []
    defaults = False
    positional = draw(st.integers(0, 2))
    for number in range(positional + draw(st.integers(0, 2))):
        defaults = defaults or draw(st.booleans())
        parts.append(next(names) + ("=0" if defaults else ""))
        if number == positional - 1:
            parts.append("/")
    rest = draw(st.booleans())
    keywords = draw(st.integers(0, 2))
    if rest:
        parts.append("*rest")
    elif keywords:
        parts.append("*")
    parts += [next(names) + ("=0" if draw(st.booleans()) else "") for _ in range(keywords)]
    if draw(st.booleans()):
        parts.append("**more")
    space = {}
    exec(f"def function({', '.join(parts)}): pass", space)
    return space["function"]


calls = st.tuples(
    st.lists(st.integers(), max_size=5).map(tuple), st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=3)
)


def fits(function, args, kwargs):
    try:
        function(*args, **kwargs)
    except TypeError:
        return False
    return True


def passes(shape, args, kwargs):
    try:
        shape.check(args, kwargs, "function")
    except TypeError:
        return False
    return True


def test_the_error_names_the_function():
    with pytest.raises(TypeError, match=r"^name\(a\): "):
        shape_of(lambda a: a).check((), {}, "name")


@given(functions(), calls)
def test_the_check_agrees_with_python(function, call):
    assert passes(shape_of(function), *call) == fits(function, *call)


@given(functions(), calls)
def test_the_check_of_a_method_agrees_with_python(function, call):
    """As a handle does it, that knows the parameters only."""
    plain = MethodInfo(_parameters_of(function, is_static=True))
    assert passes(_shape_from(plain), *call) == fits(function, *call)
    bound = MethodInfo(_parameters_of(function, is_static=False))
    assert passes(_shape_from(bound), *call) == passes(shape_of(function, skip_self=True), *call)


@given(functions(), calls)
def test_self_is_skipped(function, call):
    args, kwargs = call
    parameters = list(inspect.signature(function).parameters.values())
    has_self = bool(parameters) and parameters[0].kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD
    if not has_self or parameters[0].name in kwargs:
        return
    assert passes(shape_of(function, skip_self=True), args, kwargs) == fits(function, (None, *args), kwargs)


def test_where_python_cannot_tell_anything_goes():
    for function in (dict, max, print):
        shape_of(function).check((1, 2, 3), {}, "function")
    Shape(None).check((1,), {"a": 2}, "function")
    partial = shape_of(functools.partial(lambda a, b: None, 1))
    partial.check((2,), {}, "function")
    with pytest.raises(TypeError):
        partial.check((2, 3), {}, "function")


# ------------------------------------------------------------------ packing
scalars = st.none() | st.booleans() | st.integers() | st.text() | st.binary(max_size=200)
REFS = [ObjectRef(bytes([number]) * 20, f"inproc://{number}", None) for number in range(3)]
arguments = st.recursive(scalars | st.sampled_from(REFS), lambda inner: st.lists(inner, max_size=3), max_leaves=6)


def refs_in(value):
    if isinstance(value, list):
        return [ref for each in value for ref in refs_in(each)]
    return [value] if isinstance(value, ObjectRef) else []


def resolved(value, results):
    return results[value.index] if type(value) is values.Slot else value


@given(st.lists(arguments, max_size=4), st.dictionaries(st.sampled_from(NAMES), arguments, max_size=3))
def test_packing_there_and_back(args, kwargs):
    data, buffers, dependencies, refs, held = pack(tuple(args), kwargs, "f")
    assert held is None
    if not args and not kwargs:
        assert (data, buffers, dependencies, refs) == (b"", (), (), ())
        return
    top = [value for value in [*args, *kwargs.values()] if isinstance(value, ObjectRef)]
    nested = [ref for value in [*args, *kwargs.values()] if isinstance(value, list) for ref in refs_in(value)]
    assert [each.object_id for each in dependencies] == [ref._id for ref in top]
    assert {each.object_id for each in refs} == {ref._id for ref in nested}
    got_args, got_kwargs = values.loads(Value(data, buffers))
    assert [resolved(value, top) for value in got_args] == args
    assert {name: resolved(value, top) for name, value in got_kwargs.items()} == kwargs


def test_arguments_are_a_snapshot():
    mine = [1]
    data, buffers, *_ = pack((mine,), {}, "f")
    mine.append(2)
    assert values.loads(Value(data, buffers)) == (([1],), {})


def test_what_cannot_be_pickled_is_named():
    with pytest.raises(TypeError, match=r"an argument of my_function cannot be pickled.*lock"):
        pack((threading.Lock(),), {}, "my_function")


def test_large_arguments_are_put_as_an_object_of_ours_behind_the_refs():
    ref = ObjectRef(b"r" * 20, "them", None)
    made = ObjectRef(b"a" * 20, "us", None)
    put = []
    large = bytes(INLINE_VALUE_BYTES_MAX)
    packed = pack((large, ref), {}, "f", lambda pickled: put.append(pickled) or made)
    assert packed == (
        values.ARGUMENTS_STORED,
        (),
        (RefInfo(b"r" * 20, "them"), RefInfo(b"a" * 20, "us")),
        (),
        made,
    )
    args, kwargs = values.rebuilt(put[0].data, put[0].buffers)
    assert args[0] == large
    assert args[1].index == 0
    assert kwargs == {}


def test_without_a_store_large_arguments_travel_along():
    large = bytes(INLINE_VALUE_BYTES_MAX)
    for put in (None, lambda _pickled: None):
        data, buffers, *_, held = pack((large,), {}, "f", put)
        assert held is None
        assert values.loads(Value(data, buffers)) == ((large,), {})
