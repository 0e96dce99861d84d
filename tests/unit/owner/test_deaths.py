from actorrt.owner.deaths import crash_failure, death_failure, describe_death, unavailable_failure
from actorrt.owner.tasks import Task, Template
from actorrt.wire.records import ActorInfo, DeathCause, Failure, LeaseSpec, TaskTemplate
from tests.unit.owner.test_tasks import make_worker

CRASH = DeathCause("signal", "killed by SIGSEGV", stderr_tail=("Fatal Python error", "in f"))


def test_the_last_lines_of_stderr_are_shown():
    assert describe_death(CRASH).splitlines() == [
        "killed by SIGSEGV",
        "last lines of its stderr:",
        "  Fatal Python error",
        "  in f",
    ]


def test_a_crash_names_the_process_the_task_and_the_attempt():
    task = Task(b"t" * 16, Template(TaskTemplate(1, b"k", "f", "f", b"job"), LeaseSpec(b"job", {})), b"")
    task.attempt = 2
    failure = crash_failure(task, make_worker(), CRASH)
    assert failure.kind == "WorkerCrashedError"
    for part in ("pid 77", "task f", "attempt 3", "SIGSEGV", "in f"):
        assert part in failure.text


def test_dead_actors_say_why():
    raised = DeathCause("init_failed", "x", failure=Failure("TaskError", "ValueError: no"))
    info = ActorInfo(b"a" * 16, b"job", "DEAD", class_name="Counter", death=raised)
    failure = death_failure(info.actor_id, info)
    assert failure.kind == "ActorDiedError"
    assert "Counter" in failure.text
    assert "ValueError: no" in failure.text
    assert death_failure(b"a" * 16, None).kind == "ActorDiedError"
    nowhere = ActorInfo(b"a" * 16, b"job", "DEAD", death=DeathCause("unschedulable", "no node"))
    assert death_failure(b"a" * 16, nowhere).kind == "ActorUnschedulableError"
    assert "max_task_retries" in unavailable_failure(b"a" * 16, info, "why").text
