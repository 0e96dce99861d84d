"""Threads, coroutines and callbacks of this process that wait for objects (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actorrt.kernel.effects import Do
from actorrt.owner.operations import Wake
from actorrt.owner.tasks import ObjectRecord, Waiter
from actorrt.wire.records import Failure

if TYPE_CHECKING:
    from actorrt.owner.objects import ObjectTable


class Waiting:
    """Waiters stand in the records of what they wait for (``ObjectRecord.waiters``)."""

    def __init__(self, objects: ObjectTable) -> None:
        self._objects = objects

    def add(self, waiter: Waiter) -> None:
        """Register; wakes at once when enough is ready."""
        pending: list[ObjectRecord] = []
        for ref in waiter.object_ids:
            record = self._objects.record_of(ref)
            result = record.result
            if result is not None:
                waiter.needed -= 1
                if waiter.fail_fast and type(result) is Failure:
                    waiter.needed = 0
            else:
                pending.append(record)
                self._objects.fetch(ref, record)
        if waiter.needed <= 0:
            waiter.done = True
            self._objects.effects.append(Do(Wake(waiter)))
            return
        waiter.places = len(pending)
        for record in pending:
            if record.waiters is None:
                record.waiters = [waiter]
            else:
                record.waiters.append(waiter)

    def count_down(self, waiter: Waiter, *, failed: bool) -> None:
        if waiter.done:
            return
        waiter.needed -= 1
        if waiter.needed <= 0 or (failed and waiter.fail_fast):
            self._objects.effects.append(Do(Wake(waiter)))
            self.drop(waiter)

    def drop(self, waiter: Waiter) -> None:
        """Forget a waiter that gave up, or has what it needs: ``wait`` in a loop must not leave one at each object."""
        waiter.done = True
        if not waiter.places:
            return
        waiter.places = 0
        for ref in waiter.object_ids:
            record = self._objects.records.get(ref.object_id)
            if record is not None and record.waiters is not None:
                record.waiters = [w for w in record.waiters if w is not waiter] or None
                if record.local <= 0 and not record.pins:
                    self._objects.free_if_unheld(ref.object_id, record)
