import pytest

from actorrt.kernel.effects import Reply
from actorrt.kernel.message import Address, Envelope
from actorrt.owner import references
from actorrt.owner.messages import (
    BorrowersAdded,
    BorrowersRemoved,
    GetReferences,
    ItemsYielded,
    ObjectReference,
    ObjectsReady,
    References,
    TasksDone,
)
from actorrt.owner.objects import ACTOR_HANDLE_SUFFIX
from actorrt.owner.requests import AddRefs, PutObject, Release, StartActor
from actorrt.owner.streams import COMPLETED_INDEX
from actorrt.owner.tasks import Template
from actorrt.wire.records import ActorSpec, Failure, LeaseSpec, RefInfo, Stored, TaskOutcome, TaskTemplate, Value
from tests.unit.owner.harness import ME, RAYLET, RETURN, Driver, worker_address

ASKER = Address("operator", "request")
OTHER = Address("other", "owner")
MINE = b"m" * 20
THEIRS = RefInfo(b"t" * 20, "other")
KEY = MINE + b"8 bytes."


def ask(driver, references_max=100):
    effects = driver.machine.handle(Envelope(ASKER, GetReferences(references_max), 7), driver.now)
    driver.machine.check()
    (reply,) = effects
    assert isinstance(reply, Reply)
    assert (reply.dst, reply.request_id) == (ASKER, 7)
    assert isinstance(reply.body, References)
    return reply.body


def of(driver, object_id):
    (entry,) = [entry for entry in ask(driver).entries if entry.object_id == object_id]
    return entry


def put(driver, object_id=MINE, result=None):
    driver.tell(PutObject(object_id, result or Value(b"12345")))
    return RefInfo(object_id, "me")


# ---------------------------------------------------------------------------------------------- the answer
def test_nothing_to_tell():
    assert ask(Driver()) == References(RAYLET.process)


def test_nobody_is_answered_who_did_not_ask():
    assert Driver().tell(GetReferences(5), ASKER) == []


def test_the_largest_first_and_no_more_than_wanted():
    driver = Driver()
    sizes = [3, 9, 1, 7]
    for number, size in enumerate(sizes):
        put(driver, b"%020d" % number, Value(b"x" * size))
    answer = ask(driver, 2)
    assert [entry.size_bytes for entry in answer.entries] == [9, 7]
    assert answer.omitted == 2
    assert ask(driver, 0).entries == ask(driver, -1).entries == ()
    assert ask(driver, 0).omitted == 4


def test_the_bound_holds(monkeypatch):
    monkeypatch.setattr(references, "REFERENCES_REPORTED_MAX", 1)
    driver = Driver()
    put(driver)
    put(driver, b"n" * 20)
    assert len(ask(driver, 1000).entries) == 1


# ---------------------------------------------------------------------------------------------- states
def test_a_pending_task_is_named():
    driver = Driver()
    task = driver.task(driver.template("make_it"))
    driver.submit(task)
    assert of(driver, task.task_id + RETURN) == ObjectReference(
        task.task_id + RETURN, 0, "PENDING", {"LOCAL_REFERENCE": 1}, "me", "make_it"
    )
    assert ask(driver).tasks_pending == 1


def test_a_value_that_travels_in_messages():
    driver = Driver()
    put(driver)
    assert of(driver, MINE) == ObjectReference(MINE, 5, "INLINE", {"LOCAL_REFERENCE": 1}, "me")


def test_a_stored_value_and_where_it_lies_now():
    driver = Driver()
    put(driver, MINE, Stored(KEY, 1000, "me", ("node",)))
    driver.machine.objects.holdings.copies_added((KEY,), "second")
    entry = of(driver, MINE)
    assert (entry.state, entry.size_bytes, entry.holders) == ("STORED", 1000, ("node", "second"))


def test_a_failure():
    driver = Driver()
    put(driver, MINE, Failure("TaskError", "x"))
    entry = of(driver, MINE)
    assert (entry.state, entry.detail, entry.size_bytes) == ("FAILED", "TaskError", 0)


@pytest.mark.parametrize(
    ("result", "size_bytes", "holders"),
    [(None, 0, ()), (Value(b"123"), 3, ()), (Stored(b"t" * 28, 50, "other", ("node",)), 50, ("node",))],
)
def test_a_borrowed_ref(result, size_bytes, holders):
    driver = Driver()
    driver.tell(AddRefs([THEIRS]))
    if result is not None:
        driver.wait(THEIRS.object_id, owner="other")
        driver.tell(ObjectsReady(((THEIRS.object_id, result),)), OTHER)
    entry = of(driver, THEIRS.object_id)
    assert (entry.state, entry.owner) == ("BORROWED", "other")
    assert (entry.size_bytes, entry.holders) == (size_bytes, holders)
    assert entry.kinds == {"LOCAL_REFERENCE": 1}


# ---------------------------------------------------------------------------------------------- kinds
def test_pending_tasks_hold_their_arguments():
    driver = Driver()
    ref = put(driver)
    task = driver.task(dependencies=(ref, ref), refs=(ref,))
    driver.submit(task)
    assert of(driver, MINE).kinds == {"LOCAL_REFERENCE": 1, "USED_BY_PENDING_TASK": 3}
    driver.tell(Release([MINE]))
    assert of(driver, MINE).kinds == {"USED_BY_PENDING_TASK": 3}
    driver.grant()
    driver.finish(task)
    assert MINE not in driver.machine.objects.records


def test_a_ref_inside_a_value():
    driver = Driver()
    ref = put(driver)
    put(driver, b"c" * 20, Value(b"v", refs=(ref,)))
    driver.submit(driver.task(refs=(ref,)))
    kinds = {"LOCAL_REFERENCE": 1, "USED_BY_PENDING_TASK": 1, "CAPTURED_IN_OBJECT": 1}
    assert of(driver, MINE).kinds == kinds


def test_arguments_of_a_constructor_are_kept_for_a_restart():
    driver = Driver()
    ref = put(driver)
    spec = ActorSpec(b"a" * 16, b"job", ME, b"k", "A", Value(b""))
    driver.tell(StartActor(spec, (ref,), ()))
    assert of(driver, MINE).kinds == {"LOCAL_REFERENCE": 1, "ACTOR_ARGUMENT": 1}
    handles = of(driver, b"a" * 16 + ACTOR_HANDLE_SUFFIX)
    assert handles.kinds == {"ACTOR_HANDLE": 1}


def test_items_nobody_took():
    driver = Driver()
    spec = TaskTemplate(9, b"k", "gen", "gen", b"job", 0, is_streaming=True)
    task = driver.task(Template(spec, LeaseSpec(b"job", {"CPU": 10_000}), b"cpu"))
    driver.submit(task)
    driver.grant()
    driver.tell(ItemsYielded(task.task_id, ((0, Value(b"item")),)), worker_address(1))
    assert of(driver, task.task_id + RETURN).kinds == {"STREAM_ITEM": 1}
    end = of(driver, task.task_id + COMPLETED_INDEX.to_bytes(4, "big"))
    assert (end.state, end.detail, end.kinds) == ("PENDING", "gen", {"STREAM_ITEM": 1})
    driver.tell(TasksDone((TaskOutcome(task.task_id, (), item_count=1),)), worker_address(1))


def test_borrowers_are_counted_and_some_of_them_named(monkeypatch):
    monkeypatch.setattr(references, "BORROWERS_NAMED_MAX", 2)
    driver = Driver()
    ref = put(driver)
    for number in range(3):
        driver.tell(BorrowersAdded((ref, ref), f"p{number}"), OTHER)
    entry = of(driver, MINE)
    assert entry.kinds == {"LOCAL_REFERENCE": 1, "BORROWED_BY": 3}
    assert entry.borrowers == ("p0", "p1")


def test_a_removal_that_overtook_its_addition_is_no_borrower():
    driver = Driver()
    put(driver)
    driver.tell(BorrowersRemoved((MINE,)), OTHER)
    assert of(driver, MINE).kinds == {"LOCAL_REFERENCE": 1}
    assert of(driver, MINE).borrowers == ()
