"""register_serializer, through put, arguments and results, on clusters of both kinds."""

import numpy as np
import pytest

from actorrt import util
from actorrt.wire import reducers


@pytest.fixture(autouse=True)
def the_table_as_it_was():
    """Workers of in-process clusters register in this process."""
    before = set(reducers._table)
    yield
    for cls in set(reducers._table) - before:
        reducers.deregister(cls)


def make_class():
    class Connection:
        """Refuses to be pickled."""

        def __init__(self, host, payload=None):
            self.host = host
            self.payload = payload

        def __reduce__(self):
            raise TypeError("a connection cannot be pickled")

    def register():
        util.register_serializer(
            Connection,
            serializer=lambda connection: (connection.host, connection.payload),
            deserializer=lambda parts: Connection(*parts),
        )

    return Connection, register


@pytest.fixture
def connection():
    cls, register = make_class()
    register()
    yield cls
    util.deregister_serializer(cls)


def test_put_and_get(rt, connection):
    ref = rt.put({"nested": [connection("a"), connection("b", b"x" * 300_000)]})
    first, second = rt.get(ref, timeout=30)["nested"]
    assert first.host == "a"
    assert second.payload == b"x" * 300_000


def test_arrays_inside_stay_read_only_views(rt, connection):
    found = rt.get(rt.put(connection("a", np.arange(100_000))), timeout=30)
    assert (found.payload == np.arange(100_000)).all()
    assert not found.payload.flags.writeable


def test_arguments_at_the_top_and_nested(rt, connection):
    @rt.remote
    def hosts(one, *, more):
        return [one.host] + [each.host for each in more["list"]]

    answer = hosts.remote(connection("a"), more={"list": [connection("b"), connection("c")]})
    assert rt.get(answer, timeout=30) == ["a", "b", "c"]


def test_results_of_a_worker_that_registered(rt):
    @rt.remote
    def produce():
        cls, register = make_class()
        register()
        try:
            return [cls("from afar")]
        finally:
            produced.append(cls)

    produced = []
    assert rt.get(produce.remote(), timeout=30)[0].host == "from afar"
    for cls in produced:  # in-process clusters run it in this process
        util.deregister_serializer(cls)


def test_without_a_registration_it_is_refused(rt):
    cls, _ = make_class()
    with pytest.raises(TypeError, match="a connection cannot be pickled"):
        rt.put([cls("a")])


def test_after_deregistering_it_is_refused_again(rt, connection):
    ref = rt.put(connection("a"))
    util.deregister_serializer(connection)
    with pytest.raises(TypeError, match="a connection cannot be pickled"):
        rt.put(connection("b"))
    assert rt.get(ref, timeout=30).host == "a"
