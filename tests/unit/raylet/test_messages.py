"""Every message of a raylet survives the wire as it was."""

import pytest

from actorrt.kernel.message import LANE_NORMAL, Address
from actorrt.protocol import make_codec
from actorrt.raylet import messages as m
from actorrt.wire.records import ActorSpec, DeathCause, LeaseSpec, NodeLoad, PendingDemand, Value
from tests.unit.gcs.world import job_config, node_info

CAUSE = DeathCause("signal", "text", 1, 2, 9, b"n", ("line",))
SPEC = ActorSpec(b"a" * 16, b"j", Address("o", "owner"), b"k", "C", Value(b"d"))
LOAD = NodeLoad(b"n", {"CPU": 1}, 2, (PendingDemand({"CPU": 1}, 2, "why", "f"),))

SAMPLES = [
    m.RequestLeases(1, LeaseSpec(b"j", {"CPU": 10_000}), 2, 1), m.CancelLeases(1, 2), m.ReturnLease(1, True),
    m.WorkerReady(b"w", 7, Address("w", "worker")), m.WorkerBlocked(b"w"), m.WorkerUnblocked(b"w"),
    m.WorkerExiting(b"w", CAUSE), m.ActorInitialized(b"w", b"a", 1, CAUSE), m.DriverJoined(b"j", Address("o", "owner")),
    m.LogsFlush(b"j"), m.StoreUsed(5),
    m.MemoryPressed(9, 10, 0.5, "here", (m.ProcessMemory(7, 8),), (m.ProcessMemory(7, 8, "python"),)),
    m.ClusterChanged((node_info("a", labels={"zone": "x"}),), (LOAD,)),
    m.JobStarted(job_config()), m.JobFinished(b"j"), m.StartActor(SPEC, 2), m.StopActor(b"a", 1, CAUSE, graceful=True),
    m.StopNode("why"), m.WorkerStarted(b"w", 7), m.WorkerStartFailed(b"w", "why"), m.WorkerDied(b"w", CAUSE),
    m.LogsFlushed(1), m.ReportDue(), m.SweepDue(), m.GetNodeStatistics(), m.NodeStatistics({"idle": 1}, (7,)),
]  # fmt: skip


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip(message):
    codec = make_codec()
    frames = [bytes(frame) for frame in codec.encode("raylet", "owner", message, request_id=5)]
    decoded = codec.decode(frames)
    assert (decoded.body, decoded.request_id) == (message, 5)
    assert type(decoded.body) is type(message)


def test_no_message_is_left_out():
    ours = [value for value in vars(m).values() if isinstance(value, type) and value.__module__ == m.__name__]
    assert [cls for cls in ours if issubclass(cls, m.Message)] == [type(message) for message in SAMPLES]


def test_what_an_owner_says_of_leases_keeps_its_order():
    assert [cls for cls in (m.RequestLeases, m.CancelLeases, m.ReturnLease) if cls.LANE != LANE_NORMAL] == []
