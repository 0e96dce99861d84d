"""The protocol every component implements."""

from __future__ import annotations

from typing import Protocol

import msgspec

from actorrt.kernel.effects import Effect
from actorrt.kernel.message import Envelope


class Machine(Protocol):
    """A pure, synchronous, seedable component."""

    def handle(self, envelope: Envelope, now: float) -> list[Effect]:
        """Take one message at time ``now`` (seconds, monotonic) and say what must happen.

        Runs to completion and never raises for anything a peer or user can cause; an exception is a bug, and the shell
        treats it as the component's death.
        """

    def check(self) -> None:
        """Assert the machine's invariants (called after every step in debug mode and under simulation)."""

    def statistics(self) -> msgspec.Struct:
        """Return a frozen snapshot of the figures an operator would ask for."""
