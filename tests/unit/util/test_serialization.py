import pickle

import cloudpickle
import pytest

from actorrt import util
from actorrt.wire import reducers


class Connection:
    def __init__(self, host):
        self.host = host

    def __getstate__(self):
        raise TypeError("a connection cannot be pickled")


class Secure(Connection):
    pass


@pytest.fixture
def connections():
    util.register_serializer(Connection, serializer=lambda c: {"host": c.host}, deserializer=lambda d: Connection(**d))
    yield
    util.deregister_serializer(Connection)


def test_registered_and_deregistered(connections):
    data = reducers.dumps(cloudpickle.Pickler, [Connection("h")])
    assert pickle.loads(data)[0].host == "h"
    util.deregister_serializer(Connection)
    assert not reducers.in_use()
    assert pickle.loads(data)[0].host == "h", "the deserializer travels with the value"
    util.deregister_serializer(Connection)


def test_the_last_registration_counts(connections):
    util.register_serializer(Connection, serializer=lambda c: c.host, deserializer=lambda host: Connection(host * 2))
    assert pickle.loads(reducers.dumps(cloudpickle.Pickler, Connection("h"))).host == "hh"


def test_what_the_serializer_gives_may_hold_registered_objects(connections):
    util.register_serializer(
        Secure, serializer=lambda s: [Connection(s.host)], deserializer=lambda f: Secure(f[0].host)
    )
    try:
        found = pickle.loads(reducers.dumps(cloudpickle.Pickler, Secure("h")))
    finally:
        util.deregister_serializer(Secure)
    assert type(found) is Secure
    assert found.host == "h"


def test_errors_of_the_serializer_are_the_users(connections):
    def fail(_connection):
        raise LookupError("no such host")

    util.register_serializer(Connection, serializer=fail, deserializer=Connection)
    with pytest.raises(LookupError, match="no such host"):
        reducers.dumps(pickle.Pickler, Connection("h"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("Connection", repr, repr), "cls must be a class, got 'Connection'"),
        ((Connection, None, repr), "serializer must be callable, got None"),
        ((Connection, repr, 3), "deserializer must be callable, got 3"),
    ],
)
def test_wrong_arguments(arguments, text):
    cls, serializer, deserializer = arguments
    with pytest.raises(TypeError, match=text):
        util.register_serializer(cls, serializer=serializer, deserializer=deserializer)
    assert not reducers.in_use()


def test_deregistering_no_class():
    with pytest.raises(TypeError, match="cls must be a class"):
        util.deregister_serializer("Connection")


@pytest.mark.parametrize("cls", [int, str, list, dict, type, type(test_deregistering_no_class)])
def test_the_pickler_would_never_ask(cls):
    with pytest.raises(ValueError, match=f"no serializer can be registered for {cls.__name__}"):
        util.register_serializer(cls, serializer=repr, deserializer=repr)


def test_serializer_and_deserializer_are_given_by_name():
    with pytest.raises(TypeError):
        util.register_serializer(Connection, repr, repr)
