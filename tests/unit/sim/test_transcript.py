from actorrt.gcs.messages import LoadReported
from actorrt.kernel.message import Address, Done
from actorrt.owner.messages import GetObjects, TasksDone
from actorrt.raylet.messages import RequestLeases
from actorrt.sim.transcript import Transcript
from actorrt.sim.world import World
from actorrt.wire.records import Failure, LeaseSpec, NodeLoad, RefInfo, TaskOutcome, Value
from actorrt.worker.messages import CancelTask

ONE, TWO = Address("one", "owner"), Address("two", "raylet")
TASK = b"\xfe" * 16


def record(*bodies):
    transcript = Transcript(World(1))
    for body in bodies:
        transcript.arrived(ONE, TWO, body, 0.0)
    return transcript


def test_one_line_per_message_with_the_fields_that_matter():
    transcript = record(RequestLeases(1, LeaseSpec(b"job1", {}), 3), Done())
    assert transcript.text == (
        "one.owner        -> two.raylet       RequestLeases(class_id=1, count=3)\n"
        "one.owner        -> two.raylet       Done()\n"
    )


def test_ids_become_names_in_the_order_of_their_appearance():
    lines = record(
        CancelTask(b"\xff" * 16),
        CancelTask(TASK),
        CancelTask(b"\xff" * 16),
        GetObjects((TASK + b"\0\0\0\0", b"x" * 20)),
    ).lines
    assert [line.split("(")[1] for line in lines] == [
        "task_id=task 1)",
        "task_id=task 2)",
        "task_id=task 1)",
        "object_ids=[result of task 2, object 1])",
    ]


def test_outcomes_tell_what_they_bring():
    ref = RefInfo(b"x" * 20, "one")
    outcomes = (
        TaskOutcome(TASK, (Value(b"1"),)),
        TaskOutcome(TASK, (Failure("TaskError", "no"),)),
        TaskOutcome(TASK, (Value(b"1", (), (ref,)),), borrowed=(ref,)),
    )
    [line] = record(TasksDone(outcomes)).lines
    assert line.endswith(
        "TasksDone(outcomes=[task 1: value, task 1: TaskError, "
        "task 1: value with [object 1 of one], keeps [object 1 of one]])"
    )


def test_heartbeats_are_left_out_and_remarks_and_ends_are_not():
    world = World(1)
    transcript = Transcript(world)
    transcript.arrived(ONE, TWO, LoadReported(NodeLoad(b"n", {}, 1)), 0.0)
    transcript.note("remark")
    world.end(world.spawn("one"), "left", orderly=True)
    transcript.stop()
    transcript.arrived(ONE, TWO, Done(), 0.0)
    assert transcript.lines == ["# remark", "one ends: left"]
