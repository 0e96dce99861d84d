"""The port of a node's object manager: its store, pulls from other nodes, and the processes that use it.

Theory of operation
-------------------
``perform`` carries out ``objects.operations``, on whatever thread drives the manager, and never waits. Completions are
posted to the manager's shell, from whatever thread produced them. Nothing costs anything until the first ``Open``: that
loads the store's modules and makes the segments, in a thread of its own, because a spill directory may be far away.

While requests wait for room, and after every change, a tick of ``TICK_S`` lets the store expire what waited too long
and tells the manager how much is in use.

The end has two steps: ``stop`` (on the loop, does not wait) lets everything under way fail; ``join`` (anywhere else)
waits until no thread is left and removes the files.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from actorrt.cluster import bulk_pull
from actorrt.cluster.bulk import BulkError, Source
from actorrt.cluster.bulk_server import BulkServer, OpenedObject
from actorrt.cluster.config import SpillTarget, StoreConfig
from actorrt.cluster.watch import ProcessWatch
from actorrt.kernel.clock import Clock, call_soon
from actorrt.kernel.message import NOWHERE, Address, Envelope, Message
from actorrt.kernel.shell import Outbox, Shell
from actorrt.objects import operations
from actorrt.objects.actor import OBJECTS, make_object_manager
from actorrt.objects.clients import StoreFacts
from actorrt.objects.messages import (
    ClientDied,
    CopiesDropped,
    PullEnded,
    StoreAnswered,
    StoreReported,
    UsageChanged,
)
from actorrt.wire.records import Failure

if TYPE_CHECKING:
    from actorrt.cluster.storeroom import StoreRoom

logger = logging.getLogger("actorrt.cluster.storage")

TICK_S: Final = 0.05
SLAB_BYTES: Final = 8 << 20
"""Leased at most, and at most a sixteenth of the store: as ``store.base.Limits.slab_bytes_max``."""


def slab_bytes(capacity_bytes: int) -> int:
    """Return the largest slab a store of this size leases."""
    return max(4096, min(SLAB_BYTES, capacity_bytes // 16)) // 64 * 64


class _Filling(msgspec.Struct):
    """A pull under way."""

    number: int
    """Of the object that is filled."""
    pull: bulk_pull.Pull | None = None
    ended: bool = False
    abort: bool = False
    """The object was given up meanwhile: its memory may be used again only when no thread writes to it any more."""


class NodeStorage:
    """See the module."""

    def __init__(
        self,
        config: StoreConfig,
        prefix: str,
        *,
        loop: asyncio.AbstractEventLoop,
        connect: bulk_pull.Connect,
        spill_folder: Callable[[], str],
        before_open: Callable[[StoreConfig], None] | None = None,
        endpoint: str = "",
    ) -> None:
        """``spill_folder`` is asked, at the first use, when the configuration names no directory; ``before_open`` is
        told what will be used (to note it for whoever must clean up after us). Both may block. ``endpoint`` is what
        ``connect`` of others knows us by, unless there is a server.
        """
        self.config = config
        self.prefix = prefix
        self._endpoint = endpoint
        self.puller = bulk_pull.Puller(connect)
        self.server: BulkServer | None = None
        self._loop = loop
        self._spill_folder = spill_folder
        self._before_open = before_open
        self._post_to_shell: Callable[[Envelope], None] | None = None
        self._room: StoreRoom | None = None
        self._lock = threading.Lock()  # for what follows; never held while anything else is called
        self._opening: threading.Thread | None = None
        self._wanted: list[int] = []  # tickets of Open
        self._fillings: dict[int, _Filling] = {}  # by ticket
        self._dropped: deque[bytes] = deque()
        self._stopped = False
        self._ticking = False
        self._touched = False
        self._join_lock = threading.Lock()
        # The loop's thread only:
        self._tick_timer: asyncio.TimerHandle | None = None
        self._used_bytes = 0
        self._watch = ProcessWatch(loop, lambda process: self._post(ClientDied(process)))

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "open" if self._room is not None else "not open"
        return f"NodeStorage({self.prefix!r}, {state})"

    @property
    def endpoint(self) -> str:
        """Where others can read our objects."""
        return self._endpoint if self.server is None else self.server.endpoint

    @property
    def slab_bytes(self) -> int:
        """The largest slab."""
        return slab_bytes(self.config.capacity_bytes)

    def bind(self, post: Callable[[Envelope], None]) -> None:
        """Tell where completions go, before the first operation."""
        self._post_to_shell = post

    def _post(self, message: Message) -> None:
        if not self._stopped and self._post_to_shell is not None:
            self._post_to_shell(Envelope(NOWHERE, message))

    # ---- operations
    def perform(self, operation: Any) -> None:
        """Carry out one operation (any thread, one at a time; does not wait)."""
        match operation:
            case operations.Open():
                self._open(operation.ticket)
            case operations.Watch():
                self._soon(lambda: self._watch_client(operation))
            case operations.Unwatch():
                self._soon(lambda: self._watch.forget(operation.process))
            case operations.Pull():
                self._pull(operation)
            case operations.AddSource():
                self._add_source(operation)
            case operations.Abort():
                self._abort(operation.number)
            case _:
                room = self._room
                if room is not None:
                    self._on_store(room, operation)
                else:
                    self._without_store(operation)

    def _on_store(self, room: StoreRoom, operation: Any) -> None:
        match operation:
            case operations.Create():
                room.create(operation)
            case operations.Lease():
                room.lease(operation)
            case operations.Pin():
                room.pin(operation)
            case operations.Report():
                room.report(operation)
            case operations.Seal():
                room.seal(operation)
            case operations.Release():
                room.release(operation.numbers, operation.client)
            case operations.Delete():
                room.delete(operation.keys)
            case operations.DropClient():
                room.drop_client(operation.client)
            case _:
                raise TypeError(f"unknown operation {operation!r}")
        self._touch()

    def _without_store(self, operation: Any) -> None:
        """There is nothing yet (or any more): nothing to forget, and nothing to be had."""
        match operation:
            case operations.Create() | operations.Lease():
                self._refuse(operation.ticket, "InternalError", "the object store of this node is not open")
            case operations.Pin():
                self._refuse(operation.ticket, "ObjectLostError", "the object store of this node is empty")
            case operations.Report():
                self._post(StoreReported(operation.ticket, {"capacity_bytes": self.config.capacity_bytes}))
            case operations.Seal() | operations.Release() | operations.Delete() | operations.DropClient():
                return
            case _:
                raise TypeError(f"unknown operation {operation!r}")

    def _refuse(self, ticket: int, kind: str, text: str) -> None:
        self._post(StoreAnswered(ticket, failure=Failure(kind, text)))

    def _watch_client(self, operation: operations.Watch) -> None:
        if not self._stopped:
            self._watch.watch(operation.process, operation.pid)

    # ---- opening
    def _open(self, ticket: int) -> None:
        with self._lock:
            is_open = self._room is not None
            if not is_open and not self._stopped:
                self._wanted.append(ticket)
                if self._opening is None:
                    self._opening = threading.Thread(target=self._make_room, name="actorrt-store-open", daemon=True)
                    self._opening.start()
        if is_open:
            self._post(StoreAnswered(ticket))

    def _make_room(self) -> None:
        failure: Failure | None = None
        room: StoreRoom | None = None
        try:
            room = self._new_room()
        except Exception as error:
            logger.exception("the object store cannot be opened")
            failure = Failure("InternalError", f"the object store of this node cannot be opened: {error}")
        with self._lock:
            tickets, self._wanted = self._wanted, []
            self._room = room
            self._opening = None  # after a failure the next one tries again
        for ticket in tickets:
            self._post(StoreAnswered(ticket, failure=failure))

    def _new_room(self) -> StoreRoom:
        config = self.config
        if not config.spill:
            config = msgspec.structs.replace(config, spill=(SpillTarget(self._spill_folder()),))
        if self._before_open is not None:
            self._before_open(config)
        storeroom = importlib.import_module("actorrt.cluster.storeroom")
        room: StoreRoom = storeroom.StoreRoom(config, self.prefix, post=self._answered, dropped=self._note_dropped)
        return room

    def _answered(self, message: Message) -> None:
        self._post(message)
        self._touch()

    # ---- pulls
    def _pull(self, operation: operations.Pull) -> None:
        ticket, place, room = operation.ticket, operation.place, self._room
        if room is None or room.closed:
            self._post(PullEnded(ticket, failure=Failure("InternalError", "the object store of this node is closed")))
            return
        filling = _Filling(place.number)
        with self._lock:
            self._fillings[ticket] = filling
        pull = self.puller.pull(
            operation.key,
            room.buffer(place),
            operation.sources,
            lambda outcome: self._pulled(ticket, filling, outcome),
        )
        with self._lock:
            filling.pull = pull
            is_given_up = filling.abort
        if is_given_up:
            pull.cancel("the object was given up")

    def _pulled(self, ticket: int, filling: _Filling, outcome: bulk_pull.Outcome) -> None:
        with self._lock:
            self._fillings.pop(ticket, None)
            filling.ended = True
            is_given_up = filling.abort
        room = self._room
        if is_given_up and room is not None:
            room.abort(filling.number)
            self._touch()
        failure = Failure("ObjectLostError", outcome.error) if outcome.error else None
        self._post(PullEnded(ticket, outcome.failed, failure))
        self._soon(self._purge)

    def _purge(self) -> None:
        self.puller.purge()
        if self.puller.idle and not self._stopped:
            self._loop.call_later(self.puller.limits.idle_timeout_s, self.puller.purge)

    def _add_source(self, operation: operations.AddSource) -> None:
        with self._lock:
            filling = self._fillings.get(operation.ticket)
            pull = None if filling is None else filling.pull
        if pull is not None:
            self.puller.add_source(pull, operation.source)

    def _abort(self, number: int) -> None:
        with self._lock:
            filling = next((each for each in self._fillings.values() if each.number == number), None)
            if filling is not None:
                filling.abort = True
            pull = None if filling is None else filling.pull
        room = self._room
        if pull is not None:
            pull.cancel("the object was given up")
        elif filling is None and room is not None:
            room.abort(number)
            self._touch()

    # ---- serving
    def serve(self, server: BulkServer) -> None:
        """Have objects read by others through this server; it ends with us."""
        self.server = server

    def open_object(self, key: bytes, still_waiting: Callable[[], None]) -> OpenedObject:
        """Pin an object for being sent: see ``bulk_server.OpenObject``."""
        room = self._room
        if room is None or self._stopped:
            raise BulkError("no object is here")
        return room.open_object(key, still_waiting)

    def direct_source(self) -> Source:
        """Our objects for another node of this process. Raises BulkError."""
        room = self._room
        if room is None or self._stopped:
            raise BulkError("that node has ended, or has no objects")
        source: Source = importlib.import_module("actorrt.cluster.storeroom").DirectSource(room)
        return source

    # ---- news of the store
    def _note_dropped(self, key: bytes) -> None:
        self._dropped.append(key)
        if len(self._dropped) == 1:
            self._soon(self._tell_dropped)

    def _tell_dropped(self) -> None:
        keys = []
        while self._dropped:
            keys.append(self._dropped.popleft())
        if keys:
            self._post(CopiesDropped(tuple(keys)))

    def _touch(self) -> None:
        """Something may have changed, or may wait (any thread)."""
        with self._lock:
            self._touched = True
            is_first = not self._ticking and not self._stopped
            self._ticking = True
        if is_first:
            self._soon(self._arm)

    def _arm(self) -> None:
        if not self._stopped:
            self._tick_timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        room = self._room
        if room is None or self._stopped:
            return
        with self._lock:
            self._touched = False
        room.expire()
        used_bytes, waiting = room.figures()
        if used_bytes != self._used_bytes:
            self._used_bytes = used_bytes
            self._post(UsageChanged(used_bytes))
        with self._lock:
            self._ticking = self._touched or waiting > 0
            is_needed = self._ticking
        if is_needed:
            self._arm()

    def _soon(self, callback: Callable[[], object]) -> None:
        call_soon(self._loop, callback)  # False: the loop is closed, and so are we

    # ---- the end
    def stop(self) -> None:
        """Let everything under way fail, tell nothing any more (the loop's thread; does not wait, idempotent)."""
        self._stopped = True
        self._watch.close()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        if self.server is not None:
            self.server.stop()
        self.puller.stop()

    @property
    def is_used(self) -> bool:
        """Whether there is anything to wait for at the end."""
        has_connections = self.server is not None and self.server.connections > 0
        return self._room is not None or self._opening is not None or has_connections

    def join(self) -> None:
        """Wait, after ``stop``, until no thread is left, then remove the files (not on the loop's thread)."""
        with self._join_lock:
            opening = self._opening
            if opening is not None:
                opening.join()
            self.puller.join()
            if self._room is not None:
                self._room.close()
            if self.server is not None:
                self.server.join()


def make_objects(
    storage: NodeStorage,
    raylet: Address,
    *,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    outbox: Outbox,
    on_failure: Callable[[BaseException], None],
) -> Shell:
    """Return the shell of the object manager beside this raylet, with this storage as its port."""
    shell = make_object_manager(
        Address(raylet.process, OBJECTS),
        raylet,
        StoreFacts(storage.config.directory, storage.prefix, storage.slab_bytes, storage.config.capacity_bytes),
        bulk_endpoint=storage.endpoint,
        clock=clock,
        loop=loop,
        outbox=outbox,
        perform=storage.perform,
        on_failure=on_failure,
    )
    storage.bind(shell.post)
    return shell
