"""Actors on a node: started, stopped in each state of their life, dying."""

import pytest

from actorrt.gcs.messages import ActorDied, ActorStarted, ActorStartFailed
from actorrt.kernel.message import NOWHERE
from actorrt.raylet import messages, pool
from actorrt.wire.records import DeathCause
from actorrt.worker.messages import CreateActorHere, ExitWorker
from tests.unit.raylet.harness import GCS, NODE_ID, Node, actor_spec, worker_address

STOP = DeathCause("killed", "killed by actorrt.kill()")
SPEC = actor_spec(1, {"CPU": 1})


def start(node, spec=SPEC, incarnation=1):
    return node.tell(GCS, messages.StartActor(spec, incarnation))


def stop(node, spec=SPEC, incarnation=1, **details):
    return node.tell(GCS, messages.StopActor(spec.actor_id, incarnation, STOP, **details))


def initialized(node, worker_id, spec=SPEC, incarnation=1, cause=None):
    return node.tell(NOWHERE, messages.ActorInitialized(worker_id, spec.actor_id, incarnation, cause))


def alive(spec=SPEC, resources=None, **options):
    """A node on which the actor lives, and its worker."""
    node = Node(resources or {"CPU": 1}, auto=False, **options)
    start(node, spec)
    worker_id = node.started[-1].worker_id
    node.ready(worker_id, pid=42)
    initialized(node, worker_id, spec)
    return node, worker_id


def test_start():
    node = Node({"CPU": 1}, auto=False)
    start(node)
    [started] = node.started
    node.ready(started.worker_id, pid=42)
    assert node.take(CreateActorHere) == [CreateActorHere(SPEC, 1)]
    assert node.take(ActorStarted) == []
    initialized(node, started.worker_id)
    address = worker_address(started.worker_id)
    assert node.take(ActorStarted) == [ActorStarted(SPEC.actor_id, 1, address, started.worker_id, NODE_ID, 42)]
    assert node.free == {}
    assert node.figures.workers[pool.ACTOR] == 1


def test_placing_needs_more_than_holding():
    node = Node({"CPU": 1})
    node.request()
    [lease] = node.granted()
    for number in (1, 2, 3):
        start(node, actor_spec(number))
    assert node.take(CreateActorHere) == []
    node.give_back(lease)
    assert len(node.take(CreateActorHere)) == 3, "they hold nothing, so one CPU places all of them"
    assert node.free == {"CPU": 1}


def test_an_actor_has_a_fresh_process_of_its_own():
    node = Node({"CPU": 2})
    node.request()
    [lease] = node.granted()
    node.give_back(lease)
    start(node)
    assert len(node.started) == 2, "one that ran tasks will not do"
    node.tell(lease.worker, messages.DriverJoined(b"job1", GCS))
    start(node, actor_spec(2))
    assert len(node.started) == 3


def test_a_prestarted_worker_will_do():
    node = Node({"CPU": 2})
    node.tell(GCS, messages.DriverJoined(b"job1", GCS))
    start(node)
    assert len(node.started) == 2
    assert len(node.take(CreateActorHere)) == 1


def test_starting_twice_is_starting_once():
    node, _ = alive()
    node.take()
    start(node)
    assert [type(body) for body in node.take(ActorStarted)] == [ActorStarted], "the answer may have been lost"
    assert len(node.started) == 1


def test_it_can_never_fit():
    node = Node({"CPU": 1})
    start(node, actor_spec(1, {"CPU": 8}))
    [failed] = node.take(ActorStartFailed)
    assert failed.retry
    assert failed.cause.kind == "unschedulable"
    start(node, actor_spec(1, {"CPU": 1}))
    assert len(node.take(CreateActorHere)) == 1, "a retry here is not a duplicate"


def test_init_raises():
    node = Node({"CPU": 1}, auto=False)
    start(node)
    worker_id = node.started[0].worker_id
    node.ready(worker_id)
    cause = DeathCause("init_failed", "ValueError")
    initialized(node, worker_id, cause=cause)
    [failed] = node.take(ActorStartFailed)
    assert (failed.cause.kind, failed.cause.text, failed.cause.node_id) == ("init_failed", "ValueError", NODE_ID)
    assert not failed.retry
    assert node.take(ExitWorker)
    initialized(node, worker_id)
    assert node.take(ActorStarted) == []
    node.pass_time(pool.IDLE_EXIT_GRACE_S + 1)
    assert worker_id in node.killed
    node.die(worker_id)
    assert node.take(ActorDied) == [], "its end was reported already"
    assert node.free == {"CPU": 1}


# ------------------------------------------------------------------------------------------------ stopped in each state
def test_stopped_before_it_came():
    """StopActor travels in a faster lane."""
    node = Node()
    stop(node)
    assert [died.cause.kind for died in node.take(ActorDied)] == ["killed"]
    start(node)
    assert node.started == []
    start(node, incarnation=2)
    assert len(node.started) == 1


def test_stopped_while_it_waits():
    node = Node({"CPU": 1})
    node.request()
    start(node)
    stop(node)
    assert len(node.take(ActorDied)) == 1
    assert node.figures.requests_waiting == 0


def test_stopped_while_its_worker_starts():
    node = Node({"CPU": 1}, auto=False)
    start(node)
    stop(node)
    assert len(node.take(ActorDied)) == 1
    assert node.free == {"CPU": 1}
    node.ready(node.started[0].worker_id)
    assert node.take(CreateActorHere) == []
    assert node.figures.workers[pool.IDLE] == 1


@pytest.mark.parametrize("graceful", [False, True])
def test_stopped_in_init(graceful):
    node = Node({"CPU": 1}, auto=False)
    start(node)
    worker_id = node.started[0].worker_id
    node.ready(worker_id)
    stop(node, graceful=graceful)
    assert node.killed == [worker_id], "it has no calls yet that could be waited for"
    assert node.take(ActorDied) == [], "not before it is dead"
    initialized(node, worker_id)
    assert node.take(ActorStarted) == []
    node.die(worker_id, DeathCause("signal", "killed by signal 9", pid=42, signal=9, stderr_tail=("last words",)))
    [died] = node.take(ActorDied)
    assert (died.cause.kind, died.cause.text) == (STOP.kind, STOP.text)
    assert (died.cause.pid, died.cause.signal, died.cause.stderr_tail) == (42, 9, ("last words",))


def test_stopped_alive():
    node, worker_id = alive()
    stop(node)
    stop(node)
    node.die(worker_id)
    assert [died.cause.kind for died in node.take(ActorDied)] == ["killed"]
    assert node.free == {"CPU": 1}
    stop(node)
    assert len(node.take(ActorDied)) == 1, "asked again, it answers again"


def test_stopped_gracefully():
    node, worker_id = alive()
    node.take()
    stop(node, graceful=True)
    assert node.take(ExitWorker) == [ExitWorker(graceful=True, cause=STOP)]
    node.pass_time(pool.EXIT_GRACE_S - 1)
    assert node.killed == []
    node.pass_time(2)
    assert node.killed == [worker_id]


def test_a_kill_overtakes_a_graceful_end():
    node, worker_id = alive()
    stop(node, graceful=True)
    stop(node)
    assert node.killed == [worker_id]


def test_stopped_while_it_leaves():
    node, worker_id = alive()
    node.tell(NOWHERE, messages.WorkerExiting(worker_id, DeathCause("exit_actor", "exit_actor() was called")))
    stop(node)
    assert node.killed == [worker_id]
    node.die(worker_id)
    assert [died.cause.kind for died in node.take(ActorDied)] == ["killed"]


# --------------------------------------------------------------------------------------------------------------- deaths
def test_it_dies():
    node, worker_id = alive()
    node.die(worker_id, DeathCause("exit", "exit code 3", pid=42, exit_code=3))
    [died] = node.take(ActorDied)
    assert (died.actor_id, died.incarnation) == (SPEC.actor_id, 1)
    assert (died.cause.kind, died.cause.exit_code, died.cause.node_id) == ("exit", 3, NODE_ID)
    assert node.free == {"CPU": 1}


def test_it_leaves():
    node, worker_id = alive()
    node.tell(NOWHERE, messages.WorkerExiting(worker_id, DeathCause("exit_actor", "exit_actor() was called")))
    node.pass_time(100)
    assert node.killed == [], "calls that still run may take their time"
    node.die(worker_id, DeathCause("exit", "exit code 0", pid=42))
    [died] = node.take(ActorDied)
    assert (died.cause.kind, died.cause.pid) == ("exit_actor", 42)


def test_its_worker_cannot_be_started():
    node = Node({"CPU": 1}, auto=False)
    start(node)
    for _ in range(pool.START_ATTEMPTS_MAX):
        node.die(node.started[-1].worker_id, DeathCause("exit", "exit code 1", stderr_tail=("ImportError: x",)))
    [failed] = node.take(ActorStartFailed)
    assert failed.cause.kind == "start_failed"
    assert "ImportError: x" in failed.cause.text
    assert not failed.retry
    assert node.free == {"CPU": 1}


def test_a_new_incarnation_ends_the_old_one():
    node, worker_id = alive(resources={"CPU": 2})
    start(node, incarnation=2)
    assert node.killed == [worker_id]
    node.die(worker_id)
    assert node.take(ActorDied) == [], "the GCS has written it off"
    node.ready(node.started[1].worker_id)
    [create] = node.take(CreateActorHere)[1:]
    assert create.incarnation == 2


def test_a_blocked_actor_lends_its_cpu():
    node, worker_id = alive()
    node.tell(NOWHERE, messages.WorkerBlocked(worker_id))
    assert node.free == {"CPU": 1}
    node.die(worker_id)
    assert node.free == {"CPU": 1}


def test_messages_about_others_change_nothing():
    node, worker_id = alive()
    node.take()
    initialized(node, worker_id)
    initialized(node, worker_id, incarnation=7)
    initialized(node, b"?" * 16)
    assert node.take() == []
