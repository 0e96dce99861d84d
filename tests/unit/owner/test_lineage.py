"""Lost values are made again, as far as they can be, and what cannot says why."""

import pytest

from actorrt.kernel.message import Address
from actorrt.objects.messages import FreeObjects
from actorrt.owner import lineage as lineage_module
from actorrt.owner.messages import GetObjects, NodeChanged, ObjectsReady
from actorrt.owner.requests import PutObject, Release, Renew
from actorrt.wire.records import Failure, RefInfo, Stored, Value
from actorrt.worker.messages import PushTasks
from tests.unit.owner.harness import GCS, RETURN, VALUE, Driver, pushed, sent, sent_to, woken

OTHER = Address("other", "owner")
attempts = iter(range(1, 1_000_000))


def stored(object_id, holder="node1", refs=()):
    return Stored(object_id + next(attempts).to_bytes(8, "big"), 200_000, "me", (holder,), refs)


class World(Driver):
    """A driver with one worker; results are stored on ``node1`` unless said otherwise."""

    def __init__(self):
        super().__init__()
        self.granted = False

    def ref(self, task, index=0):
        return RefInfo(task.task_id + index.to_bytes(4, "big"), "me")

    def run(self, *dependencies, holder="node1", value=None, **template):
        """Submit a task of these and let it end."""
        task = self.task(self.template(**template), dependencies=tuple(self.ref(each) for each in dependencies))
        self.submit(task)
        self.end(task, holder, value)
        return task

    def end(self, task, holder="node1", value=None):
        if not self.granted:
            self.granted = True
            self.grant()
        count = task.template.spec.num_returns
        assert count == 1
        return self.finish(task, result=value or stored(task.task_id + RETURN, holder))

    def lose(self, node="node1"):
        return self.tell(NodeChanged(b"n", Address(node, "raylet"), alive=False, text="power cut"), GCS)

    def ask(self, task):
        """Another owner wants the value."""
        return self.tell(GetObjects((task.task_id + RETURN,)), OTHER)

    def drop(self, *tasks):
        return self.tell(Release([task.task_id + RETURN for task in tasks]))

    @property
    def lineage(self):
        return self.submitter.lineage


@pytest.fixture
def world():
    return World()


def test_a_lost_value_is_made_again_when_somebody_asks_and_not_before(world):
    task = world.run()
    assert pushed(world.lose()) == []
    assert pushed(world.ask(task)) == [task.task_id]
    assert task.attempt == 1
    assert pushed(world.ask(task)) == []  # once for all who ask
    answers = sent_to(world.end(task, "node2"), OTHER)
    assert [answer.objects[0][1].holders for answer in answers] == [("node2",)]
    assert world.result(task).holders == ("node2",)
    world.drop(task)
    assert world.lineage.tasks == {}


def test_arguments_that_are_gone_are_made_first(world):
    """The refs of the first two were dropped long ago: their values were freed, but not how to make them."""
    first = world.run()
    second = world.run(first)
    third = world.run(second)
    freed = [key for body in sent(world.drop(first, second), FreeObjects) for key in body.keys]
    assert len(freed) == 2
    world.lose()
    assert pushed(world.ask(third)) == [first.task_id]
    assert pushed(world.end(first)) == [second.task_id]
    assert pushed(world.end(second)) == [third.task_id]
    assert len(sent(world.end(third), ObjectsReady)) == 1
    assert [key for body in sent(world.effects, FreeObjects) for key in body.keys][2:]  # of the arguments, again
    world.drop(third)
    assert world.lineage.tasks == {}
    assert world.machine.objects.records == {}


def test_only_what_is_lost_is_made_again(world):
    first = world.run(holder="node2")
    second = world.run(first)
    world.lose("node1")
    assert pushed(world.ask(second)) == [second.task_id]


def test_what_several_need_is_made_once(world):
    first = world.run()
    left, right = world.run(first), world.run(first)
    world.lose()
    assert pushed(world.ask(left)) == [first.task_id]
    assert pushed(world.ask(right)) == []
    assert sorted(pushed(world.end(first))) == sorted([left.task_id, right.task_id])


def test_a_new_task_with_a_lost_argument_waits_for_it(world):
    first = world.run()
    world.lose()
    task = world.task(dependencies=(world.ref(first),))
    assert pushed(world.submit(task)) == [first.task_id]
    assert pushed(world.end(first)) == [task.task_id]


def test_this_process_asks_by_renewing(world):
    task = world.run()
    stale = world.result(task).key
    ref = world.ref(task)
    assert pushed(world.tell(Renew(((ref, stale),)))) == []  # it is where it was
    world.lose()
    assert pushed(world.tell(Renew(((ref, stale),)))) == [task.task_id]
    waiter = world.wait(ref.object_id)
    assert woken(world.end(task)) == [waiter]
    assert pushed(world.tell(Renew(((ref, stale),)))) == []  # a new key is there


def test_a_borrower_asks_the_owner_again(world):
    theirs = RefInfo(b"t" * 20, "other")
    waiter = world.wait(theirs.object_id, owner="other")
    old = Stored(b"t" * 20 + b"1" * 8, 200_000, "other", ("node1",))
    world.submit(world.task(refs=(theirs,)))
    assert woken(world.tell(ObjectsReady(((theirs.object_id, old),)), OTHER)) == [waiter]
    effects = world.tell(Renew(((theirs, old.key),)))
    assert sent_to(effects, OTHER) == [GetObjects((theirs.object_id,))]
    assert world.machine.objects.records[theirs.object_id].result is None
    assert sent_to(world.tell(Renew(((theirs, old.key),))), OTHER) == []


def failure_of(world, task):
    effects = world.ask(task)
    ((_, failure),) = sent_to(effects, OTHER)[-1].objects
    assert isinstance(failure, Failure)
    assert failure.kind == "ObjectReconstructionFailedError"
    return failure.text


def test_each_run_takes_a_retry(world):
    task = world.run(retries=1)
    world.lose()
    world.ask(task)
    world.end(task)
    world.lose()
    assert "used up its max_retries" in failure_of(world, task)


def test_without_retries_nothing_runs_twice(world):
    task = world.run(retries=0)
    world.lose()
    assert "max_retries=0" in failure_of(world, task)
    assert world.lineage.tasks == {}


def test_what_was_put_cannot_be_made_again_and_neither_can_what_needs_it(world):
    world.tell(PutObject(b"p" * 20, stored(b"p" * 20)))
    task = world.task(dependencies=(RefInfo(b"p" * 20, "me"),))
    world.submit(task)
    world.end(task)
    world.tell(Release([b"p" * 20]))
    world.lose()
    assert "made by put()" in failure_of(world, task)
    world.drop(task)
    assert world.machine.objects.records == {}


def test_results_of_actors_cannot_be_made_again(world):
    assert world.lineage.why_not(b"x" * 20, "actor").startswith("it is a result of an actor")


def test_a_failing_second_run_is_final(world):
    task = world.run()
    world.lose()
    world.ask(task)
    world.end(task, value=Failure("TaskError", "now it raises"))
    assert world.result(task).text == "now it raises"
    assert world.lineage.tasks == {}


def test_a_second_run_may_give_a_small_value(world):
    task = world.run()
    world.lose()
    world.ask(task)
    world.end(task, value=VALUE)
    assert world.result(task) == VALUE
    world.drop(task)
    assert world.lineage.tasks == {}


def test_small_values_are_never_lost_and_keep_no_task(world):
    task = world.run(value=Value(b"small"))
    assert world.lineage.tasks == {}
    assert world.result(task) == Value(b"small")


def test_dropped_while_it_is_made_again(world):
    task = world.run()
    world.lose()
    world.tell(Renew(((world.ref(task), world.result(task).key),)))
    world.drop(task)
    assert sent(world.end(task), FreeObjects)
    assert world.machine.objects.records == {}
    assert world.lineage.tasks == {}


def test_beyond_the_budget_the_oldest_are_let_go(world, monkeypatch):
    monkeypatch.setattr(lineage_module, "LINEAGE_BYTES_MAX", 4 * (lineage_module.ENTRY_BYTES + len(b"args")))
    tasks = [world.run() for _ in range(5)]
    assert list(world.lineage.tasks) == [task.task_id for task in tasks[3:]]
    world.lose()
    assert "not kept any more" in failure_of(world, tasks[0])
    assert pushed(world.ask(tasks[4])) == [tasks[4].task_id]


def test_a_long_chain_goes_without_recursion(world):
    tasks = [world.run()]
    for _ in range(300):  # deeper than the interpreter's stack, if it took a few frames each
        tasks.append(world.run(tasks[-1]))
        world.drop(tasks[-2])
    world.lose()
    assert pushed(world.ask(tasks[-1])) == [tasks[0].task_id]
    for task in tasks[:-1]:
        world.end(task)
    world.end(tasks[-1])
    world.drop(tasks[-1])
    assert world.lineage.tasks == {}
    assert world.machine.objects.records == {}


def test_a_queued_task_waits_again_when_its_argument_is_lost_meanwhile(world):
    first = world.run()
    blocker = world.task(world.template("slow"))
    world.submit(blocker)
    task = world.task(dependencies=(world.ref(first),))
    world.submit(task)  # queued: the only worker is taken
    world.lose()
    world.ask(first)
    assert pushed(world.finish(blocker)) != [task.task_id]
    world.machine.check()
    while task.task_id not in pushed(world.effects):
        world.end(first)
    (call,) = [c for body in sent(world.effects, PushTasks) for c in body.calls if c.task_id == task.task_id]
    assert None not in call.dependencies
