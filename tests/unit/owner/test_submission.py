import pytest

from actorrt.kernel import limits
from actorrt.kernel.message import Address, PeerGone
from actorrt.owner.messages import (
    LeasedWorkerDied,
    LeaseRecalled,
    LeasesRedirected,
    LeasesRefused,
    NodeChanged,
    TasksReturned,
)
from actorrt.owner.requests import Cancel, Release, Tick
from actorrt.owner.submission import DEATH_REPORT_S, IDLE_CLASSES_KEPT_MAX, LAST_WORDS_S, TAKE_BACK_AFTER_S
from actorrt.owner.tasks import ENDED, QUEUED
from actorrt.raylet.messages import CancelLeases, RequestLeases, ReturnLease
from actorrt.wire.records import DeathCause, Failure, RefInfo, Value
from actorrt.worker.messages import CancelTask, PushTasks, TakeBack
from tests.unit.owner.harness import RAYLET, RETURN, VALUE, Driver, pushed, sent, sent_to, worker_address

CRASH = DeathCause("signal", "killed by SIGKILL", signal=9)


def learned(driver, name="f", **options):
    """A template whose duration is known to be short, so that tasks are pipelined."""
    template = driver.template(name, **options)
    template.average_s = 0.0001
    return template


def die(driver, number=1, cause=CRASH):
    effects = driver.tell(LeasedWorkerDied(number, worker_address(number), cause), RAYLET)
    return effects + driver.tell(PeerGone(f"worker{number}", "closed"))


# ---------------------------------------------------------------------------------------------- leases and pushing
def test_a_task_asks_for_a_lease_is_pushed_and_ends():
    driver = Driver()
    task = driver.task()
    (request,) = sent(driver.submit(task), RequestLeases)
    assert request.count == 1
    (push,) = sent(driver.grant(), PushTasks)
    assert [t.number for t in push.templates] == [1]
    driver.finish(task)
    assert driver.result(task) == VALUE
    assert not driver.submitter.tasks
    second = driver.task()
    (push,) = sent(driver.submit(second), PushTasks)
    assert push.templates == ()  # the template is known there
    driver.finish(second)
    effects = driver.tell(Tick(), now=limits.LEASE_LINGER_S)
    assert sent(effects) == [ReturnLease(1)]
    assert not driver.submitter.workers


def test_unknown_functions_go_one_at_a_time_and_quick_ones_in_a_pipeline():
    driver = Driver()
    tasks = [driver.task() for _ in range(10)]
    driver.submit(*tasks)
    assert pushed(driver.grant()) == [tasks[0].task_id]
    assert pushed(driver.finish(tasks[0], duration_s=0.004)) == [t.task_id for t in tasks[1:3]]
    slow = [driver.task(driver.template("slow")) for _ in range(2)]
    driver.submit(*slow)
    for task in tasks[1:]:
        driver.finish(task, duration_s=0.004)
    assert slow[1].state == QUEUED


def test_what_a_task_was_expected_to_take_is_taken_off_again():
    driver = Driver()
    template = learned(driver)
    template.average_s = 0.004
    tasks = [driver.task(template) for _ in range(50)]
    driver.submit(*tasks)
    driver.grant()
    worker = next(iter(driver.submitter.workers.values()))
    for task in tasks[:40]:  # much quicker than expected: the average sinks while they are in flight
        driver.finish(task, duration_s=0.0001)
        assert worker.expected_s == pytest.approx(sum(t.expected_s for t in worker.in_flight.values()))


def test_the_queue_is_dealt_out_evenly():
    driver = Driver()
    template = learned(driver)
    driver.submit(driver.task(driver.template("hold")), driver.task(driver.template("hold")))
    driver.grant(1)
    driver.grant(2)
    tasks = [driver.task(template) for _ in range(20)]
    effects = driver.submit(*tasks)
    assert len(pushed(effects, 1)) == len(pushed(effects, 2)) == 10


def test_requests_no_longer_needed_are_cancelled_and_late_grants_returned():
    driver = Driver()
    task = driver.task()
    driver.submit(task, driver.task())
    driver.grant(1)
    first, second = list(driver.submitter.tasks.values())
    effects = driver.tell(Cancel(second.task_id + RETURN, "me", False, True))
    assert sent(effects) == [CancelLeases(1, 1)]
    assert sent(driver.grant(2)) == [ReturnLease(2)]
    assert first.state != ENDED


def test_redirected_requests_are_asked_elsewhere_only_as_far_as_still_needed():
    driver = Driver()
    driver.submit(driver.task(), driver.task())
    other = Address("raylet2", "raylet")
    effects = driver.tell(LeasesRedirected(1, 2, other, 1), RAYLET)
    (request,) = sent_to(effects, other)
    assert (request.count, request.hops) == (2, 1)
    assert not sent_to(effects, RAYLET)


def test_refused_requests_fail_as_many_tasks():
    driver = Driver()
    tasks = [driver.task() for _ in range(3)]
    driver.submit(*tasks)
    driver.tell(LeasesRefused(1, 2, "TaskUnschedulableError", "never"), RAYLET)
    assert [t.state == ENDED for t in tasks] == [True, True, False]
    assert driver.result(tasks[0]).kind == "TaskUnschedulableError"
    assert driver.submitter.classes[b"cpu"].requested == {RAYLET: 1}


def test_a_recalled_lease_goes_back_when_its_work_is_done():
    driver = Driver()
    template = learned(driver)
    tasks = [driver.task(template) for _ in range(3)]
    driver.submit(*tasks)
    driver.grant()
    effects = driver.tell(LeaseRecalled(1), RAYLET)
    assert sent(effects) == [TakeBack(2)]
    driver.tell(TasksReturned((tasks[1].task_id, tasks[2].task_id)), worker_address(1))
    assert [t.state for t in tasks[1:]] == [QUEUED, QUEUED]
    effects = driver.finish(tasks[0])
    assert ReturnLease(1) in sent(effects)
    assert pushed(driver.grant(2)) == [t.task_id for t in tasks[1:]]


def test_tasks_behind_a_slow_one_are_taken_back_and_the_worker_gets_work_again():
    driver = Driver()
    template = learned(driver)
    tasks = [driver.task(template) for _ in range(3)]
    driver.submit(*tasks)
    driver.grant()
    assert sent(driver.tell(Tick(), now=TAKE_BACK_AFTER_S + 0.01)) == [TakeBack(2)]
    assert not sent(driver.tell(Tick(), now=1.0))  # asked once
    driver.tell(TasksReturned((tasks[1].task_id, tasks[2].task_id)), worker_address(1))
    assert pushed(driver.finish(tasks[0])) == [t.task_id for t in tasks[1:]]


def test_a_worker_that_gives_its_last_task_back_on_request_gets_work_again():
    """It had finished the first one before the request came. Left alone, its lease would never be returned."""
    driver = Driver()
    template = learned(driver)
    tasks = [driver.task(template) for _ in range(2)]
    driver.submit(*tasks)
    driver.grant()
    driver.tell(Tick(), now=1.0)
    ids = tuple(t.task_id for t in tasks)
    assert pushed(driver.tell(TasksReturned(ids), worker_address(1))) == list(ids)


def test_a_worker_that_gives_everything_back_unasked_is_returned():
    """It is about to end (``max_calls``): pushing to it again would only go round in circles."""
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    driver.grant()
    effects = driver.tell(TasksReturned((task.task_id,)), worker_address(1))
    assert ReturnLease(1) in sent(effects)
    assert not pushed(effects)
    assert pushed(driver.grant(2)) == [task.task_id]


def test_a_cancelled_task_that_comes_back_is_not_run():
    driver = Driver()
    template = learned(driver)
    tasks = [driver.task(template) for _ in range(2)]
    driver.submit(*tasks)
    driver.grant()
    assert sent(driver.tell(Cancel(tasks[1].task_id + RETURN, "me", False, True))) == [
        CancelTask(tasks[1].task_id, False, True)
    ]
    driver.tell(Tick(), now=1.0)
    effects = driver.tell(TasksReturned((tasks[1].task_id,)), worker_address(1))
    assert not pushed(effects)
    assert driver.result(tasks[1]).kind == "TaskCancelledError"


def test_idle_classes_are_forgotten():
    driver = Driver()
    for number in range(IDLE_CLASSES_KEPT_MAX + 10):
        task = driver.task(driver.template("f", lease=f"resource{number}"))
        driver.submit(task)
        driver.tell(Cancel(task.task_id + RETURN, "me", False, True))
        driver.tell(Release([task.task_id + RETURN]))
    submitter = driver.submitter
    assert len(submitter.classes) == len(submitter.classes_by_id) <= IDLE_CLASSES_KEPT_MAX
    assert len(submitter.classes) > 0
    assert sent(driver.grant(1, class_id=1)) == [ReturnLease(1)]  # a class of the past


# ---------------------------------------------------------------------------------------------- outcomes
def test_outcomes_of_nobodys_tasks_are_accounted_for_all_the_same():
    """The worker counts itself registered for refs it keeps, and us for refs it sends."""
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    driver.grant()
    kept, inside = RefInfo(b"kept" * 5, "other"), RefInfo(b"inside..............", "other")
    driver.finish(task)
    effects = driver.finish(task, result=Value(b"x", (), (inside,)), borrowed=(kept,))
    names = [type(m).__name__ for m in sent_to(effects, Address("other", "owner"))]
    assert names == ["BorrowersAdded", "BorrowersRemoved"]


def test_a_task_that_wants_to_run_again_does_while_it_may():
    driver = Driver()
    task = driver.task(driver.template(retries=1))
    driver.submit(task)
    driver.grant()
    failure = Failure("TaskError", "x")
    assert pushed(driver.finish(task, result=failure, retry_wanted=True)) == [task.task_id]
    assert (task.attempt, task.retries_left) == (1, 0)
    driver.finish(task, result=failure, retry_wanted=True)
    assert driver.result(task) == failure


def test_a_late_wish_to_run_again_does_not_queue_a_task_twice():
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    driver.grant()
    driver.tell(LeasedWorkerDied(1, worker_address(1), CRASH), RAYLET)
    driver.tell(Tick(), now=LAST_WORDS_S)
    assert task.state == QUEUED
    driver.finish(task, result=Failure("TaskError", "x"), retry_wanted=True)
    assert list(driver.submitter.classes[b"cpu"].queue) == [task]


def test_a_late_outcome_counts_and_leaves_nothing_behind_at_the_second_worker():
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    driver.grant(1)
    driver.tell(LeasedWorkerDied(1, worker_address(1), CRASH), RAYLET)
    driver.tell(Tick(), now=LAST_WORDS_S)
    driver.grant(2)
    driver.finish(task, 1)
    assert driver.result(task) == VALUE
    driver.finish(task, 2, result=Value(b"other"))
    assert driver.result(task) == VALUE
    assert sent(driver.tell(Tick(), now=10.0)) == [ReturnLease(2)]


# ---------------------------------------------------------------------------------------------- deaths
def test_only_the_first_task_is_charged_and_the_others_go_to_the_front():
    driver = Driver()
    template = learned(driver, retries=0)
    tasks = [driver.task(template) for _ in range(3)]
    driver.submit(*tasks)
    driver.grant()
    driver.submit(later := driver.task(driver.template("slow")))
    die(driver)
    failure = driver.result(tasks[0])
    assert failure.kind == "WorkerCrashedError"
    assert "SIGKILL" in failure.text
    assert "1001" in failure.text
    assert [t.state for t in tasks[1:]] == [QUEUED, QUEUED]
    assert [t.attempt for t in tasks[1:]] == [0, 0]
    assert list(driver.submitter.classes[b"cpu"].queue) == [*tasks[1:], later]


def test_suspects_run_alone_so_that_the_culprit_pays_for_itself():
    driver = Driver()
    template = learned(driver, retries=1)
    tasks = [driver.task(template) for _ in range(4)]
    culprit = tasks[2]
    driver.submit(*tasks)
    deaths = 0
    number = 0
    while driver.submitter.tasks:
        number += 1
        driver.grant(number)
        worker = driver.submitter.workers[RAYLET.process, number]
        held = []
        while worker.in_flight:
            task = next(iter(worker.in_flight.values()))
            if culprit.task_id in worker.in_flight:
                # Everything before the culprit ran, but its outcome was held back: only the death is seen.
                held = list(worker.in_flight)
                die(driver, number)
                deaths += 1
                break
            driver.finish(task, number)
        assert deaths < 2 or len(held) <= 1
    assert deaths == 3  # once in company, then once for each of its own attempts
    assert driver.result(culprit).kind == "WorkerCrashedError"
    assert [driver.result(t) for t in tasks if t is not culprit] == [VALUE] * 3


def test_outcomes_sent_before_the_death_count():
    driver = Driver()
    template = learned(driver, retries=0)
    tasks = [driver.task(template) for _ in range(2)]
    driver.submit(*tasks)
    driver.grant()
    driver.tell(LeasedWorkerDied(1, worker_address(1), CRASH), RAYLET)  # overtakes what the worker said
    assert not driver.submitter.workers[RAYLET.process, 1].usable
    driver.finish(tasks[0])
    driver.tell(PeerGone("worker1", "closed"))
    assert driver.result(tasks[0]) == VALUE
    assert driver.result(tasks[1]).kind == "WorkerCrashedError"


def test_a_death_without_the_end_of_the_connection_is_believed_after_a_while():
    driver = Driver()
    task = driver.task(driver.template(retries=0))
    driver.submit(task)
    driver.grant()
    driver.tell(LeasedWorkerDied(1, worker_address(1), CRASH), RAYLET)
    driver.tell(Tick(), now=LAST_WORDS_S - 0.01)
    assert driver.result(task) is None
    driver.tell(Tick(), now=LAST_WORDS_S)
    assert driver.result(task).kind == "WorkerCrashedError"


def test_a_lost_connection_without_a_death_is_believed_after_a_while():
    driver = Driver()
    task = driver.task(driver.template(retries=0))
    driver.submit(task)
    driver.grant()
    assert not sent(driver.tell(PeerGone("worker1", "closed")))
    assert not sent(driver.tell(Tick(), now=DEATH_REPORT_S - 0.01))
    effects = driver.tell(Tick(), now=DEATH_REPORT_S)
    assert sent(effects) == [ReturnLease(1, worker_failed=True)]
    assert "connection to it was lost" in driver.result(task).text


def test_an_idle_worker_whose_connection_is_lost_is_returned_at_once():
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    driver.grant()
    driver.finish(task)
    assert sent(driver.tell(PeerGone("worker1", "closed"))) == [ReturnLease(1, worker_failed=True)]


def test_a_cancelled_task_whose_worker_dies_is_cancelled_and_nobody_is_suspected():
    driver = Driver()
    template = learned(driver)
    tasks = [driver.task(template) for _ in range(2)]
    driver.submit(*tasks)
    driver.grant()
    driver.tell(Cancel(tasks[0].task_id + RETURN, "me", True, True))
    die(driver, cause=DeathCause("killed", "cancelled with force=True"))
    assert driver.result(tasks[0]).kind == "TaskCancelledError"
    assert not tasks[1].alone


@pytest.mark.parametrize(("kind", "error"), [("oom", "OutOfMemoryError"), ("node_died", "NodeDiedError")])
def test_the_cause_names_the_error(kind, error):
    driver = Driver()
    task = driver.task(driver.template(retries=0))
    driver.submit(task)
    driver.grant()
    die(driver, cause=DeathCause(kind, "why"))
    assert driver.result(task).kind == error


@pytest.mark.parametrize(("kind", "goes_elsewhere"), [("signal", True), ("node_died", False)])
def test_tasks_that_run_once_and_were_not_first_in_line(kind, goes_elsewhere):
    """A dying machine may lose outcomes on their way, so any of them may have been started (found by the simulator)."""
    driver = Driver()
    template = learned(driver, retries=0)
    tasks = [driver.task(template) for _ in range(3)]
    driver.submit(*tasks)
    driver.grant()
    assert len(driver.submitter.workers_by_process["worker1"].in_flight) == 3
    die(driver, cause=DeathCause(kind, "gone"))
    assert [task.state == QUEUED for task in tasks] == [False, goes_elsewhere, goes_elsewhere]
    assert tasks[0].state == ENDED


def test_a_dead_node_loses_its_leases_and_requests():
    driver = Driver()
    other = Address("raylet2", "raylet")
    first, second = driver.task(driver.template(retries=0)), driver.task()
    driver.submit(first, second)
    driver.tell(LeasesRedirected(1, 2, other, 1), RAYLET)
    driver.grant(1, raylet=other)
    effects = driver.tell(NodeChanged(b"node", other, alive=False, text="power cut"), Address("gcs", "gcs"))
    assert [type(m) for m in sent_to(effects, RAYLET)] == [RequestLeases]
    driver.tell(PeerGone("worker1", "closed"))
    assert driver.result(first).kind == "NodeDiedError"
    assert "power cut" in driver.result(first).text


def test_without_its_own_node_nothing_can_run_and_nothing_hangs():
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    driver.tell(PeerGone(RAYLET.process, "killed"))
    assert driver.result(task).kind == "LocalRayletDiedError"
    late = driver.task()
    assert not sent(driver.submit(late), RequestLeases)
    assert driver.result(late).kind == "LocalRayletDiedError"


def test_a_long_chain_of_failures_is_no_recursion():
    driver = Driver()
    tasks = [driver.task()]
    for _ in range(3000):
        tasks.append(driver.task(dependencies=(RefInfo(tasks[-1].task_id + RETURN, "me"),)))
    driver.submit(*tasks)
    driver.tell(Cancel(tasks[0].task_id + RETURN, "me", False, True))
    assert driver.result(tasks[-1]).kind == "TaskCancelledError"
