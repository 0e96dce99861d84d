"""Every message of an object manager survives the wire as it was."""

import pytest

from actorrt.kernel.message import LANE_CONTROL, LANE_NORMAL, LANE_SUPERVISION
from actorrt.objects import messages as m
from actorrt.protocol import make_codec
from actorrt.wire.records import Failure

PLACE = m.Place(1, 64, 100, 7)
SPILLED = m.Place(0, 64, 100, 8, "file:///spill", "a.spill", 99)
FAILURE = Failure("ObjectLostError", "gone", subject_id=b"o")
WANTED = m.ObjectWanted(b"k", 100, "owner", ("here", "there"))
CARVED = m.CarvedObject(b"k", "owner", 1, 2, 64, 100, 7)
STORED = m.StoredObject(b"k", 100, "owner", "SEALED", True, 1, ("reader",))

SAMPLES = [
    m.Attach(7), m.Attached("dir", "prefix", 4096, 1 << 30, "tcp://1"), m.LeaseSlab(100), m.SlabLeased(1, 2, 3, 4, 5),
    m.CreateObject(b"k", 100, "owner"), m.ObjectCreated(PLACE), m.ObjectsSealed((1,), (CARVED,), (2,)),
    m.CreateAborted(1), m.PinObjects((WANTED,), for_arguments=True, ticket=3),
    m.ObjectsPinned((PLACE, FAILURE, SPILLED)), m.PinsReleased((1, 2)),
    m.FetchObjects((WANTED,), 4), m.ObjectsFetched(((0, FAILURE),)),
    m.WithdrawRequest(3), m.Detach((1, 2)),
    m.PrefetchObjects((WANTED,)), m.FreeObjects((b"k",)), m.ObjectLocated(b"k", ("there",), FAILURE),
    m.AskForObject(b"k"), m.ObjectOffered(b"k", "tcp://1", 100), m.ObjectMissing(b"k"),
    m.StoreAnswered(1, PLACE, m.SlabLeased(1, 2, 3, 4, 5), FAILURE), m.PullEnded(1, ("there",), FAILURE),
    m.CopiesDropped((b"k",)), m.ClientDied("p"), m.UsageChanged(5), m.StoreReported(1, {"objects": 1}, (STORED,), 2),
    m.AuditDue(), m.GetStoreReport(10), m.StoreReport({"objects": 1}, (STORED,), 2),
]  # fmt: skip

ORDERED = (m.ObjectsSealed, m.PinObjects, m.PinsReleased, m.StoreAnswered, m.WithdrawRequest, m.Detach)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip(message):
    codec = make_codec()
    frames = [bytes(frame) for frame in codec.encode("objects", "owner", message, request_id=5)]
    decoded = codec.decode(frames)
    assert (decoded.body, decoded.request_id) == (message, 5)
    assert type(decoded.body) is type(message)


def test_no_message_is_left_out():
    ours = [v for v in vars(m).values() if isinstance(v, type) and v.__module__ == m.__name__]
    assert [cls for cls in ours if issubclass(cls, m.Message)] == [type(message) for message in SAMPLES]


def test_frees_and_deaths_go_first_and_reports_keep_their_order():
    assert m.FreeObjects.LANE == LANE_CONTROL
    assert m.ClientDied.LANE == LANE_SUPERVISION
    assert {cls.LANE for cls in ORDERED} == {LANE_NORMAL}
