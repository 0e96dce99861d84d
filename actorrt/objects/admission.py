"""Which pull may begin: arguments before reads before hints, within bounds on bytes and number (pure)."""

from __future__ import annotations

from collections import OrderedDict

from actorrt.kernel.limits import PULL_BYTES_INFLIGHT_MAX, PULLS_INFLIGHT_MAX
from actorrt.objects.clients import URGENCIES


class Admission:
    """Queues by urgency, first come first served within each; nothing overtakes what is first.

    So a large pull waits until there is room for it, and is not starved by small ones.
    """

    def __init__(
        self, *, inflight_max: int = PULLS_INFLIGHT_MAX, inflight_bytes_max: int = PULL_BYTES_INFLIGHT_MAX
    ) -> None:
        self._inflight_max = inflight_max
        self._inflight_bytes_max = inflight_bytes_max
        self._queues: tuple[OrderedDict[bytes, int], ...] = tuple(OrderedDict() for _ in URGENCIES)
        self._urgency: dict[bytes, int] = {}
        self.inflight: dict[bytes, int] = {}
        """Key -> bytes of those that have begun and not ended."""
        self.inflight_bytes = 0

    def __len__(self) -> int:
        return len(self._urgency)

    def wait(self, key: bytes, size_bytes: int, urgency: int) -> None:
        """Queue up."""
        assert key not in self._urgency
        assert key not in self.inflight
        self._urgency[key] = urgency
        self._queues[urgency][key] = size_bytes

    def leave(self, key: bytes) -> None:
        """Wait no longer."""
        del self._queues[self._urgency.pop(key)][key]

    def hurry(self, key: bytes, urgency: int) -> None:
        """Its urgency is another now (nothing happens if it does not wait)."""
        known = self._urgency.get(key)
        if known is not None and known != urgency:
            size_bytes = self._queues[known].pop(key)
            self._urgency[key] = urgency
            self._queues[urgency][key] = size_bytes

    def admit(self) -> bytes | None:
        """The next that may begin; it counts as in flight from now on."""
        if not self._urgency or len(self.inflight) >= self._inflight_max:
            return None
        queue = next(queue for queue in self._queues if queue)
        key, size_bytes = next(iter(queue.items()))
        if self.inflight and self.inflight_bytes + size_bytes > self._inflight_bytes_max:
            return None
        del queue[key]
        del self._urgency[key]
        self.inflight[key] = size_bytes
        self.inflight_bytes += size_bytes
        return key

    def end(self, key: bytes) -> None:
        """No longer in flight."""
        self.inflight_bytes -= self.inflight.pop(key)

    def check(self) -> None:
        """Assert the bounds, and that nothing waits in vain."""
        assert len(self._urgency) == sum(map(len, self._queues))
        assert all(key in self._queues[urgency] for key, urgency in self._urgency.items())
        assert not [key for key in self._urgency if key in self.inflight]
        assert self.inflight_bytes == sum(self.inflight.values())
        assert len(self.inflight) <= self._inflight_max
        assert len(self.inflight) <= 1 or self.inflight_bytes <= self._inflight_bytes_max
