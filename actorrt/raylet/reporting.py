"""When to tell the GCS what is free and what waits.

On change, but at most once per ``RESOURCE_REPORT_INTERVAL_S``; without change once per ``HEARTBEAT_INTERVAL_S``, so
that silence means trouble. A change that is undone within the interval is never sent.

Room in the object store is not leased but used: what is reported of it is what the object manager last said.
"""

from __future__ import annotations

from actorrt.gcs.messages import LoadReported
from actorrt.kernel.effects import Effect, Send, SetTimer
from actorrt.kernel.limits import HEARTBEAT_INTERVAL_S, RESOURCE_REPORT_INTERVAL_S
from actorrt.kernel.message import Address
from actorrt.raylet.messages import ReportDue
from actorrt.scheduling.resources import UNIT
from actorrt.wire.records import NodeLoad, PendingDemand

REPORT_TIMER = "report"
STORE_RESOURCE = "object_store_memory"


class LoadReporter:
    """Decides when a load is sent. ``total`` is what the node has in all."""

    def __init__(self, effects: list[Effect], gcs: Address, node_id: bytes, total: dict[str, int]) -> None:
        self._effects = effects
        self._gcs = gcs
        self._node_id = node_id
        self._sent: NodeLoad | None = None
        self._sent_s = float("-inf")
        self._timer_s = float("inf")
        self._version = 0
        self._store_total = total.get(STORE_RESOURCE, 0)
        self._store_used = 0

    def due(self) -> None:
        """The timer fired."""
        self._timer_s = float("inf")

    def store_used(self, used_bytes: int) -> None:
        """So much of the node's object store is in use."""
        self._store_used = used_bytes * UNIT

    def look(self, available: dict[str, int], pending: tuple[PendingDemand, ...], now: float) -> None:
        """Send the load if it is time to. ``available`` is without zeros, and so is the load."""
        if self._store_total:
            room = max(0, self._store_total - self._store_used)
            available = {name: fixed for name, fixed in available.items() if name != STORE_RESOURCE}
            available |= {STORE_RESOURCE: room} if room else {}
        sent = self._sent
        changed = sent is None or sent.available != available or sent.pending != pending
        interval_s = RESOURCE_REPORT_INTERVAL_S if changed else HEARTBEAT_INTERVAL_S
        if now >= self._sent_s + interval_s:
            self._version += 1
            self._sent = NodeLoad(self._node_id, available, self._version, pending)
            self._sent_s = now
            self._effects.append(Send(self._gcs, LoadReported(self._sent)))
            interval_s = HEARTBEAT_INTERVAL_S
        self._arm(self._sent_s + interval_s)

    def may_skip(self, now: float) -> bool:
        """Whether looking now could neither send anything nor need an earlier timer (the load is not even made up)."""
        return self._timer_s <= self._sent_s + RESOURCE_REPORT_INTERVAL_S and now < self._timer_s

    def _arm(self, at_s: float) -> None:
        if at_s < self._timer_s:
            self._timer_s = at_s
            self._effects.append(SetTimer(REPORT_TIMER, at_s, ReportDue()))

    @property
    def version(self) -> int:
        """Loads sent so far."""
        return self._version
