from actorrt.kernel.effects import Do, Fail, Send
from actorrt.kernel.message import Address, Done, Envelope, PeerGone
from actorrt.owner.messages import CallsRefused, TasksDone, TasksReturned
from actorrt.owner.state import local
from actorrt.raylet.messages import ActorInitialized, WorkerBlocked, WorkerExiting, WorkerReady, WorkerUnblocked
from actorrt.wire.records import ActorSpec, DeathCause, TaskCall, TaskOutcome, TaskTemplate, Value
from actorrt.worker.messages import (
    ActorCreated,
    BlockBegan,
    BlockEnded,
    CancelTask,
    CreateActorHere,
    ExitRequested,
    ExitWorker,
    PushCalls,
    PushTasks,
    Started,
    TakeBack,
    TasksFinished,
    WorksReturned,
)
from actorrt.worker.operations import Create, Exit, Interrupt, Return, Run
from actorrt.worker.state import EARLY_CANCELS_MAX, WorkerMachine

ME = Address("me", "worker")
RAYLET = Address("raylet", "raylet")
A, B = Address("a", "owner"), Address("b", "owner")
TEMPLATE = TaskTemplate(1, b"k", "f", "f", b"job")
VALUE = Value(b"v")
ACTOR = ActorSpec(b"a" * 16, b"job", A, b"key", "Counter", VALUE)
CAUSE = DeathCause("exit", "sys.exit")


def task_id(number):
    return number.to_bytes(16, "big")


def calls(*numbers):
    return tuple(TaskCall(task_id(n), 1, b"") for n in numbers)


class Driver:
    def __init__(self):
        self.machine = WorkerMachine(b"w", ME, RAYLET, 7)

    def tell(self, body, src=None):
        effects = self.machine.handle(local(body) if src is None else Envelope(src, body), 0.0)
        self.machine.check()
        return effects

    def push(self, *numbers, src=A, templates=(TEMPLATE,)):
        return self.tell(PushTasks(1, templates, calls(*numbers)), src)

    def become_actor(self):
        self.tell(CreateActorHere(ACTOR, 2), RAYLET)
        return self.tell(ActorCreated())


def run_ids(effects):
    return [
        w.call.task_id for e in effects if isinstance(e, Do) and isinstance(e.operation, Run) for w in e.operation.works
    ]


def operations(effects):
    return [e.operation for e in effects if isinstance(e, Do)]


def outcome(number):
    return TaskOutcome(task_id(number), (VALUE,))


def test_it_reports_for_work():
    assert Driver().tell(Started()) == [Send(RAYLET, WorkerReady(b"w", 7, ME))]


def test_outcomes_go_to_who_pushed_the_task_one_message_each():
    driver = Driver()
    assert run_ids(driver.push(1, 2)) == [task_id(1), task_id(2)]
    assert run_ids(driver.push(3, src=B)) == [task_id(3)]
    effects = driver.tell(TasksFinished((outcome(1), outcome(3), outcome(2), outcome(9))))
    assert effects == [Send(A, TasksDone((outcome(1), outcome(2)))), Send(B, TasksDone((outcome(3),)))]
    assert driver.tell(TasksFinished((outcome(1),))) == []
    assert driver.machine.statistics().finished == 3


def test_templates_are_known_per_owner_until_its_connection_ends():
    driver = Driver()
    driver.push(1)
    assert run_ids(driver.push(2, templates=())) == [task_id(2)]
    assert driver.push(3, src=B, templates=()) == [Send(B, TasksReturned((task_id(3),)))]
    driver.tell(PeerGone("a", "closed"))
    # The owner has not noticed that the connection is a new one. Not a reason to die.
    assert driver.push(4, templates=()) == [Send(A, TasksReturned((task_id(4),)))]
    assert run_ids(driver.push(4)) == [task_id(4)]


def test_duplicates_are_run_once_and_what_was_returned_may_come_again():
    driver = Driver()
    driver.push(1)
    assert run_ids(driver.push(1)) == []
    assert driver.tell(TakeBack(1), A) == [Do(Return(1, A))]
    assert driver.tell(WorksReturned((task_id(1),))) == [Send(A, TasksReturned((task_id(1),)))]
    assert run_ids(driver.push(1)) == [task_id(1)]
    assert driver.tell(WorksReturned(())) == []


def test_cancels_before_during_and_after():
    driver = Driver()
    driver.tell(CancelTask(task_id(1)), A)
    effects = driver.push(1, 2)
    assert run_ids(effects) == [task_id(2)]
    (early,) = [e.body for e in effects if isinstance(e, Send)]
    assert early.outcomes[0].results[0].kind == "TaskCancelledError"
    assert operations(driver.tell(CancelTask(task_id(2), True, False), A)) == [Interrupt(task_id(2), True, False)]
    driver.tell(TasksFinished((outcome(2),)))
    for number in range(3, EARLY_CANCELS_MAX + 100):
        driver.tell(CancelTask(task_id(number)), A)
    assert len(driver.machine.early_cancels) == EARLY_CANCELS_MAX


def test_a_blocked_worker_gives_back_its_queue_and_what_still_comes():
    driver = Driver()
    driver.push(1, 2, 3)
    assert driver.tell(BlockBegan()) == [Send(RAYLET, WorkerBlocked(b"w")), Do(Return(3))]
    assert driver.tell(BlockBegan()) == []  # a second thread of it
    assert operations(driver.push(4))[-1] == Return(1)
    assert driver.tell(BlockEnded()) == []
    assert driver.tell(BlockEnded()) == [Send(RAYLET, WorkerUnblocked(b"w"))]
    assert Return not in map(type, operations(driver.push(5)))


def test_a_blocked_actor_keeps_its_calls():
    driver = Driver()
    driver.become_actor()
    driver.tell(PushCalls(ACTOR.actor_id, 2, (TEMPLATE,), calls(1, 2)), A)
    assert driver.tell(BlockBegan()) == [Send(RAYLET, WorkerBlocked(b"w"))]


def test_an_actor_takes_calls_of_its_incarnation_alone():
    driver = Driver()
    push = PushCalls(ACTOR.actor_id, 2, (TEMPLATE,), calls(1))
    refused = [Send(A, CallsRefused(ACTOR.actor_id, 2, (task_id(1),)))]
    assert driver.tell(push, A) == refused
    assert operations(driver.tell(CreateActorHere(ACTOR, 2), RAYLET)) == [Create(ACTOR, 2)]
    assert driver.tell(CreateActorHere(ACTOR, 2), RAYLET) == []
    assert driver.tell(ActorCreated(CAUSE)) == [Send(RAYLET, ActorInitialized(b"w", ACTOR.actor_id, 2, CAUSE))]
    assert run_ids(driver.tell(push, A)) == [task_id(1)]
    for actor_id, incarnation in ((ACTOR.actor_id, 1), (b"b" * 16, 2)):
        other = PushCalls(actor_id, incarnation, (TEMPLATE,), calls(5))
        assert driver.tell(other, A) == [Send(A, CallsRefused(actor_id, incarnation, (task_id(5),)))]
    unknown = PushCalls(ACTOR.actor_id, 2, (), (TaskCall(task_id(6), 99, b""),))
    assert driver.tell(unknown, A) == [Send(A, CallsRefused(ACTOR.actor_id, 2, (task_id(6),)))]


def test_the_end_is_told_then_the_queue_is_returned_then_the_process_may_go():
    driver = Driver()
    driver.push(1, 2)
    assert driver.tell(ExitRequested(CAUSE, 3)) == [Send(RAYLET, WorkerExiting(b"w", CAUSE)), Do(Return(2))]
    assert driver.push(3) == [Send(A, TasksReturned((task_id(3),)))]
    assert driver.tell(WorksReturned((task_id(2),))) == [
        Send(A, TasksReturned((task_id(2),))),
        Do(Exit(graceful=False, cause=CAUSE, exit_code=3)),
    ]
    assert driver.tell(ExitRequested(CAUSE, 3)) == []
    assert driver.tell(BlockBegan()) == []


def test_an_actor_that_ends_refuses_calls_and_need_not_return_any():
    driver = Driver()
    driver.become_actor()
    driver.tell(PushCalls(ACTOR.actor_id, 2, (TEMPLATE,), calls(1)), A)
    assert driver.tell(ExitRequested(CAUSE)) == [
        Send(RAYLET, WorkerExiting(b"w", CAUSE)),
        Do(Exit(graceful=False, cause=CAUSE)),
    ]
    assert driver.tell(PushCalls(ACTOR.actor_id, 2, (), calls(2)), A) == [
        Send(A, CallsRefused(ACTOR.actor_id, 2, (task_id(2),)))
    ]


def test_orders_to_end_are_passed_on_and_the_loss_of_the_node_is_one():
    driver = Driver()
    assert driver.tell(ExitWorker(True, CAUSE), RAYLET) == [Do(Exit(True, CAUSE))]
    (effect,) = driver.tell(PeerGone("raylet", "killed"))
    assert not effect.operation.graceful
    assert effect.operation.cause.kind == "node_died"


def test_requests_it_does_not_know_are_refused():
    driver = Driver()
    (refusal,) = driver.machine.handle(Envelope(A, Done(), 5), 0.0)
    assert isinstance(refusal, Fail)
    assert driver.machine.handle(Envelope(A, Done()), 0.0) == []
