"""Where the large objects of an owner lie: which nodes hold a copy, what is to be freed there (pure).

A large value lies in the store of the node that made it, and in those of nodes that pulled it. Its owner alone knows
them all, and frees it on all of them. What no node has any more is *lost*.

Every store asks its objects' owners now and then about what it holds (``VerifyObjects``). So nothing leaks for good,
whoever died with whatever word unsaid: a copy nobody told us of is entered, one that nobody needs is freed.
"""

from __future__ import annotations

from collections.abc import Iterable

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.ids import OBJECT_ID_BYTES
from actorrt.kernel.message import Address
from actorrt.objects.messages import FreeObjects
from actorrt.wire.records import Stored

OBJECTS = "objects"
"""The object manager's name in its node's process."""


class Holdings:
    """All stored objects this process owns, by object id."""

    def __init__(self) -> None:
        self._table: dict[bytes, tuple[bytes, list[str], str]] = {}
        self.gone: dict[bytes, str] = {}
        """Objects whose records stay although no store has the value any more -> what made them."""
        self._frees: dict[str, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, object_id: bytes) -> bool:
        return object_id in self._table

    def enter(self, stored: Stored, origin: str = "put") -> None:
        """The result of an object of ours is this; ``origin`` (see ``lineage.REASONS``) made it."""
        object_id = object_id_of(stored.key)
        self._table[object_id] = (stored.key, list(stored.holders), origin)
        self.gone.pop(object_id, None)

    def current(self, stored: Stored) -> Stored:
        """The same with the holders of today (of ours; what others own is as we heard it)."""
        known = self._table.get(object_id_of(stored.key))
        if known is None or known[0] != stored.key:
            return stored
        holders = tuple(known[1])
        if holders == stored.holders:
            return stored
        return Stored(stored.key, stored.size_bytes, stored.owner, holders, stored.refs)

    def holders(self, key: bytes) -> tuple[str, ...]:
        """Who has this; nobody, if it is not ours or another attempt made the value."""
        known = self._table.get(object_id_of(key))
        return tuple(known[1]) if known is not None and known[0] == key else ()

    # ------------------------------------------------------------------ the end of an object
    def free(self, object_id: bytes) -> None:
        """Nobody holds the object any more."""
        self.gone.pop(object_id, None)
        known = self._table.pop(object_id, None)
        if known is not None:
            for holder in known[1]:
                self._frees.setdefault(holder, []).append(known[0])

    def evict(self, object_id: bytes) -> None:
        """Nobody holds the value; the record stays, for the value may have to be made again."""
        origin = self._table[object_id][2]
        self.free(object_id)
        self.gone[object_id] = origin

    def discard(self, stored: Stored) -> None:
        """A value of ours that came too late, or twice: free it, unless it is the one we have."""
        known = self._table.get(object_id_of(stored.key))
        if known is None or known[0] != stored.key:
            for holder in stored.holders:
                self._frees.setdefault(holder, []).append(stored.key)

    def flush(self, effects: list[Effect]) -> None:
        """Send what is to be freed, one message per node."""
        if self._frees:
            frees, self._frees = self._frees, {}
            for holder, keys in frees.items():
                effects.append(Send(Address(holder, OBJECTS), FreeObjects(tuple(keys))))

    # ------------------------------------------------------------------ news of copies
    def copies_added(self, keys: Iterable[bytes], holder: str) -> None:
        """That node has these now; what is not needed any more is freed at once."""
        for key in keys:
            known = self._table.get(object_id_of(key))
            if known is None or known[0] != key:
                self._frees.setdefault(holder, []).append(key)
            elif holder not in known[1]:
                known[1].append(holder)

    def copies_removed(self, keys: Iterable[bytes], holder: str) -> list[bytes]:
        """That node has these no longer. Returns the objects that nobody has."""
        lost = []
        for key in keys:
            known = self._table.get(object_id_of(key))
            if known is not None and known[0] == key and holder in known[1]:
                known[1].remove(holder)
                if not known[1]:
                    lost.append(object_id_of(key))
        return lost

    def node_gone(self, holder: str) -> list[bytes]:
        """The node is dead. Returns the objects that nobody has any more."""
        self._frees.pop(holder, None)
        lost = []
        for object_id, (_, holders, _origin) in self._table.items():
            if holder in holders:
                holders.remove(holder)
                if not holders:
                    lost.append(object_id)
        return lost

    def lose(self, object_id: bytes) -> str:
        """It is lost: there is nothing to free. Returns what made it."""
        origin = self._table.pop(object_id)[2]
        self.gone[object_id] = origin
        return origin


def object_id_of(key: bytes) -> bytes:
    """The object a key of a store belongs to."""
    return key[:OBJECT_ID_BYTES]
