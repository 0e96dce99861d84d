from actorrt.owner.arguments import Arguments
from actorrt.owner.objects import ObjectTable
from actorrt.owner.requests import PutObject
from actorrt.owner.tasks import WAITING
from actorrt.wire.records import Failure, RefInfo, Stored
from tests.unit.owner.harness import VALUE, Driver

HERE, FAILED, LARGE = b"h" * 20, b"f" * 20, b"l" * 20
STORED = Stored(LARGE + b"a" * 8, 1000, "me", ("node1",))


def prepared():
    driver = Driver()
    for object_id, result in ((HERE, VALUE), (FAILED, Failure("TaskError", "x")), (LARGE, STORED)):
        driver.tell(PutObject(object_id, result))
    return driver, Arguments(driver.machine.objects)


def refs(*object_ids):
    return tuple(RefInfo(object_id, "me") for object_id in object_ids)


def test_what_is_missing_is_counted_and_told_when_it_comes():
    driver, arguments = prepared()
    pending = driver.task()
    driver.submit(pending)
    task = driver.task(dependencies=refs(HERE, pending.task_id + bytes(4)))
    arguments.admit(task)
    records = driver.machine.objects.records
    assert task.missing == 1
    assert records[pending.task_id + bytes(4)].dependents == [task]
    assert [records[ref.object_id].pins for ref in task.dependency_ids] == [1, 1]
    arguments.forget(task)
    assert records[pending.task_id + bytes(4)].dependents is None


def test_a_known_failure():
    driver, arguments = prepared()
    assert arguments.failure(driver.task(dependencies=refs(HERE, FAILED))).text == "x"
    assert arguments.failure(driver.task(dependencies=refs(HERE, LARGE))) is None


def test_values_travel_with_the_holders_of_today():
    driver, arguments = prepared()
    driver.machine.objects.holdings.copies_added((STORED.key,), "node2")
    call = arguments.call_of(driver.task(dependencies=refs(HERE, LARGE)))
    assert call.dependencies[0] is VALUE
    assert call.dependencies[1].holders == ("node1", "node2")
    assert arguments.call_of(driver.task()).dependencies == ()


def test_a_value_that_is_being_made_again_is_waited_for_once_more():
    """Found by the simulator: it was there when the task was queued, and gone when it was pushed."""
    driver, arguments = prepared()
    task = driver.task(dependencies=refs(HERE, LARGE))
    arguments.admit(task)
    assert arguments.are_there(task)
    driver.machine.objects.records[LARGE].result = None
    assert not arguments.are_there(task)
    assert (task.state, task.missing) == (WAITING, 1)
    assert driver.machine.objects.records[LARGE].dependents == [task]


def test_the_table_alone_will_do():
    assert isinstance(Arguments(ObjectTable("me", lambda _dependent: None)), Arguments)
