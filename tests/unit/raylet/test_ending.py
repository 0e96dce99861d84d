"""Who ends when an owner, a driver or a job does."""

from actorrt.gcs.messages import ActorDied
from actorrt.kernel.message import NOWHERE, Address
from actorrt.owner.messages import LeasedWorkerDied, LeasesRedirected, LeasesRefused
from actorrt.raylet import messages, pool
from actorrt.wire.records import DeathCause
from actorrt.worker.messages import CreateActorHere
from tests.unit.raylet.harness import DRIVER, GCS, JOB, Node, actor_spec, owner, owner_of, worker_address


def finish(node, job_id=JOB):
    return node.tell(GCS, messages.JobFinished(job_id))


def test_an_owner_that_dies_loses_everything():
    node = Node({"CPU": 2}, auto=False)
    node.request(src=owner("dying"), count=5)
    node.request(src=owner("other"))
    node.ready(node.started[0].worker_id)
    [lease] = node.granted()
    node.gone("dying")
    assert node.killed == [lease.worker_id], "it may run a task of a dead owner"
    assert node.figures.requests_waiting == 0
    node.ready(node.started[1].worker_id)
    assert [granted.class_id for granted in node.granted()] == [1]
    assert node.free == {}, "one is still dying"
    node.die(lease.worker_id)
    assert node.free == {"CPU": 1}
    assert node.take(LeasedWorkerDied) == [], "there is nobody to tell"
    node.gone("dying")


def test_a_worker_that_dies_takes_its_leases_along():
    node = Node({"CPU": 2})
    node.request()
    [parent] = node.granted()
    node.request(src=owner_of(parent))
    [child] = node.granted()
    node.request(src=owner_of(parent), class_id=2, count=3)
    node.die(parent.worker_id)
    assert node.killed == [child.worker_id]
    assert node.figures.requests_waiting == 0
    assert node.free == {"CPU": 2}
    [died] = node.take(LeasedWorkerDied)
    assert died.lease_id == parent.lease_id


def test_a_finished_job_gives_everything_back():
    node = Node({"CPU": 4})
    node.tell(DRIVER, messages.DriverJoined(JOB, DRIVER))
    node.request(count=2)
    [lease, _] = node.granted()
    node.request(src=owner_of(lease), class_id=3)
    node.tell(GCS, messages.StartActor(actor_spec(1, {"CPU": 1}), 1))
    node.tell(GCS, messages.StartActor(actor_spec(2, {"CPU": 1}), 1))
    node.request(class_id=2, count=7)
    finish(node)
    assert node.free == {"CPU": 4}
    assert sum(node.figures.workers.values()) == 0
    assert node.figures.requests_waiting == 0
    assert [died.cause.kind for died in node.take(ActorDied)] == ["job_finished"] * 2
    assert [(refused.count, refused.kind) for refused in node.take(LeasesRefused)] == [(7, "TaskCancelledError")]
    finish(node)


def test_what_comes_too_late_for_a_job():
    node = Node({"CPU": 4})
    finish(node)
    node.request(count=2)
    assert [refused.count for refused in node.take(LeasesRefused)] == [2]
    node.tell(DRIVER, messages.DriverJoined(JOB, DRIVER))
    node.tell(GCS, messages.StartActor(actor_spec(1), 1))
    assert node.started == []


def test_a_job_that_ends_before_it_begins():
    node = Node(jobs=())
    node.tell(DRIVER, messages.DriverJoined(JOB, DRIVER))
    finish(node)
    from tests.unit.raylet.harness import job

    node.tell(GCS, messages.JobStarted(job()))
    assert node.started == []


def test_detached_actors_outlive_their_job():
    node = Node({"CPU": 4}, auto=False)
    node.tell(GCS, messages.StartActor(actor_spec(1, {"CPU": 1}, detached=True), 1))
    worker_id = node.started[0].worker_id
    node.ready(worker_id)
    node.tell(NOWHERE, messages.ActorInitialized(worker_id, actor_spec(1).actor_id, 1))
    actor = Address(worker_address(worker_id).process, "owner")
    node.request(src=actor)
    node.ready(node.started[1].worker_id)
    [lease] = node.granted()
    node.request(src=actor, class_id=2)
    finish(node)
    assert node.take(ActorDied) == []
    assert lease.worker_id not in node.killed
    assert node.figures.workers[pool.ACTOR] == 1
    node.ready(node.started[2].worker_id) if node.started[2].worker_id not in node.killed else None
    while not (more := node.granted()):
        node.ready(node.started[-1].worker_id)
    assert more[0].class_id == 2, "and what it asked for still comes"
    node.request(src=actor, class_id=3)
    assert len(node.started) >= 4


def test_a_detached_actor_is_restarted_after_its_job():
    node = Node({"CPU": 4})
    finish(node)
    node.tell(GCS, messages.StartActor(actor_spec(1, detached=True), 2))
    assert len(node.take(CreateActorHere)) == 1


def test_owners_elsewhere_may_ask_again():
    """A detached actor of another node looks like any worker of the finished job."""
    node = Node({"CPU": 1})
    node.request(src=owner("far"), count=3)
    finish(node)
    [back] = node.take(LeasesRedirected)
    assert (back.count, back.raylet) == (2, node.info.raylet)
    [died] = node.take(LeasedWorkerDied)
    assert died.cause.kind == "job_finished"
    node.request(src=owner("far"))
    assert len(node.granted()) == 2


def test_other_jobs_are_left_alone():
    node = Node({"CPU": 2}, jobs=(JOB, b"job2"))
    node.request()
    node.request(src=owner("other"), job_id=b"job2")
    _, lease = node.granted()
    finish(node)
    assert lease.worker_id not in node.killed
    assert node.free == {"CPU": 1}


def test_starting_workers_of_a_finished_job_are_killed():
    node = Node({"CPU": 1}, auto=False)
    node.request()
    finish(node)
    assert node.killed == [node.started[0].worker_id]
    node.die(node.started[0].worker_id, DeathCause("signal", "killed", signal=9))
    assert node.free == {"CPU": 1}
    assert len(node.started) == 1
