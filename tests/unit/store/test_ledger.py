"""The machine under random events: answers, liveness, books. No files, no threads."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorrt.store import errors
from actorrt.store.base import Carved, Limits, Location, Slab, SpilledAt
from actorrt.store.effects import Answer, Created, Dropped, Freed, ReadBack, Remove, Reserve, Write
from actorrt.store.layout import SEGMENT_HEADER_BYTES, extent_bytes
from actorrt.store.ledger import Ledger
from actorrt.store.spill import SpillFiles

KIB = 1024
BLOCK = 10 * KIB - 64  # 10 KiB with its header


class Desk:
    """A ledger with everything it wants done in sight; jobs end when told to."""

    def __init__(self, capacity_bytes=100 * KIB, quota_bytes=1 << 40, spill=True, reserved=True, **more):
        settings = {
            "fuse_bytes": 1,
            "reserve_step_bytes": capacity_bytes,
            "reserve_ahead_bytes": 0,
            "spill_threshold": 1.0,
            "full_grace_s": 5.0,
        }
        limits = Limits(capacity_bytes=capacity_bytes, **(settings | more))
        self.ledger = Ledger(limits, SpillFiles([("disk", quota_bytes)] if spill else [], "p"))
        self.answers = {}
        self.jobs = []
        self.dropped = []
        self.removed = []
        self.tickets = itertools.count(1)
        self.numbers = itertools.count(1)
        self.now_s = 0.0
        self.memory = {}
        self.ledger.add_segment(0, SEGMENT_HEADER_BYTES + capacity_bytes)
        self.collect()
        if reserved:
            self.ledger._room._reserve(0)
            self.collect()
            self.end_all()

    def collect(self):
        for effect in self.ledger.take_effects():
            if isinstance(effect, Answer):
                assert effect.ticket not in self.answers, "answered twice"
                self.answers[effect.ticket] = effect.result
            elif isinstance(effect, Created):
                self.memory[effect.location] = "created"
            elif isinstance(effect, Freed):
                self.memory.pop(effect.location, None)
            elif isinstance(effect, Dropped):
                self.dropped.append(effect.key)
            elif isinstance(effect, Remove):
                self.removed.append(effect.name)
            else:
                self.jobs.append(effect)
        self.ledger.check()
        spans = sorted((place.offset - 64, place.offset - 64 + extent_bytes(place.size_bytes)) for place in self.memory)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans)), "extents overlap"

    def end(self, index=0, ok=True):
        job = self.jobs.pop(index)
        if isinstance(job, Reserve):
            self.ledger.reserved(job, ok=ok)
        elif isinstance(job, Write) and ok:
            self.ledger.written(job, {place.number: 7 for place in job.locations})
        elif isinstance(job, Write):
            self.ledger.write_failed(job)
        elif ok:
            self.ledger.read_back(job)
        else:
            self.ledger.read_failed(job, errors.ObjectDamaged("no"))
        self.collect()

    def end_all(self):
        for _ in range(1000):
            if not self.jobs:
                return
            self.end()
        raise AssertionError("the jobs never end")

    def _ask(self, method, *arguments, **more):
        ticket = next(self.tickets)
        method(ticket, *arguments, **more)
        self.collect()
        return ticket

    def create(self, key, size_bytes=BLOCK, client=b"c", **more):
        return self._ask(self.ledger.request_create, key, size_bytes, client, self.now_s, **more)

    def pin(self, key, client=b"c"):
        return self._ask(self.ledger.request_pin, key, client, self.now_s)

    def slab(self, length_bytes, client=b"c"):
        return self._ask(self.ledger.request_slab, length_bytes, client, self.now_s)

    def put(self, key, size_bytes=BLOCK, **more):
        place = self.answers[self.create(key, size_bytes, **more)]
        assert isinstance(place, Location), place
        self.do("seal", place.number)
        return place

    def do(self, what, *arguments):
        result = getattr(self.ledger, what)(*arguments)
        self.collect()
        return result


def test_under_pressure_the_oldest_goes_to_disk_and_the_request_is_served_then():
    desk = Desk()
    places = [desk.put(b"%d" % number) for number in range(10)]
    ticket = desk.create(b"new")
    assert ticket not in desk.answers
    [job] = desk.jobs
    assert job.locations == (places[0],)
    desk.end()
    assert desk.answers[ticket].offset == places[0].offset
    assert desk.ledger.statistics().spilled == 1


def test_a_spilled_object_is_restored_and_its_copy_kept():
    desk = Desk()
    for number in range(11):
        if number == 10:
            desk.create(b"10")
            desk.end()
            desk.do("seal", desk.answers[11].number)
        else:
            desk.put(b"%d" % number)
    ticket = desk.pin(b"0")
    desk.end()  # another one is written
    [job] = desk.jobs
    assert isinstance(job, ReadBack)
    assert desk.create(b"0") in desk.answers, "the key is taken, also while it is read back"
    desk.end()
    place = desk.answers[ticket]
    assert isinstance(place, Location)
    desk.do("release", place.number, b"c")
    ticket = desk.create(b"more")
    assert isinstance(desk.jobs[0], Write) if ticket not in desk.answers else True
    desk.end_all()
    assert isinstance(desk.answers[ticket], Location)


def test_two_readers_share_one_restore():
    desk = Desk()
    for number in range(10):
        desk.put(b"%d" % number)
    desk.create(b"new")
    desk.end()
    tickets = [desk.pin(b"0", b"a"), desk.pin(b"0", b"b")]
    desk.end()
    assert sum(isinstance(job, ReadBack) for job in desk.jobs) == 1
    desk.end()
    assert len({desk.answers[ticket] for ticket in tickets}) == 1
    assert desk.ledger.statistics().pinned == 1


def test_deleted_while_it_is_read_back():
    desk = Desk()
    for number in range(10):
        desk.put(b"%d" % number)
    desk.create(b"new")
    desk.end()
    ticket = desk.pin(b"0")
    desk.end()
    desk.do("delete", b"0")
    desk.end()
    assert isinstance(desk.answers[ticket], errors.ObjectNotFound)
    assert len(desk.removed) == 1, "its spill file is gone too"


def test_deleted_while_it_is_written():
    desk = Desk()
    for number in range(10):
        desk.put(b"%d" % number)
    ticket = desk.create(b"new")
    desk.do("delete", b"0")
    assert ticket not in desk.answers, "the disk still reads the extent"
    desk.end()
    assert isinstance(desk.answers[ticket], Location)
    assert len(desk.removed) == 1


def test_a_damaged_file_fails_the_readers_only():
    desk = Desk()
    for number in range(10):
        desk.put(b"%d" % number)
    desk.create(b"new")
    desk.end()
    ticket = desk.pin(b"0")
    desk.end()
    desk.end(ok=False)
    assert isinstance(desk.answers[ticket], errors.ObjectDamaged)
    assert desk.ledger.statistics().spilled == 2


def test_when_all_is_pinned_a_get_is_served_from_disk():
    desk = Desk()
    for number in range(10):
        desk.put(b"%d" % number)
    desk.create(b"new")
    desk.end()
    for number in range(1, 10):
        desk.pin(b"%d" % number)
    ticket = desk.pin(b"0")
    assert isinstance(desk.answers[ticket], SpilledAt)
    assert desk.ledger.statistics().served_from_disk_total == 1
    desk.do("delete", b"0")
    assert desk.removed == [], "pinned on disk as it would be in memory"
    desk.do("release", desk.answers[ticket].number, b"c")
    assert len(desk.removed) == 1


def test_a_create_that_nothing_helps_fails_when_its_grace_is_over_and_others_may_pass():
    desk = Desk()
    places = [desk.put(b"%d" % number) for number in range(9)]
    for number in range(9):
        desk.pin(b"%d" % number)
    large = desk.create(b"large", 2 * BLOCK)
    small = desk.create(b"small")
    assert isinstance(desk.answers[small], Location)
    desk.do("expire", 4.9)
    assert large not in desk.answers
    desk.do("expire", 5.0)
    assert isinstance(desk.answers[large], errors.ObjectStoreFull)
    assert "pinned by readers" in str(desk.answers[large])
    later = desk.create(b"later", 2 * BLOCK)
    desk.do("release", places[3].number, b"c")
    assert later not in desk.answers
    desk.end_all()
    desk.do("release", places[4].number, b"c")
    desk.end_all()
    assert isinstance(desk.answers[later], Location)


def test_while_something_is_under_way_the_order_is_kept():
    desk = Desk()
    for number in range(9):
        desk.put(b"%d" % number)
    large = desk.create(b"large", 5 * BLOCK)
    small = desk.create(b"small")
    assert small not in desk.answers, "there is room for it, but it would be taken from the large one"
    desk.end_all()
    assert desk.answers[large].size_bytes == 5 * BLOCK
    assert isinstance(desk.answers[small], Location)


def test_a_full_disk_is_named_as_the_reason():
    desk = Desk(quota_bytes=15 * KIB)
    for number in range(10):
        desk.put(b"%d" % number)
    desk.create(b"a")
    desk.end()
    ticket = desk.create(b"b")
    desk.end_all()
    desk.do("expire", 100.0)
    assert isinstance(desk.answers[ticket], errors.OutOfDisk)
    desk.do("delete", b"3")
    desk.put(b"c")


def test_the_disk_is_not_blamed_when_what_is_pinned_is_in_the_way():
    desk = Desk()
    for number in range(9):
        desk.put(b"%d" % number)
    for number in range(8):
        desk.pin(b"%d" % number)
    ticket = desk.create(b"large", 3 * BLOCK)
    desk.do("expire", 100.0)
    assert type(desk.answers[ticket]) is errors.ObjectStoreFull


def test_a_failing_disk_is_tried_again_but_not_for_ever():
    desk = Desk()
    for number in range(10):
        desk.put(b"%d" % number)
    ticket = desk.create(b"new")
    for now_s in (1.0, 2.0, 3.0):
        desk.end(ok=False)
        assert desk.jobs == [], "not in a busy loop"
        desk.do("expire", now_s)
        assert len(desk.jobs) == 1, "asked again"
    desk.end(ok=False)
    desk.do("expire", 6.0)
    assert isinstance(desk.answers[ticket], errors.OutOfDisk)
    desk.do("expire", 7.0)
    assert desk.jobs == []


def test_without_spill_directories_the_store_is_just_full():
    desk = Desk(spill=False)
    for number in range(10):
        desk.put(b"%d" % number)
    ticket = desk.create(b"new")
    desk.do("expire", 5.0)
    assert type(desk.answers[ticket]) is errors.ObjectStoreFull


def test_memory_that_cannot_be_had_makes_the_store_smaller():
    desk = Desk(reserved=False, reserve_step_bytes=50 * KIB)
    tickets = [desk.create(b"%d" % number) for number in range(3)]
    desk.end(ok=True)
    assert all(isinstance(desk.answers[ticket], Location) for ticket in tickets)
    big = desk.create(b"big", 90 * KIB)
    desk.end_all() if desk.jobs else None
    desk = Desk(reserved=False, reserve_step_bytes=50 * KIB)
    desk.create(b"0")
    desk.end(ok=True)
    big = desk.create(b"big", 60 * KIB)
    desk.end(ok=False)
    assert desk.ledger.statistics().capacity_bytes == 50 * KIB
    for now_s in (0.0, 4.0):
        desk.do("expire", now_s)
        desk.end(ok=False)
        assert desk.jobs == [], "not in a busy loop"
    assert big not in desk.answers
    desk.do("expire", 4.9)
    assert desk.jobs == [], "nor at every call"
    desk.do("expire", 5.0)
    desk.end(ok=False)
    desk.do("expire", 5.0)
    assert type(desk.answers[big]) is errors.ObjectStoreFull
    assert f"{50 * KIB} bytes more were refused" in str(desk.answers[big])


def test_memory_that_was_short_for_a_while_is_used_again():
    desk = Desk(reserved=False, reserve_step_bytes=50 * KIB)
    desk.create(b"0")
    desk.end(ok=True)
    first = desk.create(b"first", 60 * KIB)
    desk.end(ok=False)
    desk.do("expire", 1.0)
    desk.end(ok=True)
    assert isinstance(desk.answers[first], Location)
    assert desk.ledger.statistics().capacity_bytes == 100 * KIB


def test_a_store_that_shrank_grows_again_although_nobody_waits_for_it():
    """What is asked for goes into the room made by spilling; that must not keep the store small."""
    desk = Desk(reserved=False, reserve_step_bytes=50 * KIB, reserve_ahead_bytes=50 * KIB, spill_threshold=0.8)
    desk.end(ok=True)
    desk.create(b"0")
    desk.end(ok=False)
    desk.do("expire", 1.0)
    desk.end(ok=True)
    assert desk.ledger.statistics().reserved_bytes == 100 * KIB


def test_what_never_fits_is_refused_at_once():
    desk = Desk(reserved=False)
    ticket = desk.create(b"large", 101 * KIB)
    assert isinstance(desk.answers[ticket], errors.ObjectTooLarge)
    assert f"a store of {100 * KIB} bytes" in str(desk.answers[ticket])


def test_memory_is_reserved_ahead():
    desk = Desk(reserved=False, reserve_step_bytes=20 * KIB, reserve_ahead_bytes=30 * KIB)
    desk.end()
    desk.end()
    assert (desk.jobs, desk.ledger.statistics().reserved_bytes) == ([], 40 * KIB)
    desk.put(b"0", 2 * BLOCK)
    assert len(desk.jobs) == 1


def test_above_the_threshold_objects_are_written_ahead_of_need():
    desk = Desk(spill_threshold=0.5)
    for number in range(5):
        desk.put(b"%d" % number)
    assert desk.jobs == []
    desk.put(b"5")
    desk.end_all()
    figures = desk.ledger.statistics()
    assert (figures.spilled, figures.disk_files) == (0, 1), "still in memory too"


def test_slabs():
    desk = Desk()
    slab = desk.answers[desk.slab(64 * KIB, b"w")]
    assert isinstance(slab, Slab)
    assert slab.length_bytes == desk.ledger.limits.slab_bytes_max
    place = Location(0, slab.offset + 64, 100, slab.first_object)
    assert desk.do("adopt", [Carved(b"k", slab.number, place)], b"w") == []
    [(_, refused)] = desk.do("adopt", [Carved(b"k", slab.number, place)], b"w")
    assert isinstance(refused, errors.ObjectExists)
    assert desk.answers[desk.pin(b"k")] == place
    desk.do("drop_client", b"w")
    assert desk.ledger.statistics().used_bytes == extent_bytes(100)


def test_requests_are_bounded():
    desk = Desk(requests_max=2, spill=False)
    desk.create(b"all", 100 * KIB - 64)
    tickets = [desk.create(b"%d" % number) for number in range(3)]
    assert isinstance(desk.answers[tickets[2]], errors.TooManyRequests)
    assert tickets[0] not in desk.answers


@pytest.mark.parametrize("death", [False, True])
def test_a_dropped_clients_requests_are_forgotten(death):
    desk = Desk(spill=False)
    desk.create(b"all", 100 * KIB - 64, b"other")
    ticket = desk.create(b"new", client=b"c")
    assert len(desk.ledger.waiting()) == 1
    desk.do("drop_client", b"c" if death else b"x")
    desk.do("drop_client", b"other")
    assert (ticket in desk.answers) == (not death)


# ------------------------------------------------------------------------------------------------------------ liveness
def _step(desk, rng, state):
    keys = [b"%d" % number for number in range(14)]
    what = rng.choices(
        ["create", "seal", "pin", "release", "delete", "job", "drop", "slab", "expire", "abort"],
        [6, 6, 8, 6, 3, 8, 1, 1, 1, 1],
    )[0]
    client = b"%d" % rng.randrange(3)
    key = rng.choice(keys)
    if what == "create":
        size = rng.choice([100, BLOCK, BLOCK, 3 * BLOCK, 6 * BLOCK])
        state["asked"][desk.create(key, size, client, secondary=rng.random() < 0.2)] = ("create", client)
    elif what == "pin":
        state["asked"][desk.pin(key, client)] = ("pin", client)
    elif what == "slab":
        state["asked"][desk.slab(8 * KIB, client)] = ("slab", client)
    elif what in ("seal", "abort") and state["created"]:
        number = state["created"].pop(rng.randrange(len(state["created"])))[0]
        desk.do(what, number)
    elif what == "release" and state["pins"]:
        desk.do("release", *state["pins"].pop(rng.randrange(len(state["pins"]))))
    elif what == "delete":
        desk.do("delete", key)
    elif what == "job" and desk.jobs:
        desk.end(rng.randrange(len(desk.jobs)), ok=rng.random() < 0.9)
    elif what == "drop":
        desk.do("drop_client", client)
        for name in ("created", "pins"):
            state[name] = [item for item in state[name] if item[1] != client]
        state["asked"] = {t: item for t, item in state["asked"].items() if item[1] != client}
    elif what == "expire":
        desk.now_s += 1.0
        desk.do("expire", desk.now_s)
    _note_answers(desk, state)


def _note_answers(desk, state):
    for ticket, (what, client) in list(state["asked"].items()):
        result = desk.answers.get(ticket)
        if result is None:
            continue
        del state["asked"][ticket]
        state["seen"].add((what, type(result).__name__))
        if what == "create" and isinstance(result, Location):
            state["created"].append((result.number, client))
        elif what == "pin" and isinstance(result, (Location, SpilledAt)):
            state["pins"].append((result.number, client))


def _live(seed, steps):
    """After any history: when the jobs end, every get has its answer although no pin goes and no writer moves; a
    create has its own when its grace is over; and when all clients are gone the store is empty."""
    rng = random.Random(seed)
    desk = Desk(reserved=rng.random() < 0.5, fuse_bytes=rng.choice([1, 25 * KIB]), reserve_step_bytes=30 * KIB)
    state = {"asked": {}, "created": [], "pins": [], "seen": set()}
    for _ in range(steps):
        _step(desk, rng, state)
    desk.end_all()
    _note_answers(desk, state)
    assert [item for item in state["asked"].values() if item[0] == "pin"] == [], "a get waits for other clients"
    for _ in range(3):
        desk.now_s += 10.0
        desk.do("expire", desk.now_s)
        desk.end_all()
    _note_answers(desk, state)
    assert state["asked"] == {}, "a create waits for ever"
    for client in range(3):
        desk.do("drop_client", b"%d" % client)
    for number in range(14):
        desk.do("delete", b"%d" % number)
    desk.end_all()
    figures = desk.ledger.statistics()
    assert (figures.used_bytes, figures.disk_bytes, figures.objects, figures.lingering) == (0, 0, 0, 0)
    assert not desk.memory
    return state["seen"]


@given(st.integers(0, 1 << 32))
@settings(max_examples=40)
def test_no_history_ends_in_a_deadlock(seed):
    _live(seed, 150)


def test_the_histories_are_not_vacuous():
    seen = set().union(*(_live(seed, 300) for seed in range(12)))
    wanted = {("create", "Location"), ("create", "ObjectStoreFull"), ("create", "ObjectExists"), ("slab", "Slab")}
    assert wanted | {("pin", "Location"), ("pin", "SpilledAt"), ("pin", "ObjectNotFound"), ("pin", "NotSealed")} <= seen
