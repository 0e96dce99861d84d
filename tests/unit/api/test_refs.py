"""ObjectRef by itself, and with its runtime."""

import asyncio
import copy
import gc
import pickle
import weakref

import pytest

from actorrt.api.refs import ObjectRef
from actorrt.wire import values


class Recorder:
    """The part of a runtime that a ref uses."""

    def __init__(self):
        self.gone = []

    def released(self, object_id):
        self.gone.append(object_id)


def test_identity():
    one = ObjectRef.from_random()
    same = ObjectRef.from_hex(one.hex())
    assert one == same == ObjectRef.from_binary(one.binary())
    assert hash(one) == hash(same)
    assert one != ObjectRef.from_random()
    assert one != one.binary()
    assert len({one, same}) == 1
    assert len(one.binary()) == ObjectRef.size() == 20
    assert ObjectRef.nil().is_nil()
    assert not one.is_nil()
    assert one.hex() in repr(one)
    assert one.task_id().binary() == one.binary()[:16]
    assert copy.copy(one) is one
    assert copy.deepcopy([one])[0] is one
    assert ObjectRef[int]


@pytest.mark.parametrize("bad", [b"", b"x" * 19, b"x" * 21])
def test_a_wrong_size_is_refused(bad):
    with pytest.raises(ValueError, match="20 bytes"):
        ObjectRef.from_binary(bad)


def test_the_last_instance_tells_its_runtime():
    recorder = Recorder()
    ref = ObjectRef(b"a" * 20, "", recorder)
    weak = weakref.ref(ref)
    del ref
    gc.collect()
    assert weak() is None
    assert recorder.gone == [b"a" * 20]


def test_pickling_outside_any_runtime():
    ref = ObjectRef(b"a" * 20, "inproc://owner", None)
    back = pickle.loads(pickle.dumps(ref))
    assert (back, back.owner_address()) == (ref, "inproc://owner")


def test_pickling_is_noted_by_the_collector():
    ref = ObjectRef(b"a" * 20, "inproc://owner", None)
    _, _, refs = values.collecting([ref, {"k": ref}])
    assert [info.object_id for info in refs] == [b"a" * 20, b"a" * 20] or [i.object_id for i in refs] == [b"a" * 20]
    assert values.collecting([1])[2] == ()


def test_waiting_for_a_ref_without_runtime_is_an_error():
    ref = ObjectRef.from_random()

    async def main():
        await ref

    with pytest.raises(Exception) as caught:
        asyncio.run(main())
    assert isinstance(caught.value, (RuntimeError, rt_errors()))
    with pytest.raises((RuntimeError, rt_errors())):
        ref.future().result(1)


def rt_errors():
    from actorrt.exceptions import ActorrtError

    return ActorrtError


def test_awaiting_and_futures(rt):
    ref = rt.put(5)
    seen = []
    ref._on_completed(seen.append)
    assert ref.future().result(5) == 5
    assert seen == [5]
    assert len(ref.job_id().binary()) == 4

    async def main():
        return await ref, await ref.as_future()

    assert asyncio.run(main()) == (5, 5)
