"""A client's side of the store, against a real store behind the smallest manager that can be."""

import asyncio
import gc
import secrets
import threading
from concurrent.futures import Future

import numpy as np
import pytest

from actorrt.api.loop_thread import LoopThread
from actorrt.cluster import shelf as shelf_module
from actorrt.cluster.shelf import Shelf, load
from actorrt.kernel.errors import ObjectStoreFullError
from actorrt.objects import messages as m
from actorrt.store.base import Carved, Limits, Location
from actorrt.store.errors import StoreError
from actorrt.store.local import LocalStore
from actorrt.wire import values
from actorrt.wire.records import Failure, RefInfo, Stored

CLIENT = b"client"
MIB = 1 << 20


class Manager:
    """Answers at once, in the calling thread, unless told to hold answers back."""

    def __init__(self, tmp_path):
        self.prefix = f"actorrt-test-{secrets.token_hex(4)}"
        self.directory = str(tmp_path)
        self.store = LocalStore(self.directory, self.prefix, Limits(capacity_bytes=64 * MIB, full_grace_s=0.05))
        self.told = []
        self.asked = []
        self.held = None
        self.refuse = {}

    def request(self, body):
        self.asked.append(body)
        future = Future()
        future.set_running_or_notify_cancel()
        if self.held is not None:
            self.held.append((body, future))
        else:
            self.answer(body, future)
        return future

    def answer(self, body, future):
        if type(body) in self.refuse:
            future.set_exception(self.refuse[type(body)])
            return
        try:
            future.set_result(self.found(body))
        except StoreError as error:
            future.set_exception(ObjectStoreFullError(str(error)))

    def found(self, body):
        match body:
            case m.Attach():
                return m.Attached(self.directory, self.prefix, self.store.limits.slab_bytes_max, 64 * MIB)
            case m.LeaseSlab(length):
                return m.SlabLeased(*self.store.lease_slab(length, CLIENT))
            case m.CreateObject(key, size, _):
                return m.ObjectCreated(m.Place(*self.store.create(key, size, CLIENT)))
            case m.PinObjects(wanted):
                return m.ObjectsPinned(tuple(self.pinned(each.key) for each in wanted))
            case m.FetchObjects():
                return m.ObjectsFetched()

    def pinned(self, key):
        if not self.store.contains(key):
            return Failure("ObjectLostError", "unknown", subject_id=key[:20])
        return m.Place(*self.store.pin(key, CLIENT))

    def send(self, body):
        self.told.append(body)
        match body:
            case m.ObjectsSealed(created, carved, done_slabs):
                for number in created:
                    self.store.seal(number)
                reports = [Carved(c.key, c.slab, Location(c.segment, c.offset, c.size_bytes, c.number)) for c in carved]
                assert self.store.adopt(reports, CLIENT) == []
                for slab in done_slabs:
                    self.store.give_back_slab(slab, CLIENT)
            case m.CreateAborted(number):
                self.store.abort(number)
            case m.PinsReleased(numbers):
                for number in numbers:
                    self.store.release(number, CLIENT)

    def owners(self):
        return {c.key: c.owner for body in self.told if isinstance(body, m.ObjectsSealed) for c in body.carved}


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path)
    yield made
    made.store.check()
    made.store.close()


@pytest.fixture
def thread():
    made = LoopThread("test-io")
    made.start()
    yield made
    made.stop()


def make_shelf(manager, thread, **more):
    return Shelf(
        **more,
        request=manager.request,
        send=manager.send,
        loop=thread.loop,
        me="me",
        node="node",
        pid=1,
        identity=lambda: "identity",
        before_wait=lambda: manager.told.append("room is asked for"),
    )


@pytest.fixture
def shelf(manager, thread):
    return make_shelf(manager, thread)


def kept(shelf, value, number=0, owner="owner"):
    return shelf.keep(values.collecting(value), (b"t" * 16, number, owner))


def settle(thread):
    """What was put on the loop so far, and its delayed calls, have run."""
    done = threading.Event()
    thread.loop.call_soon_threadsafe(lambda: thread.loop.call_later(4 * shelf_module.RELEASE_DELAY_S, done.set))
    assert done.wait(20)


def read(shelf, *stored):
    answer = shelf.pin(stored).result(20)
    views = shelf.take(answer.found, [each.key for each in stored])
    return [load(view) if isinstance(view, memoryview) else view for view in views]


def test_small_and_large_objects_come_back_without_a_copy_and_read_only(shelf, manager, thread):
    small, large = np.arange(20_000), np.arange(MIB)
    first = kept(shelf, small)
    second = kept(shelf, {"k": large}, 1, "somebody")
    assert (first.holders, first.owner, second.owner) == (("node",), "owner", "somebody")
    assert first.key[:20] == b"t" * 16 + b"\0\0\0\0"
    assert second.key[:20] == b"t" * 16 + b"\0\0\0\1"
    got_small, got_large = read(shelf, first, second)
    assert (got_small == small).all()
    assert (got_large["k"] == large).all()
    with pytest.raises(ValueError, match="read-only"):
        got_small[0] = 1
    assert manager.owners() == {first.key: "owner"}
    asked = [type(body).__name__ for body in manager.asked]
    assert asked == ["Attach", "LeaseSlab", "CreateObject", "PinObjects"]
    assert manager.store.statistics().pinned == 2
    del got_small
    settle(thread)
    assert manager.store.statistics().pinned == 1
    del got_large
    gc.collect()
    settle(thread)
    assert manager.store.statistics().pinned == 0


def test_the_same_object_may_be_read_many_times(shelf, manager, thread):
    stored = kept(shelf, np.arange(20_000))
    arrays = read(shelf, stored, stored)
    assert np.shares_memory(*arrays)
    del arrays
    settle(thread)
    assert manager.store.statistics().pinned == 0


def test_what_holds_no_view_keeps_no_pin(shelf, manager, thread):
    stored = kept(shelf, [str(i) for i in range(50_000)])
    (value,) = read(shelf, stored)
    assert value[-1] == "49999"
    settle(thread)
    assert manager.store.statistics().pinned == 0


def test_slabs_are_leased_ahead_and_given_back_when_idle(shelf, manager, thread, monkeypatch):
    monkeypatch.setattr(shelf_module, "SLAB_IDLE_S", 0.001)
    array = np.zeros(200_000, np.uint8)
    keys = {kept(shelf, array, number).key for number in range(50)}  # 10 MB in slabs of 4
    settle(thread)
    settle(thread)
    assert set(manager.owners()) == keys
    assert manager.store.statistics().leased_bytes == 0
    assert len(keys) == 50


def test_objects_of_others_are_reported_at_once(shelf, manager):
    """Their owner hears of them from us, and then we may die."""
    theirs = kept(shelf, np.zeros(200_000, np.uint8), owner="other")
    assert manager.store.contains(theirs.key)


def test_what_was_dropped_is_told_before_room_is_asked_for(shelf, manager):
    kept(shelf, np.zeros(200_000, np.uint8))
    kept(shelf, np.zeros(8 * MIB, np.uint8))
    assert [body for body in manager.told if isinstance(body, str)] == ["room is asked for"] * 2


def test_reports_go_before_a_question(shelf, manager, thread):
    blocked = threading.Event()
    thread.loop.call_soon_threadsafe(blocked.wait)  # the loop does not get to its report
    try:
        stored = kept(shelf, np.zeros(200_000, np.uint8), owner="me")
        assert not manager.store.contains(stored.key)
        assert (read(shelf, stored)[0] == 0).all()
    finally:
        blocked.set()


def test_without_room_the_error_comes_and_nothing_stays_behind(shelf, manager):
    with pytest.raises(ObjectStoreFullError):
        kept(shelf, np.zeros(80 * MIB, np.uint8))
    assert manager.store.statistics().creating == 0


def test_when_no_slab_can_be_had_an_extent_will_do(shelf, manager):
    manager.refuse = {m.LeaseSlab: ObjectStoreFullError("no slab")}
    stored = kept(shelf, np.zeros(200_000, np.uint8))
    assert manager.store.contains(stored.key)


def test_an_interrupted_write_is_taken_back(shelf, manager, monkeypatch):
    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(shelf_module.values, "write", interrupted)
    for size in (200_000, 8 * MIB):
        with pytest.raises(KeyboardInterrupt):
            kept(shelf, np.zeros(size, np.uint8))
    assert manager.store.statistics().creating == 0
    assert [type(body) for body in manager.told if not isinstance(body, str)] == [m.CreateAborted]
    shelf.close()
    assert manager.store.statistics().used_bytes == 0


def test_an_abandoned_create_is_aborted_when_it_is_answered(shelf, manager, monkeypatch):
    kept(shelf, np.zeros(200_000, np.uint8))
    manager.held = []
    wait = Future.result
    interrupts = iter([KeyboardInterrupt])

    def result(future, timeout=None):
        for interrupt in interrupts:
            raise interrupt
        return wait(future, timeout)

    monkeypatch.setattr(Future, "result", result)
    with pytest.raises(KeyboardInterrupt):
        kept(shelf, np.zeros(8 * MIB, np.uint8))
    ((body, future),) = manager.held
    manager.answer(body, future)
    assert manager.store.statistics().creating == 0


def test_whoever_lets_go_of_a_pin_leaves_none(shelf, manager, thread):
    stored = kept(shelf, np.zeros(200_000, np.uint8))
    shelf.report()
    manager.held = []
    future = shelf.pin((stored,))
    manager.answer(*manager.held[0])
    shelf.release_places(future.result(20).found)
    settle(thread)
    assert manager.store.statistics().pinned == 0


def test_a_missing_object_is_a_failure_in_its_place(shelf, manager, thread):
    stored = kept(shelf, np.zeros(200_000, np.uint8))
    missing = Stored(b"m" * 28, 5, "owner", ("node",))
    failure, array = read(shelf, missing, stored)
    assert failure.kind == "ObjectLostError"
    assert array.size == 200_000
    del array
    settle(thread)
    assert manager.store.statistics().pinned == 0


def test_a_stale_place_is_a_failure_and_its_pin_is_released(shelf, manager, thread):
    stored = kept(shelf, np.zeros(200_000, np.uint8))
    place = shelf.pin((stored,)).result(20).found[0]
    wrong = m.Place(place.segment, place.offset + 64, place.size_bytes, place.number)
    (failure,) = shelf.take((wrong,), (stored.key,))
    assert failure.kind == "ObjectLostError"
    settle(thread)
    assert manager.store.statistics().pinned == 0


def test_on_the_loops_own_thread_there_is_no_store(shelf, thread):
    async def put():
        return kept(shelf, np.zeros(200_000, np.uint8))

    assert asyncio.run_coroutine_threadsafe(put(), thread.loop).result(20) is None


def test_a_machine_without_the_segments_has_no_store_and_reads_a_stream(shelf, manager, thread, monkeypatch):
    array = np.arange(50_000)
    mine = kept(shelf, array)
    shelf.report()
    stream = bytes(manager.store.get(mine.key, b"test"))
    asked = []
    monkeypatch.setattr(
        "actorrt.cluster.bulk.read_object", lambda *args: asked.append(args) or bytearray(stream), raising=False
    )
    found = manager.found
    monkeypatch.setattr(
        manager,
        "found",
        lambda body: m.Attached("/nowhere", "x", 4 * MIB, 64 * MIB, "bulk") if type(body) is m.Attach else found(body),
    )
    far = make_shelf(manager, thread)
    assert kept(far, array) is None
    ((got,),) = [read(far, mine)]
    assert (got == array).all()
    assert asked[0][0] == "bulk"
    settle(thread)
    assert manager.store.statistics().pinned <= 1  # ours above


def test_attaching_is_tried_again_after_a_refusal(shelf, manager):
    manager.refuse = {m.Attach: ObjectStoreFullError("no memory")}
    with pytest.raises(ObjectStoreFullError):
        kept(shelf, np.zeros(200_000, np.uint8))
    manager.refuse = {}
    assert kept(shelf, np.zeros(200_000, np.uint8)) is not None


def test_refs_inside_are_named(shelf):
    pickled = values.Pickled(b"x" * 200_000, [], (RefInfo(b"r" * 20, "other"),))
    assert shelf.keep(pickled, (b"t" * 16, 0, "owner")).refs == (RefInfo(b"r" * 20, "other"),)


def test_at_the_end_only_pins_of_living_views_are_kept(manager, thread):
    shelf = make_shelf(manager, thread, outlives=True)
    kept(shelf, np.zeros(200_000, np.uint8))
    (array,) = read(shelf, kept(shelf, np.arange(50_000), 1))
    shelf.close()
    *_, sealed, detach = manager.told
    assert isinstance(sealed, m.ObjectsSealed)
    assert sealed.done_slabs
    assert len(detach.pinned) == 1
    assert manager.store.statistics().pinned == 1
    del array
    settle(thread)
    assert manager.store.statistics().pinned == 0


def test_pins_that_go_after_the_loop_are_told_by_the_next_runtime_of_the_process(manager):
    first = LoopThread("first")
    first.start()
    old = make_shelf(manager, first)
    (array,) = read(old, kept(old, np.arange(50_000)))
    old.close()
    first.stop()
    del array
    assert manager.store.statistics().pinned == 1
    second = LoopThread("second")
    second.start()
    try:
        new = make_shelf(manager, second)
        kept(new, np.arange(50_000), 1)
        settle(second)
        assert manager.store.statistics().pinned == 0
    finally:
        second.stop()


def test_an_interrupted_report_is_sent_later(shelf, manager, monkeypatch):
    def interrupted(_body):
        raise KeyboardInterrupt

    kept(shelf, np.zeros(200_000, np.uint8))
    shelf.report()
    monkeypatch.setattr(shelf, "_send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept(shelf, np.zeros(200_000, np.uint8), 1)
    monkeypatch.undo()
    shelf.report()
    assert len(manager.owners()) == 2


def test_a_slab_that_comes_too_late_is_used_by_whoever_writes_next(shelf, manager, monkeypatch):
    shelf._accessed()
    manager.held = []
    wait = Future.result
    interrupts = iter([KeyboardInterrupt])

    def result(future, timeout=None):
        for interrupt in interrupts:
            raise interrupt
        return wait(future, timeout)

    monkeypatch.setattr(Future, "result", result)
    with pytest.raises(KeyboardInterrupt):
        kept(shelf, np.zeros(200_000, np.uint8))
    ((body, future),) = manager.held
    manager.held = None
    manager.answer(body, future)
    kept(shelf, np.zeros(200_000, np.uint8), 1)
    assert [type(body) for body in manager.asked].count(m.LeaseSlab) == 1


def test_requests_can_be_withdrawn(shelf, manager):
    ticket = shelf.next_ticket()
    assert shelf.next_ticket() != ticket
    shelf.pin((Stored(b"m" * 28, 5, "owner", ("node",)),), ticket)
    shelf.withdraw(ticket)
    assert manager.asked[-1].ticket == ticket
    assert manager.told[-1] == m.WithdrawRequest(ticket)
