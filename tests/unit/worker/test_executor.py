import asyncio
import os
import threading

import pytest

from actorrt.kernel.context import current_task
from actorrt.kernel.limits import OUTCOMES_HELD_MAX
from actorrt.kernel.message import Envelope
from actorrt.owner.messages import TasksReturned
from actorrt.raylet.messages import ActorInitialized, WorkerExiting
from actorrt.wire import values
from actorrt.wire.failures import exception_of
from actorrt.wire.records import DeathCause, RefInfo, Value
from actorrt.worker.executor import QUICK_S, ActorExit
from actorrt.worker.messages import BlockBegan, ExitWorker, PushTasks
from actorrt.worker.operations import Return
from tests.unit.worker.host import ACTOR_ID, OWNER, PATIENCE_S, Host


@pytest.fixture
def host():
    with Host() as made:
        yield made


class Gate:
    """User code stops here until it is let through, and says that it came."""

    def __init__(self):
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, *_args):
        self.reached.set()
        assert self.opened.wait(PATIENCE_S)
        return "through"


def spin(reached):
    """Run Python code until interrupted."""
    reached.set()
    while True:
        pass


# ---------------------------------------------------------------------------------------------- one task
def test_values_come_back_and_tasks_run_in_order_on_one_thread(host):
    seen = []

    def note(x):
        seen.append((x, threading.current_thread()))
        return x * 2

    ids = [host.run(note, i) for i in range(50)]
    assert [host.value(i) for i in ids] == [x * 2 for x in range(50)]
    assert seen == [(x, host.thread) for x in range(50)]


def test_arguments_of_refs_are_put_in_their_places(host):
    def join(a, b, *, c):
        return (a, b, c)

    template = host.template(join)
    packed = values.dumps(((values.Slot(0), "b"), {"c": values.Slot(1)}))
    dependencies = (values.dumps("first"), values.dumps("second"))
    call = host.call_of(template, dependencies=dependencies)
    host.push(type(call)(call.task_id, template.number, packed.data, (), dependencies))
    assert host.value(call.task_id) == ("first", "b", "second")


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("k"), KeyboardInterrupt(), GeneratorExit(), Warning("w")])
def test_whatever_is_raised_is_the_outcome_and_the_worker_goes_on(host, error):
    def fail():
        raise error

    failure = host.failure(host.run(fail))
    assert failure.kind == "TaskError"
    assert failure.type_name == type(error).__name__
    assert (failure.pid, failure.node_id) == (host.pid, host.node_id)
    assert "in fail" in failure.text
    assert host.value(host.run(abs, -1)) == 1


def test_arguments_and_results_that_cannot_be_pickled_are_outcomes_too(host):
    class Refuses:
        def __reduce__(self):
            raise RuntimeError("not me")

    failure = host.failure(host.run(Refuses))
    assert "not me" in failure.text
    template = host.template(abs)
    call = host.call_of(template)
    host.push(type(call)(call.task_id, template.number, b"\x80garbage"))
    assert "while unpickling the arguments of abs" in host.failure(call.task_id).text


def test_a_function_that_cannot_be_loaded_is_an_outcome(host):
    template = host.template(abs)
    del host.functions[template.function_key]
    call = host.call_of(template, 1)
    host.push(call)
    assert host.failure(call.task_id).type_name == "KeyError"


def test_retry_exceptions_decide_where_the_exception_is(host):
    def fail(kind):
        raise {"v": ValueError, "k": KeyError}[kind]

    some = values.dumps((ValueError,))
    assert host.outcome(host.run(fail, "v", retry_exceptions=some)).retry_wanted
    assert not host.outcome(host.run(fail, "k", retry_exceptions=some)).retry_wanted
    assert host.outcome(host.run(fail, "k", retry_exceptions=values.dumps(True))).retry_wanted
    assert not host.outcome(host.run(fail, "k")).retry_wanted
    unreadable = Value(b"\x80garbage")
    assert not host.outcome(host.run(fail, "k", retry_exceptions=unreadable)).retry_wanted


def test_num_returns_splits(host):
    def parts(n):
        return range(n)

    def stream():
        yield 1
        yield from [2]

    assert [values.loads(r) for r in host.outcome(host.run(parts, 3, num_returns=3)).results] == [0, 1, 2]
    assert [values.loads(r) for r in host.outcome(host.run(stream, num_returns=2)).results] == [1, 2]
    assert host.outcome(host.run(parts, 3, num_returns=0)).results == ()
    assert "num_returns=2 but returned 3 values" in host.failure(host.run(parts, 3, num_returns=2)).text
    assert "returned int, which cannot be split" in host.failure(host.run(abs, 3, num_returns=2)).text


def test_refs_are_lent_and_what_is_kept_is_reported(host):
    ref = RefInfo(b"o" * 20, "third")
    host.held = (ref,)

    class Carrier:
        def __reduce__(self):
            values.note_ref(ref)
            return (object, ())

    inside = RefInfo(b"i" * 20, "third")
    template = host.template(Carrier)
    call = host.call_of(template, refs=(ref, RefInfo(b"x" * 20, "third")), dependencies=(Value(b"N", (), (inside,)),))
    host.push(call)
    assert host.outcome(call.task_id).borrowed == (ref,)
    assert host.lent == [((ref,), OWNER.process)]


def test_user_code_knows_its_task(host):
    def who():
        context = current_task.get()
        return context.task_id, context.name, context.attempt

    task_id = host.run(who)
    assert host.value(task_id) == (task_id, "who", 0)


# ---------------------------------------------------------------------------------------------- outcomes in batches
def quick(host, function, **options):
    """Make the executor believe (rightly) that a function is quick."""
    template = host.template(function, **options)
    host.value(host.run(function, **options))
    host.executor._functions[template.function_key].average_s = QUICK_S / 100
    return template


def test_outcomes_are_held_back_behind_quick_functions_only_and_always_flushed(host):
    template = quick(host, lambda: 1)
    gate = Gate()
    host.run(gate)
    assert gate.reached.wait(PATIENCE_S)
    calls = [host.call_of(template) for _ in range(OUTCOMES_HELD_MAX * 3)]
    before = len(host.batches())
    host.push(*calls)
    gate.opened.set()
    host.outcome(calls[-1].task_id)
    batches = host.batches()[before:]
    assert [o.task_id for batch in batches for o in batch][-len(calls) :] == [c.task_id for c in calls]
    assert len(batches) < len(calls) / 2
    assert max(len(batch) for batch in batches) <= OUTCOMES_HELD_MAX


def test_nothing_is_held_back_behind_a_function_that_may_be_slow(host):
    template = quick(host, lambda: 1)
    first, gate = Gate(), Gate()
    host.run(first)
    assert first.reached.wait(PATIENCE_S)
    call, slow = host.call_of(template), host.call_of(host.template(gate))
    host.push(call, slow)
    first.opened.set()
    assert host.value(call.task_id) == 1  # although the slow one runs and has not ended
    assert gate.reached.wait(PATIENCE_S)
    gate.opened.set()
    host.outcome(slow.task_id)


def test_a_timer_hands_over_what_a_quick_function_holds_up(host):
    """It was quick so far; this time it is not."""
    gate = Gate()
    gate.opened.set()
    template, slow = quick(host, lambda: 1), quick(host, gate)
    gate.opened.clear()
    gate.reached.clear()
    first = Gate()
    host.run(first)
    assert first.reached.wait(PATIENCE_S)
    host.executor._functions[host.template(first).function_key].average_s = 0.0
    call, later = host.call_of(template), host.call_of(slow)
    host.push(call, later)
    first.opened.set()
    assert gate.reached.wait(PATIENCE_S)
    if call.task_id not in host.outcomes():  # 1 ms may have passed before
        host.until(lambda: host.timers)
        host.timers[-1]()
    assert host.value(call.task_id) == 1
    gate.opened.set()
    host.outcome(later.task_id)


def test_functions_that_must_not_run_twice_are_never_held_back_and_hold_nothing_back(host):
    often, once = quick(host, lambda: 1), quick(host, lambda: 2, max_retries=0)
    seen = []
    host.functions[once.function_key] = None  # it is loaded already
    host.executor._functions[once.function_key].function = lambda: seen.append(len(host.outcomes()))
    gate = Gate()
    host.run(gate)
    assert gate.reached.wait(PATIENCE_S)
    before = len(host.outcomes())
    calls = [host.call_of(t) for t in (often, once, often, once)]
    host.push(*calls)
    gate.opened.set()
    host.outcome(calls[-1].task_id)
    # When one starts, the outcomes of all before it (the gate's first) have been sent.
    assert seen == [before + 2, before + 4]


def test_their_outcomes_are_sent_before_a_quick_function_behind_them_ends(host):
    gate = Gate()
    gate.opened.set()
    once, slow = quick(host, lambda: 2, max_retries=0), quick(host, gate)
    gate.opened.clear()
    gate.reached.clear()
    first = Gate()
    host.run(first)
    assert first.reached.wait(PATIENCE_S)
    call, later = host.call_of(once), host.call_of(slow)
    host.push(call, later)
    first.opened.set()
    assert gate.reached.wait(PATIENCE_S)
    assert call.task_id in host.outcomes()
    gate.opened.set()
    host.outcome(later.task_id)


# ---------------------------------------------------------------------------------------------- cancelling
def test_a_running_task_is_interrupted_and_the_worker_goes_on(host):
    reached = threading.Event()
    task_id = host.run(lambda: spin(reached))
    assert reached.wait(PATIENCE_S)
    host.cancel(task_id)
    assert host.failure(task_id).kind == "TaskCancelledError"
    assert host.children_cancelled == [task_id]
    assert host.value(host.run(abs, -1)) == 1


def test_a_task_may_handle_its_interrupt(host):
    reached = threading.Event()

    def stubborn():
        try:
            spin(reached)
        except KeyboardInterrupt:
            return current_task.get().cancelled

    task_id = host.run(stubborn)
    assert reached.wait(PATIENCE_S)
    host.cancel(task_id, recursive=False)
    assert host.value(task_id) is True
    assert host.children_cancelled == []


def test_a_queued_task_is_dropped(host):
    gate = Gate()
    running, queued, later = host.run(gate), host.run(abs, -1), host.run(abs, -2)
    assert gate.reached.wait(PATIENCE_S)
    host.cancel(queued)
    assert host.failure(queued).kind == "TaskCancelledError"
    gate.opened.set()
    assert (host.value(running), host.value(later)) == ("through", 2)


def test_a_cancel_that_comes_while_the_task_is_taken_from_the_queue_or_prepared_is_not_lost(host):
    ran = []
    gate = Gate()
    template = host.template(lambda: ran.append(1))

    def load_slowly(_template):
        gate()
        return lambda: ran.append(1)

    host.load_function = load_slowly
    call = host.call_of(template)
    host.push(call)
    assert gate.reached.wait(PATIENCE_S)
    host.cancel(call.task_id)  # its code does not run yet: no interrupt may hit the loading
    gate.opened.set()
    assert host.failure(call.task_id).kind == "TaskCancelledError"
    taken = host.call_of(template)
    host.executor._cancels[taken.task_id] = None  # what an interrupt notes that finds it nowhere
    host.push(taken)
    assert host.failure(taken.task_id).kind == "TaskCancelledError"
    assert not ran
    assert not host.executor._cancels


def test_interrupts_never_hit_what_comes_after(host):
    """Cancel as late as possible, many times: whatever wins, the worker survives and answers everything."""
    for _ in range(200):
        reached = threading.Event()
        task_id = host.run(reached.set)
        assert reached.wait(PATIENCE_S)
        host.cancel(task_id)
        assert host.outcome(task_id).results
    assert host.value(host.run(abs, -1)) == 1
    assert not host.left


def test_force_ends_the_worker_after_telling_everybody(host):
    gate = Gate()
    quick_one, running, queued = host.run(abs, -1), host.run(gate), host.run(abs, -2)
    assert gate.reached.wait(PATIENCE_S)
    host.cancel(running, force=True)
    assert host.wait_for(WorkerExiting)[0].cause.kind == "killed"
    assert host.wait_for(TasksReturned)[0].task_ids == (queued,)
    assert host.value(quick_one) == 1
    host.until(lambda: host.left)
    assert host.left[0][1] == 1
    assert host.executor._stop
    gate.opened.set()


# ---------------------------------------------------------------------------------------------- ends
def test_sys_exit_ends_the_worker_and_charges_nobody_else(host):
    gate = Gate()

    def leave():
        raise SystemExit(7)

    first, leaver, queued = host.run(gate), host.run(leave), host.run(abs, -1)
    gate.opened.set()
    host.until(lambda: host.left)
    assert host.left[0][1] == 7
    assert host.value(first) == "through"
    assert leaver not in host.outcomes()
    assert host.messages(TasksReturned) == [TasksReturned((queued,))]
    (exiting,) = host.messages(WorkerExiting)
    assert "sys.exit(7)" in exiting.cause.text
    host.run(abs, -1)
    assert len(host.messages(TasksReturned)) == 2  # nothing is accepted any more


def test_max_calls_ends_the_worker_after_the_outcome(host):
    gate = Gate()
    host.run(gate)
    ids = [host.run(os.getpid, max_calls=2) for _ in range(3)]
    gate.opened.set()
    host.until(lambda: host.left)
    assert set(ids[:2]) <= set(host.outcomes())
    assert host.messages(TasksReturned) == [TasksReturned((ids[2],))]
    assert "max_calls=2" in host.messages(WorkerExiting)[0].cause.text


def test_told_to_end_it_ends(host):
    host.tell(ExitWorker(False, DeathCause("job_finished", "x")))
    host.until(lambda: host.left)
    assert host.left == [(DeathCause("job_finished", "x"), 0)]
    host.thread.join(PATIENCE_S)
    assert not host.thread.is_alive()


def test_a_failure_of_its_own_ends_the_worker_instead_of_hanging(host):
    def broken(_refs):
        raise RuntimeError("the owner does not answer")

    host.still_held = broken
    call = host.call_of(host.template(abs), -1, refs=(RefInfo(b"o" * 20, "x"),))
    host.push(call)
    host.until(lambda: host.left)
    assert "the owner does not answer" in host.left[0][0].text


# ---------------------------------------------------------------------------------------------- returning
def test_a_blocked_task_gives_back_what_waits_behind_it(host):
    gate = Gate()
    host.run(gate)
    ids = [host.run(abs, -1) for _ in range(3)]
    assert gate.reached.wait(PATIENCE_S)
    host.tell(BlockBegan())
    assert host.messages(TasksReturned) == [TasksReturned(tuple(ids))]
    gate.opened.set()


def test_tasks_of_others_stay_where_they_are(host):
    gate = Gate()
    host.run(gate)
    assert gate.reached.wait(PATIENCE_S)
    kept = host.run(abs, -5)
    host.executor.perform(Return(1, type(OWNER)("another", "owner")))
    gate.opened.set()
    assert host.value(kept) == 5


# ---------------------------------------------------------------------------------------------- actors
class Counter:
    def __init__(self, start=0):
        self.n = start

    def add(self, n):
        self.n += n
        return self.n

    def leave(self):
        raise ActorExit(0)

    def fail(self):
        raise ValueError(self.n)


def test_an_actor_is_made_and_answers_in_order(host):
    host.become(Counter, 10)
    assert host.wait_for(ActorInitialized)[0].cause is None
    ids = [host.call("add", 1) for _ in range(5)]
    assert [host.value(i) for i in ids] == [11, 12, 13, 14, 15]
    assert host.failure(host.call("fail")).type_name == "ValueError"
    assert host.failure(host.call("missing")).type_name == "AttributeError"
    assert host.value(host.call("__ray_ready__")) is True


def test_a_constructor_that_raises_says_what(host):
    host.become(Counter, 1, 2, 3)
    cause = host.wait_for(ActorInitialized)[0].cause
    assert cause.kind == "init_failed"
    assert cause.failure.type_name == "TypeError"
    assert isinstance(exception_of(cause.failure), TypeError)


@pytest.mark.parametrize("method", ["leave", "__ray_terminate__"])
def test_an_actor_may_end_itself(host, method):
    host.become(Counter)
    before, leaving = host.call("add", 1), host.call(method)
    host.until(lambda: host.left)
    assert host.value(before) == 1
    assert leaving not in host.outcomes()
    assert host.messages(WorkerExiting)[0].cause.kind == "exit_actor"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_graceful_end_lets_the_calls_end_first(host, is_async):
    gate = Gate()

    class Waits:
        def wait(self):
            return gate()

    host.become(Waits, is_async=is_async)
    call = host.call("wait")
    assert gate.reached.wait(PATIENCE_S)
    host.tell(ExitWorker(True, DeathCause("out_of_scope", "x")))
    assert not host.left
    gate.opened.set()
    host.until(lambda: host.left)
    assert host.value(call) == "through"
    assert host.left[0][0].kind == "out_of_scope"


def test_threaded_actors_run_calls_side_by_side_in_their_groups(host):
    barrier = threading.Barrier(3)
    gate = Gate()

    class Threaded:
        def meet(self):
            return barrier.wait(PATIENCE_S) >= 0

        def wait(self):
            return gate()

    host.become(Threaded, max_concurrency=2, concurrency_groups=(("io", 1),))
    ids = [host.call("meet"), host.call("meet"), host.call("meet", concurrency_group="io")]
    assert all(host.value(i) for i in ids)
    stuck, behind = host.call("wait", concurrency_group="io"), host.call("meet", concurrency_group="io")
    assert gate.reached.wait(PATIENCE_S)
    host.cancel(behind)  # waits in its group's queue
    gate.opened.set()
    assert host.value(stuck) == "through"
    assert host.failure(behind).kind == "TaskCancelledError"
    text = host.failure(host.call("meet", concurrency_group="no")).text
    assert "concurrency group 'no' does not exist; there are ['io']" in text


def test_a_graceful_end_of_a_threaded_actor_waits_for_the_last_outcome(host):
    gate = Gate()

    class Waits:
        def wait(self):
            return gate()

    host.become(Waits, max_concurrency=2)
    call = host.call("wait")
    assert gate.reached.wait(PATIENCE_S)
    host.tell(ExitWorker(True, None))
    gate.opened.set()
    host.until(lambda: host.left)
    assert call in host.outcomes()


class Async:
    def __init__(self):
        self.event = asyncio.Event()
        self.started = threading.Event()

    async def wait(self):
        self.started.set()
        await self.event.wait()
        return "woken"

    async def wake(self):
        self.event.set()

    def plain(self):
        return "plain"

    async def fail(self):
        raise KeyError("x")

    async def leave(self):
        raise ActorExit(0)


def test_async_actors_interleave_calls_on_one_loop(host):
    host.become(Async, is_async=True, max_concurrency=10)
    waiting, waking = host.call("wait"), host.call("wake")
    assert host.value(waking) is None
    assert host.value(waiting) == "woken"
    assert host.value(host.call("plain")) == "plain"
    assert host.failure(host.call("fail")).type_name == "KeyError"
    assert "does not exist" in host.failure(host.call("plain", concurrency_group="no")).text


def test_async_calls_are_cancelled_running_and_waiting(host):
    host.become(Async, is_async=True, max_concurrency=1)
    running, waiting = host.call("wait"), host.call("wait")
    host.until(lambda: host.messages(ActorInitialized))
    assert host.executor._instance.started.wait(PATIENCE_S)
    host.cancel(waiting)
    assert host.failure(waiting).kind == "TaskCancelledError"
    host.cancel(running)
    assert host.failure(running).kind == "TaskCancelledError"
    assert host.value(host.call("plain")) == "plain"


def test_concurrency_of_async_actors_is_bounded(host):
    host.become(Async, is_async=True, max_concurrency=1, concurrency_groups=(("io", 1),))
    waiting = host.call("wait")
    behind = host.call("plain")
    other_group = host.call("wake", concurrency_group="io")
    assert host.value(waiting) == "woken"
    assert host.value(behind) == "plain"
    host.outcome(other_group)
    order = list(host.outcomes())
    assert order.index(other_group) < order.index(behind)


def test_an_async_actor_may_end_itself(host):
    host.become(Async, is_async=True)
    host.call("leave")
    host.until(lambda: host.left)
    assert host.messages(WorkerExiting)[0].cause.kind == "exit_actor"
    assert host.machine.actor.actor_id == ACTOR_ID


# ---------------------------------------------------------------------------------------------- devices
def test_devices_are_told_once_before_the_code_that_may_use_them(host):
    for ids in ({}, {"GPU": ("0",)}, {"GPU": ("0",)}, {"GPU": ("1",)}):
        call = host.call_of(host.template(lambda: len(host.accelerators)))
        host.post(Envelope(OWNER, PushTasks(1, tuple(host._templates.values()), (call,), ids)))
        assert host.value(call.task_id) == len(host.accelerators)
    assert host.accelerators == [{"GPU": ("0",)}, {"GPU": ("1",)}]
