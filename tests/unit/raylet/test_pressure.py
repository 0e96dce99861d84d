"""Who is ended when memory is short, what is said of it, and when the next one goes."""

import msgspec
import pytest

from actorrt.kernel.message import NOWHERE
from actorrt.raylet import messages, pool, pressure
from actorrt.raylet.messages import MemoryPressed, ProcessMemory
from actorrt.raylet.pressure import ACTOR, FREE, RESTARTABLE_ACTOR, RETRIABLE_TASK, TASK, Candidate, choose
from actorrt.wire.records import DeathCause, LeaseSpec
from actorrt.worker.messages import ExitWorker
from tests.unit.raylet.harness import (
    DRIVER,
    GCS,
    JOB,
    ActorDied,
    LeasedWorkerDied,
    Node,
    actor_spec,
    owner,
    owner_of,
    worker_address,
)

MIB = 1 << 20
GIB = 1 << 30
TOTAL = 16 * GIB


def candidate(name, mib, loss=RETRIABLE_TASK, owner="driver", since_s=0.0):
    return Candidate(name.encode(), mib * MIB, loss, owner, since_s)


def chosen(*candidates, total_bytes=TOTAL):
    found = choose(list(candidates), total_bytes)
    return None if found is None else found.worker_id.decode()


# ----------------------------------------------------------------------------------------------------------- the choice
def test_nobody_dies_for_a_stranger():
    assert chosen() is None
    assert chosen(candidate("small", 99), candidate("smaller", 30)) is None
    assert chosen(candidate("small", 99), total_bytes=GIB) == "small", "in a small container it is much"


def test_small_neighbours_are_spared_whatever_they_could_lose():
    hog = candidate("hog", 2000, ACTOR)
    assert chosen(candidate("idle", 900, FREE), candidate("retriable", 999), hog) == "hog"
    assert chosen(candidate("retriable", 1000), hog) == "retriable", "that helps as well, and costs less"


@pytest.mark.parametrize("count", range(1, 6))
def test_who_loses_least_goes_first(count):
    losses = [FREE, RETRIABLE_TASK, RESTARTABLE_ACTOR, TASK, ACTOR][-count:]
    among = [candidate(str(loss), 1000 + loss, loss) for loss in losses]
    assert chosen(*among) == chosen(*reversed(among)) == str(losses[0])


def test_the_owner_with_most_gives_one():
    among = [candidate(f"a{n}", 1000, owner="a", since_s=n) for n in range(3)]
    assert chosen(candidate("b", 1500, owner="b", since_s=9.0), *among) == "a2", "and of those the newest"
    small = [candidate(f"c{n}", 200, owner="c") for n in range(9)]
    assert chosen(*small, *among) == "a2", "small ones do not count"


def test_the_bigger_of_equals():
    assert chosen(candidate("a", 1000), candidate("b", 1001)) == "b"


# ------------------------------------------------------------------------------------------------------------- the kill
def pressed(*workers, used_bytes=15 * GIB, biggest=()):
    groups = tuple(ProcessMemory(pid, mib * MIB) for pid, mib in workers)
    table = tuple(ProcessMemory(pid, mib * MIB, name) for pid, mib, name in biggest)
    return MemoryPressed(used_bytes, TOTAL, 0.9, "this machine", groups, table)


def squeeze(node, *workers, **details):
    """Say that memory is short; returns the workers killed by that."""
    node.killed.clear()
    node.tell(NOWHERE, pressed(*workers, **details))
    return list(node.killed)


def lease(node, src=DRIVER, class_id=1, *, retriable=True):
    spec = LeaseSpec(JOB, {"CPU": 10_000}, name="f", retriable=retriable)
    node.tell(src, messages.RequestLeases(class_id, spec, 1))
    [granted] = node.granted()
    return granted


def hosted(node, number, max_restarts=0, incarnation=1, *, alive=True):
    made = msgspec.structs.replace(actor_spec(number, {"CPU": 1}), max_restarts=max_restarts)
    node.tell(GCS, messages.StartActor(made, incarnation))
    found = node.machine.actors.get(made.actor_id, incarnation)
    if alive:
        node.tell(NOWHERE, messages.ActorInitialized(found.worker_id, made.actor_id, incarnation))
    return node.machine.pool.workers[found.worker_id]


def test_a_task_is_ended_and_its_owner_told_why():
    node = Node({"CPU": 2})
    hog, neighbour = lease(node), lease(node)
    table = [(77, 3000, "database"), (hog.pid, 2000, "actorrt:worker"), (neighbour.pid, 40, "actorrt:worker")]
    assert squeeze(node, (hog.pid, 2000), (neighbour.pid, 40), biggest=table) == [hog.worker_id]
    [died] = node.take(LeasedWorkerDied)
    assert (died.lease_id, died.cause.kind, died.cause.pid, died.cause.signal) == (hog.lease_id, "oom", hog.pid, 9)
    reason, *table_text = died.cause.text.splitlines()
    assert reason == (
        f"the worker process {hog.pid} was killed because memory ran short: 15.00 GiB of the 16.00 GiB of this machine "
        "were in use (93.8%, threshold 90.0%), 1.95 GiB of it by this worker."
    )
    assert table_text[:-1] == [
        "The biggest processes, without what they share:",
        "     pid      memory  name",
        "      77    2.93 GiB  database",
        f"    {hog.pid}    1.95 GiB  actorrt:worker (tasks)  <- killed",
        f"    {neighbour.pid}    0.04 GiB  actorrt:worker (tasks)",
    ]
    assert "memory_usage_threshold" in table_text[-1]
    assert node.figures.memory_kills == 1
    assert node.free == {"CPU": 1}


def test_an_actor_is_ended_as_by_a_crash():
    node = Node({"CPU": 2})
    actor = hosted(node, 1)
    assert squeeze(node, (actor.pid, 900), biggest=[(5, 901, "python")]) == [actor.worker_id]
    [died] = node.take(ActorDied)
    assert (died.cause.kind, died.cause.pid) == ("oom", actor.pid)
    assert "  0.88 GiB  the worker with its children (actor Counter)  <- killed" in died.cause.text


def test_also_while_it_is_made():
    node = Node({"CPU": 2})
    actor = hosted(node, 1, alive=False)
    assert squeeze(node, (actor.pid, 900)) == [actor.worker_id]
    assert [died.cause.kind for died in node.take(ActorDied)] == ["oom"]


def test_the_order_on_a_node():
    node = Node({"CPU": 8})
    last = lease(node, class_id=1, retriable=False)
    task = lease(node, class_id=2)
    other = lease(node, class_id=3)
    final = hosted(node, 1)
    worn_out = hosted(node, 2, max_restarts=1, incarnation=2)
    restartable = hosted(node, 3, max_restarts=1)
    for_ever = hosted(node, 4, max_restarts=-1, incarnation=9)
    node.give_back(other)
    order = []
    pids = [w.pid for w in (last, task, other, final, worn_out, restartable, for_ever)]
    for _ in pids:
        order += squeeze(node, *((pid, 500) for pid in pids))
        squeeze(node)  # older than the death, as far as anybody knows
    assert order[:2] == [other.worker_id, task.worker_id], "the idle one first"
    assert set(order[2:4]) == {restartable.worker_id, for_ever.worker_id}
    assert order[4] == last.worker_id
    assert set(order[5:]) == {final.worker_id, worn_out.worker_id}


def test_children_go_before_their_parents():
    node = Node({"CPU": 2})
    parent = lease(node)
    node.now += 1.0
    child = lease(node, src=owner_of(parent))
    assert squeeze(node, (parent.pid, 500), (child.pid, 500)) == [child.worker_id]


def test_the_driver_with_most_workers_gives_one():
    node = Node({"CPU": 3})
    first, second, other = lease(node), lease(node), lease(node, src=owner("other"))
    killed = squeeze(node, (first.pid, 500), (second.pid, 501), (other.pid, 900))
    assert killed == [second.worker_id]


# -------------------------------------------------------------------------------------------------------- one at a time
def test_one_at_a_time():
    node = Node({"CPU": 2})
    first, second = lease(node), lease(node)
    node.auto = False
    both = ((first.pid, 600), (second.pid, 500))
    assert squeeze(node, *both) == [first.worker_id]
    assert squeeze(node, *both) == [], "it is still dying"
    node.die(first.worker_id)
    assert squeeze(node, *both) == [], "this may have been measured before it was dead"
    assert squeeze(node, (second.pid, 500)) == [second.worker_id]
    assert node.figures.memory_kills == 2


def test_one_that_does_not_die_does_not_save_the_others():
    node = Node({"CPU": 2})
    stuck, other = lease(node), lease(node)
    node.auto = False
    both = ((stuck.pid, 600), (other.pid, 500))
    assert squeeze(node, *both) == [stuck.worker_id]
    node.now += pressure.PATIENCE_S
    node.machine.grants.orphan(node.machine.grants.table[stuck.lease_id])
    assert squeeze(node, (other.pid, 500)) == [other.worker_id]


def test_whoever_ends_already_keeps_the_reason():
    node = Node({"CPU": 1})
    actor = hosted(node, 1)
    node.tell(worker_address(actor.worker_id), messages.WorkerExiting(actor.worker_id, DeathCause("exit_actor", "bye")))
    assert squeeze(node, (actor.pid, 500)) == [actor.worker_id]
    assert [died.cause.kind for died in node.take(ActorDied)] == ["exit_actor"]


def test_an_idle_worker_asked_to_exit():
    node = Node({"CPU": 1}, num_workers_soft=1)
    granted = lease(node)
    worker = node.machine.pool.workers[granted.worker_id]
    node.give_back(granted)
    node.machine.pool.ask_to_exit(worker, 5.0, node.now)
    node.tell(NOWHERE, messages.GetNodeStatistics())
    assert [type(body) for body in node.take(ExitWorker)] == [ExitWorker]
    assert squeeze(node, (worker.pid, 500)) == [worker.worker_id]


def test_workers_nobody_measured_and_workers_that_start():
    node = Node({"CPU": 2})
    known = lease(node)
    node.auto = False
    node.request(class_id=2)
    [_, starting] = node.started
    node.tell(NOWHERE, messages.WorkerStarted(starting.worker_id, 5))
    assert squeeze(node, (5, 5000), (6, 5000)) == []
    assert node.machine.pool.count(pool.STARTING) == 1
    assert squeeze(node, (known.pid, 5000)) == [known.worker_id]
