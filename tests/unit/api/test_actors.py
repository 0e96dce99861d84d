"""Actor classes, handles and methods, before anything is sent."""

import pickle

import pytest

from actorrt.api.actors import ActorHandle, MethodInfo, handle_from, make_actor_class, method, pickle_meta


class Plain:
    """Plain."""

    def __init__(self, a, b=1):
        pass

    def m(self, x, *, y=2):
        pass

    @method(num_returns=2)
    def pair(self):
        pass

    def gen(self):
        yield 1

    @staticmethod
    def static(x):
        pass

    def __call__(self):
        pass

    class Inner:
        pass

    value = 5


@pytest.fixture
def handle(rt):
    return make_actor_class(Plain, {"num_cpus": 0}).remote(1)


def test_the_class_keeps_its_face():
    actor_class = make_actor_class(Plain, {})
    assert (actor_class.__name__, actor_class.__doc__, actor_class.__module__) == ("Plain", "Plain.", __name__)
    assert repr(actor_class) == "ActorClass(Plain)"
    with pytest.raises(TypeError, match=r"use Plain\.remote"):
        actor_class(1)
    with pytest.raises(TypeError):
        type("Derived", (actor_class,), {})
        exec("class Derived(actor_class): pass", {"actor_class": actor_class})


def test_what_a_handle_knows(handle):
    methods = handle._meta.methods
    assert set(methods) == {"m", "pair", "gen", "static", "__call__"}
    assert methods["pair"].options == {"num_returns": 2}
    assert methods["gen"].is_generator
    assert [name for name, *_ in methods["m"].parameters] == ["x", "y"]
    assert [name for name, *_ in methods["static"].parameters] == ["x"]
    assert dir(handle) == sorted(methods)
    assert repr(handle.m) == "ActorMethod(Plain.m)"
    for name in ("nothing", "value", "Inner", "__len__", "_x"):
        with pytest.raises(AttributeError):
            getattr(handle, name)
    with pytest.raises(TypeError, match=r"use \.m\.remote"):
        handle.m(1)
    for call in (lambda: handle.m.remote(), lambda: handle.m.remote(1, 2), lambda: handle.m.remote(1, z=1)):  # noqa: PLW0108
        with pytest.raises(TypeError):
            call()


def test_handles_travel(handle):
    back = pickle.loads(pickle.dumps(handle))
    assert isinstance(back, ActorHandle)
    assert back == handle
    assert hash(back) == hash(handle)
    assert back != 5
    found = handle_from(handle._actor_id, pickle_meta(handle._meta))
    assert found == handle
    assert found._ref is None


def test_method_options_are_checked_at_the_decoration():
    for bad in ({}, {"no_such": 1}, {"num_returns": -1}, {"num_cpus": 1}):
        with pytest.raises((ValueError, TypeError)):
            method(**bad)


def test_pending_calls_are_counted_per_handle(rt, handle):
    limited = make_actor_class(Plain, {"max_pending_calls": 1, "num_cpus": 64}).remote(1)
    limited.m.remote(1)
    with pytest.raises(rt.exceptions.PendingCallsLimitExceeded, match="max_pending_calls=1"):
        limited.m.remote(1)


def test_a_method_without_a_readable_signature_takes_anything():
    from actorrt.api.actors import _shape_from

    _shape_from(MethodInfo(None)).check((1, 2), {"x": 3}, "m")
    _shape_from(None).check((1, 2), {"x": 3}, "m")


def test_exit_actor_outside(rt):
    with pytest.raises(TypeError, match="inside of an actor"):
        rt.actor.exit_actor()
