"""The suite every store is held to: ``check_store(make_store)``, or each of ``CHECKS`` by itself. No pytest inside.

``make_store(capacity_bytes)`` gives a fresh store. Pressure is made with pinned objects, which no store may drop, so
the checks mean the same with and without spilling; what only a spilling store can do is skipped for the others.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from actorrt.store.base import Location, ObjectStore, SpilledAt
from actorrt.store.errors import (
    NotSealed,
    ObjectExists,
    ObjectNotFound,
    ObjectStoreFull,
    ObjectTooLarge,
    StoreClosed,
    StoreError,
)

KIB: Final = 1 << 10
MIB: Final = 1 << 20
CLIENT: Final = b"client"
OTHER: Final = b"other"


class ConformanceError(Exception):
    """A store broke a promise of ``store.base``."""


def expect(condition: object, text: str) -> None:
    if not condition:
        raise ConformanceError(text)


@dataclass(slots=True, kw_only=True)
class Subject:
    """One store, for one check."""

    store: ObjectStore
    dropped: list[bytes] = field(default_factory=list)
    """The keys of secondary objects that the store says it dropped."""
    spills: bool = False
    verify: Callable[[], None] = lambda: None
    """Raises if the store's books are wrong."""
    after: Callable[[], None] = lambda: None
    """Called when the store is closed; raises if it left something behind."""


MakeStore = Callable[[int], Subject]
Check = Callable[[MakeStore], None]


def pattern(number: int, size_bytes: int) -> bytes:
    """Bytes that show a shift, a swap, or another object."""
    unit = b"".join((number << 32 | step).to_bytes(8, "little") for step in range(min(512, size_bytes // 8 + 1)))
    return (unit * (size_bytes // len(unit) + 1))[:size_bytes]


def put(store: ObjectStore, key: bytes, data: bytes, client: bytes = CLIENT, *, secondary: bool = False) -> Location:
    location = store.create(key, len(data), client, secondary=secondary)
    view = store.buffer(location)
    view[:] = data
    view.release()
    store.seal(location.number)
    return location


def expect_raises(kind: type[Exception], act: Callable[[], object], text: str) -> None:
    try:
        act()
    except kind:
        return
    except StoreError as error:
        raise ConformanceError(f"{text}: raised {error!r} instead of {kind.__name__}") from error
    raise ConformanceError(f"{text}: did not raise {kind.__name__}")


def _finish(subject: Subject) -> None:
    subject.verify()
    subject.store.close()
    subject.after()


def _is_empty(subject: Subject, but_used_bytes: int = 0) -> None:
    gc.collect()
    figures = subject.store.statistics()
    left = (figures.used_bytes, figures.objects, figures.lingering, figures.pinned, figures.creating, figures.waiting)
    expect(left == (but_used_bytes, 0, 0, 0, 0, 0), f"the store should be empty: {figures}")


def check_round_trip(make_store: MakeStore) -> None:
    subject = make_store(8 * MIB)
    store = subject.store
    sizes = [0, 1, 63, 64, 65, 4095, 4096, 4097, 100_000, MIB, 3 * MIB + 1]
    for number, size_bytes in enumerate(sizes):
        put(store, b"key %d" % number, pattern(number, size_bytes))
    for _ in range(2):
        for number, size_bytes in enumerate(sizes):
            view = store.get(b"key %d" % number, CLIENT)
            expect(view.nbytes == size_bytes, f"{size_bytes} bytes came back as {view.nbytes}")
            expect(view == pattern(number, size_bytes), f"an object of {size_bytes} bytes came back changed")
            expect(view.format == "B" and view.ndim == 1, "a view should be plain bytes")
            del view
    for number in range(len(sizes)):
        store.delete(b"key %d" % number)
    _is_empty(subject)
    _finish(subject)


def check_read_only(make_store: MakeStore) -> None:
    subject = make_store(MIB)
    put(subject.store, b"key", b"immutable")
    view = subject.store.get(b"key", CLIENT)
    expect(view.readonly, "a view is writable")
    expect(view[3:5].readonly and memoryview(view).readonly, "what is made from a view is writable")
    del view
    _finish(subject)


def check_keys(make_store: MakeStore) -> None:
    subject = make_store(MIB)
    store = subject.store
    expect_raises(ObjectNotFound, lambda: store.get(b"key", CLIENT), "get of an unknown key")
    expect_raises(ValueError, lambda: store.create(b"", 1, CLIENT), "create with an empty key")
    expect_raises(ValueError, lambda: store.create(b"key", -1, CLIENT), "create of a negative size")
    location = store.create(b"key", 10, CLIENT)
    expect(not store.contains(b"key"), "an unsealed object is contained")
    expect_raises(NotSealed, lambda: store.get(b"key", CLIENT), "get of an unsealed object")
    expect_raises(ObjectExists, lambda: store.create(b"key", 10, OTHER), "create of a key being created")
    store.seal(location.number)
    expect(store.contains(b"key"), "a sealed object is not contained")
    expect_raises(ObjectExists, lambda: store.create(b"key", 10, OTHER), "create of a sealed key")
    expect_raises(ObjectNotFound, lambda: store.seal(location.number), "seal of a sealed object")
    expect_raises(ObjectNotFound, lambda: store.abort(location.number), "abort of a sealed object")
    store.delete(b"key")
    store.delete(b"key")
    store.delete(b"never heard of")
    expect(not store.contains(b"key"), "a deleted object is contained")
    expect_raises(ObjectNotFound, lambda: store.get(b"key", CLIENT), "get of a deleted key")
    put(store, b"key", b"again")
    expect(bytes(store.get(b"key", CLIENT)) == b"again", "a key created again has the old value")
    store.delete(b"key")
    _is_empty(subject)
    _finish(subject)


def check_abort(make_store: MakeStore) -> None:
    subject = make_store(MIB)
    store = subject.store
    for number in range(20):  # several times the store, if aborted ones were kept
        location = store.create(b"key", 200 * KIB, CLIENT)
        expect(location.number > 0, f"round {number}: numbers start above 0")
        store.abort(location.number)
        expect_raises(ObjectNotFound, lambda number=location.number: store.seal(number), "seal of an aborted object")  # type: ignore[misc]
    _is_empty(subject)
    _finish(subject)


def check_delete_while_writing(make_store: MakeStore) -> None:
    """The writer may still write; nobody else sees the object; its room is free when the writer is done."""
    subject = make_store(MIB)
    store = subject.store
    first = store.create(b"key", 400 * KIB, CLIENT)
    store.delete(b"key")
    second = store.create(b"key", 400 * KIB, CLIENT)
    store.buffer(first)[:] = bytes(400 * KIB)
    store.buffer(second)[:] = pattern(2, 400 * KIB)
    store.seal(first.number)
    store.seal(second.number)
    expect(store.get(b"key", CLIENT) == pattern(2, 400 * KIB), "a deleted object's writer reached another object")
    store.delete(b"key")
    _is_empty(subject)
    _finish(subject)


def check_views_keep_extents(make_store: MakeStore) -> None:
    subject = make_store(MIB)
    store = subject.store
    put(store, b"old", pattern(1, 300 * KIB))
    whole = store.get(b"old", CLIENT)
    part = whole[100 * KIB :]
    del whole
    store.delete(b"old")
    expect(store.statistics().lingering == 1, "a deleted object with a view is not counted as lingering")
    for number in range(20):
        put(store, b"new", pattern(100 + number, 300 * KIB))
        store.delete(b"new")
        expect(part == pattern(1, 300 * KIB)[100 * KIB :], "an extent was reused while a view of it lives")
    expect_raises(ObjectStoreFull, lambda: store.create(b"large", 900 * KIB, CLIENT), "create beside a pinned extent")
    del part
    location = store.create(b"large", 900 * KIB, CLIENT)
    store.abort(location.number)
    _is_empty(subject)
    _finish(subject)


def check_key_reused_while_viewed(make_store: MakeStore) -> None:
    subject = make_store(MIB)
    store = subject.store
    put(store, b"key", b"old")
    old = store.get(b"key", CLIENT)
    store.delete(b"key")
    put(store, b"key", b"new")
    new = store.get(b"key", OTHER)
    expect((bytes(old), bytes(new)) == (b"old", b"new"), "old and new object of one key are mixed up")
    del old
    expect(bytes(new) == b"new", "the end of the old view touched the new object")
    del new
    expect(bytes(store.get(b"key", CLIENT)) == b"new", "the new object is gone with the old")
    store.delete(b"key")
    _is_empty(subject)
    _finish(subject)


def check_pins(make_store: MakeStore) -> None:
    subject = make_store(MIB)
    store = subject.store
    put(store, b"key", pattern(1, KIB))
    places = [store.pin(b"key", client) for client in (CLIENT, CLIENT, OTHER)]
    number = places[0].number
    expect(all(place.number == number for place in places), "pins of one object have different numbers")
    store.delete(b"key")
    store.release(number, CLIENT)
    store.release(number, CLIENT)
    expect_raises(ObjectNotFound, lambda: store.release(number, CLIENT), "a release too many")
    expect(store.statistics().lingering == 1, "an object pinned by another client is gone")
    store.release(number, OTHER)
    expect_raises(ObjectNotFound, lambda: store.release(number, OTHER), "release of a freed object")
    _is_empty(subject)
    _finish(subject)


def check_dead_client(make_store: MakeStore) -> None:
    subject = make_store(MIB)
    store = subject.store
    put(store, b"pinned", pattern(1, 300 * KIB), OTHER)
    for _ in range(3):
        store.pin(b"pinned", CLIENT)
    store.pin(b"pinned", OTHER)
    store.create(b"unfinished", 300 * KIB, CLIENT)
    number = store.pin(b"pinned", OTHER).number
    store.delete(b"pinned")
    store.drop_client(CLIENT)
    store.drop_client(b"never heard of")
    expect(not store.contains(b"unfinished"), "what a dead client was writing is there")
    figures = store.statistics()
    expect((figures.creating, figures.lingering) == (0, 1), f"after the death of one of two clients: {figures}")
    store.release(number, OTHER)
    store.release(number, OTHER)
    put(store, b"unfinished", b"by somebody else")
    store.delete(b"unfinished")
    _is_empty(subject)
    _finish(subject)


def check_full(make_store: MakeStore) -> None:
    subject = make_store(MIB)
    store = subject.store
    expect_raises(ObjectTooLarge, lambda: store.create(b"huge", 2 * MIB, CLIENT), "create of more than the capacity")
    views = []
    for number in range(3):
        put(store, b"key %d" % number, pattern(number, 300 * KIB))
        views.append(store.get(b"key %d" % number, CLIENT))
    expect_raises(ObjectStoreFull, lambda: store.create(b"more", 300 * KIB, CLIENT), "create in a pinned store")
    for number, view in enumerate(views):
        expect(view == pattern(number, 300 * KIB), "a refused create changed another object")
    expect_raises(ObjectNotFound, lambda: store.get(b"more", CLIENT), "get of a refused object")
    del views, view
    store.delete(b"key 1")
    put(store, b"more", pattern(4, 300 * KIB))
    expect(store.get(b"more", CLIENT) == pattern(4, 300 * KIB), "what was put into freed room came back changed")
    _finish(subject)


def check_secondary(make_store: MakeStore) -> None:
    """A copy of another node's object goes when room is needed, unless it is pinned; and the store says so."""
    subject = make_store(MIB)
    store = subject.store
    put(store, b"free", pattern(1, 300 * KIB), secondary=True)
    put(store, b"held", pattern(2, 300 * KIB), secondary=True)
    view = store.get(b"held", CLIENT)
    put(store, b"mine", pattern(3, 300 * KIB))
    mine = store.get(b"mine", CLIENT)
    put(store, b"more", pattern(4, 300 * KIB))
    expect(subject.dropped == [b"free"], f"dropped should be the unpinned copy, and is {subject.dropped}")
    expect(not store.contains(b"free"), "a dropped copy is contained")
    expect(view == pattern(2, 300 * KIB) and mine == pattern(3, 300 * KIB), "a pinned object changed")
    expect(store.get(b"more", CLIENT) == pattern(4, 300 * KIB), "the new object is not what was written")
    del view, mine
    _finish(subject)


def check_many_small(make_store: MakeStore) -> None:
    """Fill, free every other, fill again: freed room is found and the count is right."""
    subject = make_store(2 * MIB)
    store = subject.store
    for number in range(1000):
        put(store, b"%d" % number, pattern(number, 700))
    for number in range(0, 1000, 2):
        store.delete(b"%d" % number)
    for number in range(1000, 1500):
        put(store, b"%d" % number, pattern(number, 700))
    expect(store.statistics().objects == 1000, f"1000 objects should be there: {store.statistics()}")
    for number in (*range(1, 1000, 2), *range(1000, 1500)):
        expect(store.get(b"%d" % number, CLIENT) == pattern(number, 700), "a small object came back changed")
        store.delete(b"%d" % number)
    _is_empty(subject)
    _finish(subject)


def check_threads(make_store: MakeStore) -> None:
    subject = make_store(4 * MIB)
    store = subject.store
    failures: list[Exception] = []

    def work(name: int) -> None:
        try:
            for number in range(100):
                key = b"%d/%d" % (name, number)
                data = pattern(name * 1000 + number, 1000 * (number % 50))
                put(store, key, data, b"%d" % name)
                view = store.get(key, b"%d" % name)
                expect(view == data, "an object written by another thread was read")
                store.delete(key)
                expect(view == data, "an extent was reused while a view of it lives")
        except Exception as error:  # noqa: BLE001 - reported below, on the thread that can fail the check
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not failures, f"working from threads raised {failures}")
    _is_empty(subject)
    _finish(subject)


def check_spilling(make_store: MakeStore) -> None:
    """Four times the store, read back twice; then everything is deleted and nothing is left on disk."""
    subject = make_store(2 * MIB)
    store = subject.store
    if not subject.spills:
        _finish(subject)
        return
    count = 27
    for number in range(count):
        put(store, b"%d" % number, pattern(number, 300 * KIB + number))
    expect(store.statistics().spilled > count // 2, f"most objects should be on disk: {store.statistics()}")
    for number in (*range(count), *reversed(range(count))):
        view = store.get(b"%d" % number, CLIENT)
        expect(view == pattern(number, 300 * KIB + number), f"object {number} came back from disk changed")
        del view
        subject.verify()
    for number in range(count):
        store.delete(b"%d" % number)
    _is_empty(subject)
    expect(store.statistics().disk_bytes == 0, f"files are left: {store.statistics()}")
    _finish(subject)


def check_get_under_full_memory(make_store: MakeStore) -> None:
    """Everything in memory is pinned: a get of a spilled object still ends, and a create fails instead of hanging."""
    subject = make_store(2 * MIB)
    store = subject.store
    if not subject.spills:
        _finish(subject)
        return
    for number in range(12):
        put(store, b"%d" % number, pattern(number, 300 * KIB))
    views = [store.get(b"%d" % number, CLIENT) for number in range(12)]
    for number, view in enumerate(views):
        expect(view == pattern(number, 300 * KIB), f"object {number} came back changed")
    places = [store.pin(b"%d" % number, OTHER) for number in range(12)]
    expect(any(isinstance(place, SpilledAt) for place in places), "twice the memory cannot all be in memory")
    expect_raises(ObjectStoreFull, lambda: store.create(b"more", 300 * KIB, CLIENT), "create in a pinned store")
    for number in range(12):
        store.delete(b"%d" % number)
    for number, view in enumerate(views):
        expect(view == pattern(number, 300 * KIB), f"object {number} changed when it was deleted")
    store.drop_client(OTHER)
    del views, view
    _is_empty(subject)
    _finish(subject)


def check_close(make_store: MakeStore) -> None:
    subject = make_store(MIB)
    store = subject.store
    put(store, b"key", b"still there")
    view = store.get(b"key", CLIENT)
    store.close()
    store.close()
    expect(bytes(view) == b"still there", "close took the memory from under a view")
    for act in (lambda: store.get(b"key", CLIENT), lambda: store.create(b"a", 1, CLIENT), store.statistics):
        expect_raises(StoreClosed, act, "use of a closed store")
    del view
    subject.after()


CHECKS: Final[tuple[Check, ...]] = (
    check_round_trip,
    check_read_only,
    check_keys,
    check_abort,
    check_delete_while_writing,
    check_views_keep_extents,
    check_key_reused_while_viewed,
    check_pins,
    check_dead_client,
    check_full,
    check_secondary,
    check_many_small,
    check_threads,
    check_spilling,
    check_get_under_full_memory,
    check_close,
)


def check_store(make_store: MakeStore) -> None:
    """Run every check; raises ``ConformanceError`` at the first broken promise."""
    for check in CHECKS:
        check(make_store)
