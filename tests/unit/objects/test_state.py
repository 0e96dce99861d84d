"""Stories of the whole machine: messages in, messages out."""

import pytest

from actorrt.kernel.effects import Fail, Send
from actorrt.kernel.limits import (
    ASK_TIMEOUT_S,
    AUDIT_INTERVAL_S,
    CLIENT_LAST_WORDS_S,
    SEAL_REPORT_WAIT_S,
    STORE_REPORT_OBJECTS_MAX,
    SUSPECT_WAIT_S,
)
from actorrt.kernel.message import NOWHERE, Address
from actorrt.objects import messages
from actorrt.objects.messages import ObjectMissing, ObjectOffered, ObjectsFetched, ObjectsPinned, StoredObject
from actorrt.objects.operations import (
    Abort,
    Create,
    Delete,
    DropClient,
    Lease,
    Open,
    Pin,
    Pull,
    Release,
    Report,
    Seal,
    Watch,
)
from actorrt.objects.puller import MANAGER
from actorrt.owner.messages import CopiesAdded, CopiesRemoved, LocateObject, NodeChanged, VerifyObjects
from actorrt.raylet.messages import StoreUsed
from actorrt.wire.records import Failure
from tests.unit.objects.harness import (
    ALICE,
    BOB,
    FAR,
    FULL,
    HERE,
    LOST,
    OWNER,
    RAYLET,
    THERE,
    Node,
    key,
    manager,
    place,
    wanted,
)


# ----------------------------------------------------------------------------------------------------------- an object
def test_the_life_of_an_object():
    node = Node(ALICE, BOB)
    node.seal(ALICE, 1)
    [seal] = node.take(Seal)
    assert seal.client == b"alice"
    node.pin(BOB, wanted(1, HERE))
    [pin] = node.take(Pin)
    assert pin.client == b"bob"
    node.answer(pin, place(1))
    assert node.replies() == [(BOB, 7, ObjectsPinned((place(1),)))]
    node.tell(BOB, messages.PinsReleased((place(1).number,)))
    assert node.take(Release) == [Release((place(1).number,), b"bob")]
    node.free(1)
    assert node.take(Delete) == [Delete((key(1),))]
    assert node.figures["sealed"] == 0
    node.free(1)
    assert node.take(Delete) == []


def test_an_object_of_another_node():
    node = Node(ALICE)
    node.pin(ALICE, wanted(1, THERE))
    node.fetch(ALICE, wanted(1, THERE))
    node.pull(1)
    seal, pin = node.take((Seal, Pin))
    assert seal == Seal(MANAGER, (place(1).number,))
    assert node.sent(CopiesAdded) == [(OWNER, CopiesAdded((key(1),), HERE))]
    assert node.replies() == [(ALICE, 8, ObjectsFetched())]
    node.answer(pin, place(1))
    assert node.replies() == [(ALICE, 7, ObjectsPinned((place(1),)))]
    assert (node.figures["copies"], node.figures["pulled_bytes_total"]) == (1, 100)
    node.tell(NOWHERE, messages.CopiesDropped((key(1), key(2))))
    assert node.sent(CopiesRemoved) == [(OWNER, CopiesRemoved((key(1),), HERE))]
    assert node.figures["sealed"] == 0


def test_slabs_and_room():
    node = Node(ALICE)
    node.tell(ALICE, messages.LeaseSlab(4096), 5)
    [lease] = node.take(Lease)
    slab = messages.SlabLeased(1, 0, 0, 4096, 1)
    node.answer(lease, slab=slab)
    node.tell(ALICE, messages.CreateObject(key(1), 100, OWNER.process), 6)
    [create] = node.take(Create)
    assert (create.client, create.secondary) == (b"alice", False)
    node.answer(create, place(1))
    assert node.replies() == [(ALICE, 5, slab), (ALICE, 6, messages.ObjectCreated(place(1)))]
    node.tell(ALICE, messages.ObjectsSealed(created=(place(1).number,), done_slabs=(1,)))
    assert node.take(Seal) == [Seal(b"alice", (place(1).number,), (), (1,))]
    node.tell(ALICE, messages.CreateObject(key(2), 100, OWNER.process), 7)
    [create] = node.take(Create)
    node.answer(create, failure=FULL)
    assert node.replies() == [(ALICE, 7, (FULL.kind, FULL.text))]
    node.tell(ALICE, messages.CreateObject(key(2), 100, OWNER.process), 8)
    [create] = node.take(Create)
    node.answer(create, place(2))
    node.tell(ALICE, messages.CreateAborted(place(2).number))
    assert node.take(Abort) == [Abort(place(2).number)]


def test_a_free_overtakes_the_report():
    node = Node(ALICE)
    node.free(1)
    node.seal(ALICE, 1, 2)
    seal, delete = node.take((Seal, Delete))
    assert (len(seal.carved), delete) == (2, Delete((key(1),)))
    assert list(node.machine.catalog.entries) == [key(2)]


def test_a_wish_overtakes_the_report():
    node = Node(ALICE, BOB)
    node.pin(BOB, wanted(1, HERE))
    node.tell(manager(THERE), messages.AskForObject(key(1)))
    assert node.take((Pin, ObjectMissing, ObjectOffered)) == []
    node.seal(ALICE, 1)
    _, pin, offer = node.take((Seal, Pin, ObjectOffered))
    assert pin.key == key(1)
    assert offer == ObjectOffered(key(1), "bulk://here", 100)


def test_a_report_that_never_comes():
    node = Node(ALICE)
    node.pin(ALICE, wanted(1, HERE))
    node.tell(manager(THERE), messages.AskForObject(key(1)))
    node.pass_time(SEAL_REPORT_WAIT_S)
    assert node.sent(ObjectMissing) == [(manager(THERE), ObjectMissing(key(1)))]
    assert node.sent(LocateObject) == [(OWNER, LocateObject(key(1)))]
    node.located(1, HERE)
    [(_, _, pinned)] = node.replies()
    assert pinned.found[0].kind == "ObjectLostError"


def test_a_report_that_is_far_too_late_is_not_taken():
    node = Node(ALICE, BOB)
    node.pin(ALICE, wanted(1, THERE))
    node.offer(1)
    [create] = node.take(Create)
    node.seal(BOB, 1, 2)
    [seal] = node.take(Seal)
    assert [item.key for item in seal.carved] == [key(2)]
    node.answer(create, place(1))
    [fetch] = node.take(Pull)
    node.ended(fetch)
    assert node.machine.catalog.get(key(1)).is_copy


def test_an_object_that_is_lost_in_the_store_is_pulled_again():
    node = Node(ALICE, BOB)
    node.seal(ALICE, 1)
    node.pin(BOB, wanted(1, HERE, THERE))
    [pin] = node.take(Pin)
    node.answer(pin, failure=LOST)
    assert node.take(Delete) == [Delete((key(1),))]
    assert node.sent(CopiesRemoved) == [(OWNER, CopiesRemoved((key(1),), HERE))]
    node.pull(1)
    [pin] = node.take(Pin)
    node.answer(pin, place(1))
    assert node.replies() == [(BOB, 7, ObjectsPinned((place(1),)))]


def test_freed_while_it_is_wanted():
    node = Node(ALICE)
    node.pin(ALICE, wanted(1, THERE))
    node.tell(manager(FAR), messages.AskForObject(key(1)))
    node.free(1)
    [(_, _, pinned)] = node.replies()
    assert pinned.found[0].kind == "ObjectLostError"
    assert node.sent(ObjectMissing) == [(manager(FAR), ObjectMissing(key(1)))]


# ------------------------------------------------------------------------------------------------------------- clients
def test_the_store_is_made_for_the_first_one():
    node = Node()
    node.tell(ALICE, messages.Attach(5), 1)
    [opening] = node.take(Open)
    node.answer(opening)
    assert node.take(Watch) == [Watch("alice", 5)]
    attached = messages.Attached("shm", "prefix", 4096, 1 << 20, "bulk://here")
    assert node.replies() == [(ALICE, 1, attached)]


def test_without_a_store_hints_come_to_nothing():
    node = Node()
    node.tell(OWNER, messages.PrefetchObjects((wanted(1),)))
    [opening] = node.take(Open)
    node.offer(1)
    assert node.take(Create) == [], "not before it is there"
    node.answer(opening, failure=FULL)
    assert node.states == {}
    node.tell(OWNER, messages.PrefetchObjects((wanted(1),)))
    [opening] = node.take(Open)
    node.offer(1)
    node.answer(opening)
    assert [create.key for create in node.take(Create)] == [key(1)]


def test_who_is_not_attached_is_refused():
    node = Node()
    for body in (messages.LeaseSlab(1), messages.CreateObject(key(1), 1, "p"), messages.PinObjects((wanted(1),))):
        [refusal] = node.tell(ALICE, body, 3)
        assert refusal.kind == "InternalError"
        assert "not attached" in refusal.text
    for body in (messages.ObjectsSealed(done_slabs=(1,)), messages.PinsReleased((1,)), messages.CreateAborted(1)):
        assert node.tell(ALICE, body) == []


def test_requests_it_does_not_know_fail():
    node = Node()
    [refusal] = node.tell(ALICE, messages.StoreReport({}), 3)
    assert refusal == Fail(ALICE, 3, "InternalError", "an object manager does not answer StoreReport")
    assert node.tell(ALICE, messages.StoreReport({})) == []


def test_a_client_dies():
    node = Node(ALICE, BOB)
    node.seal(ALICE, 1)
    node.seal(ALICE, 2, owner="alice")
    node.seal(BOB, 3, owner="alice")
    node.pin(ALICE, wanted(4, THERE))
    node.pin(BOB, wanted(5, THERE, owner="alice"), request_id=9)
    node.tell(ALICE, messages.LeaseSlab(1), 3)
    [lease] = node.take(Lease)
    node.tell(NOWHERE, messages.ClientDied("alice"))
    assert node.take((DropClient, Delete)) == []
    node.seal(ALICE, 6)
    assert len(node.take(Seal)) == 4, "its last words"
    node.pass_time(CLIENT_LAST_WORDS_S)
    assert node.take(DropClient) == [DropClient(b"alice")]
    assert node.take(Delete) == [Delete((key(2), key(3)))]
    assert node.sent(VerifyObjects) == [(OWNER, VerifyObjects((key(1), key(6)), HERE))]
    [(dst, request_id, pinned)] = node.replies()
    assert (dst, request_id, pinned.found[0].kind) == (BOB, 9, "OwnerDiedError")
    assert node.states == {}
    assert node.answer(lease, failure=FULL) == [], "dropped with its client"
    assert node.seal(ALICE, 7) == []


def test_the_death_of_a_process_that_never_attached():
    node = Node(ALICE)
    node.seal(ALICE, 1, owner="stranger")
    node.tell(NOWHERE, messages.ClientDied("stranger"))
    assert node.take((Delete, DropClient)) == [Delete((key(1),))]


def test_a_client_that_lost_its_connection_keeps_its_pins():
    node = Node(ALICE)
    node.seal(ALICE, 1, owner="alice")
    node.pin(ALICE, wanted(1, HERE), wanted(2, THERE))
    [pin] = node.take(Pin)
    node.tell(ALICE, messages.CreateObject(key(3), 100, "alice"), 3)
    [create] = node.take(Create)
    node.gone("alice")
    assert node.states == {}
    assert node.take((DropClient, Delete)) == []
    node.answer(pin, place(1))
    node.answer(create, place(3))
    assert node.take((Release, Abort)) == [Release((place(1).number,), b"alice"), Abort(place(3).number)]
    assert node.replies() == []
    node.pin(ALICE, wanted(1, HERE))
    assert len(node.take(Pin)) == 1


def test_an_owner_elsewhere_that_cannot_be_reached():
    node = Node(ALICE)
    node.seal(ALICE, 1, 2)
    node.seal(ALICE, 3, owner="other")
    node.gone(OWNER.process)
    node.gone("nobody")
    assert node.take(Delete) == []
    node.pass_time(SUSPECT_WAIT_S)
    assert node.sent(VerifyObjects) == [(OWNER, VerifyObjects((key(1), key(2)), HERE))]
    node.gone(OWNER.process)
    assert node.take(Delete) == [Delete((key(1), key(2)))]
    node.pass_time(60.0)
    assert list(node.machine.catalog.entries) == [key(3)]


def test_an_owner_elsewhere_whose_connection_broke():
    node = Node(ALICE)
    node.seal(ALICE, 1)
    for _ in range(2):
        node.gone(OWNER.process)
        node.pass_time(SUSPECT_WAIT_S + AUDIT_INTERVAL_S)
    assert node.take(Delete) == []


# --------------------------------------------------------------------------------------------------- time and figures
def test_owners_are_asked_now_and_then():
    node = Node(ALICE)
    assert "audit" not in node.timers
    node.seal(ALICE, 1)
    node.pass_time(AUDIT_INTERVAL_S / 2)
    node.seal(ALICE, 2)
    node.pass_time(AUDIT_INTERVAL_S / 2)
    assert node.sent(VerifyObjects) == [(OWNER, VerifyObjects((key(1),), HERE))]
    node.pass_time(AUDIT_INTERVAL_S)
    assert node.sent(VerifyObjects) == [(OWNER, VerifyObjects((key(2), key(1)), HERE))]
    node.free(1, 2)
    node.pass_time(10 * AUDIT_INTERVAL_S)
    assert node.sent(VerifyObjects) == []
    assert node.timers == {}, "nothing to look after"


def test_the_raylet_hears_how_full_the_store_is():
    node = Node()
    assert node.tell(NOWHERE, messages.UsageChanged(500)) == [Send(RAYLET, StoreUsed(500))]


def test_a_report():
    node = Node(ALICE)
    node.seal(ALICE, 1)
    node.tell(BOB, messages.GetStoreReport(10**9), 4)
    [report] = node.take(Report)
    assert report.objects_max == STORE_REPORT_OBJECTS_MAX
    lines = tuple(StoredObject(key(n), 100, "", "SEALED", True, 1, ("bob",)) for n in (1, 2))
    node.tell(NOWHERE, messages.StoreReported(report.ticket, {"objects": 2, "capacity_bytes": 5}, lines, 3))
    [(dst, request_id, answer)] = node.replies()
    assert (dst, request_id, answer.omitted) == (BOB, 4, 3)
    assert answer.figures["capacity_bytes"] == 5
    assert (answer.figures["sealed"], answer.figures["pulls"], answer.figures["pulls_asking"]) == (1, 0, 0)
    assert [(line.owner, line.is_copy) for line in answer.objects] == [(OWNER.process, False), ("", True)]


def test_a_report_for_somebody_who_left_and_one_without_a_store():
    node = Node(ALICE)
    node.tell(BOB, messages.GetStoreReport(), 4)
    [report] = node.take(Report)
    node.gone("bob")
    assert node.tell(NOWHERE, messages.StoreReported(report.ticket, {})) == []
    assert node.tell(BOB, messages.GetStoreReport()) == [], "nobody asks"
    [reply] = Node().tell(BOB, messages.GetStoreReport(), 4)
    assert reply.body.figures["clients"] == 0


def test_answers_to_nothing_are_bugs_of_the_port_or_late():
    node = Node(ALICE)
    assert node.tell(NOWHERE, messages.StoreAnswered(99, place(1))) == []
    with pytest.raises(AssertionError, match="no pull"):
        node.tell(NOWHERE, messages.PullEnded(99))
    with pytest.raises(AssertionError, match="no report"):
        node.tell(NOWHERE, messages.StoreReported(99, {}))


def test_check_sees_a_wish_that_was_forgotten():
    node = Node(ALICE)
    node.pin(ALICE, wanted(1, THERE))
    [pull] = node.machine.puller.pulls.table.values()
    pull.waiters.clear()
    node.machine.puller.pulls.hints[key(1)] = None
    with pytest.raises(AssertionError, match="is nowhere"):
        node.machine.check()


def test_effects_are_not_shared_between_steps():
    node = Node(ALICE)
    first = node.pin(ALICE, wanted(1, THERE))
    kept = list(first)
    node.pin(ALICE, wanted(2, THERE), request_id=9)
    assert first == kept


# -------------------------------------------------------------------------------------------- nodes that do not answer
def test_a_holder_that_does_not_answer():
    node = Node(ALICE)
    node.pin(ALICE, wanted(1, THERE))
    node.pass_time(ASK_TIMEOUT_S)
    assert node.sent(LocateObject) == [(OWNER, LocateObject(key(1)))]
    node.located(1, THERE, FAR)
    node.pull(1, process=FAR)
    [pin] = node.take(Pin)
    node.answer(pin, place(1))
    assert node.replies() == [(ALICE, 7, ObjectsPinned((place(1),)))]


def test_a_node_that_the_cluster_gives_up():
    node = Node(ALICE)
    node.pin(ALICE, wanted(1, THERE))
    node.tell(manager(THERE), messages.AskForObject(key(9)))
    raylet = Address(THERE, "raylet")
    assert node.tell(RAYLET, NodeChanged(b"n", raylet, alive=True)) == []
    node.tell(RAYLET, NodeChanged(b"n", raylet, alive=False))
    assert node.sent(LocateObject) == [(OWNER, LocateObject(key(1)))]
    assert node.figures["asks_parked"] == 0
    node.located(1, failure=LOST)
    [(_, _, pinned)] = node.replies()
    assert pinned.found[0].kind == "ObjectLostError"


def test_a_wish_that_is_withdrawn():
    node = Node(ALICE)
    node.pin(ALICE, wanted(1, THERE), ticket=3)
    node.fetch(ALICE, wanted(1, THERE), ticket=4)
    node.tell(ALICE, messages.WithdrawRequest(3))
    assert node.replies() == [(ALICE, 7, ("GetTimeoutError", "withdrawn"))]
    assert (node.figures["wishes"], len(node.states)) == (1, 1)
    node.tell(ALICE, messages.WithdrawRequest(4))
    assert (node.figures["wishes"], node.states) == (0, {})
    assert node.tell(BOB, messages.WithdrawRequest(4)) == []


def test_the_reason_of_the_store_reaches_who_asked():
    node = Node(ALICE, BOB)
    node.seal(ALICE, 1)
    node.pin(BOB, wanted(1, HERE))
    [pin] = node.take(Pin)
    node.answer(pin, failure=Failure("ObjectLostError", "/spill/a.spill: no such file"))
    node.located(1, HERE)
    [(_, _, pinned)] = node.replies()
    assert pinned.found[0].text.endswith("(the store of node here had it, but: /spill/a.spill: no such file)")
