import copyreg
import pickle
import re
import threading

import cloudpickle
import numpy as np
import pytest

from actorrt.wire import reducers


class Handle:
    """Refuses to be pickled, as third-party classes do."""

    def __init__(self, number=0):
        self.number = number

    def __reduce__(self):
        raise TypeError("a handle cannot be pickled")


class Below(Handle):
    pass


def reduce_handle(handle):
    return Handle, (handle.number,)


def reduce_as_negative(handle):
    return Handle, (-handle.number,)


@pytest.fixture
def handles():
    reducers.register(Handle, reduce_handle)
    yield
    reducers.deregister(Handle)


@pytest.fixture(params=[pickle.Pickler, cloudpickle.Pickler], ids=["pickle", "cloudpickle"])
def base(request):
    return request.param


def there_and_back(base, value):
    return pickle.loads(reducers.dumps(base, value))


def test_in_use_only_while_something_is_registered():
    assert not reducers.in_use()
    reducers.register(Handle, reduce_handle)
    assert reducers.in_use()
    reducers.deregister(Handle)
    assert not reducers.in_use()
    reducers.deregister(Handle)


def test_registered_at_any_depth(handles, base):
    found = there_and_back(base, {"a": [Handle(1), (Handle(2), {"b": Handle(3)})]})
    assert [found["a"][0].number, found["a"][1][0].number, found["a"][1][1]["b"].number] == [1, 2, 3]


def test_shared_references_stay_shared(handles, base):
    handle = Handle(1)
    first, second = there_and_back(base, [handle, handle])
    assert first is second


def test_exactly_the_class_and_none_below_it(handles, base):
    with pytest.raises(TypeError, match="cannot be pickled"):
        reducers.dumps(base, Below())


def test_plain_pickle_of_the_program_is_left_alone(handles):
    assert Handle not in copyreg.dispatch_table
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Handle())


def test_the_last_registration_counts_and_deregistering_ends_it(handles, base):
    assert there_and_back(base, Handle(1)).number == 1
    reducers.register(Handle, reduce_as_negative)
    assert there_and_back(base, Handle(1)).number == -1
    reducers.deregister(Handle)
    with pytest.raises(TypeError, match="cannot be pickled"):
        reducers.dumps(base, Handle())


def test_what_picklers_know_already_is_still_known(handles, base):
    assert there_and_back(base, [re.compile("a+"), 2j]) == [re.compile("a+"), 2j]


def test_what_copyreg_learns_later_is_known_too(handles, base, monkeypatch):
    reducers.dumps(base, Handle())
    monkeypatch.setitem(copyreg.dispatch_table, Below, reduce_handle)
    assert there_and_back(base, Below(4)).number == 4


def test_cloudpickle_still_goes_by_value(handles):
    offset = Handle(3)
    assert there_and_back(cloudpickle.Pickler, lambda x: x + offset.number)(4) == 7


def test_a_built_in_type_that_refuses_by_itself(base):
    kind = type(threading.Lock())
    reducers.register(kind, lambda _: (threading.Lock, ()))
    try:
        assert isinstance(there_and_back(base, [threading.Lock()])[0], kind)
    finally:
        reducers.deregister(kind)


def test_buffers_go_beside_the_stream(handles, base):
    buffers = []
    data = reducers.dumps(base, [np.arange(1000), Handle(2)], buffers.append)
    assert len(buffers) == 1
    array, handle = pickle.loads(data, buffers=buffers)
    assert (array == np.arange(1000)).all()
    assert handle.number == 2


def test_threads_may_register_while_others_pickle(handles):
    """Each pickle sees one whole table, the old or the new one."""
    numbers = []

    def pickle_often():
        for _ in range(500):
            numbers.append(there_and_back(pickle.Pickler, Handle(1)).number)

    thread = threading.Thread(target=pickle_often)
    thread.start()
    while thread.is_alive():
        reducers.register(Handle, reduce_as_negative)
        reducers.register(Handle, reduce_handle)
    thread.join()
    assert set(numbers) <= {1, -1}
    assert len(numbers) == 500
