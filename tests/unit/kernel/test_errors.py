import inspect

import pytest

from actorrt.kernel import errors


def classes():
    return [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.ActorrtError) and value.__module__ == errors.__name__
    ]


@pytest.mark.parametrize("cls", classes())
def test_every_kind_is_found_by_its_name_and_takes_a_text(cls):
    assert errors.error_class(cls.__name__) is cls
    assert "why" in str(cls("why"))
    assert cls.__doc__


def test_unknown_kinds_are_internal_errors():
    assert errors.error_class("FromANewerPeer") is errors.InternalError
    assert errors.error_class("ValueError") is errors.InternalError


def test_some_are_builtin_errors_too():
    for cls, builtin in (
        (errors.GetTimeoutError, TimeoutError),
        (errors.RequestTimedOut, TimeoutError),
        (errors.ActorNotFoundError, ValueError),
        (errors.ActorAlreadyExistsError, ValueError),
    ):
        assert issubclass(cls, builtin)


def test_ids_ride_along():
    assert errors.ActorDiedError("x", actor_id="ab").actor_id == "ab"
    assert errors.ObjectLostError("x", object_id="cd").object_id == "cd"
    assert errors.TaskCancelledError().task_id == ""
