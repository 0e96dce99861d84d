"""What object managers ask and tell an owner about its objects in their stores (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.message import Address
from actorrt.objects.messages import ObjectLocated
from actorrt.owner.holdings import object_id_of
from actorrt.owner.lineage import Lineage
from actorrt.owner.objects import ObjectTable
from actorrt.wire.records import Failure, RefInfo, Stored


class Stores:
    """The answers; ``objects`` is the table they are taken from, ``lineage`` knows what can be made again."""

    def __init__(self, objects: ObjectTable, lineage: Lineage) -> None:
        self._objects = objects
        self._lineage = lineage

    def locate(self, asker: Address, key: bytes, effects: list[Effect]) -> None:
        """``LocateObject``."""
        record = self._objects.records.get(object_id_of(key))
        holders = self._objects.holdings.holders(key)
        failure = None
        if record is not None and type(record.result) is Failure:
            failure = record.result
        elif not holders:
            failure = Failure("ObjectLostError", "its owner has released the object", subject_id=object_id_of(key))
        effects.append(Send(asker, ObjectLocated(key, holders, failure)))

    def verify(self, keys: Iterable[bytes], holder: str) -> None:
        """``VerifyObjects``: what is being made may be on its way to us, everything else is known or not needed."""
        known = []
        for key in keys:
            record = self._objects.records.get(object_id_of(key))
            if record is None or record.result is not None:
                known.append(key)
        self.copies_added(known, holder)

    def copies_added(self, keys: Iterable[bytes], holder: str) -> None:
        """``CopiesAdded``."""
        self._objects.holdings.copies_added(keys, holder)

    def copies_removed(self, keys: Iterable[bytes], holder: str) -> None:
        """``CopiesRemoved``."""
        lost = self._objects.holdings.copies_removed(keys, holder)
        self._lose(lost, f"its last copy was dropped by {holder}")

    def node_gone(self, holder: str, why: str) -> None:
        """A node is dead, and what it held."""
        self._lose(self._objects.holdings.node_gone(holder), f"the only node that had it died ({why})")

    def _lose(self, object_ids: Iterable[bytes], why: str) -> None:
        """No store has these any more. Those that can be made again are, once somebody asks for them."""
        objects = self._objects
        for object_id in object_ids:
            record = objects.records[object_id]
            objects.hollow(record)
            origin = objects.holdings.lose(object_id)
            if self._lineage.can_remake(object_id):
                continue
            why_not = self._lineage.why_not(object_id, origin)
            text = f"object {object_id.hex()} is lost: {why}; it cannot be computed again: {why_not}"
            del objects.holdings.gone[object_id]
            record.result = Failure("ObjectReconstructionFailedError", text, subject_id=object_id)
            self._lineage.dropped(object_id)

    def renew(self, ref: RefInfo, key: bytes) -> None:
        """Somebody here read this value's key and could not get it: find out what there is now."""
        record = self._objects.record_of(ref)
        result = record.result
        if type(result) is not Stored or result.key != key:
            return
        if record.shared is None or not record.shared.owner:
            if self._objects.is_gone(ref.object_id, record):
                self._objects.remake(ref.object_id)
            return
        self._objects.release_contents(record)
        record.result = None
        record.shared.requested = False
        self._objects.fetch(ref, record)
