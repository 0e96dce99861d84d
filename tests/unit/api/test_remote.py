"""``@remote`` itself."""

import functools
import pickle

import cloudpickle
import pytest

from actorrt.api.actors import ActorClass
from actorrt.api.remote import RemoteFunction, remote


def add(a, b=1):
    """Adds."""
    return a + b


def test_what_becomes_what():
    assert isinstance(remote(add), RemoteFunction)
    assert isinstance(remote(num_cpus=2)(add), RemoteFunction)
    assert isinstance(remote(len), RemoteFunction)
    assert isinstance(remote(type("C", (), {})), ActorClass)
    assert (remote(add).__name__, remote(add).__doc__, repr(remote(add))) == ("add", "Adds.", "RemoteFunction(add)")


async def coroutine():
    pass


@pytest.mark.parametrize("thing", [5, "f", None, functools.partial(add, 1), [add]], ids=str)
def test_what_is_refused(thing):
    with pytest.raises(TypeError, match="a function or a class"):
        remote(thing)


def test_forms_of_the_decorator():
    with pytest.raises(TypeError, match="keyword options only"):
        remote(add, num_cpus=1)
    with pytest.raises(TypeError, match="at least one option"):
        remote()
    with pytest.raises(ValueError, match="async def"):
        remote(coroutine)


def test_direct_calls_are_refused():
    with pytest.raises(TypeError, match=r"use add\.remote\(\)"):
        remote(add)(1)


def test_options_make_a_variant(rt):
    task = remote(num_returns=1)(add)
    pair = task.options(num_returns=2)
    assert task.options() is not task
    assert isinstance(task.remote(1), rt.ObjectRef)
    assert len(pair.remote(1)) == 2
    with pytest.raises(ValueError, match="max_calls"):
        task.options(max_calls=1)


def test_arguments_are_checked_before_anything_is_sent(alone):
    """The check needs no cluster; being refused one comes first."""
    with pytest.raises(RuntimeError, match="auto-connect is off"):
        remote(add).remote(1)


def test_a_remote_function_travels(rt):
    task = remote(add)
    assert rt.get(task.remote(1), timeout=20) == 2
    back = pickle.loads(cloudpickle.dumps(task))
    assert back._template is None
    with pytest.raises(TypeError):
        back.remote(1, 2, 3)
    assert rt.get(back.remote(5), timeout=20) == 6
