"""Room for those who write."""

from actorrt.kernel.effects import Do, Fail, Reply
from actorrt.kernel.message import Envelope
from actorrt.objects.messages import (
    CreateAborted,
    CreateObject,
    LeaseSlab,
    ObjectCreated,
    ObjectsSealed,
    SlabLeased,
    StoreAnswered,
)
from actorrt.objects.operations import Abort, Create, Delete, Lease, Seal
from actorrt.objects.writing import Writing
from tests.unit.objects.harness import ALICE, FULL, OWNER, Bench, carved, key, place

SLAB = SlabLeased(3, 0, 64, 4096, 100)


class Room:
    def __init__(self):
        self.bench = Bench()
        self.client = self.bench.client()
        self.writing = Writing(self.bench.effects, self.bench.catalog, self.bench.tickets, self.bench.puller)

    def lease(self):
        self.writing.lease(self.client, Envelope(ALICE, LeaseSlab(4096), 5), LeaseSlab(4096))
        return self.bench.take()

    def create(self, number=1):
        message = CreateObject(key(number), 100, OWNER.process)
        self.writing.create(self.client, Envelope(ALICE, message, 6), message)
        return self.bench.take()

    def answer(self, ticket, place=None, slab=None, failure=None, *, is_open=True):
        asked = self.bench.tickets.get(ticket)
        asked.is_open = is_open
        self.bench.tickets.answered(ticket)
        self.writing.granted(asked, StoreAnswered(ticket, place, slab, failure))
        effects, self.bench.effects[:] = self.bench.effects[:], []
        return effects

    def seal(self, *, created=(), reports=(), done=()):
        entries = self.writing.sealed(self.client, ObjectsSealed(created, reports, done), 10.0)
        for entry in entries:
            self.bench.catalog.add(entry)
        return [(entry.key, entry.size_bytes, entry.owner, entry.writer, entry.is_copy) for entry in entries]


def test_a_slab():
    room = Room()
    assert room.lease() == [Lease(1, 4096, b"alice")]
    assert room.answer(1, slab=SLAB) == [Reply(ALICE, 5, SLAB)]
    room.lease()
    assert room.answer(2, failure=FULL) == [Fail(ALICE, 5, FULL.kind, FULL.text)]
    assert list(room.client.slabs) == [SLAB.number]
    assert room.seal(done=(SLAB.number, SLAB.number, 99)) == []
    assert room.bench.take() == [Seal(b"alice", done_slabs=(SLAB.number,))], "not those of others, and once"
    assert room.seal(done=(SLAB.number,)) == []
    assert room.bench.take() == []


def test_room_for_one_object():
    room = Room()
    assert room.create() == [Create(1, key(1), 100, b"alice")]
    assert room.answer(1, place(1)) == [Reply(ALICE, 6, ObjectCreated(place(1)))]
    assert list(room.client.creating) == [place(1).number]
    entry = (key(1), 100, OWNER.process, "alice", False)
    assert room.seal(created=(place(1).number, place(1).number, 99)) == [entry], "numbers of others do not count"
    assert room.bench.take() == [Seal(b"alice", (place(1).number,))]
    assert room.seal(created=(place(1).number,)) == []
    assert room.bench.take() == []


def test_what_is_granted_to_nobody_is_given_back():
    room = Room()
    room.lease()
    room.create()
    room.create(2)
    assert room.answer(1, slab=SLAB, is_open=False) == [Do(Seal(b"alice", done_slabs=(3,)))]
    assert room.answer(2, place(1), is_open=False) == [Do(Abort(place(1).number))]
    assert room.answer(3, failure=FULL, is_open=False) == []
    assert not room.client.creating


def test_an_aborted_object_is_forgotten_once():
    room = Room()
    room.create()
    room.answer(1, place(1))
    for _ in range(2):
        room.writing.aborted(room.client, CreateAborted(place(1).number))
    assert room.bench.take() == [Abort(place(1).number)]


def test_reports_of_slabs():
    room = Room()
    room.client.slabs[1] = None
    reports = (carved(1), carved(2), carved(1))
    assert [entry[0] for entry in room.seal(reports=reports, done=(1,))] == [key(1), key(2)]
    assert room.bench.take() == [Seal(b"alice", (), reports[:2], (1,))]
    assert room.seal(reports=reports) == [], "they are here already"
    assert room.bench.take() == []


def test_who_leaves_gives_everything_back():
    room = Room()
    room.lease()
    room.answer(1, slab=SLAB)
    room.create()
    room.answer(2, place(1))
    room.writing.leave(room.client)
    assert room.bench.take() == [Abort(place(1).number), Seal(b"alice", done_slabs=(SLAB.number,))]
    room.writing.leave(room.client)
    assert room.bench.take() == []


def test_what_was_freed_before_is_deleted_at_once():
    room = Room()
    room.bench.catalog.remember_gone(key(1))
    assert [entry[0] for entry in room.seal(reports=(carved(1), carved(2)))] == [key(2)]
    seal, delete = room.bench.take()
    assert (len(seal.carved), delete) == (2, Delete((key(1),)))
