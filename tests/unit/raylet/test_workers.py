"""Stories of worker processes: starting, blocked, dying, too many."""

import pytest

from actorrt.kernel.message import NOWHERE
from actorrt.owner.messages import LeasedWorkerDied, LeasesRefused
from actorrt.raylet import messages, pool
from actorrt.wire.records import DeathCause, Environment
from actorrt.worker.messages import ExitWorker
from tests.unit.raylet.harness import DRIVER, JOB, Node, owner, owner_of


# --------------------------------------------------------------------------------------------------------- accelerators
def test_accelerators_are_named():
    node = Node({"CPU": 4, "GPU": 2}, device_ids={"GPU": ("a", "b")})
    for expected in ("a", "b"):
        node.request(resources={"GPU": 1})
        [lease] = node.granted()
        assert lease.accelerator_ids == {"GPU": (expected,)}
    node.request(resources={"GPU": 0.5})
    assert node.granted() == []
    node.give_back(lease)
    [half] = node.granted()
    assert half.accelerator_ids == {"GPU": ("b",)}


def test_a_process_keeps_its_accelerators():
    """A library that has seen one device in a process goes on seeing it."""
    node = Node({"CPU": 4, "GPU": 2})
    node.request(resources={"GPU": 1})
    [first] = node.granted()
    node.request(resources={"GPU": 1})
    [second] = node.granted()
    node.give_back(first)
    node.give_back(second)
    node.request(resources={})
    [plain] = node.granted()
    assert plain.worker_id not in {first.worker_id, second.worker_id}
    node.request(resources={"GPU": 1})
    [again] = node.granted()
    assert again.accelerator_ids == first.accelerator_ids
    assert again.worker_id == first.worker_id


# -------------------------------------------------------------------------------------------------------- nested work
@pytest.mark.parametrize("depth", [1, 5, 30])
def test_nested_gets_with_one_cpu(depth):
    node = Node({"CPU": 1})
    node.request(src=DRIVER)
    stack = node.granted()
    for level in range(depth):
        node.request(src=owner_of(stack[-1]), class_id=level)
        assert node.granted() == [], "the CPU is in use until its holder blocks"
        node.tell(NOWHERE, messages.WorkerBlocked(stack[-1].worker_id))
        stack += node.granted()
        assert len(stack) == level + 2
    assert node.figures.workers_blocked == depth
    while len(stack) > 1:
        child = stack.pop()
        node.give_back(child, src=owner_of(stack[-1]))
        node.tell(NOWHERE, messages.WorkerUnblocked(stack[-1].worker_id))
        assert node.free == {}
    node.give_back(stack.pop())
    assert node.free == {"CPU": 1}
    node.pass_time(10)
    assert node.figures.workers[pool.IDLE] == 1, "the workers grown this way end"


def test_unblocking_takes_the_cpu_back_even_if_it_is_gone():
    node = Node({"CPU": 1})
    node.request()
    [parent] = node.granted()
    node.tell(NOWHERE, messages.WorkerBlocked(parent.worker_id))
    node.request(src=owner("other"))
    [other] = node.granted()
    node.tell(NOWHERE, messages.WorkerUnblocked(parent.worker_id))
    assert node.free == {"CPU": -1}
    node.request(src=owner("third"))
    node.give_back(parent)
    assert node.granted() == []
    node.give_back(other, src=owner("other"))
    assert len(node.granted()) == 1


def test_a_blocked_worker_keeps_its_gpu_and_custom_resources():
    node = Node({"CPU": 1, "GPU": 1, "licence": 1})
    node.request(resources={"CPU": 1, "GPU": 1, "licence": 1})
    [lease] = node.granted()
    node.tell(NOWHERE, messages.WorkerBlocked(lease.worker_id))
    assert node.free == {"CPU": 1}
    node.tell(NOWHERE, messages.WorkerBlocked(lease.worker_id))
    assert node.free == {"CPU": 1}, "a duplicate gives nothing back"
    node.give_back(lease)
    assert node.free == {"CPU": 1, "GPU": 1, "licence": 1}
    node.tell(NOWHERE, messages.WorkerUnblocked(lease.worker_id))
    assert node.free == {"CPU": 1, "GPU": 1, "licence": 1}, "a stale message takes nothing"


def test_children_of_blocked_workers_go_first():
    """A wide tree on one CPU runs depth first: as many workers as it is deep, not as it is wide."""
    node = Node({"CPU": 1})
    node.request(count=20)
    [parent] = node.granted()
    for level in range(6):
        node.request(src=owner_of(parent), class_id=level, count=20)
        node.tell(NOWHERE, messages.WorkerBlocked(parent.worker_id))
        [child] = node.granted()
        assert child.class_id == level
        parent = child
    assert sum(node.figures.workers.values()) == 7


# -------------------------------------------------------------------------------------------------------------- deaths
def test_the_owner_hears_of_its_workers_death():
    node = Node({"CPU": 1}, auto=False)
    node.request()
    node.ready(node.started[0].worker_id, pid=5)
    [lease] = node.granted()
    node.die(lease.worker_id, DeathCause("signal", "killed by SIGSEGV", pid=5, signal=11, stderr_tail=("boom",)))
    [died] = node.take(LeasedWorkerDied)
    assert (died.lease_id, died.worker) == (lease.lease_id, lease.worker)
    assert (died.cause.signal, died.cause.stderr_tail, died.cause.node_id) == (11, ("boom",), node.info.node_id)
    assert node.free == {"CPU": 1}
    node.die(lease.worker_id)
    assert node.take(LeasedWorkerDied) == [], "the second death is none"


def test_an_announced_exit_says_more_than_an_exit_code():
    node = Node({"CPU": 1}, auto=False)
    node.request()
    node.ready(node.started[0].worker_id, pid=5)
    [lease] = node.granted()
    node.tell(NOWHERE, messages.WorkerExiting(lease.worker_id, DeathCause("exit", "max_calls reached")))
    node.give_back(lease)
    assert node.free == {}, "it is still there"
    node.request()
    node.die(lease.worker_id, DeathCause("exit", "exit code 0", pid=5))
    assert node.take(LeasedWorkerDied) == [], "the lease was returned before"
    node.ready(node.started[1].worker_id)
    assert len(node.granted()) == 1


def test_an_exiting_worker_still_leased_reports_its_reason():
    node = Node({"CPU": 1}, auto=False)
    node.request()
    node.ready(node.started[0].worker_id, pid=5)
    [lease] = node.granted()
    node.tell(NOWHERE, messages.WorkerExiting(lease.worker_id, DeathCause("exit", "max_calls reached")))
    node.die(lease.worker_id, DeathCause("exit", "exit code 0", pid=5, stderr_tail=("bye",)))
    [died] = node.take(LeasedWorkerDied)
    assert (died.cause.text, died.cause.pid, died.cause.stderr_tail) == ("max_calls reached", 5, ("bye",))


def test_idle_workers_may_leave():
    node = Node({"CPU": 1})
    node.request()
    [lease] = node.granted()
    node.give_back(lease)
    node.tell(NOWHERE, messages.WorkerExiting(lease.worker_id, DeathCause("exit", "tired")))
    node.request()
    assert node.granted()[0].worker_id != lease.worker_id


def test_a_lost_connection_is_followed_by_the_kill():
    node = Node({"CPU": 1}, auto=False)
    node.request()
    node.ready(node.started[0].worker_id)
    [lease] = node.granted()
    node.gone(lease.worker.process)
    node.gone(lease.worker.process)
    assert node.killed == [], "it may be dying by itself: wait for its exit code"
    node.pass_time(2)
    assert node.killed[0] == lease.worker_id
    node.die(lease.worker_id)
    assert len(node.take(LeasedWorkerDied)) == 1


def test_a_lost_idle_worker_is_not_granted():
    node = Node({"CPU": 1}, auto=False)
    node.request()
    node.ready(node.started[0].worker_id)
    [lease] = node.granted()
    node.give_back(lease)
    node.gone(lease.worker.process)
    node.request()
    assert node.granted() == []
    assert len(node.started) == 2


def test_a_lost_leased_worker_is_not_granted_after_its_return():
    node = Node({"CPU": 1}, auto=False)
    node.request()
    node.ready(node.started[0].worker_id)
    [lease] = node.granted()
    node.gone(lease.worker.process)
    node.give_back(lease)
    node.request()
    assert node.granted() == []
    assert node.killed == [lease.worker_id]


# ---------------------------------------------------------------------------------------------------- starting workers
def test_starting_is_tried_a_few_times():
    node = Node({"CPU": 2}, auto=False)
    node.request(count=2)
    for attempt in range(pool.START_ATTEMPTS_MAX):
        assert node.take(LeasesRefused) == []
        cause = DeathCause("exit", f"exit code {attempt}", stderr_tail=("no module x",))
        node.die(node.started[attempt].worker_id, cause)
    refused = node.take(LeasesRefused)
    assert sum(message.count for message in refused) == 2
    assert {message.kind for message in refused} == {"WorkerCrashedError"}
    assert "exit code 2" in refused[0].text
    assert "no module x" in refused[0].text
    assert node.free == {"CPU": 2}
    node.request()
    assert len(node.started) > pool.START_ATTEMPTS_MAX, "later requests are tried again"


def test_an_environment_that_cannot_be_made():
    node = Node({"CPU": 1}, auto=False)
    environment = Environment(serialized='{"pip": ["nonsense"]}')
    node.request(count=3, environment=environment)
    for attempt in range(pool.START_ATTEMPTS_MAX):
        node.tell(NOWHERE, messages.WorkerStartFailed(node.started[attempt].worker_id, "no such package"))
    refused = node.take(LeasesRefused)
    assert sum(message.count for message in refused) == 3, "those without resources would fail alike"
    assert {message.kind for message in refused} == {"RuntimeEnvSetupError"}


def test_failures_are_counted_in_a_row():
    node = Node({"CPU": 1}, auto=False)
    node.request(count=2)
    for _ in range(4):
        node.die(node.started[-1].worker_id)
        node.die(node.started[-1].worker_id)
        node.ready(node.started[-1].worker_id)
        [lease] = node.granted()
        node.request()
        node.die(lease.worker_id)
    assert node.take(LeasesRefused) == []


def test_a_worker_that_never_reports_is_killed():
    node = Node({"CPU": 1}, auto=False)
    node.request()
    node.pass_time(59)
    assert node.killed == []
    node.pass_time(2)
    assert node.killed == [node.started[0].worker_id]
    assert len(node.started) == 2, "and another one tried"
    node.ready(node.started[0].worker_id)
    assert node.granted() == [], "it comes too late"
    node.die(node.started[0].worker_id, DeathCause("signal", "killed", signal=9))
    node.pass_time(120)
    [refused] = node.take(LeasesRefused)
    assert "did not report" in refused.text


def test_starts_are_bounded():
    node = Node({"CPU": 100}, auto=False, start_concurrency=3)
    node.request(count=10)
    assert len(node.started) == 3
    node.ready(node.started[0].worker_id)
    assert len(node.started) == 4
    assert len(node.granted()) == 1


def test_reports_of_unknown_workers_are_ignored():
    node = Node()
    unknown = b"?" * 16
    node.ready(unknown)
    node.tell(NOWHERE, messages.WorkerStarted(unknown, 1))
    node.tell(NOWHERE, messages.WorkerStartFailed(unknown, "x"))
    node.tell(NOWHERE, messages.WorkerBlocked(unknown))
    node.tell(NOWHERE, messages.WorkerUnblocked(unknown))
    node.tell(NOWHERE, messages.WorkerExiting(unknown, DeathCause("exit", "x")))
    node.tell(NOWHERE, messages.ActorInitialized(unknown, b"a", 1))
    node.die(unknown)
    assert sum(node.figures.workers.values()) == 0


def test_a_worker_reports_once():
    node = Node({"CPU": 2})
    node.request()
    [lease] = node.granted()
    node.ready(lease.worker_id)
    node.request(class_id=2)
    [other] = node.granted()
    assert other.worker_id != lease.worker_id


# --------------------------------------------------------------------------------------------------------- many workers
def test_tasks_without_cpu_are_bounded_by_the_number_of_workers():
    node = Node({"CPU": 1}, workers_max=5)
    node.request(count=8, resources={})
    leases = node.granted()
    assert len(leases) == 5
    assert node.reasons() == ["waits for a worker process: all 5 are in use"]
    node.give_back(leases[0])
    assert len(node.granted()) == 1


def test_an_idle_worker_makes_room_for_another_job():
    node = Node({"CPU": 2}, workers_max=2, jobs=(JOB, b"job2"), auto=False)
    node.request(count=2)
    for start in list(node.started):
        node.ready(start.worker_id)
    for lease in node.granted():
        node.give_back(lease)
    node.take()
    node.request(job_id=b"job2")
    assert node.take(ExitWorker) == [ExitWorker(graceful=True)]
    assert len(node.started) == 2
    node.die(node.started[0].worker_id, DeathCause("exit", "exit code 0"))
    assert len(node.started) == 3
    node.ready(node.started[2].worker_id)
    assert len(node.granted()) == 1


def test_idle_workers_beyond_the_cpus_end():
    node = Node({"CPU": 2}, auto=False)
    node.request(count=6, resources={})
    for start in list(node.started):
        node.ready(start.worker_id)
    for lease in node.granted():
        node.give_back(lease)
    node.pass_time(0.9)
    assert node.take(ExitWorker) == []
    node.pass_time(1)
    assert len(node.take(ExitWorker)) == 4
    assert node.figures.workers[pool.IDLE] == 2
    node.pass_time(pool.IDLE_EXIT_GRACE_S + 1)
    assert len(dict.fromkeys(node.killed)) == 4, "those that do not go are killed"
