import pytest

from actorrt.gcs.messages import ActorOutOfScope, CreateActor, KillActor, SubscribeActor
from actorrt.kernel import limits
from actorrt.kernel.effects import SetTimer
from actorrt.kernel.message import PeerGone
from actorrt.owner.calls import NEWS_S
from actorrt.owner.messages import ActorChanged, CallsRefused, TasksDone
from actorrt.owner.objects import ACTOR_HANDLE_SUFFIX
from actorrt.owner.requests import Cancel, PutObject, Release, StartActor, Tick, WatchActor
from actorrt.owner.tasks import ENDED, QUEUED
from actorrt.wire.records import ActorInfo, ActorSpec, DeathCause, Failure, RefInfo, TaskOutcome
from actorrt.worker.messages import CancelTask, PushCalls
from tests.unit.owner.harness import GCS, ME, RETURN, VALUE, Driver, pushed, sent, sent_to, worker_address

ACTOR = b"a" * 16
SPEC = ActorSpec(ACTOR, b"job", ME, b"key", "Counter", VALUE)
CRASH = DeathCause("signal", "killed by SIGKILL", signal=9)


class Calls(Driver):
    """A driver with one actor in mind."""

    def __init__(self):
        super().__init__()
        self.tell(WatchActor(ACTOR))
        self.method = self.template("inc", retries=0, method="inc")

    def call(self, template=None, **more):
        task = self.task(template or self.method, actor=ACTOR, **more)
        self.submit(task)
        return task

    def news(self, state, incarnation=1, number=1, death=None, **more):
        worker = worker_address(number)
        info = ActorInfo(ACTOR, b"job", state, incarnation, worker, class_name="Counter", death=death, **more)
        return self.tell(ActorChanged(info), GCS)

    @property
    def client(self):
        return self.machine.caller.clients[ACTOR]


def test_calls_wait_for_the_actor_and_go_out_in_order():
    driver = Calls()
    calls = [driver.call() for _ in range(3)]
    assert sent(driver.effects, SubscribeActor) == [SubscribeActor(ACTOR)]
    assert not pushed(driver.effects)
    assert pushed(driver.news("ALIVE"), 1) == [c.task_id for c in calls]
    for call in calls:
        driver.finish(call)
        assert driver.result(call) == VALUE
    assert driver.client.finished_count == 3
    assert not driver.client.in_flight


def test_a_call_that_waits_for_an_argument_holds_back_the_later_ones_unless_order_does_not_matter():
    for out_of_order in (False, True):
        driver = Calls()
        driver.news("ALIVE", out_of_order=out_of_order)
        slow = driver.task()
        driver.submit(slow)
        waiting = driver.call(dependencies=(RefInfo(slow.task_id + RETURN, "me"),))
        later = driver.call()
        assert pushed(driver.effects, 1) == ([later.task_id] if out_of_order else [])
        driver.grant(7)
        effects = driver.finish(slow, 7)
        assert pushed(effects, 1) == [waiting.task_id] + ([] if out_of_order else [later.task_id])


def test_a_failed_argument_fails_the_call_and_lets_the_later_ones_through():
    driver = Calls()
    driver.news("ALIVE")
    bad = driver.task()
    driver.submit(bad)
    waiting = driver.call(dependencies=(RefInfo(bad.task_id + RETURN, "me"),))
    later = driver.call()
    driver.grant(7)
    effects = driver.finish(bad, 7, result=Failure("TaskError", "x"))
    assert driver.result(waiting) == Failure("TaskError", "x")
    assert pushed(effects, 1) == [later.task_id]
    at_once = driver.call(dependencies=(RefInfo(bad.task_id + RETURN, "me"),))
    assert driver.result(at_once) == Failure("TaskError", "x")
    assert driver.client.finished_count == 2


def test_cancelling_a_call_that_waits_for_an_argument_lets_the_later_ones_through():
    driver = Calls()
    driver.news("ALIVE")
    slow = driver.task()
    driver.submit(slow)
    waiting = driver.call(dependencies=(RefInfo(slow.task_id + RETURN, "me"),))
    later = driver.call()
    effects = driver.tell(Cancel(waiting.task_id + RETURN, "me", False, True))
    assert driver.result(waiting).kind == "TaskCancelledError"
    assert pushed(effects, 1) == [later.task_id]
    driver.grant(7)
    driver.finish(slow, 7)
    assert driver.client.finished_count == 1


def test_cancelling_a_call_in_flight_asks_the_worker():
    driver = Calls()
    driver.news("ALIVE")
    call = driver.call()
    assert sent(driver.tell(Cancel(call.task_id + RETURN, "me", False, True))) == [
        CancelTask(call.task_id, False, True)
    ]
    driver.news("RESTARTING", death=CRASH)
    assert driver.result(call).kind == "TaskCancelledError"


@pytest.mark.parametrize("retries", [0, 1])
def test_a_restart_fails_calls_in_flight_or_repeats_them_first(retries):
    driver = Calls()
    driver.news("ALIVE")
    in_flight = driver.call(driver.template("inc", retries=retries, method="inc"))
    driver.tell(PeerGone("worker1", "closed"))
    queued = driver.call()
    assert pushed(driver.effects) == [in_flight.task_id]  # nothing more goes to the lost process
    driver.news("RESTARTING", death=CRASH)
    if not retries:
        assert driver.result(in_flight).kind == "ActorUnavailableError"
        assert "SIGKILL" in driver.result(in_flight).text
    expected = [in_flight.task_id] * retries + [queued.task_id]
    assert pushed(driver.news("ALIVE", 2, 2), 2) == expected
    if retries:
        assert (in_flight.attempt, in_flight.retries_left) == (1, 0)


def test_death_fails_everything_and_gives_the_constructors_arguments_back():
    driver = Driver()
    driver.tell(PutObject(b"p" * 20, VALUE))
    ref = RefInfo(b"p" * 20, "me")
    effects = driver.tell(StartActor(SPEC, (ref,), ()))
    assert [type(m) for m in sent_to(effects, GCS)] == [CreateActor, SubscribeActor]
    assert sent(effects, CreateActor)[0].spec.dependencies == (VALUE,)
    driver.tell(Release([ref.object_id]))
    assert ref.object_id in driver.machine.objects.records  # a restart would need it again
    Calls.news(driver, "ALIVE")
    calls = []
    for _ in range(2):
        calls.append(driver.task(driver.template("inc", method="inc"), actor=ACTOR))
        driver.submit(calls[-1])
    Calls.news(driver, "DEAD", death=CRASH)
    assert [driver.result(c).kind for c in calls] == ["ActorDiedError"] * 2
    assert ref.object_id not in driver.machine.objects.records
    late = driver.task(driver.template("inc", method="inc"), actor=ACTOR)
    driver.submit(late)
    assert "SIGKILL" in driver.result(late).text


def test_a_constructor_whose_argument_fails_ends_the_actor():
    driver = Driver()
    bad = driver.task()
    driver.submit(bad)
    effects = driver.tell(StartActor(SPEC, (RefInfo(bad.task_id + RETURN, "me"),), ()))
    assert [m.ready for m in sent(effects, CreateActor)] == [False]
    call = driver.task(driver.template("inc", method="inc"), actor=ACTOR)
    driver.submit(call)
    driver.grant(7)
    effects = driver.finish(bad, 7, result=Failure("TaskError", "x"))
    assert [m.kind for m in sent(effects, KillActor)] == ["init_failed"]
    assert driver.result(call) == Failure("TaskError", "x")
    driver.tell(Release([bad.task_id + RETURN]))
    assert bad.task_id + RETURN not in driver.machine.objects.records  # nothing stays pinned


def test_refused_calls_wait_for_news_and_cancelled_ones_are_not_repeated():
    driver = Calls()
    driver.news("ALIVE")
    calls = [driver.call() for _ in range(3)]
    driver.tell(Cancel(calls[1].task_id + RETURN, "me", False, True))
    driver.tell(CallsRefused(ACTOR, 1, tuple(c.task_id for c in calls)), worker_address(1))
    assert [c.state for c in calls] == [QUEUED, ENDED, QUEUED]
    assert pushed(driver.news("ALIVE", 2, 2), 2) == [calls[0].task_id, calls[2].task_id]


def test_an_actor_nobody_reports_on_is_asked_for_and_used_again():
    """Only the connection was lost: without this the calls would wait for ever."""
    driver = Calls()
    driver.news("ALIVE")
    lost = driver.call()
    effects = driver.tell(PeerGone("worker1", "timeout"))
    assert any(isinstance(e, SetTimer) for e in effects)  # somebody must look at the clock
    queued = driver.call()
    assert not sent(driver.tell(Tick(), now=NEWS_S - 0.1))
    assert sent(driver.tell(Tick(), now=NEWS_S)) == [SubscribeActor(ACTOR)]
    effects = driver.news("ALIVE")
    assert driver.result(lost).kind == "ActorUnavailableError"
    assert pushed(effects, 1) == [queued.task_id]
    (push,) = sent(effects, PushCalls)
    assert push.templates  # the worker has forgotten them with the connection
    assert not sent(driver.tell(Tick(), now=99.0))


def test_old_news_change_nothing():
    driver = Calls()
    driver.news("ALIVE", 2, 2)
    call = driver.call()
    driver.news("RESTARTING", 1)
    assert call.task_id in driver.client.in_flight
    driver.news("DEAD", 2, death=CRASH)
    driver.news("ALIVE", 3, 3)
    assert driver.client.info.state == "DEAD"


def test_a_late_outcome_of_a_call_that_was_requeued_counts():
    driver = Calls()
    driver.news("ALIVE")
    call = driver.call(driver.template("inc", retries=1, method="inc"))
    driver.news("RESTARTING", death=CRASH)
    assert call.state == QUEUED
    retry = TaskOutcome(call.task_id, (Failure("TaskError", "x"),), retry_wanted=True)
    driver.tell(TasksDone((retry,)), worker_address(1))
    assert list(driver.client.queue) == [call]
    driver.finish(call)
    assert driver.result(call) == VALUE
    assert driver.client.finished_count == 1
    assert not pushed(driver.news("ALIVE", 2, 2))


def test_a_method_that_wants_to_run_again_goes_behind_what_is_queued():
    driver = Calls()
    driver.news("ALIVE")
    call = driver.call(driver.template("inc", retries=1, method="inc"))
    effects = driver.finish(call, result=Failure("TaskError", "x"), retry_wanted=True)
    assert pushed(effects, 1) == [call.task_id]


def test_an_actor_goes_out_of_scope_when_its_last_call_has_ended():
    driver = Driver()
    driver.tell(StartActor(SPEC, (), ()))
    Calls.news(driver, "ALIVE")
    call = driver.task(driver.template("inc", method="inc"), actor=ACTOR)
    driver.submit(call)
    assert not sent(driver.tell(Release([ACTOR + ACTOR_HANDLE_SUFFIX])))
    assert sent(driver.finish(call)) == [ActorOutOfScope(ACTOR)]


def test_a_cancelled_call_does_not_keep_a_pending_actor_in_scope():
    driver = Driver()
    driver.tell(StartActor(SPEC, (), ()))
    call = driver.task(driver.template("inc", method="inc"), actor=ACTOR)
    driver.submit(call)
    driver.tell(Cancel(call.task_id + RETURN, "me", False, True))
    assert sent(driver.tell(Release([ACTOR + ACTOR_HANDLE_SUFFIX]))) == [ActorOutOfScope(ACTOR)]


def test_a_handle_held_by_a_failing_task_goes_in_the_same_step():
    driver = Driver()
    driver.tell(StartActor(SPEC, (), ()))
    handle = RefInfo(ACTOR + ACTOR_HANDLE_SUFFIX, "me")
    task = driver.task(refs=(handle,))
    driver.submit(task)
    driver.tell(Release([handle.object_id]))
    assert ActorOutOfScope(ACTOR) in sent(driver.tell(PeerGone("raylet", "killed")))


def test_without_the_head_lost_actors_fail_and_others_go_on():
    driver = Calls()
    driver.news("ALIVE")
    call = driver.call()
    driver.tell(PeerGone("gcs", "killed"))
    driver.finish(call)
    assert driver.result(call) == VALUE
    second = driver.call()
    driver.tell(PeerGone("worker1", "closed"))
    assert driver.result(second).kind == "ActorUnavailableError"
    assert driver.result(driver.call()).kind == "ActorUnavailableError"
    unknown = driver.task(driver.template("inc", method="inc"), actor=b"b" * 16)
    driver.submit(unknown)
    assert driver.result(unknown).kind == "ActorUnavailableError"


def test_dead_actors_are_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr(limits, "DEAD_ACTORS_KEPT_MAX", 3)
    driver = Driver()
    for number in range(10):
        actor_id = bytes([number]) * 16
        driver.tell(WatchActor(actor_id))
        driver.tell(ActorChanged(ActorInfo(actor_id, b"job", "DEAD", 1, death=CRASH)), GCS)
    assert len(driver.machine.caller.clients) == 3


def test_in_flight_calls_are_bounded(monkeypatch):
    monkeypatch.setattr(limits, "ACTOR_CALLS_IN_FLIGHT_MAX", 2)
    driver = Calls()
    driver.news("ALIVE")
    calls = [driver.call() for _ in range(3)]
    assert pushed(driver.effects) == [c.task_id for c in calls[:2]]
    assert pushed(driver.finish(calls[0])) == [calls[2].task_id]
