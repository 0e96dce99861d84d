"""``wait(fetch_local=True)``: which values are on this node, and fetching the others."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from actorrt.kernel.message import Message
from actorrt.owner.tasks import Waiter
from actorrt.wire.records import RefInfo, Stored

if TYPE_CHECKING:
    from actorrt.api.refs import ObjectRef
    from actorrt.api.runtime import Runtime


class LocalWait:
    """One call of ``wait``: a ref is ready when its value is here, or when its failure is known.

    What is here already goes first, in the order given; only if that is not enough is anything fetched. While fetches
    are under way, values that are still being made may come first.
    """

    def __init__(self, runtime: Runtime, refs: Sequence[ObjectRef[Any]], count: int) -> None:
        self._runtime = runtime
        self._refs = refs
        self._count = count
        self._fetched: dict[bytes, None] = {}
        """Ids of values that were elsewhere, and are (or were just) here."""
        self._fetches: dict[bytes, int] = {}
        """Id -> ticket of the fetches under way."""
        self._changed: Future[None] = Future()

    def run(self, deadline_s: float | None) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Block until ``count`` are here or the time is up; returns (at most ``count`` of them, the rest)."""
        try:
            while True:
                self._changed = Future()
                ready, elsewhere, unknown = self._look()
                if len(ready) >= self._count or not (elsewhere or unknown):
                    break
                for ref, stored in elsewhere:
                    self._fetch(ref._id, stored)
                if not self._wait(unknown, deadline_s):
                    ready, _, _ = self._look()
                    break
        finally:
            for ticket in list(self._fetches.values()):
                self._runtime.shelf.withdraw(ticket)
        chosen = ready[: self._count]
        ids = {ref._id for ref in chosen}
        return chosen, [ref for ref in self._refs if ref._id not in ids]

    def _look(self) -> tuple[list[ObjectRef[Any]], list[tuple[ObjectRef[Any], Stored]], list[ObjectRef[Any]]]:
        """Refs whose values are here, elsewhere, not made yet."""
        ready: list[ObjectRef[Any]] = []
        elsewhere: list[tuple[ObjectRef[Any], Stored]] = []
        unknown: list[ObjectRef[Any]] = []
        current = self._runtime.machine.objects.holdings.current
        here = self._runtime.shelf.node
        for ref in self._refs:
            result = self._runtime.result_of(ref._id)
            if result is None:
                unknown.append(ref)
            elif type(result) is not Stored or ref._id in self._fetched or here in (now := current(result)).holders:
                ready.append(ref)
            else:
                elsewhere.append((ref, now))
        return ready, elsewhere, unknown

    def _fetch(self, object_id: bytes, stored: Stored) -> None:
        if object_id in self._fetches:
            return
        shelf = self._runtime.shelf
        ticket = self._fetches[object_id] = shelf.next_ticket()

        def ended(_future: Future[Message]) -> None:
            # Be it with a failure: then get() raises it, or has the value made again.
            self._fetched[object_id] = None
            self._fetches.pop(object_id, None)
            self._wake()

        shelf.fetch((stored,), ticket).add_done_callback(ended)

    def _wait(self, unknown: list[ObjectRef[Any]], deadline_s: float | None) -> bool:
        runtime = self._runtime
        waiter = Waiter(tuple(RefInfo(ref._id, ref._owner) for ref in unknown), 1, self._wake)
        if unknown:
            runtime.add_waiter(waiter)
        try:
            return runtime.blocker.wait_future(self._changed, deadline_s)
        finally:
            if unknown:
                runtime.drop_waiter(waiter)

    def _wake(self) -> None:
        with contextlib.suppress(InvalidStateError):  # woken already
            self._changed.set_result(None)
