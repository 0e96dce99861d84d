"""Every message of a worker survives the wire as it was."""

import pytest

from actorrt.kernel.message import LANE_NORMAL, Address
from actorrt.protocol import make_codec
from actorrt.wire.records import ActorSpec, Buffer, DeathCause, RefInfo, TaskCall, TaskOutcome, TaskTemplate, Value
from actorrt.worker import messages as m

REF = RefInfo(b"o" * 20, "p")
VALUE = Value(b"d", (Buffer(b"big"),), (REF,))
TEMPLATE = TaskTemplate(1, b"k", "f", "n", b"j", retry_exceptions=VALUE, is_streaming=True)
CALL = TaskCall(b"t" * 16, 1, b"args", (Buffer(b"big"),), (VALUE,), 2, b"p" * 16, (REF,))
SPEC = ActorSpec(b"a" * 16, b"j", Address("o", "owner"), b"k", "C", VALUE)
CAUSE = DeathCause("exit", "text", 1, 2, 9, b"n", ("line",))

SAMPLES = [
    m.PushTasks(1, (TEMPLATE,), (CALL,), {"GPU": ("0",)}), m.PushCalls(b"a", 1, (TEMPLATE,), (CALL,)), m.TakeBack(3),
    m.CancelTask(b"t", force=True, recursive=False), m.CreateActorHere(SPEC, 1, {"GPU": ("0", "1")}),
    m.ExitWorker(graceful=True, cause=CAUSE), m.TasksFinished((TaskOutcome(b"t", (VALUE,)),)),
    m.ItemsProduced(b"t", ((0, VALUE),)), m.WorksReturned((b"t",)), m.Started(), m.ActorCreated(CAUSE), m.BlockBegan(),
    m.BlockEnded(), m.ExitRequested(CAUSE, 3),
]  # fmt: skip


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip(message):
    codec = make_codec()
    frames = [bytes(frame) for frame in codec.encode("worker", "owner", message)]
    decoded = codec.decode(frames).body
    assert decoded == message
    assert type(decoded) is type(message)


def test_no_message_is_left_out():
    ours = [value for value in vars(m).values() if isinstance(value, type) and value.__module__ == m.__name__]
    assert ours == [type(message) for message in SAMPLES]


def test_what_the_executor_says_of_tasks_keeps_its_order():
    assert [cls for cls in (m.ItemsProduced, m.TasksFinished, m.WorksReturned) if cls.LANE != LANE_NORMAL] == []
