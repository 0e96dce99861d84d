"""Owners on other nodes whose connection has ended: dead, or only unreachable for a moment (pure).

Nobody tells this node how a process elsewhere ended. So an owner that is lost is asked about its objects once more, a
little later, which dials it again: if that fails as well, it counts as dead.
"""

from __future__ import annotations

from collections import OrderedDict

from actorrt.kernel.limits import AUDIT_INTERVAL_S, SUSPECT_WAIT_S


class Suspects:
    """Lost owners, in the order they were lost."""

    def __init__(self) -> None:
        self._lost: OrderedDict[str, float] = OrderedDict()
        """Process -> when it is asked."""
        self._asked: OrderedDict[str, float] = OrderedDict()
        """Process -> until when another loss means its death."""

    @property
    def due_s(self) -> float:
        """When the next one is to be asked."""
        return next(iter(self._lost.values()), float("inf"))

    def is_dead(self, process: str, now: float) -> bool:
        """The connection to this owner has ended. Returns whether that is the second time."""
        if self._asked.pop(process, 0.0) > now:
            return True
        self._lost.setdefault(process, now + SUSPECT_WAIT_S)
        return False

    def take_due(self, now: float) -> list[str]:
        """Owners to be asked now."""
        while self._asked and next(iter(self._asked.values())) <= now:
            self._asked.popitem(last=False)
        due = []
        while self.due_s <= now:
            process, _ = self._lost.popitem(last=False)
            self._asked[process] = now + AUDIT_INTERVAL_S
            due.append(process)
        return due

    def forget(self, process: str) -> None:
        """It is known to be dead."""
        self._lost.pop(process, None)
        self._asked.pop(process, None)

    def check(self) -> None:
        """Assert that both are in the order of time."""
        for times in (list(self._lost.values()), list(self._asked.values())):
            assert times == sorted(times)
