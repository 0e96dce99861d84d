"""A simulated network without a clock (pure): who reaches whom, and when.

The simulator asks ``route`` for every message and delivers it at the answered time. Links say how a path behaves when
nothing is wrong (latency, jitter, bandwidth); rules bend it: a rule looks at one message and lets it ``Pass`` to the
next rule, decides to ``Deliver`` it after a delay, or to ``Drop`` it. The first rule that does not pass decides;
partitions and slow links are rules that can be removed again, and so heal.

Per (source, destination) order is kept as the real transports keep it: whatever the delays, nothing arrives before what
was sent earlier. Equal times are for the caller to order by sequence of sending. A ``Drop`` therefore stands for a
broken connection (a stream never loses one message in the middle); the simulator ends the channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias


class Rng(Protocol):
    """What is needed of ``random.Random``."""

    def random(self) -> float:
        """A number in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Pass:
    """This rule has nothing to say about the message."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """The message takes this long, whatever the link says; still never past an earlier one."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Drop:
    """The message cannot arrive."""

    reason: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """When the message is there."""

    at: float


Verdict: TypeAlias = Pass | Deliver | Drop
PASS: Final = Pass()

Rule: TypeAlias = Callable[[str, str, float, Rng], Verdict]
"""``rule(source, destination, now, rng)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How a path behaves while all is well."""

    latency_s: float = 0.0005
    jitter_s: float = 0.0
    """Up to this much more, uniformly."""
    bytes_per_s: float = 0.0
    """Zero: as much as one likes."""

    def __post_init__(self) -> None:
        if min(self.latency_s, self.jitter_s, self.bytes_per_s) < 0:
            raise ValueError(f"a link has no negative properties, got {self}")


@dataclass(frozen=True, slots=True)
class Token:
    """Identifies one added rule, to remove it."""

    number: int
    name: str


class Fabric:
    """Hosts are names; they need not be announced."""

    def __init__(self, link: Link | None = None, *, local: Link | None = None) -> None:
        """``link`` is every path without one of its own, ``local`` that from a host to itself."""
        self._link = link or Link()
        self._local = local or Link(latency_s=0.0)
        self._links: dict[tuple[str, str], Link] = {}
        self._rules: dict[Token, Rule] = {}
        self._numbers = 0
        # By source, then destination: when the last message arrives, and until when the line is busy sending.
        self._arrivals: dict[str, dict[str, float]] = {}
        self._busy_until: dict[str, dict[str, float]] = {}

    def __repr__(self) -> str:
        return f"<Fabric {len(self._links)} links, rules {[token.name for token in self._rules]}>"

    # ------------------------------------------------------------------------------------------------------- changing

    def set_link(self, source: str, destination: str, link: Link, *, both_ways: bool = True) -> None:
        self._links[source, destination] = link
        if both_ways:
            self._links[destination, source] = link

    def add(self, rule: Rule, name: str = "rule") -> Token:
        """Ask this rule too, after those added before."""
        self._numbers += 1
        token = Token(self._numbers, name)
        self._rules[token] = rule
        return token

    def remove(self, token: Token) -> None:
        """The rule's trouble is over. Removing twice is a mistake of the caller's script, hence a KeyError."""
        del self._rules[token]

    def heal(self) -> None:
        """Remove every rule; links stay as they are."""
        self._rules.clear()

    def partition(self, *groups: Iterable[str]) -> Token:
        """Hosts of different groups cannot reach each other; hosts in no group reach everybody."""
        group_of = {host: number for number, group in enumerate(groups) for host in group}

        def rule(source: str, destination: str, now: float, rng: Rng) -> Verdict:
            del now, rng
            here, there = group_of.get(source), group_of.get(destination)
            if here is None or there is None or here == there:
                return PASS
            return Drop(f"partition between {source} and {destination}")

        return self.add(rule, "partition")

    def cut(self, source: str, destination: str) -> Token:
        """One direction only: the asymmetric failure that heartbeats in one direction never see."""

        def rule(a: str, b: str, now: float, rng: Rng) -> Verdict:
            del now, rng
            return Drop(f"cut from {a} to {b}") if (a, b) == (source, destination) else PASS

        return self.add(rule, "cut")

    def slow(self, hosts: Iterable[str], delay_s: float) -> Token:
        """Whatever goes to or from these hosts takes this long."""
        slowed = dict.fromkeys(hosts)

        def rule(source: str, destination: str, now: float, rng: Rng) -> Verdict:
            del now, rng
            return Deliver(delay_s) if source in slowed or destination in slowed else PASS

        return self.add(rule, "slow")

    def lossy(self, probability: float) -> Token:
        """Every message breaks its connection with this probability."""

        def rule(source: str, destination: str, now: float, rng: Rng) -> Verdict:
            del now
            return Drop(f"{source} to {destination} was lost") if rng.random() < probability else PASS

        return self.add(rule, "lossy")

    def forget(self, host: str) -> None:
        """A host is gone for good, or comes back new: nothing it sent or awaits holds up its successor."""
        for table in (self._arrivals, self._busy_until):
            table.pop(host, None)
            for destinations in table.values():
                destinations.pop(host, None)

    # -------------------------------------------------------------------------------------------------------- asking

    def verdict(self, source: str, destination: str, now: float, rng: Rng) -> Verdict:
        """What the rules say; ``Pass`` when none minds."""
        for rule in self._rules.values():
            verdict = rule(source, destination, now, rng)
            if not isinstance(verdict, Pass):
                return verdict
        return PASS

    def route(self, source: str, destination: str, now: float, rng: Rng, *, size_bytes: int = 0) -> Arrival | Drop:
        """Send one message: when it arrives, or why it does not. ``now`` never goes back."""
        verdict = self.verdict(source, destination, now, rng)
        if isinstance(verdict, Drop):
            return verdict
        link = self._links.get((source, destination))
        if link is None:
            link = self._local if source == destination else self._link
        departure = now
        if link.bytes_per_s:
            lines = self._busy_until.setdefault(source, {})
            departure = max(now, lines.get(destination, now)) + size_bytes / link.bytes_per_s
            lines[destination] = departure
        if isinstance(verdict, Deliver):
            delay_s = verdict.delay_s
        else:
            delay_s = link.latency_s + (link.jitter_s * rng.random() if link.jitter_s else 0.0)
        arrivals = self._arrivals.setdefault(source, {})
        at = max(departure + delay_s, arrivals.get(destination, now))
        arrivals[destination] = at
        return Arrival(at)
