import pytest

from actorrt.gcs.messages import GetJob, JobList
from actorrt.kernel.effects import Reply
from actorrt.kernel.message import Address
from actorrt.owner.requests import Release, Submit
from actorrt.sim.runtime import Ask, Book, Context, Get, Interrupted, Program, Put, Runtime, Sleep, Wait
from actorrt.sim.values import TaskFailed
from actorrt.sim.world import SimulationError, Watcher, World
from actorrt.wire.records import Failure, Stored


class Node:
    """Raylet and GCS in one: hears everything, answers requests, grants nothing."""

    def handle(self, envelope, _now):
        return [Reply(envelope.src, envelope.request_id, JobList(()))] if envelope.request_id else []

    def check(self):
        pass


@pytest.fixture
def runtime():
    world = World(1)
    node = world.spawn("node")
    for name in ("gcs", "raylet"):
        node.attach(name, Node(), print)
    raylet, gcs = Address("node", "raylet"), Address("node", "gcs")
    return Runtime(world, world.spawn("me"), raylet=raylet, gcs=gcs, job_id=b"job1")


def run(runtime, code, *arguments, **hooks):
    """Start a program; the list gets (value, error) when it ends."""
    ended = []
    program = Program(Context(runtime), lambda value, error: ended.append((value, error)), **hooks)
    program.start(code, arguments)
    return program, ended


def records(runtime):
    return runtime.machine.objects.records


def test_a_plain_function_ends_at_once(runtime):
    _, ended = run(runtime, lambda _context, number: number + 1, 1)
    assert ended == [(2, None)]


def test_what_a_program_raises_is_its_outcome(runtime):
    def code(_context):
        yield Sleep(1)
        raise ValueError("no")

    _, ended = run(runtime, code)
    assert ended == []
    runtime.world.run_for(2)
    assert repr(ended) == "[(None, ValueError('no'))]"


def test_sleeping_takes_virtual_time(runtime):
    def code(context):
        began_s = context.now
        yield Sleep(2.5)
        return context.now - began_s

    _, ended = run(runtime, code)
    runtime.world.run_for(3)
    assert ended == [(2.5, None)]


def test_a_put_value_is_read_back_and_freed_with_its_scope(runtime):
    def code(context):
        ref = context.put([1, 2])
        [value] = yield Get((ref,))
        return value, ref

    program, ended = run(runtime, code)
    runtime.world.run_for(1)
    (value, ref), _ = ended[0]
    assert value == [1, 2]
    assert ref.object_id in records(runtime)
    program.context.close()
    runtime.flush()
    runtime.world.run_for(1)
    assert not records(runtime)


def test_kept_refs_outlive_their_scope_until_released(runtime):
    context = Context(runtime)
    ref = context.put(1)
    context.keep(ref)
    context.close()
    runtime.flush()
    runtime.world.run_for(1)
    assert list(records(runtime)) == [ref.object_id]
    context.release(ref)
    runtime.flush()
    runtime.world.run_for(1)
    assert not records(runtime)


def test_refs_inside_values_are_adopted(runtime):
    def code(context):
        inner = context.put("inner")
        outer = context.put([inner, inner])
        context.release(inner)
        [[first, second]] = yield Get((outer,))
        context.release(outer, first)
        yield Sleep(0.1)
        [value] = yield Get((second,))
        return value, len(records(runtime))

    _, ended = run(runtime, code)
    runtime.world.run_for(1)
    assert ended == [(("inner", 1), None)]


def test_a_failure_is_thrown_where_it_is_waited_for(runtime):
    def code(context):
        ref = context.submit("anything")
        context.cancel(ref)
        with pytest.raises(TaskFailed, match="TaskCancelledError"):
            yield Get((ref,))
        return (yield Wait((ref,), 1))

    _, ended = run(runtime, code)
    runtime.world.run_for(1)
    assert ended == [([True], None)]


def test_blocking_is_announced_only_when_it_has_to_wait(runtime):
    told = []

    def code(context):
        ready, never = context.put(1), context.submit("never")
        yield Sleep(0.1)
        yield Get((ready,))
        assert told == []
        yield Wait((ready, never), 2)

    program, ended = run(
        runtime, code, block_began=lambda: told.append("began"), block_ended=lambda: told.append("ended")
    )
    runtime.world.run_for(1)
    assert told == ["began"]
    program.interrupt()
    assert told == ["began", "ended"]
    assert isinstance(ended[0][1], Interrupted)
    runtime.world.run_for(1)
    assert all(record.waiters is None for record in records(runtime).values()), "it waits no longer"


def test_interrupting_one_that_has_not_begun(runtime):
    ended = []
    program = Program(Context(runtime), lambda value, error: ended.append(error))
    program.interrupt()
    program.start(lambda _context: "never", ())
    program.interrupt()
    assert [type(error) for error in ended] == [Interrupted]


def test_asking_a_component(runtime):
    def code(_context):
        return (yield Ask(Address("node", "gcs"), GetJob()))

    _, ended = run(runtime, code)
    runtime.world.run_for(1)
    assert ended == [(JobList(()), None)]


def test_an_unknown_wish_is_a_bug(runtime):
    def code(_context):
        yield "a wish"

    with pytest.raises(TypeError, match="a wish"):
        run(runtime, code)


def test_submissions_come_before_releases_and_in_batches(runtime):
    bodies = []

    class Watch(Watcher):
        def stepped(self, cell, envelope, effects, now):
            del cell, effects, now
            bodies.append(envelope.body)

    runtime.world.observers.append(Watch())

    def code(context):
        for _ in range(70):
            context.release(context.submit("f", 1))
        yield Sleep(1)

    run(runtime, code)
    runtime.world.run_for(0.01)
    kinds = [type(body).__name__ for body in bodies if isinstance(body, (Submit, Release))]
    assert kinds == ["Submit", "Release", "Submit", "Release"]
    assert [len(body.tasks) for body in bodies if isinstance(body, Submit)] == [64, 6]


def test_equal_options_share_a_template(runtime):
    context = Context(runtime)
    for options in ({}, {}, {"max_retries": 1}, {"cpus": 2}):
        context.submit("f", **options)
    templates = [task.template for task in runtime._pending]
    assert templates[0] is templates[1]
    assert len({template.spec.number for template in templates}) == 3
    assert templates[0].lease_key == templates[2].lease_key != templates[3].lease_key


def test_waking_twice_is_a_bug(runtime):
    waiter = runtime.wait((), 0, print, fail_fast=False)
    waiter.wake()
    with pytest.raises(SimulationError, match="twice"):
        waiter.wake()


def test_a_book_knows_functions_and_classes():
    book = Book({"f": print}, {"C": dict})
    assert (book.find("f"), book.find("C")) == (print, dict)
    with pytest.raises(KeyError):
        book.find("g")


def test_large_values_take_a_while_to_be_put(runtime):
    runtime.shelf.takes = lambda _value: True
    kept = []
    runtime.shelf.keep = lambda value, object_id, owner, done: kept.append((object_id, owner, done))
    with pytest.raises(SimulationError, match="yield Put"):
        runtime.put("x")

    def code(_context):
        first = yield Put("x")
        try:
            yield Put("y")
        except TaskFailed as failed:
            return first, failed.failure.kind

    _, ended = run(runtime, code)
    object_id, owner, done = kept.pop()
    assert owner == "me"
    done(Stored(object_id + b"12345678", 300, "me", ("node",)))
    runtime.world.run_for(1)
    assert not ended
    kept.pop()[2](Failure("ObjectStoreFullError", "no room"))
    runtime.world.run_for(1)
    [((ref, kind), error)] = ended
    assert (ref.object_id, kind, error) == (object_id, "ObjectStoreFullError", None)


def test_an_object_nobody_waits_for_any_more_is_released(runtime):
    runtime.shelf.takes = lambda _value: True
    kept = []
    runtime.shelf.keep = lambda value, object_id, owner, done: kept.append((object_id, done))

    def code(_context):
        yield Put("x")

    program, ended = run(runtime, code)
    program.interrupt()
    assert isinstance(ended[0][1], Interrupted)
    object_id, done = kept.pop()
    done(Stored(object_id + b"12345678", 300, "me", ("node",)))
    runtime.world.run_for(1)
    assert object_id not in records(runtime)


class Hanging:
    """A shelf whose objects never come."""

    withdrawn = 0

    def takes(self, _value):
        return False

    def load(self, _stored, _loaded):
        return self

    def withdraw(self):
        self.withdrawn += 1


def test_who_is_interrupted_withdraws_its_wish(runtime):
    def code(context):
        ref = context.put(1)
        yield Sleep(0.1)
        records(context.runtime)[ref.object_id].result = Stored(b"k" * 28, 300, "me", ("far",))
        yield Get((ref,))

    shelf = runtime.shelf = Hanging()
    program, ended = run(runtime, code)
    runtime.world.run_for(1)
    assert ended == []
    program.interrupt()
    assert shelf.withdrawn == 1
    assert isinstance(ended[0][1], Interrupted)
