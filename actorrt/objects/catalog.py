"""Which sealed objects lie here, whose they are and who wrote them; and which are gone (pure).

``gone`` remembers keys whose objects have ended here, or were freed before they came: the report of a writer and the
word of the owner travel on different connections, so either may be first. A key is never used again, so what is gone
stays gone (but a dropped copy may be pulled again).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from actorrt.kernel.limits import AUDIT_INTERVAL_S, GONE_OBJECTS_KEPT_MAX, VERIFY_KEYS_MAX


class Entry:
    """One sealed object."""

    __slots__ = ("is_copy", "key", "owner", "size_bytes", "verified_s", "writer")

    def __init__(self, key: bytes, size_bytes: int, owner: str, writer: str, now: float, *, is_copy: bool) -> None:
        self.key = key
        self.size_bytes = size_bytes
        self.owner = owner
        self.writer = writer
        """Process of the client that made it, while that lives; empty for a copy."""
        self.verified_s = now
        """When its owner was last asked (or the object came)."""
        self.is_copy = is_copy

    def __repr__(self) -> str:
        return f"Entry({self.key.hex()}, {self.size_bytes} bytes of {self.owner})"


class Catalog:
    """All sealed objects of the node, by key, owner and writer."""

    def __init__(self, *, gone_max: int = GONE_OBJECTS_KEPT_MAX) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.size_bytes = 0
        self._by_owner: dict[str, OrderedDict[bytes, None]] = {}
        """Each with the key first whose owner was asked longest ago."""
        self._by_writer: dict[str, dict[bytes, None]] = {}
        self._gone: OrderedDict[bytes, None] = OrderedDict()
        self._gone_max = gone_max

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self.entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def get(self, key: bytes) -> Entry | None:
        """The object of this key."""
        return self.entries.get(key)

    def add(self, entry: Entry) -> None:
        """A new object."""
        key = entry.key
        assert key not in self.entries, f"{entry!r} is here already"
        self.entries[key] = entry
        self.size_bytes += entry.size_bytes
        self._by_owner.setdefault(entry.owner, OrderedDict())[key] = None
        if entry.writer:
            self._by_writer.setdefault(entry.writer, {})[key] = None
        self._gone.pop(key, None)

    def remove(self, key: bytes) -> Entry | None:
        """The object has ended here; None if it is not known."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return None
        self.size_bytes -= entry.size_bytes
        keys = self._by_owner[entry.owner]
        del keys[key]
        if not keys:
            del self._by_owner[entry.owner]
        if entry.writer:
            written = self._by_writer[entry.writer]
            del written[key]
            if not written:
                del self._by_writer[entry.writer]
        self.remember_gone(key)
        return entry

    # ------------------------------------------------------------------ what is gone
    def remember_gone(self, key: bytes) -> None:
        """Whatever comes under this key is not needed."""
        self._gone[key] = None
        self._gone.move_to_end(key)
        if len(self._gone) > self._gone_max:
            self._gone.popitem(last=False)

    def is_gone(self, key: bytes) -> bool:
        """Whether it was here, or was freed already (as far as is remembered)."""
        return key in self._gone

    # ------------------------------------------------------------------ owners and writers
    def owned_by(self, process: str) -> list[bytes]:
        """Keys of this owner, the one asked about longest ago first."""
        return list(self._by_owner.get(process, ()))

    def forget_writer(self, process: str) -> dict[str, list[bytes]]:
        """The writer is dead. Returns what it wrote, by owner."""
        by_owner: dict[str, list[bytes]] = {}
        for key in self._by_writer.pop(process, {}):
            entry = self.entries[key]
            entry.writer = ""
            by_owner.setdefault(entry.owner, []).append(key)
        return by_owner

    def audit(self, now: float) -> list[tuple[str, list[bytes]]]:
        """Owners to be asked now, each about the objects it was not asked about for longest."""
        due: list[tuple[str, list[bytes]]] = []
        for owner, keys in self._by_owner.items():
            taken: list[bytes] = []
            for key in keys:
                if len(taken) == VERIFY_KEYS_MAX or self.entries[key].verified_s + AUDIT_INTERVAL_S > now:
                    break
                taken.append(key)
            if taken:
                self.asked(owner, taken, now)
                due.append((owner, taken))
        return due

    def asked(self, owner: str, keys: list[bytes], now: float) -> None:
        """The owner is asked about these now: the others are next."""
        order = self._by_owner[owner]
        for key in keys:
            self.entries[key].verified_s = now
            order.move_to_end(key)

    def check(self) -> None:
        """Assert that the indexes agree."""
        owned = [key for keys in self._by_owner.values() for key in keys]
        assert len(owned) == len(self.entries), "the index of owners is not complete"
        assert all(self.entries[key].owner == owner for owner, keys in self._by_owner.items() for key in keys)
        assert all(keys for keys in self._by_owner.values())
        written = {key: writer for writer, keys in self._by_writer.items() for key in keys}
        assert written == {entry.key: entry.writer for entry in self if entry.writer}
        assert self.size_bytes == sum(entry.size_bytes for entry in self)
        assert not [entry for entry in self if entry.is_copy and entry.writer]
        assert len(self._gone) <= self._gone_max
        for keys in self._by_owner.values():
            times = [self.entries[key].verified_s for key in keys]
            assert times == sorted(times), "an owner is not asked in turn"
        assert not [key for key in self._gone if key in self.entries], "something is here and gone"
