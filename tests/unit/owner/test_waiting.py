from actorrt.kernel.effects import Do
from actorrt.owner.objects import ObjectTable
from actorrt.owner.operations import Wake
from actorrt.owner.tasks import ObjectRecord, Waiter
from actorrt.wire.records import Failure, RefInfo, Value

ONE, TWO = RefInfo(b"1" * 20, "me"), RefInfo(b"2" * 20, "me")
VALUE = Value(b"v")


def table():
    objects = ObjectTable("me", lambda _dependent: None)
    for ref in (ONE, TWO):
        objects.records[ref.object_id] = ObjectRecord(None, 1)
    return objects


def resolve(objects, ref, result=VALUE):
    objects.resolve(ref.object_id, objects.records[ref.object_id], result, received=False)


def woken(objects):
    effects, objects.effects = objects.effects, []
    return [
        effect.operation.waiter for effect in effects if isinstance(effect, Do) and isinstance(effect.operation, Wake)
    ]


def test_a_waiter_wakes_once_when_enough_is_there():
    objects = table()
    waiter = Waiter((ONE, TWO), 1, None)
    objects.waiting.add(waiter)
    assert woken(objects) == []
    resolve(objects, TWO)
    assert woken(objects) == [waiter]
    resolve(objects, ONE)
    assert woken(objects) == []
    assert objects.records[ONE.object_id].waiters is None
    objects.check()


def test_what_is_there_already_counts():
    objects = table()
    resolve(objects, ONE)
    ready, half = Waiter((ONE,), 1, None), Waiter((ONE, TWO), 2, None)
    objects.waiting.add(ready)
    objects.waiting.add(half)
    assert woken(objects) == [ready]
    resolve(objects, TWO)
    assert woken(objects) == [half]


def test_one_failure_is_enough_for_who_fails_fast():
    objects = table()
    fast, slow = Waiter((ONE, TWO), 2, None, fail_fast=True), Waiter((ONE, TWO), 2, None)
    objects.waiting.add(fast)
    objects.waiting.add(slow)
    resolve(objects, ONE, Failure("TaskError", "x"))
    assert woken(objects) == [fast]
    late = Waiter((ONE, TWO), 2, None, fail_fast=True)
    objects.waiting.add(late)
    assert woken(objects) == [late]


def test_who_gives_up_leaves_nothing_behind():
    objects = table()
    waiter = Waiter((ONE, TWO), 2, None)
    objects.waiting.add(waiter)
    objects.release([ONE.object_id])
    assert ONE.object_id in objects.records  # it is waited for
    objects.waiting.drop(waiter)
    objects.waiting.drop(waiter)
    assert ONE.object_id not in objects.records
    assert objects.records[TWO.object_id].waiters is None
    resolve(objects, TWO)
    assert woken(objects) == []
