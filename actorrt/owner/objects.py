"""The owner's table of objects: values, waiters, and who holds what (pure).

Every object this process knows has one record. *Owned* ones were made by ``.remote()`` or ``put`` here; *borrowed* ones
came in as refs from elsewhere, and their owner counts this process as a borrower.

An object is held by: ObjectRefs of this process (``local``), pending tasks and containing values (``pins``), and, if
owned, other processes (``borrowers``). When the last hold goes, an owned value is dropped, a borrowed one is given back
to its owner (``BorrowersRemoved``, with multiplicity).

**Handing a ref to another process** registers the receiver with the ref's owner *by the sender*, on the sender's own
ordered path to that owner and before the sender can drop its own hold (``lend``). So there is always at least one
counted hold, chains flatten by themselves, and no acknowledgement is awaited. A removal by the receiver may overtake
the addition by the sender: counts are signed, and an object is only free when *every* count is zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.ids import ACTOR_ID_BYTES
from actorrt.kernel.message import Address
from actorrt.owner.holdings import Holdings
from actorrt.owner.messages import BorrowersAdded, BorrowersRemoved, DropGets, GetObjects, ObjectsReady
from actorrt.owner.tasks import ObjectRecord, PendingActor, SharedState, Task
from actorrt.owner.waiting import Waiting
from actorrt.wire.records import Failure, RefInfo, Result, Stored

ACTOR_HANDLE_SUFFIX = b"\xff\xff\xff\xff"
"""An actor's handles are counted like refs of the object ``actor_id + ACTOR_HANDLE_SUFFIX``."""


class ObjectTable:
    """See the module's text. ``me`` is this process's address; effects go to the list of the current step."""

    def __init__(self, me: str, on_ready: Callable[[Task | PendingActor], None]) -> None:
        self.me = me
        self.records: dict[bytes, ObjectRecord] = {}
        self.holdings = Holdings()
        self.waiting = Waiting(self)
        self.effects: list[Effect] = []
        self.on_dependency_ready = on_ready
        self.record_ahead: Callable[[bytes], ObjectRecord | None] = lambda _object_id: None
        """Makes the record of a stream's item that is waited for before it is there."""
        self.on_stored_gone: Callable[[bytes], None] = lambda _object_id: None
        """The record of a stored object of ours is gone."""
        self.remake: Callable[[bytes], None] = lambda _object_id: None
        """Somebody wants a value of ours that no store has."""
        self.on_handles_gone: Callable[[bytes], None] = lambda _actor_id: None
        self.borrowed_by: dict[str, dict[bytes, None]] = {}
        """Process -> objects of ours it holds (for its death)."""
        self.borrowed_from: dict[str, dict[bytes, None]] = {}
        """Process -> borrowed objects it owns (for its death)."""
        self.waited_by: dict[str, dict[bytes, None]] = {}
        """Process -> objects of ours whose value it waits for (for its death)."""
        self._gets: dict[str, list[bytes]] = {}
        self._drops: dict[str, list[bytes]] = {}
        self._removals: dict[str, list[bytes]] = {}
        # Chains of a thousand tasks that wait for each other, and values nested a thousand deep, are ordinary: what
        # follows from a result or a release is worked off from a queue, never by recursion.
        self._ready: deque[Task | PendingActor] = deque()
        self._telling = False
        self._unpins: deque[tuple[RefInfo, ...]] = deque()
        self._unpinning = False

    # ------------------------------------------------------------------ records
    def record_of(self, ref: RefInfo) -> ObjectRecord:
        """Record of a ref, made on first sight of a borrowed one."""
        record = self.records.get(ref.object_id)
        if record is None and ref.owner == self.me:
            record = self.record_ahead(ref.object_id)
        if record is None:
            record = ObjectRecord()
            if ref.owner != self.me:
                record.shared = SharedState(ref.owner)
                self.borrowed_from.setdefault(ref.owner, {})[ref.object_id] = None
            else:
                # A ref of ours whose record is gone: it came back after its last counted hold went (a ref pickled
                # outside the runtime, or one from before a shutdown). Say so instead of waiting for ever.
                text = "the object was released: its ref came back after the last counted one had gone"
                record.result = Failure("ObjectLostError", text, subject_id=ref.object_id)
            self.records[ref.object_id] = record
        return record

    def add_refs(self, refs: Iterable[RefInfo]) -> None:
        """ObjectRefs of this process were made by unpickling."""
        for ref in refs:
            self.record_of(ref).local += 1

    def put(self, objects: Iterable[tuple[bytes, Result]]) -> None:
        """Objects that are ours from the start, with one ObjectRef each."""
        for object_id, result in objects:
            record = ObjectRecord(None, 1)
            self.records[object_id] = record
            self.resolve(object_id, record, result, received=False)

    def release(self, object_ids: Iterable[bytes]) -> None:
        """ObjectRefs of this process went."""
        records = self.records
        for object_id in object_ids:
            record = records.get(object_id)
            if record is not None:
                record.local -= 1
                if record.local <= 0 and not record.pins:
                    self.free_if_unheld(object_id, record)

    def pin(self, refs: Iterable[RefInfo]) -> None:
        """Hold these for a pending task or a containing value."""
        for ref in refs:
            self.record_of(ref).pins += 1

    def unpin(self, refs: Iterable[RefInfo]) -> None:
        """Drop such a hold."""
        for ref in refs:
            record = self.records.get(ref.object_id)
            if record is not None:
                record.pins -= 1
                if record.local <= 0 and not record.pins:
                    self.free_if_unheld(ref.object_id, record)

    def free_if_unheld(self, object_id: bytes, record: ObjectRecord) -> None:
        """Drop the record when nothing holds it any more."""
        if record.local > 0 or record.pins > 0 or record.waiters or record.dependents:
            return
        shared = record.shared
        if shared is not None:
            if shared.owner:
                if record.lineage:
                    return
                del self.records[object_id]
                known = self.borrowed_from.get(shared.owner)
                if known is not None:
                    known.pop(object_id, None)
                    if not known:
                        del self.borrowed_from[shared.owner]
                if shared.registered:
                    self._removals.setdefault(shared.owner, []).extend([object_id] * shared.registered)
                if shared.requested and record.result is None:
                    self._drops.setdefault(shared.owner, []).append(object_id)
                self.release_contents(record)
                return
            if shared.borrowers or shared.getters:
                return
        if record.task is not None:
            return  # still being made: the outcome frees it
        if record.lineage:
            if object_id in self.holdings:
                self.hollow(record)
                self.holdings.evict(object_id)
            return
        del self.records[object_id]
        if type(record.result) is Stored:
            self.holdings.free(object_id)
            self.on_stored_gone(object_id)
        if object_id.endswith(ACTOR_HANDLE_SUFFIX):
            self.on_handles_gone(object_id[:ACTOR_ID_BYTES])
        self.release_contents(record)

    def release_contents(self, record: ObjectRecord) -> None:
        result = record.result
        if result is None or type(result) is Failure or not result.refs:
            return
        self._unpins.append(result.refs)
        if self._unpinning:
            return
        self._unpinning = True
        while self._unpins:
            self.unpin(self._unpins.popleft())
        self._unpinning = False

    # ------------------------------------------------------------------ results
    def resolve(self, object_id: bytes, record: ObjectRecord, result: Result, *, received: bool) -> None:
        """The object is ready. ``received``: the value came from another process, which registered us for its refs."""
        ours = record.shared is None or not record.shared.owner
        if record.result is not None:
            if received:
                self.give_back((result,), ours=ours)
            return
        record.result = result
        task, record.task = record.task, None
        if type(result) is Stored and ours:
            self.holdings.enter(result, "put" if task is None else task.origin)
        if type(result) is not Failure and result.refs:
            self.pin(result.refs)
            if received:
                self.count_registered(result.refs)
        waiters = record.waiters
        if waiters is not None:
            record.waiters = None
            failed = type(result) is Failure
            for waiter in waiters:
                waiter.places -= 1
                self.waiting.count_down(waiter, failed=failed)
        shared = record.shared
        if shared is not None and shared.getters:
            getters, shared.getters = shared.getters, []
            for getter in getters:
                self._forget_wait(getter.process, object_id)
                self.send_value(getter, object_id, result)
        dependents = record.dependents
        if dependents is not None:
            record.dependents = None
            for dependent in dependents:
                dependent.missing -= 1
                if dependent.missing == 0 or type(result) is Failure:
                    self._ready.append(dependent)
        if record.local <= 0 and not record.pins:
            self.free_if_unheld(object_id, record)
        if self._ready and not self._telling:
            self._telling = True
            while self._ready:
                self.on_dependency_ready(self._ready.popleft())
            self._telling = False

    def forget_dependent(self, dependent: Task | PendingActor, object_ids: Iterable[bytes]) -> None:
        """It waits for these no longer."""
        for object_id in object_ids:
            record = self.records.get(object_id)
            if record is not None and record.dependents is not None:
                record.dependents = [d for d in record.dependents if d is not dependent] or None

    def give_back(self, results: Iterable[Result], *, ours: bool) -> None:
        """Nobody here wants these values any more, but we were registered for the refs inside.

        ``ours``: values of objects we own, which may lie in a store.
        """
        for result in results:
            if ours and type(result) is Stored:
                self.holdings.discard(result)
            if type(result) is not Failure and result.refs:
                self.pin(result.refs)
                self.count_registered(result.refs)
                self.unpin(result.refs)

    def count_registered(self, refs: Iterable[RefInfo]) -> None:
        """Whoever sent us a value with these refs has registered us with their owners."""
        for ref in refs:
            record = self.record_of(ref)
            if record.shared is not None and record.shared.owner:
                self._registered(ref.object_id, record.shared)
            else:
                # Ours: the sender told *us* that we borrow our own object. That hold is the pin we just made.
                self.remove_borrower(ref.object_id, self.me)

    # ------------------------------------------------------------------ asking
    def fetch(self, ref: RefInfo, record: ObjectRecord) -> None:
        """Ask the owner of a borrowed object for its value, once."""
        shared = record.shared
        if shared is None or not shared.owner or shared.requested or record.result is not None:
            return
        shared.requested = True
        self._gets.setdefault(shared.owner, []).append(ref.object_id)

    def flush(self) -> None:
        """Send what was collected in this step: one message per peer and kind."""
        self.holdings.flush(self.effects)
        if self._gets:
            gets, self._gets = self._gets, {}
            for owner, ids in gets.items():
                self.effects.append(Send(Address(owner, "owner"), GetObjects(tuple(ids))))
        if self._drops:
            drops, self._drops = self._drops, {}
            for owner, ids in drops.items():  # after the gets they take back
                self.effects.append(Send(Address(owner, "owner"), DropGets(tuple(ids))))
        if self._removals:
            removals, self._removals = self._removals, {}
            for owner, ids in removals.items():
                self.effects.append(Send(Address(owner, "owner"), BorrowersRemoved(tuple(ids))))

    # ------------------------------------------------------------------ other processes
    def send_value(self, getter: Address, object_id: bytes, result: Result) -> None:
        """Answer a getter; the refs inside the value are lent to it first."""
        if type(result) is not Failure and result.refs:
            self.lend(result.refs, getter.process)
        if type(result) is Stored:
            result = self.holdings.current(result)
        self.effects.append(Send(getter, ObjectsReady(((object_id, result),))))

    def serve(self, getter: Address, object_ids: Iterable[bytes]) -> None:
        """``GetObjects`` from another owner."""
        for object_id in object_ids:
            record = self.records.get(object_id)
            if record is None:
                lost = Failure("ObjectLostError", "its owner has released the object", subject_id=object_id)
                self.effects.append(Send(getter, ObjectsReady(((object_id, lost),))))
                continue
            if type(record.result) is Stored and self.is_gone(object_id, record):
                self.remake(object_id)
            if record.result is not None:
                self.send_value(getter, object_id, record.result)
            else:
                shared = self._shared(record)
                if getter not in shared.getters:
                    shared.getters.append(getter)
                    self.waited_by.setdefault(getter.process, {})[object_id] = None

    def drop_gets(self, getter: Address, object_ids: Iterable[bytes]) -> None:
        """``DropGets``."""
        for object_id in object_ids:
            record = self.records.get(object_id)
            if record is not None and record.shared is not None and getter in record.shared.getters:
                record.shared.getters.remove(getter)
                self._forget_wait(getter.process, object_id)
                self.free_if_unheld(object_id, record)

    def _forget_wait(self, process: str, object_id: bytes) -> None:
        known = self.waited_by.get(process)
        if known is not None:
            known.pop(object_id, None)
            if not known:
                del self.waited_by[process]

    def lend(self, refs: Iterable[RefInfo], borrower: str) -> None:
        """Register ``borrower`` with the owners of these refs (we are about to hand it the refs)."""
        elsewhere: dict[str, list[RefInfo]] = {}
        for ref in refs:
            if ref.owner == self.me:
                self.add_borrower(ref.object_id, borrower)
            else:
                elsewhere.setdefault(ref.owner, []).append(ref)
        for owner, theirs in elsewhere.items():
            self.effects.append(Send(Address(owner, "owner"), BorrowersAdded(tuple(theirs), borrower)))

    def _shared(self, record: ObjectRecord) -> SharedState:
        if record.shared is None:
            record.shared = SharedState()
        return record.shared

    def add_borrower(self, object_id: bytes, borrower: str) -> None:
        """One more hold by ``borrower`` of an object of ours."""
        self._change_borrower(object_id, borrower, 1)

    def remove_borrower(self, object_id: bytes, borrower: str) -> None:
        """One less."""
        self._change_borrower(object_id, borrower, -1)

    def _change_borrower(self, object_id: bytes, borrower: str, change: int) -> None:
        record = self.records.get(object_id)
        if record is None:
            return
        shared = self._shared(record)
        count = shared.borrowers.get(borrower, 0) + change
        if count:
            shared.borrowers[borrower] = count
            self.borrowed_by.setdefault(borrower, {})[object_id] = None
        else:
            shared.borrowers.pop(borrower, None)
            known = self.borrowed_by.get(borrower)
            if known is not None:
                known.pop(object_id, None)
                if not known:
                    del self.borrowed_by[borrower]
            self.free_if_unheld(object_id, record)

    def held_of(self, refs: Iterable[RefInfo]) -> list[RefInfo]:
        """Which of these does this process still hold? Each named one counts as registered from now on."""
        held: list[RefInfo] = []
        for ref in {r.object_id: r for r in refs}.values():
            record = self.records.get(ref.object_id)
            if record is None or ref.owner == self.me:
                continue
            if record.shared is not None and (record.local > 0 or record.pins > 0):
                self._registered(ref.object_id, record.shared)
                held.append(ref)
        return held

    def _registered(self, object_id: bytes, shared: SharedState) -> None:
        """Its owner counts us once more (again, if only the connection was lost and the ref came back)."""
        shared.registered += 1
        self.borrowed_from.setdefault(shared.owner, {})[object_id] = None

    def process_gone(self, process: str) -> None:
        """A process ended: its waits and holds go, its objects are lost."""
        for object_id in list(self.waited_by.pop(process, {})):
            record = self.records.get(object_id)
            if record is not None and record.shared is not None:
                record.shared.getters = [g for g in record.shared.getters if g.process != process]
                self.free_if_unheld(object_id, record)
        for object_id in list(self.borrowed_by.pop(process, {})):
            record = self.records.get(object_id)
            if record is not None and record.shared is not None:
                record.shared.borrowers.pop(process, None)
                self.free_if_unheld(object_id, record)
        for object_id in list(self.borrowed_from.pop(process, {})):
            record = self.records.get(object_id)
            if record is not None and record.shared is not None:
                record.shared.registered = 0
                if record.result is None:
                    lost = Failure(
                        "OwnerDiedError",
                        f"the process that owned object {object_id.hex()} is gone ({process}), and the value with it",
                        subject_id=object_id,
                    )
                    self.resolve(object_id, record, lost, received=False)

    def any_stored(self, object_ids: Iterable[bytes]) -> bool:
        """Whether one of these lies in a store (any thread)."""
        records = self.records
        found = (records.get(object_id) for object_id in object_ids)
        return any(record is not None and type(record.result) is Stored for record in found)

    def is_gone(self, object_id: bytes, record: ObjectRecord) -> bool:
        """Whether this is an object of ours that has a value, which no store has any more."""
        return type(record.result) is Stored and object_id not in self.holdings and object_id in self.holdings.gone

    def hollow(self, record: ObjectRecord) -> None:
        """The value is going; what is in it goes with it."""
        stored = record.result
        assert type(stored) is Stored
        self.release_contents(record)
        record.result = Stored(stored.key, stored.size_bytes, stored.owner, ())

    def check(self) -> None:
        """Assert the invariants."""
        assert not self._ready
        assert not self._unpins
        for object_id, record in self.records.items():
            name = object_id.hex()
            assert record.pins >= 0, f"negative pins of {name}"
            is_held = type(record.result) is Stored and (record.shared is None or not record.shared.owner)
            is_known = (object_id in self.holdings) != (object_id in self.holdings.gone)
            assert is_held == is_known, f"{name} and where it lies do not agree"
            if record.result is not None:
                assert record.waiters is None, f"waiters of a ready object {name}"
                assert record.dependents is None, f"dependents of a ready object {name}"
                assert record.task is None, f"a ready object {name} has a task"
            assert not any(waiter.done for waiter in record.waiters or ()), f"a waiter stays behind at {name}"
            shared = record.shared
            if shared is None or not shared.owner:
                continue
            assert object_id in self.borrowed_from.get(shared.owner, {}) or shared.registered == 0, name
            assert shared.registered >= 0, f"negative registrations of {name}"
        for process, object_ids in self.borrowed_by.items():
            for object_id in object_ids:
                shared = self.records[object_id].shared
                assert shared is not None, object_id.hex()
                assert shared.borrowers.get(process), f"{process} does not borrow {object_id.hex()}"
