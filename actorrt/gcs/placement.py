"""Actors that wait for a node, in one line per thing wanted.

Actors that want the same stand in one line, so that ten thousand of them cost one look at the cluster, not ten
thousand: when the first finds no place, neither would the others. Lines do not wait for each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from actorrt.gcs.nodes import Nodes
from actorrt.scheduling.policy import SPREAD, Busy, Chosen, Demand, Infeasible, Refused, choose_node
from actorrt.scheduling.resources import maximum
from actorrt.wire.records import ActorSpec

if TYPE_CHECKING:
    import random

QUEUE_AFTER_S: Final = 1.0
"""So long an actor waits here for whichever node frees first; then it queues at one, in line with the leases."""
RETRY_S: Final = 0.1
"""Time between two looks at a full cluster."""
SETTLE_S: Final = 0.01
"""Loads that change within this time are looked at together."""

LineKey: TypeAlias = tuple[object, ...]


class Waiting(msgspec.Struct):
    """One actor in a line."""

    since_s: float
    not_before_s: float
    local_node_id: bytes


class Line(msgspec.Struct):
    """Actors that want the same, first come first served."""

    demand: Demand
    holds: dict[str, int]
    actors: dict[bytes, Waiting]
    reason: str = ""
    hopeful: bool = True
    """Time alone may help: nodes are only busy, or an actor is held back for a moment."""


class Placed(msgspec.Struct, frozen=True):
    """Ask this node to start the actor (its resources are reserved)."""

    actor_id: bytes
    node_id: bytes


class Impossible(msgspec.Struct, frozen=True):
    """The actor can never be placed."""

    actor_id: bytes
    text: str


class Explained(msgspec.Struct, frozen=True):
    """The actor waits, for another reason than before."""

    actor_id: bytes


Decision: TypeAlias = Placed | Impossible | Explained


class Placement:
    """The lines, and the choice of nodes."""

    def __init__(self, nodes: Nodes, rng: random.Random) -> None:
        self.lines: dict[LineKey, Line] = {}
        self.line_of: dict[bytes, LineKey] = {}
        self._nodes = nodes
        self._rng = rng
        self._spread_after = b""

    def wait(self, spec: ActorSpec, now: float, *, local_node_id: bytes, delay_s: float = 0.0) -> LineKey | None:
        """Put an actor in line; returns the line when it was empty, that is when it is worth looking at once."""
        assert spec.actor_id not in self.line_of
        holds, wants = spec.resources, maximum(spec.resources, spec.placement_resources)
        strategy = spec.strategy
        key: LineKey = (
            tuple(sorted(wants.items())),
            tuple(sorted(holds.items())),
            strategy,
            spec.label_selector,
        )
        line = self.lines.get(key)
        first = line is None
        if line is None:
            demand = Demand(wants, strategy.kind, strategy.node_id, strategy.soft, spec.label_selector)
            line = self.lines[key] = Line(demand, holds, {})
        line.actors[spec.actor_id] = Waiting(now, now + delay_s, local_node_id)
        line.hopeful = line.hopeful or delay_s > 0
        self.line_of[spec.actor_id] = key
        return key if first else None

    def discard(self, actor_id: bytes) -> None:
        """Take an actor out of its line, if it is in one."""
        key = self.line_of.pop(actor_id, None)
        if key is not None:
            line = self.lines[key]
            del line.actors[actor_id]
            if not line.actors:
                del self.lines[key]

    def reason(self, actor_id: bytes) -> str:
        """Why an actor waits; empty when it does not, or was not looked at yet."""
        key = self.line_of.get(actor_id)
        return "" if key is None else self.lines[key].reason

    def attempt(self, now: float, only: LineKey | None = None) -> list[Decision]:
        """Place whoever can be placed; who is placed or impossible leaves its line."""
        decisions: list[Decision] = []
        keys = list(self.lines) if only is None else [only]
        for key in keys:
            line = self.lines.get(key)
            if line is not None:
                self._attempt_line(line, now, decisions)
        return decisions

    def next_due_s(self, now: float) -> float | None:
        """When to look again although nothing changed; None when time alone does not help."""
        return now + RETRY_S if any(line.hopeful for line in self.lines.values()) else None

    def check(self) -> None:
        """Assert that lines and index agree."""
        listed = {actor_id: key for key, line in self.lines.items() for actor_id in line.actors}
        assert listed == self.line_of
        assert all(line.actors for line in self.lines.values()), "an empty line is kept"

    def _attempt_line(self, line: Line, now: float, decisions: list[Decision]) -> None:
        leaving: list[bytes] = []
        reason, line.hopeful = "", False
        for actor_id, waiting in line.actors.items():
            if waiting.not_before_s > now:
                line.hopeful = True
                continue
            view = self._nodes.view()
            local = waiting.local_node_id
            if not line.holds and view:
                local = self._rng.choice(view).node_id  # costs nothing anywhere: do not pile up on one node
            choice = choose_node(view, line.demand, self._rng, local_node_id=local, spread_after=self._spread_after)
            match choice:
                case Refused(text):
                    decisions.append(Impossible(actor_id, text))
                    leaving.append(actor_id)
                    continue
                case Infeasible(text):
                    reason = text
                    break
                case Busy(_, text, count) if count > 1 and now - waiting.since_s < QUEUE_AFTER_S:
                    reason, line.hopeful = text, True
                    break
                case Chosen(node_id) | Busy(node_id):
                    if line.demand.strategy == SPREAD:
                        self._spread_after = node_id
                    self._nodes.reserve(node_id, actor_id, line.holds, now)
                    decisions.append(Placed(actor_id, node_id))
                    leaving.append(actor_id)
        for actor_id in leaving:
            self.discard(actor_id)
        if line.reason != reason:
            line.reason = reason
            decisions.extend(Explained(actor_id) for actor_id in line.actors)
