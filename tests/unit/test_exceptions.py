"""actorrt.exceptions is the whole taxonomy of kernel.errors, under the same names."""

import inspect

import pytest

from actorrt import exceptions
from actorrt.kernel import errors

# Names that user code written for Ray relies on, without "Ray".
RELIED_ON = {
    "ActorAlreadyExistsError": ValueError,
    "ActorDiedError": errors.ActorError,
    "ActorHandleNotFoundError": ValueError,
    "ActorUnavailableError": errors.ActorError,
    "GetTimeoutError": TimeoutError,
    "ObjectFetchTimedOutError": errors.ObjectLostError,
    "ObjectFreedError": errors.ObjectLostError,
    "ObjectReconstructionFailedError": errors.ObjectLostError,
    "OwnerDiedError": errors.ObjectLostError,
    "TaskError": errors.ActorrtError,
    "WorkerCrashedError": errors.ActorrtError,
}


def test_complete():
    defined = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.ActorrtError)
    }
    assert {name: getattr(exceptions, name) for name in exceptions.__all__} == defined
    assert exceptions.__all__ == sorted(exceptions.__all__)


@pytest.mark.parametrize(("name", "base"), RELIED_ON.items())
def test_bases(name, base):
    assert issubclass(getattr(exceptions, name), base)
    assert issubclass(getattr(exceptions, name), exceptions.ActorrtError)
