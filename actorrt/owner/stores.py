"""What object managers ask and tell an owner about its objects in their stores (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.message import Address
from actorrt.objects.messages import ObjectLocated
from actorrt.owner.holdings import object_id_of
from actorrt.owner.objects import ObjectTable
from actorrt.wire.records import Failure


class Stores:
    """The answers; ``objects`` is the table they are taken from."""

    def __init__(self, objects: ObjectTable) -> None:
        self._objects = objects

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
        self._objects.lose(lost, f"its last copy was dropped by {holder}")

    def node_gone(self, holder: str, why: str) -> None:
        """A node is dead, and what it held."""
        self._objects.lose(self._objects.holdings.node_gone(holder), f"the only node that had it died ({why})")
