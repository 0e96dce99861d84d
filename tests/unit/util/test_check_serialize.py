import functools
import io
import threading

import pytest

from actorrt import util
from actorrt.util.check_serialize import FailureTuple

LOCK = threading.Lock()


class Holder:
    def __init__(self, held):
        self.held = held


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


def inspect(value, **options):
    return util.inspect_serializability(value, print_file=io.StringIO(), **options)


def blamed(value, **options):
    fine, failures = inspect(value, **options)
    assert not fine
    (failure,) = failures
    return failure


@pytest.mark.parametrize("value", [None, 1, [1, {"a": 2}], Holder(3), lambda: 4, print, Holder])
def test_what_can_be_pickled(value):
    assert inspect(value) == (True, set())


def uses_closure(held):
    def function():
        return held

    return function


def uses_default(held):
    return lambda a, b=1, c=held: (a, b, c)


def uses_keyword(held):
    return lambda *, c=held: c


def uses_attribute(held):
    def function():
        return None

    function.state = held
    return function


def class_with(held):
    class Local:
        shared = held

    return Local


def class_whose_method_uses(held):
    class Local:
        def method(self):
            return held

    return Local


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda held: held, ()),
        (uses_closure, ("held",)),
        (uses_default, ("c",)),
        (uses_keyword, ("c",)),
        (uses_attribute, ("state",)),
        (Holder, ("held",)),
        (Slotted, ("held",)),
        (lambda held: Holder([1, held]), ("held", "[1]")),
        (lambda held: {"a": 1, "b": held}, ("['b']",)),
        (lambda held: functools.partial(print, held), ("[0]",)),
        (lambda held: functools.partial(print, end=held), ("end",)),
        (class_with, ("shared",)),
        (class_whose_method_uses, ("method", "held")),
        (lambda held: class_with(held)(), ("its class", "shared")),
        (lambda held: Holder(held).__init__, ("__self__", "held")),
    ],
)
def test_the_innermost_failure_is_found(make, path):
    lock = threading.Lock()
    failure = blamed(make(lock))
    assert failure.obj is lock
    assert failure.path == path
    assert failure.name == (path[-1] if path else "")
    assert (failure.parent is None) == (not path)


def test_globals_of_a_function_by_value():
    namespace = {"LOCK": LOCK, "__name__": "__main__"}
    exec("def function():\n    return LOCK", namespace)
    assert blamed(namespace["function"]).path == ("LOCK",)


def test_a_set_and_a_key():
    class Odd:
        """Hashable, and refuses."""

        def __reduce__(self):
            raise TypeError("odd")

    assert isinstance(blamed({1, Odd()}).obj, Odd)
    assert isinstance(blamed({Odd(): 1}).obj, Odd)


def test_depth_limits_the_search():
    nested = [[[[LOCK]]]]
    assert blamed(nested, depth=0).obj is nested
    assert blamed(nested, depth=1).obj is nested[0]
    assert blamed(nested).obj is nested[0][0][0]
    assert blamed(nested, depth=9).obj is LOCK


def test_a_loop_ends():
    holder = Holder(None)
    holder.held = [holder, LOCK]
    assert blamed(holder, depth=20) is not None


def test_the_name_begins_the_path_and_all_is_printed():
    out = io.StringIO()
    _, failures = util.inspect_serializability([LOCK], name="locks", print_file=out)
    (failure,) = failures
    assert failure.path == ("locks", "[0]")
    assert repr(failure).startswith("FailureTuple(locks -> [0], obj=<unlocked _thread.lock")
    text = out.getvalue()
    assert "locks: [<unlocked" in text
    assert "    [0]: <unlocked" in text
    assert "TypeError: cannot pickle '_thread.lock' object" in text
    assert repr(failure) in text


def test_standard_output_is_the_default(capsys):
    util.inspect_serializability(1)
    assert "Can 1 be pickled?" in capsys.readouterr().out


def test_a_repr_that_fails_does_not_end_the_search():
    class Rude:
        lock = LOCK

        def __repr__(self):
            raise RuntimeError("no")

    assert blamed(Rude()).obj is LOCK
    assert "Rude whose repr fails" in repr(FailureTuple(Rude(), (), None))


def test_long_texts_are_cut():
    assert len(repr(FailureTuple("x" * 10_000, ("a",), None))) < 300


@pytest.mark.parametrize(("depth", "error"), [("3", TypeError), (True, TypeError), (-1, ValueError)])
def test_wrong_depth(depth, error):
    with pytest.raises(error, match="depth must"):
        util.inspect_serializability(1, depth=depth)
