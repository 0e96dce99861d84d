"""Ends of clients, in order or not."""

from actorrt.kernel.limits import AUDIT_INTERVAL_S, CLIENT_LAST_WORDS_S, SUSPECT_WAIT_S
from actorrt.kernel.message import NOWHERE, Address
from actorrt.objects import messages
from actorrt.objects.operations import Abort, Create, Delete, DropClient, Lease, Open, Pin, Release, Seal, Unwatch
from actorrt.owner.messages import VerifyObjects
from tests.unit.objects.harness import ALICE, BOB, HERE, OWNER, THERE, Node, key, manager, place, wanted

FAR_DRIVER = Address("tcp://10.0.0.5:7", "owner")
WITHDRAWN = ("GetTimeoutError", "withdrawn")


def number(of):
    return place(of).number


def test_who_leaves_takes_all_that_was_its_own():
    node = Node(ALICE, BOB)
    node.seal(ALICE, 1, owner="alice")
    node.seal(BOB, 2, owner="alice")
    node.seal(ALICE, 3)
    node.pin(ALICE, wanted(4, THERE), request_id=3)
    node.pin(BOB, wanted(5, THERE, owner="alice"), request_id=9)
    node.tell(ALICE, messages.CreateObject(key(6), 100, OWNER.process), 4)
    [create] = node.take(Create)
    node.answer(create, place(6))
    node.tell(ALICE, messages.LeaseSlab(1), 5)
    [lease] = node.take(Lease)
    node.answer(lease, slab=messages.SlabLeased(50, 0, 0, 4096, 51))
    node.tell(ALICE, messages.LeaseSlab(1), 6)
    [late] = node.take(Lease)
    node.effects.clear()
    node.tell(ALICE, messages.Detach())
    assert node.take((Abort, Seal, Delete)) == [
        Abort(number(6)),
        Seal(b"alice", done_slabs=(50,)),
        Delete((key(1), key(2))),
    ]
    assert node.take(Unwatch) == [Unwatch("alice")]
    assert node.take(DropClient) == [], "another runtime of this name may have begun already"
    answers = node.replies()
    assert answers[:2] == [(ALICE, 3, WITHDRAWN), (ALICE, 6, WITHDRAWN)]
    assert [failure.kind for failure in answers[2][2].found] == ["OwnerDiedError"]
    assert node.sent(VerifyObjects) == [], "whoever leaves in order has said what it made"
    assert list(node.machine.catalog.entries) == [key(3)]
    assert node.figures["clients"] == 1
    assert node.states == {}
    node.answer(late, slab=messages.SlabLeased(70, 0, 0, 4096, 71))
    assert node.take(Seal) == [Seal(b"alice", done_slabs=(70,))], "what comes too late is given back"
    assert node.tell(ALICE, messages.Detach()) == []


def test_its_views_keep_their_pins():
    node = Node(ALICE, BOB)
    node.seal(BOB, 1, 2, 3)
    for of in (1, 1, 2, 3):
        node.pinned(ALICE, of)
    node.pin(ALICE, wanted(1, HERE))
    [pin] = node.take(Pin)
    node.tell(ALICE, messages.Detach((number(1), number(2), 12345)))
    assert node.take(Release) == [Release((number(1), number(3)), b"alice")]
    assert node.take(Unwatch) == []
    assert node.figures["leftover_pins"] == 2
    node.answer(pin, place(1))
    assert node.take(Release) == [Release((number(1),), b"alice")], "nobody was told of this one"
    node.tell(ALICE, messages.PinsReleased((number(1), number(1))))
    assert node.take(Release) == [Release((number(1),), b"alice")]
    node.tell(ALICE, messages.PinsReleased((number(2),)))
    assert node.take((Release, Unwatch)) == [Release((number(2),), b"alice"), Unwatch("alice")]
    assert node.figures["leftover_pins"] == 0


def test_a_later_client_of_the_same_process_releases_them():
    node = Node(ALICE)
    node.attach(BOB, 1)
    carol = Address("carol", "owner")
    node.attach(carol, 2)
    node.seal(BOB, 1)
    node.pinned(ALICE, 1)
    node.tell(ALICE, messages.Detach((number(1),)))
    node.pinned(BOB, 1)
    node.tell(carol, messages.PinsReleased((number(1),)))
    assert node.take(Release) == [], "another process"
    node.tell(BOB, messages.PinsReleased((number(1),)))
    assert node.take(Release) == [Release((number(1),), b"bob")], "its own first: there is one view left, and one pin"
    node.tell(BOB, messages.PinsReleased((number(1),)))
    assert node.take(Release) == [Release((number(1),), b"alice")]


def test_with_the_process_the_rest_goes():
    node = Node(ALICE, BOB)
    node.seal(BOB, 1)
    node.pinned(ALICE, 1)
    node.tell(ALICE, messages.Detach((number(1),)))
    node.tell(NOWHERE, messages.ClientDied("alice"))
    assert node.take((DropClient, Unwatch)) == [DropClient(b"alice")]
    assert node.figures["leftover_pins"] == 0


def test_a_name_that_attaches_again_and_dies():
    node = Node(ALICE, BOB)
    node.seal(BOB, 1)
    node.pinned(ALICE, 1)
    node.tell(ALICE, messages.LeaseSlab(1), 6)
    node.tell(ALICE, messages.Detach((number(1),)))
    node.attach(ALICE, 1)
    node.tell(ALICE, messages.PinsReleased((number(1),)))
    assert node.take(Unwatch) == [], "it is a client again"
    node.die(ALICE)
    assert node.take(DropClient) == [DropClient(b"alice")]
    assert not node.machine.tickets.table, "dropped with its name"


def test_last_words_of_the_dying_change_nothing():
    node = Node(ALICE, BOB)
    node.seal(BOB, 1)
    node.pinned(ALICE, 1)
    node.tell(NOWHERE, messages.ClientDied("alice"))
    node.tell(ALICE, messages.Detach((number(1),)))
    node.pass_time(CLIENT_LAST_WORDS_S)
    assert node.take(DropClient) == [DropClient(b"alice")]
    assert node.figures["leftover_pins"] == 0


def test_who_leaves_before_the_store_is_there():
    node = Node()
    node.tell(ALICE, messages.Attach(5), 1)
    [opening] = node.take(Open)
    node.tell(ALICE, messages.Detach())
    assert node.replies() == [(ALICE, 1, WITHDRAWN)]
    node.answer(opening)
    assert node.figures["clients"] == 0


def test_a_client_whose_end_nobody_sees():
    node = Node(FAR_DRIVER, BOB)
    node.seal(BOB, 1, owner=FAR_DRIVER.process)
    node.seal(BOB, 2)
    node.pinned(FAR_DRIVER, 2)
    node.gone(FAR_DRIVER.process)
    node.pass_time(SUSPECT_WAIT_S)
    assert node.sent(VerifyObjects) == [(FAR_DRIVER, VerifyObjects((key(1),), HERE))]
    assert node.take((DropClient, Delete)) == []
    node.gone(FAR_DRIVER.process)
    assert node.take((DropClient, Delete)) == [DropClient(FAR_DRIVER.process.encode()), Delete((key(1),))]
    assert node.figures["clients"] == 1


def test_one_that_owns_nothing_is_dialled_as_well():
    node = Node(FAR_DRIVER)
    for _ in range(2):
        node.gone(FAR_DRIVER.process)
        node.pass_time(SUSPECT_WAIT_S)
        assert node.sent(VerifyObjects) == [(FAR_DRIVER, VerifyObjects((), HERE))]
        node.pass_time(AUDIT_INTERVAL_S)
    assert node.figures["clients"] == 1, "it was reached"


def test_of_such_a_client_no_pins_stay():
    node = Node(FAR_DRIVER, BOB)
    node.seal(BOB, 1)
    node.pinned(FAR_DRIVER, 1)
    node.tell(FAR_DRIVER, messages.Detach((number(1),)))
    assert node.take((Release, Unwatch)) == [Release((number(1),), FAR_DRIVER.process.encode())]


def test_a_watched_client_that_cannot_be_dialled_lives():
    node = Node(ALICE)
    node.seal(ALICE, 1, owner="alice")
    for _ in range(3):
        node.gone("alice")
        node.pass_time(SUSPECT_WAIT_S)
    assert node.take((DropClient, Delete)) == []
    assert node.sent(VerifyObjects) == []


def test_offers_go_on_while_clients_leave():
    node = Node(ALICE)
    node.seal(ALICE, 1)
    node.tell(ALICE, messages.Detach())
    [offer] = node.tell(manager(THERE), messages.AskForObject(key(1)))
    assert offer.body == messages.ObjectOffered(key(1), "bulk://here", 100)
