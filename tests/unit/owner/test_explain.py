import pytest

from actorrt.kernel.message import Address
from actorrt.owner.messages import ActorChanged
from actorrt.owner.requests import AddRefs, PutObject, WatchActor
from actorrt.wire.records import ActorInfo, RefInfo
from tests.unit.owner.harness import GCS, RETURN, VALUE, Driver

ACTOR = b"a" * 16


@pytest.fixture
def driver():
    return Driver()


def why(driver, object_id):
    return driver.machine.explainer.why_not_ready(object_id)


def test_what_is_ready_or_unknown(driver):
    driver.tell(PutObject(b"p" * 20, VALUE))
    assert why(driver, b"p" * 20).endswith("is ready")
    assert "not known here" in why(driver, b"u" * 20)


def test_a_queued_task_says_what_it_needs_and_who_was_asked(driver):
    task = driver.task()
    driver.submit(task)
    text = why(driver, task.task_id + RETURN)
    assert "made by f, which waits for a worker with {}: 0 at work, 1 asked of raylet" in text


def test_a_pushed_task_says_where_it_is(driver):
    first, second = driver.task(), driver.task()
    driver.submit(first)
    driver.grant()
    driver.finish(first)  # its duration is known: the next ones are pushed deep
    driver.submit(second)
    third = driver.task()
    driver.submit(third)
    assert "which runs in a worker (pid 1001, node" in why(driver, second.task_id + RETURN)
    assert "waits behind 1 others in a worker" in why(driver, third.task_id + RETURN)


def test_a_task_that_waits_names_what_its_argument_waits_for(driver):
    first = driver.task()
    second = driver.task(dependencies=(RefInfo(first.task_id + RETURN, "me"),))
    driver.submit(first, second)
    text = why(driver, second.task_id + RETURN)
    assert "which waits for 1 argument; " in text
    assert text.count("made by f") == 2


def test_a_borrowed_object_names_its_owner(driver):
    driver.tell(AddRefs([RefInfo(b"t" * 20, "other")]))
    assert "owned by other, which has not sent its value yet" in why(driver, b"t" * 20)


def test_a_call_names_its_actor_and_the_actors_state(driver):
    driver.tell(WatchActor(ACTOR))
    call = driver.task(driver.template("m", method="m"), actor=ACTOR)
    driver.submit(call)
    assert "of which nothing was heard yet" in why(driver, call.task_id + RETURN)
    pending = ActorInfo(ACTOR, b"job", "PENDING_CREATION", class_name="Counter", pending_reason="no node has 9 CPUs")
    driver.tell(ActorChanged(pending), GCS)
    assert "actor Counter, which is PENDING_CREATION (no node has 9 CPUs)" in why(driver, call.task_id + RETURN)
    alive = ActorInfo(ACTOR, b"job", "ALIVE", 1, Address("w", "worker"), class_name="Counter", pid=7)
    driver.tell(ActorChanged(alive), GCS)
    assert "a call in the hands of actor Counter (pid 7)" in why(driver, call.task_id + RETURN)
