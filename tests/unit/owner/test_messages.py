"""Every message of an owner survives the wire as it was."""

import pytest

from actorrt.kernel.message import LANE_NORMAL, Address
from actorrt.owner import messages as m
from actorrt.protocol import make_codec
from actorrt.wire.records import ActorInfo, Buffer, DeathCause, Failure, RefInfo, TaskOutcome, Value

WORKER = Address("w", "worker")
REF = RefInfo(b"o" * 20, "p")
VALUE = Value(b"d", (Buffer(b"big"),), (REF,))
FAILURE = Failure("TaskError", "text", VALUE, pid=1, node_id=b"n", subject_id=b"s")
OUTCOME = TaskOutcome(b"t" * 16, (VALUE, FAILURE), 0.5, (REF,), retry_wanted=True, item_count=3)
REFERENCE = m.ObjectReference(b"o" * 20, 5, "STORED", {"LOCAL_REFERENCE": 1}, "p", "", ("node",), ("q",))

SAMPLES = [
    m.LeaseGranted(1, 2, WORKER, b"w", b"n", 3, {"GPU": ("0",)}), m.LeasesRedirected(1, 2, Address("r", "raylet"), 1),
    m.LeasesRefused(1, 2, "kind", "text"), m.LeaseRecalled(1),
    m.LeasedWorkerDied(1, WORKER, DeathCause("signal", "t", 1, 2, 9, b"n", ("line",))), m.TasksDone((OUTCOME,)),
    m.ItemsYielded(b"t" * 16, ((0, VALUE), (1, FAILURE))), m.TasksReturned((b"t",)), m.CallsRefused(b"a", 1, (b"t",)),
    m.GetObjects((b"o",)), m.DropGets((b"o",)), m.ObjectsReady(((b"o", VALUE), (b"p", FAILURE))),
    m.BorrowersAdded((REF,), "p"), m.BorrowersRemoved((b"o", b"o")),
    m.HoldsCounted(3), m.CancelOwned(b"o", force=True, recursive=False),
    m.CopiesAdded((b"k" * 28,), "node"),
    m.CopiesRemoved((b"k" * 28,), "node"),
    m.LocateObject(b"k" * 28),
    m.VerifyObjects((b"k" * 28,), "node"),
    m.ActorChanged(ActorInfo(b"a", b"j", "ALIVE", 1, WORKER)), m.Published("c", b"d"),
    m.NodeChanged(b"n", Address("r", "raylet"), alive=False, text="why"), m.GetReferences(10),
    m.References("node", (REFERENCE,), 1, 2), m.LogLines("f", 1, "n", True, ("l",), 2),
]  # fmt: skip


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip(message):
    codec = make_codec()
    frames = [bytes(frame) for frame in codec.encode("owner", "worker", message)]
    decoded = codec.decode(frames).body
    assert decoded == message
    assert type(decoded) is type(message)


def test_no_message_is_left_out():
    ours = [value for value in vars(m).values() if isinstance(value, type) and value.__module__ == m.__name__]
    assert [cls for cls in ours if issubclass(cls, m.Message)] == [type(message) for message in SAMPLES]


def test_what_a_worker_says_of_tasks_keeps_its_order():
    from_workers = [m.TasksDone, m.ItemsYielded, m.TasksReturned, m.CallsRefused]
    assert [cls for cls in from_workers if cls.LANE != LANE_NORMAL] == []
