"""Questions to holders that have no answer yet, and when they count as unanswered (pure).

A node that hangs, or is cut off, answers nothing; its connection may look healthy for a long time. All questions wait
equally long, so they are due in the order in which they were asked.
"""

from __future__ import annotations

from collections import OrderedDict

from actorrt.kernel.limits import ASK_TIMEOUT_S

NEVER_S = float("inf")


class Asks:
    """At most ``PULL_SOURCES_MAX`` for each pull."""

    def __init__(self) -> None:
        self.table: OrderedDict[tuple[bytes, str], float] = OrderedDict()
        """(Key, holder) -> when it is over, in this order."""
        self._undated: list[tuple[bytes, str]] = []
        """Asked in this step."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def due_s(self) -> float:
        """When the next one counts as unanswered."""
        return next(iter(self.table.values()), NEVER_S)

    def add(self, key: bytes, holder: str) -> None:
        """A holder is asked; ``date`` must follow before time passes."""
        assert (key, holder) not in self.table
        self.table[key, holder] = NEVER_S
        self._undated.append((key, holder))

    def drop(self, key: bytes, holder: str) -> None:
        """It has answered, or is not needed (nothing happens if it was not asked)."""
        self.table.pop((key, holder), None)

    def date(self, now: float) -> None:
        """What was asked in this step waits from now on."""
        for question in self._undated:
            if question in self.table:
                self.table[question] = now + ASK_TIMEOUT_S
        self._undated.clear()

    def take_due(self, now: float) -> list[tuple[bytes, str]]:
        """Those that are over; they are no longer in the table."""
        due = []
        while self.due_s <= now:
            question, _ = self.table.popitem(last=False)
            due.append(question)
        return due

    def check(self) -> None:
        """Assert that they are in the order of time."""
        times = list(self.table.values())
        assert times == sorted(times)
