"""A process's access to the object store of its node: large values go in, and come out without a copy.

Theory of operation
-------------------
**Writing.** Objects up to an eighth of a slab are carved from leased slabs, without asking anybody, and reported in
batches (those of other owners at once: the news of them must not outlive us); larger ones get an extent of their own
for one question. A report may come later than the news of the object: the manager lets whoever asks for it wait that
moment. Slabs that were not used for ``SLAB_IDLE_S`` are given back.

**Reading.** ``pin`` asks the manager to have objects here (it pulls them if need be) and to leave them where they are;
``view`` maps one. The pin goes when the last view of it is collected, wherever that happens: the collector only leaves
a note, the loop sends it. Whoever does not want what was pinned calls ``release_places``.

**Without shared memory** (a driver on a machine that runs no node): values stay in their owner's memory, and what lies
in stores is read as a stream of bytes.

Nothing here may wait on the I/O loop's thread: ``keep`` called there says that there is no store.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from actorrt.kernel.errors import ActorrtError, GetTimeoutError
from actorrt.kernel.ids import object_id
from actorrt.kernel.message import Message
from actorrt.objects.messages import (
    Attach,
    Attached,
    CarvedObject,
    CreateAborted,
    CreateObject,
    Detach,
    FetchObjects,
    LeaseSlab,
    ObjectCreated,
    ObjectsSealed,
    ObjectWanted,
    PinObjects,
    PinsReleased,
    Place,
    SlabLeased,
    WithdrawRequest,
)
from actorrt.store import layout, values
from actorrt.store.base import Carved, Location, Slab, SpilledAt
from actorrt.store.errors import StoreError
from actorrt.store.reader import Reader
from actorrt.store.writer import Batch, Writer
from actorrt.wire.handshake import Identity
from actorrt.wire.records import Failure, Stored, Value
from actorrt.wire.values import Pickled, Whose, rebuilt

logger = logging.getLogger("actorrt.store")

SLAB_IDLE_S: Final = 1.0
RELEASE_DELAY_S: Final = 0.005
"""Pins that went are told together."""
REARM_S: Final = 0.1
"""After so long a note of a pin that went is told although one should have been already."""
SLAB_OBJECTS_MIN: Final = 8
"""Objects larger than this part of a slab get their own extent."""
LEASE_AHEAD_PART: Final = 4
"""The next slab is asked for when this part of the present one is left."""


class _Access:
    """What an attached process has. ``remote``: it cannot map the segments."""

    def __init__(self, attached: Attached, released: Callable[[Any], None]) -> None:
        directory, prefix = attached.directory, attached.prefix
        self.attached = attached
        self.remote = not (Path(directory) / layout.segment_name(prefix, 0)).exists()
        self.writer = Writer(directory, prefix)
        self.reader = Reader(directory, prefix, released, read_spilled=_read_spilled)


class _Releases:
    """Tells the manager which pins went. Views keep this alive, and nothing else of a runtime that is gone.

    ``outlives``: what sends does so also when the runtime is closed.
    """

    def __init__(
        self, send: Callable[[Message], None], loop: asyncio.AbstractEventLoop, node: str, *, outlives: bool
    ) -> None:
        self._send = send
        self._loop = loop
        self._node = node
        self._outlives = outlives
        self._numbers: deque[int] = deque()
        self._armed_until_s = 0.0
        self.closed = False

    def note(self, number: int) -> None:
        """From finalizers: any thread, any moment, and any line may be the last one that runs."""
        self._numbers.append(number)
        if self.closed and not self._outlives:
            self._orphan()
            return
        now_s = time.monotonic()
        if now_s >= self._armed_until_s:
            self._armed_until_s = now_s + REARM_S
            if not _on_loop(self._loop, self._arm):
                self._orphan()

    def _arm(self) -> None:
        self._loop.call_later(RELEASE_DELAY_S, self.tell)

    def _orphan(self) -> None:
        """The runtime is gone, its process is not: the next one tells, if it is not there already."""
        orphans = _orphans.setdefault(self._node, deque())
        while self._numbers:
            orphans.append(self._numbers.popleft())
        living = _living.get(self._node)
        shelf = living() if living is not None else None
        if shelf is not None:
            shelf.tell_orphans_soon()

    def tell(self) -> None:
        """Send what was noted."""
        self._armed_until_s = 0.0
        if self.closed and not self._outlives:
            self._orphan()
            return
        numbers: list[int] = []
        while self._numbers:
            numbers.append(self._numbers.popleft())
        if numbers:
            self._send(PinsReleased(tuple(numbers)))


_orphans: dict[str, deque[int]] = {}
"""Node -> pins that went when no runtime of this process was attached there any more."""
_living: dict[str, weakref.ref[Shelf]] = {}
"""Node -> the latest shelf there."""


class Shelf:
    """See the module's text.

    Args:
        request: asks the object manager of the node.
        send: tells it something. It must not lead to user objects: it lives as long as any view.
        loop: the I/O loop.
        me: our process address.
        node: that of the node.
        pid: ours; the node watches it.
        identity: who we are, to the node's bulk server.
        outlives: ``send`` works also when the runtime is closed.
        before_wait: called before room is asked for: refs that were dropped shall be known by then.
    """

    def __init__(
        self,
        *,
        request: Callable[[Message], Future[Message]],
        send: Callable[[Message], None],
        loop: asyncio.AbstractEventLoop,
        me: str,
        node: str,
        pid: int,
        identity: Callable[[], Identity],
        before_wait: Callable[[], None],
        outlives: bool = False,
    ) -> None:
        self.node = node
        self._me = me
        self._request = request
        self._send = send
        self._loop = loop
        self._pid = pid
        self._identity = identity
        self._before_wait = before_wait
        self._tag = os.urandom(4)
        self._numbers = itertools.count(1)
        self._tickets = itertools.count(1)
        self._lock = threading.Lock()
        self._attaching: Future[Message] | None = None
        self._access: _Access | None = None
        self._owners: dict[bytes, str] = {}
        """Of objects carved and not reported."""
        self._report_lock = threading.Lock()
        """Held while a batch is sent: batches must not swap places."""
        self._unsent: deque[Batch] = deque()
        """Batches that are being sent: more than one after an interrupt only."""
        self._report_pending = False
        self._carved_count = 0
        self._carved_bytes = 0
        """Since a slab was asked for ahead: looking how much room there is costs more than counting."""
        self._idle_watched = False
        self._leasing = False
        self._releases = _Releases(send, loop, node, outlives=outlives)
        self._closed = False
        self._writing = 0
        self._withdrawn: dict[int, None] = {}
        """Tickets of requests that wait for access, and are not wanted any more."""
        _living[node] = weakref.ref(self)
        if _orphans.get(node):
            self.tell_orphans_soon()

    # ------------------------------------------------------------------ attaching
    def _attach(self) -> Future[Message]:
        """Ask for access, once; what is asked next comes behind it."""
        with self._lock:
            future = self._attaching
            if future is not None:
                return future
            future = self._attaching = self._request(Attach(self._pid))
        future.add_done_callback(self._attached)
        return future

    def _attached(self, future: Future[Message]) -> None:
        """The answer is there (may be called by whoever waited for it, too: waiters wake before callbacks run)."""
        with self._lock:
            if future.exception() is not None:
                self._attaching = None  # the next one tries again
            elif self._access is None:
                answer = future.result()
                assert isinstance(answer, Attached)
                self._access = _Access(answer, self._releases.note)

    def _accessed(self) -> _Access:
        access = self._access
        if access is None:
            future = self._attach()
            future.result()
            self._attached(future)
            access = self._access
            assert access is not None
        return access

    # ------------------------------------------------------------------ writing
    def keep(self, pickled: Pickled, whose: Whose) -> Stored | None:
        """Put a value into the store. None: there is no store within reach.

        Raises ObjectStoreFullError and OutOfDiskError, after the store's grace.
        """
        if asyncio._get_running_loop() is self._loop or self._closed:
            return None
        access = self._accessed()
        if access.remote:
            return None
        with self._lock:
            self._writing += 1
        try:
            return self._keep(access, pickled, whose)
        finally:
            with self._lock:
                self._writing -= 1

    def _keep(self, access: _Access, pickled: Pickled, whose: Whose) -> Stored:
        task_id, index, owner = whose
        key = object_id(task_id, index) + self._tag + next(self._numbers).to_bytes(4, "big")
        planned = values.plan(pickled.data, pickled.buffers)
        size_bytes = planned.size_bytes
        in_slab = size_bytes * SLAB_OBJECTS_MIN <= access.attached.slab_bytes
        if not (in_slab and self._carve(access, key, owner, planned)):
            self._create(access, key, owner, planned)
        return Stored(key, size_bytes, owner, (self.node,), pickled.refs)

    def _carve(self, access: _Access, key: bytes, owner: str, planned: values.Plan) -> bool:
        """Write into a slab. False: none can be had."""
        writer = access.writer
        while (reservation := writer.carve(key, planned.size_bytes)) is None:
            self._before_wait()
            future = self._request(LeaseSlab(access.attached.slab_bytes))
            try:
                answer = future.result()
            except ActorrtError as error:
                logger.debug("no slab: %s", error)
                return False
            except BaseException:
                future.add_done_callback(self._leased_ahead)  # whoever writes next may have it
                del future
                raise
            self._add_slab(access, answer)
        try:
            values.write(reservation.view, planned)
        except BaseException:
            writer.abort(reservation)
            raise
        self._owners[key] = owner
        writer.seal(reservation)
        self._carved_count += 1
        self._carved_bytes += planned.size_bytes
        if (
            2 * self._carved_bytes > access.attached.slab_bytes
            and not self._leasing
            and writer.room_bytes * LEASE_AHEAD_PART < access.attached.slab_bytes
        ):
            self._carved_bytes = 0
            self._leasing = True
            self._request(LeaseSlab(access.attached.slab_bytes)).add_done_callback(self._leased_ahead)
        if not self._idle_watched:
            self._idle_watched = True
            _on_loop(self._loop, self._watch_idle)
        if owner == self._me:
            self._report_soon()
        else:
            self.report()  # the owner will hear of it: even should we die then, the manager has
        return True

    def _add_slab(self, access: _Access, answer: Message) -> None:
        assert isinstance(answer, SlabLeased)
        access.writer.add_slab(
            Slab(answer.number, answer.segment, answer.offset, answer.length_bytes, answer.first_object)
        )

    def _leased_ahead(self, future: Future[Message]) -> None:
        self._leasing = False
        if future.exception() is None and self._access is not None:
            self._add_slab(self._access, future.result())

    def _create(self, access: _Access, key: bytes, owner: str, planned: values.Plan) -> None:
        self._before_wait()
        future = self._request(CreateObject(key, planned.size_bytes, owner))
        try:
            answer = future.result()
        except BaseException:
            future.add_done_callback(self._abort)
            del future  # it holds the error, whose traceback holds us, and with us the user's memory
            raise
        assert isinstance(answer, ObjectCreated)
        place = answer.place
        try:
            view = access.writer.buffer(Location(place.segment, place.offset, place.size_bytes, place.number))
            values.write(view, planned)
        except BaseException:
            self._abort(future)
            raise
        view.release()
        self.report()
        self._send(ObjectsSealed(created=(place.number,)))

    def _abort(self, future: Future[Message]) -> None:
        if future.exception() is None:
            answer = future.result()
            assert isinstance(answer, ObjectCreated)
            self._send(CreateAborted(answer.place.number))

    def _report_soon(self) -> None:
        if not self._report_pending:
            self._report_pending = True
            _on_loop(self._loop, self._report_from_loop)

    def _report_from_loop(self) -> None:
        self._report_pending = False
        self.report()

    def _watch_idle(self) -> None:
        self._loop.call_later(SLAB_IDLE_S, self._give_up_idle, self._carved_count)

    def _give_up_idle(self, carved_count: int) -> None:
        if carved_count != self._carved_count:
            self._watch_idle()
            return
        self._idle_watched = False
        if self._access is not None:
            self._access.writer.give_up_slabs()
            self.report()

    def report(self) -> None:
        """Tell the manager what was carved since the last time (any thread)."""
        access = self._access
        if access is None:
            return
        with self._report_lock:
            self._unsent.append(access.writer.take_batch())
            while self._unsent:
                batch = self._unsent[0]
                if batch.reports or batch.done_slabs:
                    carved = tuple(self._report_of(report) for report in batch.reports)
                    self._send(ObjectsSealed((), carved, tuple(batch.done_slabs)))
                    for key, _, _ in batch.reports:
                        self._owners.pop(key, None)
                self._unsent.popleft()  # last: whatever interrupts us, nothing is lost

    def _report_of(self, report: Carved) -> CarvedObject:
        key, slab, (segment, offset, size_bytes, number) = report
        return CarvedObject(key, self._owners[key], slab, segment, offset, size_bytes, number)

    # ------------------------------------------------------------------ reading
    def next_ticket(self) -> int:
        """Names a request that may be withdrawn."""
        return next(self._tickets)

    def withdraw(self, ticket: int) -> None:
        """Nobody waits for the answer to this request any more (nothing happens if it is there)."""
        if self._access is None:
            self._withdrawn[ticket] = None
        else:
            self._send(WithdrawRequest(ticket))

    def pin(self, stored: Sequence[Stored], ticket: int = 0, *, for_arguments: bool = False) -> Future[Message]:
        """Have these here and pinned; the future gets an ``ObjectsPinned``, for ``take`` or ``release_places``."""
        self.report()
        return self._ask(PinObjects(_wanted(stored), for_arguments, ticket))

    def fetch(self, stored: Sequence[Stored], ticket: int = 0) -> Future[Message]:
        """Have these here, unpinned; the future gets an ``ObjectsFetched``."""
        self.report()
        return self._ask(FetchObjects(_wanted(stored), ticket))

    def _ask(self, body: Message) -> Future[Message]:
        """Request something, after attaching; never waits."""
        if self._access is not None:
            return self._request(body)
        answer: Future[Message] = Future()
        answer.set_running_or_notify_cancel()

        def attached(future: Future[Message]) -> None:
            if self._withdrawn.pop(getattr(body, "ticket", 0), 0) is None:
                answer.set_exception(GetTimeoutError("withdrawn"))
            elif future.exception() is None:
                self._attached(future)
                self._request(body).add_done_callback(answered)
            else:
                answered(future)

        def answered(future: Future[Message]) -> None:
            error = future.exception()
            if error is None:
                answer.set_result(future.result())
            else:
                answer.set_exception(error)

        self._attach().add_done_callback(attached)
        return answer

    def take(
        self, found: Sequence[Place | Value | Failure], keys: Sequence[bytes]
    ) -> list[memoryview | Value | Failure]:
        """Views of what was pinned; each keeps its pin until it and all made from it are gone."""
        views: list[memoryview | Value | Failure] = []
        try:
            for place, key in zip(found, keys, strict=True):
                views.append(self._view(place, key) if isinstance(place, Place) else place)
        except BaseException:
            self.release_places(found[len(views) + 1 :])  # the one that failed is released already
            raise
        return views

    def _view(self, place: Place, key: bytes) -> memoryview | Failure:
        if self._closed:
            return Failure("InternalError", "the runtime was shut down", subject_id=key[:20])
        access = self._accessed()
        if access.remote:
            return self._stream(access, place, key)
        at: Location | SpilledAt
        if place.uri:
            at = SpilledAt(place.uri, place.name, place.offset, place.size_bytes, place.checksum, place.number)
        else:
            at = Location(place.segment, place.offset, place.size_bytes, place.number)
        try:
            return access.reader.view(at)
        except StoreError as error:
            return Failure("ObjectLostError", f"{error}", subject_id=key[:20])

    def _stream(self, access: _Access, place: Place, key: bytes) -> memoryview | Failure:
        from actorrt.cluster.bulk import read_object  # threads and sockets that hardly any client needs

        try:
            endpoint = access.attached.bulk_endpoint
            return memoryview(read_object(endpoint, key, place.size_bytes, self._identity())).toreadonly()
        except OSError as error:
            return Failure("ObjectLostError", f"it could not be read from the node: {error}", subject_id=key[:20])
        finally:
            self._releases.note(place.number)

    def release_places(self, found: Sequence[Place | Value | Failure]) -> None:
        """What was pinned here is not wanted any more."""
        for place in found:
            if isinstance(place, Place):
                self._releases.note(place.number)

    def later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call back on the I/O loop."""
        _on_loop(self._loop, lambda: self._loop.call_later(delay_s, callback))

    # ------------------------------------------------------------------ the end
    def tell_orphans_soon(self) -> None:
        """Pins of earlier runtimes of this process went (any thread)."""
        _on_loop(self._loop, self._tell_orphans)

    def _tell_orphans(self) -> None:
        """The manager knows whose they were by our pid: it must know us."""
        if self._closed:
            return

        def attached(future: Future[Message]) -> None:
            orphans = _orphans.get(self.node)
            while orphans and future.exception() is None and not self._closed:
                self._releases.note(orphans.popleft())

        self._attach().add_done_callback(attached)

    def close(self) -> None:
        """The last word: what is ours goes. Views that live stay good, and are told of when they go.

        With a thread in the middle of writing (a daemon's, at the end of its program) nothing is said: its memory must
        not be used again before the process has ended.
        """
        with self._lock:
            self._closed = True
            is_writing = self._writing > 0
        living = _living.get(self.node)
        if living is not None and living() is self:
            del _living[self.node]
        access = self._access
        if access is not None and not is_writing:
            access.writer.give_up_slabs()
            self.report()
            pinned = tuple(access.reader.pins())  # before the next line: what goes meanwhile is released once
            self._releases.tell()
            self._send(Detach(pinned))
        self._releases.closed = True
        self._releases.tell()


def _on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """Call back on the loop; False: it is closed."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True


def load(view: memoryview) -> Any:
    """The value in an object; its large parts lie in the view, and keep it."""
    value = values.read(view)
    return rebuilt(value.stream, value.buffers)


def _read_spilled(place: SpilledAt) -> bytearray:
    from actorrt.store.disk import read_slice  # pyarrow: only for spill directories that are no local folders

    return read_slice(place)


def _wanted(stored: Sequence[Stored]) -> tuple[ObjectWanted, ...]:
    return tuple(ObjectWanted(s.key, s.size_bytes, s.owner, s.holders) for s in stored)
