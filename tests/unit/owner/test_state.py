from actorrt.kernel.effects import Do, Fail, SetTimer
from actorrt.kernel.limits import COUNT_HOLDS_INTERVAL_S
from actorrt.kernel.message import Address, Done, Envelope, PeerGone
from actorrt.owner.messages import BorrowersAdded, CancelOwned, HoldsCounted, LogLines, Published, TasksDone
from actorrt.owner.operations import Deliver, LosePeer, PrintLines
from actorrt.owner.requests import Cancel, CancelChildren, CountHolds, PutObject, Release, Tick
from actorrt.owner.state import TICK, TICK_S
from actorrt.wire.records import Failure, RefInfo, TaskOutcome, Value
from actorrt.worker.messages import CancelTask, PushTasks
from tests.unit.owner.harness import RETURN, VALUE, Driver, pushed, sent, sent_to, worker_address

OTHER = Address("other", "owner")


def timers(effects):
    return [e for e in effects if isinstance(e, SetTimer)]


def operations(effects):
    return [e.operation for e in effects if isinstance(e, Do)]


def test_the_clock_ticks_while_leases_are_held_and_once_at_a_time():
    driver = Driver()
    task = driver.task()
    assert not timers(driver.submit(task))
    assert timers(driver.grant()) == [SetTimer(TICK, TICK_S, Tick())]
    assert not timers(driver.finish(task))
    assert timers(driver.tell(Tick(), now=0.05)) == [SetTimer(TICK, 0.05 + TICK_S, Tick())]
    assert not timers(driver.tell(Tick(), now=9.0))  # the lease went back
    assert timers(driver.submit(driver.task()) + driver.grant(2))


def test_arguments_travel_with_their_values_and_are_waited_for():
    driver = Driver()
    driver.tell(PutObject(b"p" * 20, VALUE))
    first = driver.task()
    second = driver.task(
        dependencies=(RefInfo(first.task_id + RETURN, "me"), RefInfo(b"p" * 20, "me")), refs=(RefInfo(b"p" * 20, "me"),)
    )
    driver.submit(first, second)
    driver.grant()
    (push,) = sent(driver.finish(first, result=Value(b"1")), PushTasks)
    (call,) = push.calls
    assert call.dependencies == (Value(b"1"), VALUE)
    assert call.refs == second.refs


def test_the_same_argument_twice_is_waited_for_once():
    driver = Driver()
    first = driver.task()
    ref = RefInfo(first.task_id + RETURN, "me")
    second = driver.task(dependencies=(ref, ref))
    driver.submit(first, second)
    driver.grant()
    assert pushed(driver.finish(first)) == [second.task_id]


def test_a_failed_argument_fails_the_task_also_when_it_failed_before():
    driver = Driver()
    bad = driver.task()
    ref = RefInfo(bad.task_id + RETURN, "me")
    other = driver.task()
    before = driver.task(dependencies=(ref, RefInfo(other.task_id + RETURN, "me")))
    driver.submit(bad, other, before)
    driver.grant()
    failure = Failure("TaskError", "x")
    driver.finish(bad, result=failure)
    after = driver.task(dependencies=(ref,))
    driver.submit(after)
    assert driver.result(before) == driver.result(after) == failure
    driver.finish(other)
    assert driver.result(before) == failure


def test_several_returns_and_one_failure_for_all_of_them():
    driver = Driver()
    good, bad, none = (driver.task(driver.template(num_returns=n)) for n in (2, 2, 0))
    driver.submit(good, bad, none)
    driver.grant()
    driver.tell(TasksDone((TaskOutcome(good.task_id, (Value(b"1"), Value(b"2"))),)), worker_address(1))
    driver.finish(bad, result=Failure("TaskError", "x"))
    driver.tell(TasksDone((TaskOutcome(none.task_id, ()),)), worker_address(1))
    assert [driver.result(good, i) for i in (0, 1)] == [Value(b"1"), Value(b"2")]
    assert [driver.result(bad, i).kind for i in (0, 1)] == ["TaskError"] * 2
    assert not driver.submitter.tasks


def test_cancelling_follows_the_owner_and_the_children():
    driver = Driver()
    assert sent_to(driver.tell(Cancel(b"o" * 20, "other", True, False)), OTHER) == [CancelOwned(b"o" * 20, True, False)]
    parent = b"p" * 16
    running, waiting, unrelated = driver.task(parent=parent), driver.task(parent=parent), driver.task()
    driver.submit(running, waiting, unrelated)
    driver.grant()
    effects = driver.tell(CancelChildren(parent))
    assert sent(effects, CancelTask) == [CancelTask(running.task_id, False, True)]
    assert driver.result(waiting).kind == "TaskCancelledError"
    assert driver.result(unrelated) is None
    driver.tell(CancelOwned(unrelated.task_id + RETURN), OTHER)
    assert driver.result(unrelated).kind == "TaskCancelledError"
    driver.tell(CancelOwned(unrelated.task_id + RETURN), OTHER)  # too late: nothing happens
    driver.tell(Cancel(b"?" * 20, "me", False, True))


def test_what_the_process_depends_on_is_told_when_it_is_lost():
    driver = Driver()
    assert operations(driver.tell(PeerGone("raylet", "killed"))) == [LosePeer("raylet", "killed")]
    assert operations(driver.tell(PeerGone("gcs", "killed"))) == [LosePeer("gcs", "killed")]
    assert operations(driver.tell(PeerGone("worker1", "closed"))) == []


def test_news_and_output_are_handed_on():
    driver = Driver()
    news, lines = Published("c", b"d"), LogLines("w", 1, "n", False, ("x",))
    assert operations(driver.tell(news, OTHER)) == [Deliver(news)]
    assert operations(driver.tell(lines, OTHER)) == [PrintLines(lines)]


def test_unknown_requests_are_refused_and_unknown_messages_ignored():
    driver = Driver()
    (refusal,) = driver.machine.handle(Envelope(OTHER, Done(), 7), 0.0)
    assert isinstance(refusal, Fail)
    assert refusal.request_id == 7
    assert driver.machine.handle(Envelope(OTHER, Done()), 0.0) == []


def test_statistics():
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    driver.grant()
    figures = driver.machine.statistics()
    assert (figures.objects, figures.tasks_pending, figures.leases) == (1, 1, 1)
    driver.finish(task)
    assert driver.machine.statistics().tasks_finished == 1


def test_holders_are_written_to_so_that_the_dead_are_found_out():
    """A process may borrow from us without ever having talked to us, and die; or be named to us after its death."""
    driver = Driver()
    driver.tell(PutObject(b"p" * 20, VALUE))
    assert timers(driver.effects) == []
    added = BorrowersAdded((RefInfo(b"p" * 20, "me"),), "stranger")
    (timer,) = timers(driver.tell(added, Address("third", "owner")))
    assert timer.at_s == driver.now + COUNT_HOLDS_INTERVAL_S
    effects = driver.tell(timer.body, now=timer.at_s)
    assert sent_to(effects, Address("stranger", "owner")) == [HoldsCounted(1)]
    assert [type(e.body) for e in timers(effects)] == [CountHolds]
    driver.tell(PeerGone("stranger", "nobody is there"))
    driver.tell(Release([b"p" * 20]))
    assert driver.machine.objects.records == {}
    assert timers(driver.tell(CountHolds())) == []
    assert driver.tell(HoldsCounted(1), Address("third", "owner")) == []
