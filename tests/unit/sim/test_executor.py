"""A worker machine and its scripted executor, fed by hand."""

import pytest

from actorrt.gcs.messages import FunctionFound, GetFunction
from actorrt.kernel.effects import Fail, Reply
from actorrt.kernel.message import Address
from actorrt.owner.messages import TasksDone, TasksReturned
from actorrt.raylet.messages import ActorInitialized, WorkerBlocked, WorkerExiting, WorkerUnblocked
from actorrt.sim import values
from actorrt.sim.executor import ActorExit, Crash, Executor
from actorrt.sim.runtime import Book, Get, Runtime, Sleep
from actorrt.sim.world import World
from actorrt.wire.records import ActorSpec, DeathCause, TaskCall, TaskTemplate, Value
from actorrt.worker.messages import CancelTask, CreateActorHere, ExitWorker, PushCalls, PushTasks, TakeBack
from actorrt.worker.state import WorkerMachine

OWNER, RAYLET, GCS = Address("driver", "owner"), Address("node", "raylet"), Address("node", "gcs")


class Peer:
    """Hears everything; as GCS it knows every function but ``unknown``."""

    def __init__(self):
        self.bodies = []

    def handle(self, envelope, _now):
        self.bodies.append(envelope.body)
        if isinstance(envelope.body, GetFunction):
            name = envelope.body.key.rstrip(b".").decode()
            if name == "unknown":
                return [Fail(envelope.src, envelope.request_id, "InternalError", "nobody exported it")]
            return [Reply(envelope.src, envelope.request_id, FunctionFound(name, b""))]
        return []

    def check(self):
        pass

    def of(self, kind):
        return [body for body in self.bodies if isinstance(body, kind)]


def quick(_context, number):
    return number + 1


def work(_context, number):
    yield Sleep(0.1)
    return number + 1


def waits(context):
    [value] = yield Get((context.submit("work", 1),))
    return value


def failing(_context):
    raise ValueError("no")


def crashing(_context):
    raise Crash


class Counter:
    def begin(self, _context, start):
        if start < 0:
            raise ValueError("negative")
        self.value = start

    def add(self, _context, amount):
        self.value += amount
        return self.value

    def leave(self, _context):
        raise ActorExit


FUNCTIONS = {"quick": quick, "work": work, "waits": waits, "failing": failing, "crashing": crashing}


class Bench:
    def __init__(self):
        self.world = World(1)
        self.driver, self.node = Peer(), Peer()
        self.world.spawn("driver").attach("owner", self.driver, print)
        node = self.world.spawn("node")
        node.attach("raylet", self.node, print)
        node.attach("gcs", self.node, print)
        self.process = self.world.spawn("worker")
        runtime = Runtime(self.world, self.process, raylet=RAYLET, gcs=GCS, job_id=b"job1")
        self.machine = WorkerMachine(b"w" * 16, Address("worker", "worker"), RAYLET, 1)
        self.left, self.started = [], []
        self.executor = Executor(
            runtime,
            self.machine,
            Book(FUNCTIONS, {"Counter": Counter}),
            self._leave,
            lambda work, incarnation: self.started.append((work.call.task_id, incarnation)),
        )
        self.process.attach("worker", self.machine, self.executor.perform)
        self.count = 0

    def _leave(self, cause, orderly):
        self.left.append((cause.kind, orderly))
        self.world.end(self.process, cause.text, orderly=orderly)

    def send(self, body, src="driver"):
        self.world.send(self.world.processes[src], "owner", self.machine.me, body)

    def calls(self, name, arguments, count):
        for _ in range(count):
            self.count += 1
            yield TaskCall(b"t%015d" % self.count, 1, values.pack(arguments)[0])

    def push(self, name, *arguments, count=1, **options):
        template = TaskTemplate(1, name.encode().ljust(16, b"."), name, name, b"job1", **options)
        calls = tuple(self.calls(name, arguments, count))
        self.send(PushTasks(1, (template,), calls))
        return [call.task_id for call in calls]

    def call(self, method, *arguments, count=1):
        template = TaskTemplate(1, b"Counter.........", method, method, b"job1", method_name=method)
        calls = tuple(self.calls(method, arguments, count))
        self.send(PushCalls(b"a" * 16, 1, (template,), calls))
        return [call.task_id for call in calls]

    def create(self, start):
        arguments = Value(values.pack((start,))[0])
        self.send(
            CreateActorHere(ActorSpec(b"a" * 16, b"job1", OWNER, b"Counter.........", "Counter", arguments), 1), "node"
        )

    @property
    def outcomes(self):
        return [outcome for body in self.driver.of(TasksDone) for outcome in body.outcomes]

    def values(self):
        return [values.loads(outcome.results[0])[0] for outcome in self.outcomes]

    def kinds(self):
        return [getattr(outcome.results[0], "kind", "value") for outcome in self.outcomes]


@pytest.fixture
def bench():
    return Bench()


def test_tasks_run_in_order_and_the_function_is_fetched_once(bench):
    task_ids = bench.push("quick", 1, count=5)
    bench.world.run_for(1)
    assert bench.values() == [2] * 5
    assert [outcome.task_id for outcome in bench.outcomes] == task_ids
    assert [task_id for task_id, _ in bench.started] == task_ids
    assert len(bench.node.of(GetFunction)) == 1


def test_outcomes_of_quick_retriable_tasks_are_held_back_for_a_moment(bench):
    bench.push("quick", 1, count=1, max_retries=3)
    bench.world.run_for(1)
    bench.push("quick", 1, count=40, max_retries=3)
    bench.world.run_for(1)
    assert len(bench.outcomes) == 41
    assert len(bench.driver.of(TasksDone)) < 20


def test_outcomes_of_tasks_that_run_once_are_not(bench):
    bench.push("quick", 1, count=10)
    bench.world.run_for(1)
    assert len(bench.driver.of(TasksDone)) == 10


def test_unstarted_tasks_are_taken_back_from_the_end(bench):
    task_ids = bench.push("work", 1, count=4)
    bench.world.run_for(0.05)
    bench.send(TakeBack(2))
    bench.world.run_for(1)
    assert bench.driver.of(TasksReturned) == [TasksReturned(tuple(task_ids[2:]))]
    assert [outcome.task_id for outcome in bench.outcomes] == task_ids[:2]


def test_a_running_task_is_interrupted_and_a_queued_one_dropped(bench):
    running, queued, other = bench.push("work", 1, count=3)
    bench.world.run_for(0.05)
    bench.send(CancelTask(queued))
    bench.send(CancelTask(running))
    bench.world.run_for(1)
    assert {outcome.task_id: outcome.results[0] for outcome in bench.outcomes}.keys() == {running, queued, other}
    assert bench.kinds() == ["TaskCancelledError", "TaskCancelledError", "value"]


def test_a_forced_cancel_ends_the_process_and_gives_back_the_rest(bench):
    running, queued = bench.push("work", 1, count=2)
    bench.world.run_for(0.05)
    bench.send(CancelTask(running, force=True))
    bench.world.run_for(1)
    assert bench.driver.of(TasksReturned) == [TasksReturned((queued,))]
    assert [body.cause.kind for body in bench.node.of(WorkerExiting)] == ["killed"]
    assert bench.left == [("killed", True)]


def test_blocking_is_told_to_the_raylet(bench):
    task_id, neighbour = bench.push("waits", count=2)
    bench.world.run_for(1)
    assert bench.node.of(WorkerBlocked)
    assert not bench.node.of(WorkerUnblocked)
    assert bench.driver.of(TasksReturned) == [TasksReturned((neighbour,))]
    bench.send(CancelTask(task_id))
    bench.world.run_for(1)
    assert bench.node.of(WorkerUnblocked)
    assert bench.kinds() == ["TaskCancelledError"]


def test_failures_carry_text_and_ask_for_a_retry_where_wanted(bench):
    bench.push("failing", max_retries=1)
    bench.world.run_for(1)
    bench.push("failing", retry_exceptions=Value(b"N"))
    bench.world.run_for(1)
    assert [(outcome.results[0].text, outcome.retry_wanted) for outcome in bench.outcomes] == [
        ("no", False),
        ("no", True),
    ]


def test_a_function_nobody_exported_fails_its_task(bench):
    bench.push("unknown")
    bench.world.run_for(1)
    assert "nobody exported it" in bench.outcomes[0].results[0].text


def test_a_crash_says_nothing_more(bench):
    bench.push("crashing")
    bench.world.run_for(1)
    assert bench.left == [("signal", False)]
    assert not bench.outcomes
    assert not bench.node.of(WorkerExiting)


def test_max_calls_ends_the_process_after_its_outcomes(bench):
    task_ids = bench.push("quick", 1, count=4, max_calls=2)
    bench.world.run_for(1)
    assert [outcome.task_id for outcome in bench.outcomes] == task_ids[:2]
    assert bench.driver.of(TasksReturned) == [TasksReturned(tuple(task_ids[2:]))]
    assert bench.left == [("exit", True)]


def test_an_actor_is_constructed_called_and_leaves_by_itself(bench):
    bench.create(10)
    bench.world.run_for(1)
    assert [body.cause for body in bench.node.of(ActorInitialized)] == [None]
    bench.call("add", 1, count=3)
    bench.world.run_for(1)
    assert bench.values() == [11, 12, 13]
    assert bench.started[0][1] == 1
    bench.call("leave")
    bench.world.run_for(1)
    assert [body.cause.kind for body in bench.node.of(WorkerExiting)] == ["exit_actor"]
    assert bench.left == [("exit_actor", True)]


def test_a_constructor_that_raises(bench):
    bench.create(-1)
    bench.world.run_for(1)
    [told] = bench.node.of(ActorInitialized)
    assert (told.cause.kind, told.cause.failure.text) == ("init_failed", "negative")


def test_a_graceful_end_waits_for_the_calls(bench):
    bench.create(0)
    bench.world.run_for(1)
    bench.call("add", 1, count=3)
    bench.world.run_for(0.001)
    bench.send(ExitWorker(graceful=True, cause=DeathCause("out_of_scope", "")), "node")
    bench.world.run_for(1)
    assert bench.values() == [1, 2, 3]
    assert bench.left == [("out_of_scope", True)]


def test_an_end_at_once_does_not(bench):
    bench.push("work", 1, count=3)
    bench.world.run_for(0.05)
    bench.send(ExitWorker(), "node")
    bench.world.run_for(1)
    assert bench.left == [("exit", True)]
    assert not bench.outcomes
