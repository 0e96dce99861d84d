"""Answers to other nodes that want an object from here (pure).

An owner names the node that made an object as its holder as soon as the task has ended; the writer's report to us
travels on a connection of its own and may come later. So a question for an object that is not known waits a moment;
one for an object that is known to be gone is answered at once.
"""

from __future__ import annotations

from collections import OrderedDict

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.limits import PARKED_ASKS_MAX, SEAL_REPORT_WAIT_S
from actorrt.kernel.message import Address
from actorrt.objects.catalog import Catalog
from actorrt.objects.messages import ObjectMissing, ObjectOffered


class Offers:
    """Answers questions; ``bulk_endpoint`` is where the bytes can be had."""

    def __init__(
        self, effects: list[Effect], catalog: Catalog, bulk_endpoint: str, *, parked_max: int = PARKED_ASKS_MAX
    ) -> None:
        self._effects = effects
        self._catalog = catalog
        self._bulk_endpoint = bulk_endpoint
        self._parked_max = parked_max
        self._parked: OrderedDict[tuple[bytes, Address], float] = OrderedDict()
        """Question -> when it is answered at the latest, in this order."""
        self._askers: dict[bytes, dict[Address, None]] = {}

    def __len__(self) -> int:
        return len(self._parked)

    @property
    def due_s(self) -> float:
        """When the next question has waited long enough."""
        return next(iter(self._parked.values()), float("inf"))

    def asked(self, src: Address, key: bytes, now: float) -> None:
        """Another node wants this."""
        if key in self._catalog or self._catalog.is_gone(key) or len(self._parked) >= self._parked_max:
            self._answer(src, key)
        elif (key, src) not in self._parked:
            self._parked[key, src] = now + SEAL_REPORT_WAIT_S
            self._askers.setdefault(key, {})[src] = None

    def settle(self, key: bytes) -> None:
        """The object has come, or has ended: answer who waits for it."""
        for src in self._askers.pop(key, {}):
            del self._parked[key, src]
            self._answer(src, key)

    def _answer(self, src: Address, key: bytes) -> None:
        entry = self._catalog.get(key)
        body = ObjectMissing(key) if entry is None else ObjectOffered(key, self._bulk_endpoint, entry.size_bytes)
        self._effects.append(Send(src, body))

    def expire(self, now: float) -> None:
        """Tell those who waited long enough that it is not here."""
        for key, src in [question for question, due_s in self._parked.items() if due_s <= now]:
            self._forget(key, src)
            self._effects.append(Send(src, ObjectMissing(key)))

    def peer_gone(self, process: str) -> None:
        """Whoever asked from there does not wait any more."""
        for key, src in [question for question in self._parked if question[1].process == process]:
            self._forget(key, src)

    def _forget(self, key: bytes, src: Address) -> None:
        del self._parked[key, src]
        askers = self._askers[key]
        del askers[src]
        if not askers:
            del self._askers[key]

    def check(self) -> None:
        """Assert that only questions without an answer wait."""
        assert len(self._parked) <= self._parked_max
        asked = [(key, src) for key, askers in self._askers.items() for src in askers]
        assert len(asked) == len(self._parked)
        assert all(question in self._parked for question in asked)
        assert not [key for key in self._askers if key in self._catalog], "an object is here and was not offered"
        times = list(self._parked.values())
        assert times == sorted(times)
