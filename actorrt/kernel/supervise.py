"""Who is started again, when, and when to give up (pure).

Theory of operation
-------------------
A supervisor is told that a child ended and answers with *decisions*; it starts nothing itself. Each ``ChildSpec`` says
whether the child is worth restarting:

* ``PERMANENT``: always;
* ``TRANSIENT``: only when it ended abnormally;
* ``TEMPORARY``: never.

Restart intensity bounds the damage of a child that cannot live: more than ``restarts_max`` restarts within
``window_s`` seconds and the supervisor gives up, because failing over and over helps nobody and hides the cause.
Giving up stops the other children, last started first. Between restarts of one child the delay doubles, from
``delay_min_s`` to ``delay_max_s``; a child that lived for ``window_s`` starts again without delay.

The strategy says who goes down with a child: ``ONE_FOR_ONE`` nobody, ``ONE_FOR_ALL`` everyone, ``REST_FOR_ONE`` those
started after it (they may depend on it). They are stopped in reverse order and started in order.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

import msgspec


class RestartPolicy(enum.Enum):
    """When a child that ended is started again."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class Strategy(enum.Enum):
    """Who is restarted with a child that ended."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class ChildSpec(msgspec.Struct, frozen=True):
    """How one child is supervised."""

    name: str
    policy: RestartPolicy = RestartPolicy.PERMANENT
    delay_min_s: float = 0.1
    delay_max_s: float = 5.0


class Intensity(msgspec.Struct, frozen=True):
    """More than ``restarts_max`` restarts within ``window_s`` are one too many."""

    restarts_max: int = 3
    window_s: float = 5.0


class Stop(msgspec.Struct, frozen=True):
    """Stop this child, which still runs; its end is not to be reported."""

    name: str


class Start(msgspec.Struct, frozen=True):
    """Start this child after ``delay_s``."""

    name: str
    delay_s: float


class Forget(msgspec.Struct, frozen=True):
    """This child ended and stays ended."""

    name: str


class GiveUp(msgspec.Struct, frozen=True):
    """Restarting does not help: the supervisor itself must end, and say why."""

    name: str
    text: str


Decision: TypeAlias = Stop | Start | Forget | GiveUp


class Supervisor:
    """Decides about a fixed, ordered list of children, all of which count as started at time ``now``."""

    def __init__(
        self,
        children: Sequence[ChildSpec],
        now: float,
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity | None = None,
    ) -> None:
        self._specs = {spec.name: spec for spec in children}
        if len(self._specs) != len(children):
            raise ValueError(f"two children share a name: {sorted(spec.name for spec in children)}")
        self._strategy = strategy
        self._intensity = intensity = intensity or Intensity()
        self._running: dict[str, float] = dict.fromkeys(self._specs, now)
        self._delays_s: dict[str, float] = dict.fromkeys(self._specs, 0.0)
        self._restarts: deque[float] = deque(maxlen=intensity.restarts_max + 1)
        self._gave_up = False

    @property
    def running(self) -> tuple[str, ...]:
        """Children that run or are about to, in the order of their start."""
        return tuple(name for name in self._specs if name in self._running)

    def ended(self, name: str, *, normal: bool, now: float, text: str = "") -> list[Decision]:
        """A child ended at ``now``; ``text`` says how, for people. Unknown or stopped children are no news."""
        if self._gave_up or name not in self._running:
            return []
        started_s = self._running.pop(name)
        policy = self._specs[name].policy
        if policy is RestartPolicy.TEMPORARY or (policy is RestartPolicy.TRANSIENT and normal):
            return [Forget(name)]
        self._restarts.append(now)
        if self._too_many(now):
            return self._give_up(name, text)
        fallen = self._fallen_with(name)
        decisions: list[Decision] = [Stop(other) for other in reversed(fallen) if other in self._running]
        for other in [each for each in self._specs if each == name or each in fallen]:
            delay_s = self._next_delay_s(name, started_s, now) if other == name else 0.0
            self._running[other] = now + delay_s
            decisions.append(Start(other, delay_s))
        return decisions

    def check(self) -> None:
        """Assert the invariants."""
        assert set(self._running) <= set(self._specs)
        assert not (self._gave_up and self._running)
        assert len(self._restarts) <= self._intensity.restarts_max + 1

    def _too_many(self, now: float) -> bool:
        return (
            len(self._restarts) > self._intensity.restarts_max and now - self._restarts[0] <= self._intensity.window_s
        )

    def _give_up(self, name: str, text: str) -> list[Decision]:
        self._gave_up = True
        decisions: list[Decision] = [Stop(other) for other in reversed(self.running)]
        self._running.clear()
        why = f"{name} ended {len(self._restarts)} times within {self._intensity.window_s:g} s"
        return [*decisions, GiveUp(name, f"{why}: {text}" if text else why)]

    def _fallen_with(self, name: str) -> list[str]:
        """Other running children that must be restarted too, in the order of their start."""
        order = list(self._specs)
        if self._strategy is Strategy.ONE_FOR_ONE:
            return []
        first = 0 if self._strategy is Strategy.ONE_FOR_ALL else order.index(name)
        return [other for other in order[first:] if other != name and other in self._running]

    def _next_delay_s(self, name: str, started_s: float, now: float) -> float:
        spec = self._specs[name]
        if now - started_s >= self._intensity.window_s:
            self._delays_s[name] = 0.0
            return 0.0
        previous_s = self._delays_s[name]
        delay_s = spec.delay_min_s if previous_s == 0.0 else min(2 * previous_s, spec.delay_max_s)
        self._delays_s[name] = delay_s
        return delay_s
