"""Every message of the GCS survives the wire as it was."""

import msgspec
import pytest

from actorrt.gcs import messages as m
from actorrt.kernel.message import LANE_NORMAL, Address
from actorrt.protocol import make_codec
from actorrt.wire.records import ActorInfo, Buffer, DeathCause, NodeLoad, PendingDemand, Strategy, Value
from tests.unit.gcs.world import actor_spec, job_config, node_info

INFO = ActorInfo(
    b"x", b"j", "ALIVE", 3, Address("p", "worker"), b"n", 7, death=DeathCause("oom", "t", stderr_tail=("l",))
)
LOAD = NodeLoad(b"n", {"CPU": 5000}, 9, (PendingDemand({"CPU": 1}, 2, "why", "f"),))
SPEC = actor_spec(
    "x",
    holds={"CPU": 1},
    strategy=Strategy("NODE_AFFINITY", b"n", soft=True),
    label_selector=(("zone", "!a"),),
    concurrency_groups=(("io", 2),),
    dependencies=(Value(b"d", (Buffer(b"big"),)),),
)
NODE = node_info("a", labels={"zone": "x"})
CAUSE = DeathCause("signal", "text", 1, 2, 9, b"n", ("line",))

SAMPLES = [
    m.RegisterNode(NODE), m.NodeRegistered((NODE,), (LOAD,), (job_config(),)), m.LoadReported(LOAD),
    m.DrainNode(b"n"), m.ListNodes(), m.NodeList((NODE,), (LOAD,)), m.RegisterJob(job_config(), Address("p", "raylet")),
    m.JobRegistered(job_config(), b"n"), m.FinishJob(b"j"), m.GetJob(), m.JobList((job_config(),), (b"j",)),
    m.KvPut("n", b"k", b"v"), m.KvGet("n", b"k"), m.KvDelete("n", b"k"), m.KvKeys("n"), m.KvAnswer(True, b"v"),
    m.KvKeyList((b"k",)), m.ExportFunction(b"j", b"k", "f", b"p"), m.GetFunction(b"j", b"k"),
    m.FunctionFound("f", b"p"),
    m.CreateActor(SPEC), m.ActorRegistered(INFO), m.GetNamedActor("n", "ns"), m.ListActors(), m.ActorList((INFO,)),
    m.SubscribeActor(b"x"), m.UnsubscribeActor(b"x"), m.KillActor(b"x"), m.ActorOutOfScope(b"x"),
    m.ActorStarted(b"x", 1, Address("p", "worker"), b"w", b"n", 7), m.ActorStartFailed(b"x", 1, CAUSE, retry=True),
    m.ActorDied(b"x", 1, CAUSE), m.Subscribe("c"), m.Unsubscribe("c"), m.Publish("c", b"d"), m.GetStatus(),
    m.Status(b"c", (NODE,), (LOAD,), (job_config(),), {"ALIVE": 1}, 1.5, (INFO,)), m.StopCluster(), m.HealthDue(),
    m.PlacementDue(), m.ViewDue(),
]  # fmt: skip


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip(message):
    codec = make_codec()
    frames = [bytes(frame) for frame in codec.encode("gcs", "owner", message, request_id=5)]
    decoded = codec.decode(frames)
    assert (decoded.body, decoded.request_id) == (message, 5)
    assert type(decoded.body) is type(message)


def test_no_message_is_left_out():
    ours = [value for value in vars(m).values() if isinstance(value, type) and value.__module__ == m.__name__]
    assert [cls.__name__ for cls in ours] == [type(message).__name__ for message in SAMPLES]
    assert all(issubclass(cls, msgspec.Struct) for cls in ours)


def test_what_a_sender_says_of_an_actor_keeps_its_order():
    about_actors = [m.CreateActor, m.SubscribeActor, m.UnsubscribeActor, m.KillActor, m.ActorOutOfScope]
    from_raylets = [m.ActorStarted, m.ActorStartFailed, m.ActorDied]
    assert [cls for cls in about_actors + from_raylets if cls.LANE != LANE_NORMAL] == []
