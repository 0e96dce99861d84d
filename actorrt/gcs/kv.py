"""The key-value store: small metadata by namespace, bounded in every direction."""

from __future__ import annotations

from actorrt.gcs.messages import KvAnswer, KvDelete, KvGet, KvKeyList, KvKeys, KvPut
from actorrt.kernel.limits import KV_BYTES_MAX, KV_KEY_BYTES_MAX, KV_VALUE_BYTES_MAX
from actorrt.kernel.message import Message, RequestFailed


class Kv:
    """Pairs by namespace. Each method returns the answer to its message."""

    def __init__(self) -> None:
        self.namespaces: dict[str, dict[bytes, bytes]] = {}
        self.bytes_used = 0

    def put(self, message: KvPut) -> Message:
        """Store a pair; ``found`` says whether the key was new. Refuses what is too large."""
        key, value = message.key, message.value
        if len(key) > KV_KEY_BYTES_MAX:
            return RequestFailed("Overloaded", f"the key has {len(key)} bytes, at most {KV_KEY_BYTES_MAX} are allowed")
        if len(value) > KV_VALUE_BYTES_MAX:
            text = f"the value has {len(value)} bytes, at most {KV_VALUE_BYTES_MAX} are allowed"
            return RequestFailed("Overloaded", text)
        pairs = self.namespaces.get(message.namespace, {})
        old = pairs.get(key)
        if old is not None and not message.overwrite:
            return KvAnswer(False)
        grown = len(value) + (len(key) if old is None else -len(old))
        if self.bytes_used + grown > KV_BYTES_MAX:
            text = f"the key-value store holds {self.bytes_used} bytes, at most {KV_BYTES_MAX} are allowed"
            return RequestFailed("Overloaded", text)
        self._store(message.namespace, key, value)
        return KvAnswer(old is None)

    def get(self, message: KvGet) -> Message:
        """Look a key up."""
        value = self.namespaces.get(message.namespace, {}).get(message.key)
        return KvAnswer(False) if value is None else KvAnswer(True, value)

    def delete(self, message: KvDelete) -> Message:
        """Forget a key; ``found`` says whether it was there."""
        if message.key not in self.namespaces.get(message.namespace, {}):
            return KvAnswer(False)
        self._store(message.namespace, message.key, None)
        return KvAnswer(True)

    def keys(self, message: KvKeys) -> Message:
        """List the keys of a namespace that begin with ``prefix``."""
        pairs = self.namespaces.get(message.namespace, {})
        return KvKeyList(tuple(sorted(key for key in pairs if key.startswith(message.prefix))))

    def count(self) -> int:
        """Number of pairs."""
        return sum(len(pairs) for pairs in self.namespaces.values())

    def check(self) -> None:
        """Assert that the bytes are counted right and no namespace is empty."""
        used = sum(len(key) + len(value) for pairs in self.namespaces.values() for key, value in pairs.items())
        assert used == self.bytes_used <= KV_BYTES_MAX, (used, self.bytes_used)
        assert all(self.namespaces.values()), "an empty namespace is kept"

    def _store(self, namespace: str, key: bytes, value: bytes | None) -> None:
        """The one place that changes the table; None deletes."""
        pairs = self.namespaces.setdefault(namespace, {})
        old = pairs.pop(key, None)
        if old is not None:
            self.bytes_used -= len(key) + len(old)
        if value is not None:
            pairs[key] = value
            self.bytes_used += len(key) + len(value)
        if not pairs:
            del self.namespaces[namespace]
