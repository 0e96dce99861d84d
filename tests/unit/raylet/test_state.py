"""Stories of the whole machine: messages in, messages out."""

import pytest

from actorrt.gcs.messages import FinishJob, LoadReported, NodeRegistered
from actorrt.kernel.effects import Do, Fail, Reply, Send
from actorrt.kernel.limits import HEARTBEAT_INTERVAL_S
from actorrt.kernel.message import NOWHERE, Address, Done
from actorrt.owner.messages import LeasedWorkerDied, LeaseGranted, LeaseRecalled, LeasesRefused, NodeChanged
from actorrt.raylet import messages, pool, state
from actorrt.raylet.operations import FlushLogs, KillWorker, StartWorker, StopProcess
from actorrt.scheduling.resources import parse
from actorrt.wire.records import Environment
from tests.unit.raylet.harness import DRIVER, GCS, JOB, Node, job, load, node_info, owner, worker_address


# ---------------------------------------------------------------------------------------------------- life of a lease
def test_life_of_a_lease():
    node = Node({"CPU": 1}, auto=False)
    node.request(count=1, name="f")
    [start] = node.started
    assert (start.job, start.environment) == (job(), Environment())
    assert node.granted() == []
    assert node.free == {}, "resources are taken before the worker is there"
    node.tell(NOWHERE, messages.WorkerStarted(start.worker_id, 77))
    assert node.granted() == []
    node.ready(start.worker_id, pid=77)
    [lease] = node.granted()
    assert (lease.class_id, lease.worker, lease.pid) == (1, worker_address(start.worker_id), 77)
    assert lease.node_id == node.info.node_id
    node.give_back(lease)
    assert node.free == {"CPU": 1}
    node.request(class_id=2)
    [again] = node.granted()
    assert again.worker_id == lease.worker_id, "the idle worker is used again"
    assert again.lease_id != lease.lease_id
    assert len(node.started) == 1


def test_no_more_workers_than_grants():
    node = Node({"CPU": 2}, auto=False)
    node.request(count=50)
    assert len(node.started) == 2
    node.request(src=owner("other"), count=50)
    assert len(node.started) == 2


def test_returning_twice_or_by_somebody_else_changes_nothing():
    node = Node({"CPU": 1})
    node.request()
    [lease] = node.granted()
    node.give_back(lease, src=owner("thief"))
    assert node.free == {}
    node.give_back(lease)
    node.give_back(lease)
    node.tell(DRIVER, messages.ReturnLease(12345))
    assert node.free == {"CPU": 1}
    assert node.figures.workers[pool.IDLE] == 1


def test_a_failed_worker_is_not_used_again():
    node = Node({"CPU": 1})
    node.request()
    [lease] = node.granted()
    node.give_back(lease, worker_failed=True)
    assert node.killed == [lease.worker_id]
    assert node.free == {"CPU": 1}
    assert not node.take(LeasedWorkerDied), "the owner knows"


def test_resources_of_a_killed_worker_are_free_when_it_is_dead():
    node = Node({"CPU": 1}, auto=False)
    node.request()
    node.ready(node.started[0].worker_id)
    [lease] = node.granted()
    node.give_back(lease, worker_failed=True)
    assert node.free == {}
    node.die(lease.worker_id)
    assert node.free == {"CPU": 1}


def test_cancelled_requests_are_not_granted():
    node = Node({"CPU": 1}, auto=False)
    node.request(count=3)
    node.tell(DRIVER, messages.CancelLeases(1, 2))
    assert node.figures.requests_waiting == 0
    node.tell(DRIVER, messages.CancelLeases(1, 5))
    assert node.free == {"CPU": 1}, "the grant that waited for its worker is given up too"
    node.ready(node.started[0].worker_id)
    assert node.granted() == []
    assert node.figures.workers[pool.IDLE] == 1
    node.tell(DRIVER, messages.CancelLeases(7, 1))


def test_cancelling_leaves_other_classes_alone():
    node = Node({"CPU": 1}, auto=False)
    node.request(class_id=1)
    node.request(class_id=2)
    node.tell(DRIVER, messages.CancelLeases(2, 1))
    node.ready(node.started[0].worker_id)
    assert [lease.class_id for lease in node.granted()] == [1]


@pytest.mark.parametrize("count", [0, -3])
def test_a_request_for_nothing_is_none(count):
    node = Node()
    node.request(count=count)
    assert node.take() == []


def test_the_queue_is_bounded():
    node = Node({"CPU": 1}, queue_max=10)
    node.request(count=4)
    node.request(class_id=2, count=20)
    [refused] = node.take(LeasesRefused)
    assert (refused.class_id, refused.count, refused.kind) == (2, 13, "Overloaded")
    node.request(class_id=3, count=2)
    [refused] = node.take(LeasesRefused)
    assert refused.count == 2
    assert node.figures.requests_waiting == 10


def test_unknown_jobs_wait():
    node = Node(jobs=())
    node.request()
    assert node.granted() == []
    assert node.reasons() == [f"job {JOB.hex()} is not known here yet"]
    node.tell(GCS, messages.JobStarted(job()))
    assert len(node.granted()) == 1


def test_jobs_come_with_the_registration_too():
    node = Node(jobs=())
    node.request()
    other = node_info("other")
    node.tell(GCS, NodeRegistered((node.info, other), (load(other, {"CPU": 1}),), (job(),)))
    assert len(node.granted()) == 1
    assert not node.machine.view.alone


def test_workers_are_not_shared_between_jobs_and_environments():
    node = Node({"CPU": 1}, jobs=(JOB, b"job2"))
    environment = Environment((("A", "1"),))
    workers = []
    for wants in ({}, {"job_id": b"job2"}, {"environment": environment}, {}):
        node.request(**wants)
        [lease] = node.granted()
        workers.append(lease.worker_id)
        node.give_back(lease)
    assert len(dict.fromkeys(workers)) == 3
    assert workers[0] == workers[3]


# ---------------------------------------------------------------------------------------------------------------- jobs
def test_a_driver_finds_workers_ready():
    node = Node({"CPU": 3})
    effects = node.tell(DRIVER, messages.DriverJoined(JOB, DRIVER), request_id=4)
    assert Reply(DRIVER, 4, Done()) in effects
    assert node.figures.workers[pool.IDLE] == 3
    node.request(count=3)
    assert len(node.granted()) == 3
    assert len(node.started) == 3


def test_prestarting_waits_for_the_job():
    node = Node({"CPU": 3}, jobs=())
    node.tell(DRIVER, messages.DriverJoined(JOB, DRIVER))
    assert node.started == []
    node.tell(GCS, messages.JobStarted(job(environment=Environment((("A", "1"),)))))
    assert len(node.started) == 3
    assert node.started[0].environment == Environment((("A", "1"),))
    node.tell(GCS, messages.JobStarted(job(environment=Environment((("A", "1"),)))))
    assert len(node.started) == 3


def test_other_jobs_are_not_prestarted():
    node = Node({"CPU": 3}, jobs=())
    node.tell(GCS, messages.JobStarted(job()))
    assert node.started == []


def test_prestarting_happens_within_the_concurrency_and_is_given_up_on_failure():
    node = Node({"CPU": 10}, auto=False, start_concurrency=2)
    node.tell(DRIVER, messages.DriverJoined(JOB, DRIVER))
    assert len(node.started) == 2
    node.ready(node.started[0].worker_id)
    assert len(node.started) == 3
    node.die(node.started[1].worker_id)
    node.ready(node.started[2].worker_id)
    assert len(node.started) == 3


def test_a_driver_that_goes_ends_its_job():
    node = Node({"CPU": 2})
    node.tell(DRIVER, messages.DriverJoined(JOB, DRIVER))
    node.request(count=1)
    node.gone("driver", "connection reset")
    [finish] = node.take(FinishJob)
    assert finish.job_id == JOB
    assert "connection reset" in finish.text
    node.gone("driver")
    assert node.take(FinishJob) == []


def test_a_driver_whose_job_is_finished_goes_quietly():
    node = Node()
    node.tell(DRIVER, messages.DriverJoined(JOB, DRIVER))
    node.tell(GCS, messages.JobFinished(JOB))
    node.gone("driver")
    assert node.take(FinishJob) == []


# ------------------------------------------------------------------------------------------------------------- the GCS
def test_the_node_ends_when_the_head_is_gone():
    node = Node()
    node.gone("head")
    node.pass_time(state.GCS_GRACE_S - 0.5)
    assert node.operations(StopProcess) == []
    node.pass_time(1.5)
    assert len(node.operations(StopProcess)) == 1


def test_a_word_of_the_gcs_calls_it_off():
    node = Node()
    node.gone("head")
    node.cluster()
    node.pass_time(10)
    assert node.operations(StopProcess) == []


def test_the_head_does_not_wait_for_itself():
    node = Node(info=node_info(is_head=True))
    node.gone("head")
    node.pass_time(10)
    assert node.operations(StopProcess) == []


def test_a_node_given_up_by_the_cluster_ends():
    node = Node()
    node.cluster(node_info(alive=False))
    [stop] = node.operations(StopProcess)
    assert "given this node up" in stop.text


def test_owners_in_workers_and_the_object_manager_hear_of_the_death_of_a_node():
    node = Node({"CPU": 2}, auto=False)
    node.request(count=1)
    worker_id = node.started[0].worker_id
    node.ready(worker_id)
    node.cluster(node_info("there"))
    gone = node_info("there", alive=False)
    told = [e for e in node.cluster(gone) if isinstance(e, Send) and isinstance(e.body, NodeChanged)]
    news = NodeChanged(gone.node_id, gone.raylet, alive=False)
    managers, owners = Address(node.info.raylet.process, "objects"), owner(worker_address(worker_id).process)
    assert told == [Send(managers, news), Send(owners, news)]


def test_stop_node():
    node = Node({"CPU": 2}, auto=False)
    node.request(count=2)
    node.ready(node.started[0].worker_id)
    effects = node.tell(GCS, messages.StopNode("enough"), request_id=9)
    assert Reply(GCS, 9, Done()) in effects
    assert [type(e.operation) for e in effects if isinstance(e, Do)] == [KillWorker, KillWorker, StopProcess]
    for start in node.started:
        node.die(start.worker_id)
    assert len(node.started) == 2, "nothing is started any more"
    again = node.tell(GCS, messages.StopNode("enough"), request_id=10)
    assert again == [Reply(GCS, 10, Done())]


# ---------------------------------------------------------------------------------------------------------------- other
def test_requests_it_does_not_know_fail():
    node = Node()
    [fail] = node.tell(GCS, FinishJob(JOB), request_id=3)
    assert isinstance(fail, Fail)
    assert node.tell(GCS, FinishJob(JOB)) == []


def test_node_statistics():
    node = Node({"CPU": 2})
    node.request(count=3)
    effects = node.tell(GCS, messages.GetNodeStatistics(), request_id=1)
    [answer] = [effect.body for effect in effects if isinstance(effect, Reply)]
    assert answer.figures["workers"] == answer.figures["workers_leased"] == answer.figures["leases"] == 2
    assert answer.figures["requests_waiting"] == 1
    assert answer.worker_pids == (1000, 1001)


def test_logs_are_flushed():
    node = Node()
    effects = node.tell(DRIVER, messages.LogsFlush(JOB), request_id=8)
    [flush] = [effect.operation for effect in effects if isinstance(effect, Do)]
    assert flush == FlushLogs(JOB, 1)
    assert Reply(DRIVER, 8, Done()) in node.tell(NOWHERE, messages.LogsFlushed(1))
    assert node.tell(NOWHERE, messages.LogsFlushed(1)) == []


def test_heartbeat():
    node = Node()
    node.tell(NOWHERE, messages.ReportDue())
    node.take()
    node.pass_time(10 * HEARTBEAT_INTERVAL_S)
    assert len(node.take(LoadReported)) == 10


def test_an_idle_node_only_beats():
    node = Node({"CPU": 2})
    node.request(count=2)
    for lease in node.granted():
        node.give_back(lease)
    node.pass_time(5)
    assert list(node.timers) == ["report"]


def test_starting_processes_appear_in_the_report():
    node = Node({"CPU": 1}, auto=False)
    node.request(count=3, name="slow")
    node.pass_time(0.2)
    pending = node.take(LoadReported)[-1].load.pending
    assert [(demand.name, demand.count, demand.reason) for demand in pending] == [
        ("slow", 2, "waits for {CPU: 1}: this node is busy"),
        ("slow", 1, "its worker is starting"),
    ]


def test_effects_are_not_shared_between_steps():
    node = Node({"CPU": 1})
    first = node.request()
    kept = list(first)
    node.request()
    assert first == kept
    assert any(isinstance(e, Do) and isinstance(e.operation, StartWorker) for e in first)
    assert any(isinstance(e, Send) and isinstance(e.body, LeaseGranted) for e in first)


def test_recall_reaches_the_holder():
    node = Node({"CPU": 1})
    node.request()
    [lease] = node.granted()
    effects = node.request(src=owner("other"))
    assert Send(DRIVER, LeaseRecalled(lease.lease_id)) in effects
    assert node.machine.grants.table[lease.lease_id].holder == Address("driver", "owner")


def test_room_in_the_object_store_is_reported_and_not_scheduled():
    node = Node({"CPU": 1, "object_store_memory": 1000})
    node.pass_time(1.0)
    node.take()
    node.tell(Address("here", "objects"), messages.StoreUsed(400))
    node.pass_time(0.2)
    [load] = node.take(LoadReported)
    assert load.load.available == parse({"CPU": 1, "object_store_memory": 600})
    node.request(resources={"CPU": 1, "object_store_memory": 1000})
    assert len(node.granted()) == 1, "what a task asks for is counted, not what the store uses"
    assert node.free == {}
    node.pass_time(0.2)
    assert node.take(LoadReported)[-1].load.available == parse({"object_store_memory": 600})
