import asyncio
from concurrent.futures import Future

import msgspec
import pytest

from actorrt.cluster import memory_report
from actorrt.cluster.memory_report import ObjectHold, ObjectPlace, ask, ask_stores, collect, node_memory
from actorrt.gcs.messages import ActorList, GetStatus, ListActors, Status
from actorrt.kernel.errors import RequestTimedOut
from actorrt.kernel.message import Address, Done
from actorrt.objects.messages import GetStoreReport, StoredObject, StoreReport
from actorrt.owner.messages import GetReferences, ObjectReference, References
from actorrt.scheduling.resources import UNIT
from actorrt.wire.peers import PeerInfo
from actorrt.wire.records import ActorInfo, JobConfig, NodeInfo

GCS = Address("unix:///head", "gcs")
HEAD = NodeInfo(
    b"\x0a", Address("unix:///head", "raylet"), "h", "10.0.0.1", "first", {"object_store_memory": 100 * UNIT},
    is_head=True, pid=1,
)  # fmt: skip
OTHER = NodeInfo(b"\x0b", Address("unix:///other", "raylet"), "h", "10.0.0.2", pid=2)
DEAD = NodeInfo(b"\x0d", Address("unix:///dead", "raylet"), "h", "10.0.0.3", alive=False)
DRIVER, WORKER, ACTOR = "unix:///driver", "unix:///worker", "unix:///actor"
BIG, SMALL = b"B" * 20, b"S" * 20
FIGURES = {"capacity_bytes": 1000, "used_bytes": 90, "leased_bytes": 20, "objects": 1}


def stored(object_id, size_bytes, *, is_copy=False, state="SEALED", pinned_by=(), owner=DRIVER):
    return StoredObject(object_id + b"8 bytes.", size_bytes, owner, state, is_copy, len(pinned_by), pinned_by)


def reference(object_id, size_bytes, state, owner=DRIVER, **more):
    return ObjectReference(object_id, size_bytes, state, {"LOCAL_REFERENCE": 1}, owner, **more)


class Net:
    """Answers from a table; whoever is not in it never does, until its time is over."""

    def __init__(self, answers, nodes=(DEAD, HEAD, OTHER), actors=()):
        status = Status(b"c", nodes, (), (JobConfig(b"j", Address(DRIVER, "owner"), "", driver_pid=7),), {}, 1.0)
        self.answers = {(GCS.process, "gcs", GetStatus): status, (GCS.process, "gcs", ListActors): ActorList(actors)}
        self.answers |= answers
        self.asked = []

    def request(self, dst, body, timeout_s):
        assert timeout_s == memory_report.QUESTION_TIMEOUT_S
        self.asked.append((dst.process, dst.actor, body))
        answer = self.answers.get((dst.process, dst.actor, type(body)), RequestTimedOut("too late"))
        future = Future()
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    def peers(self):
        return (
            PeerInfo(process=WORKER, description="worker 0a1b pid=9", channels=1, waiting=0, pending_bytes=0),
            PeerInfo(process="unix:///mute", description="", channels=0, waiting=1, pending_bytes=0),
        )

    def processes_asked(self):
        return [process for process, _, body in self.asked if isinstance(body, GetReferences)]


def store_of(process, *objects, omitted=0, figures=FIGURES):
    return {(process, "objects", GetStoreReport): StoreReport(figures, objects, omitted)}


def owner_of(process, *entries, raylet="unix:///head", omitted=0):
    return {(process, "owner", GetReferences): References(raylet, entries, omitted, 2)}


def collected(net, **options):
    return asyncio.run(collect(net, GCS, **{"objects_max": 10, **options}))


# ----------------------------------------------------------------------------------------------------------- questions
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (RequestTimedOut("too late"), "too late"),
        (ValueError("too large"), "too large"),
        (RequestTimedOut(), "RequestTimedOut"),
        (Done(), "objects@x answered with Done"),
    ],
)
def test_why_there_is_no_answer(answer, text):
    net = Net({("x", "objects", GetStoreReport): answer})
    assert asyncio.run(ask(net, Address("x", "objects"), GetStoreReport(), StoreReport)) == text


def test_a_cluster_that_does_not_answer():
    with pytest.raises(ConnectionError, match="gone"):
        collected(Net({(GCS.process, "gcs", GetStatus): RequestTimedOut("gone")}))


# --------------------------------------------------------------------------------------------------------------- nodes
def test_living_nodes_are_asked():
    net = Net(store_of("unix:///head"))
    stores = asyncio.run(ask_stores(net, (DEAD, HEAD, OTHER), 5))
    assert stores == {b"\x0a": StoreReport(FIGURES), b"\x0b": "too late"}
    assert [(process, body) for process, _, body in net.asked] == [
        ("unix:///head", GetStoreReport(5)),
        ("unix:///other", GetStoreReport(5)),
    ]


def test_no_more_nodes_than_the_bound(monkeypatch):
    monkeypatch.setattr(memory_report, "NODES_ASKED_MAX", 1)
    report = collected(Net(store_of("unix:///head")), stats_only=True)
    assert report.unasked == 1
    assert [bool(node.problem) for node in report.nodes] == [False, True]


def test_figures_of_a_node():
    node = node_memory(HEAD, StoreReport(FIGURES))
    assert (node.node_id, node.name, node.pid, node.is_head) == ("0a", "first", 1, True)
    assert (node.capacity_bytes, node.used_bytes, node.problem) == (1000, 70, "")
    assert node.pulls_inflight == 0


def test_a_store_nobody_used_yet_has_its_configured_size():
    assert node_memory(HEAD, StoreReport({"objects": 0})).capacity_bytes == 100
    assert node_memory(HEAD, "silent").capacity_bytes == 100
    assert node_memory(HEAD, "silent").problem == "silent"
    assert node_memory(HEAD, None).problem == "not asked"


def test_stats_only_asks_no_owners():
    net = Net(store_of("unix:///head") | store_of("unix:///other"))
    report = collected(net, stats_only=True)
    assert [node.node_id for node in report.nodes] == ["0a", "0b"]
    assert report.objects == report.processes == ()
    assert net.processes_asked() == []
    assert (OTHER.raylet.process, "objects", GetStoreReport(0)) in net.asked


# ------------------------------------------------------------------------------------------------------------- objects
def test_an_object_as_all_know_it():
    net = Net(
        store_of("unix:///head", stored(BIG, 50))
        | store_of("unix:///other", stored(BIG, 50, is_copy=True, pinned_by=(WORKER, "bulk-transfer 3")))
        | owner_of(DRIVER, reference(BIG, 50, "STORED", holders=("unix:///head",)), reference(SMALL, 3, "INLINE"))
        | owner_of(WORKER, reference(BIG, 0, "BORROWED"), raylet="unix:///other")
    )
    report = collected(net)
    assert net.processes_asked() == [DRIVER, WORKER]  # drivers, and who pins; not transfers
    big, small = report.objects
    assert (big.object_id, big.size_bytes, big.state, big.owner) == (BIG.hex(), 50, "SEALED", DRIVER)
    assert big.holds == (
        ObjectHold(process=DRIVER, kinds={"LOCAL_REFERENCE": 1}),
        ObjectHold(process=WORKER, kinds={"LOCAL_REFERENCE": 1}),
    )
    assert big.places == (
        ObjectPlace(node_id="0a", state="SEALED"),
        ObjectPlace(node_id="0b", state="SEALED", is_copy=True, pins=2, pinned_by=(WORKER, "bulk-transfer 3")),
    )
    assert (small.state, small.places) == ("INLINE", ())
    driver, worker = report.processes
    assert (driver.role, driver.pid, driver.node_id, driver.objects, driver.tasks_pending) == ("driver", 7, "0a", 2, 2)
    assert (worker.role, worker.pid, worker.node_id) == ("worker", 9, "0b")
    assert report.omitted == 0


def test_actors_are_asked_by_name():
    alive = ActorInfo(b"a", b"j", "ALIVE", worker=Address(ACTOR, "worker"), pid=5, class_name="Keeper")
    pending = ActorInfo(b"b", b"j", "PENDING_CREATION")
    net = Net(owner_of(ACTOR, reference(SMALL, 3, "INLINE", ACTOR)), actors=(alive, pending))
    report = collected(net)
    assert [(each.role, each.pid) for each in report.processes] == [("driver", 7), ("actor Keeper", 5)]
    assert report.objects[0].owner == ACTOR


def test_an_owner_that_does_not_answer_is_listed():
    report = collected(Net(store_of("unix:///head", stored(BIG, 50, owner="unix:///mute"))))
    assert [(each.process, each.problem) for each in report.processes] == [
        (DRIVER, "too late"),
        ("unix:///mute", "too late"),
    ]
    assert (report.processes[1].role, report.processes[1].pid) == ("process", 0)
    assert (report.objects[0].owner, report.objects[0].state) == ("unix:///mute", "SEALED")


def test_borrowers_and_owners_elsewhere_are_asked_in_turn(monkeypatch):
    net = Net(
        owner_of(DRIVER, reference(BIG, 5, "INLINE", borrowers=(WORKER,)), reference(SMALL, 0, "BORROWED", ACTOR))
        | owner_of(WORKER, reference(BIG, 5, "BORROWED"))
        | owner_of(ACTOR, reference(SMALL, 0, "PENDING", ACTOR, detail="f", borrowers=(DRIVER, "unix:///mute")))
    )
    report = collected(net)
    assert net.processes_asked() == [DRIVER, WORKER, ACTOR, "unix:///mute"]  # each once
    small = report.objects[1]
    assert (small.state, small.detail, small.owner) == ("PENDING", "f", ACTOR)
    assert [hold.process for hold in small.holds] == [ACTOR, DRIVER]
    monkeypatch.setattr(memory_report, "ROUNDS_MAX", 1)
    net.asked.clear()
    assert collected(net).objects[1].state == "BORROWED"
    assert net.processes_asked() == [DRIVER]


def test_no_more_processes_than_the_bound(monkeypatch):
    monkeypatch.setattr(memory_report, "PROCESSES_ASKED_MAX", 1)
    net = Net(owner_of(DRIVER, reference(BIG, 5, "INLINE", borrowers=(WORKER, ACTOR))))
    report = collected(net)
    assert net.processes_asked() == [DRIVER]
    assert report.unasked == 2


def test_a_copy_only_the_owner_knows_of():
    net = Net(owner_of(DRIVER, reference(BIG, 5, "STORED", holders=("unix:///other", "unix:///gone"))))
    (big,) = collected(net).objects
    assert big.places == (ObjectPlace(node_id="0b"),)
    assert big.state == "STORED"


def test_the_state_is_that_of_the_first_copy():
    net = Net(
        store_of("unix:///head", stored(BIG, 50, is_copy=True)) | store_of("unix:///other", stored(BIG, 50, state="X"))
    )
    (big,) = collected(net).objects
    assert [place.node_id for place in big.places] == ["0b", "0a"]
    assert big.state == "X"


def test_the_limit_and_what_is_left_out():
    net = Net(
        store_of("unix:///head", stored(BIG, 50), omitted=4)
        | owner_of(DRIVER, reference(SMALL, 3, "INLINE"), omitted=5)
    )
    report = collected(net, objects_max=1)
    assert [item.object_id for item in report.objects] == [BIG.hex()]
    assert report.omitted == 1 + 4 + 5
    counts = {body.references_max for _, _, body in net.asked if isinstance(body, GetReferences)}
    assert counts == {memory_report.OBJECTS_ASKED_MIN}


def test_it_is_bounded_what_is_asked_for():
    net = Net({})
    collected(net, objects_max=10**9)
    assert (DRIVER, "owner", GetReferences(memory_report.OBJECTS_ASKED_MAX)) in net.asked


def test_the_report_can_be_written_as_json():
    report = collected(Net(store_of("unix:///head", stored(BIG, 50))))
    again = msgspec.json.decode(msgspec.json.encode(report), type=type(report))
    assert again == report
