"""Time as a port: clocks, a heap of timers, and the one alarm that wakes the loop for the earliest of them.

Theory of operation
-------------------
Machines never read a clock; a shell hands them ``now``. Production uses ``MonotonicClock``, the simulator its own.

``TimerHeap`` is plain data: keyed deadlines with replacement and cancellation. A replaced or cancelled entry stays in
the heap until it surfaces or until dead entries outnumber the living, so setting and cancelling are O(log n) and O(1)
and the heap never holds more than twice what is alive. Equal deadlines come out in the order in which they were set.

``Alarm`` ties a heap to an event loop. Timers are set by whichever thread drives a shell, but only the loop can wait,
so the loop is woken only when the new deadline is earlier than the one it already waits for. An alarm may ring early
or for nothing (its timer was cancelled): the owner looks at the heap and sets it again.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

Payload = TypeVar("Payload")

DEAD_ENTRIES_KEPT_MIN = 64
"""Below this many dead entries a heap is not worth compacting."""


class Clock(Protocol):
    """Where ``now`` comes from."""

    def now(self) -> float:
        """Seconds, monotonic, of no particular origin. Callable from any thread."""


class MonotonicClock:
    """The operating system's monotonic clock.

    ``now`` is the C function itself (no Python frame): a shell calls it once per message.
    """

    __slots__ = ()

    now = staticmethod(time.monotonic)


class LoopClock:
    """The clock of an event loop; for loops whose time is not the system's (a test's, a simulator's)."""

    __slots__ = ("now",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now: Callable[[], float] = loop.time


class TimerHeap(Generic[Payload]):
    """Keyed deadlines. Not thread-safe: its owner holds a lock around it."""

    __slots__ = ("_count", "_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str | int, Payload]] = []
        self._live: dict[str | int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._live)

    def set(self, key: str | int, at_s: float, payload: Payload) -> None:
        """Set the timer ``key``, replacing one of the same key."""
        self._count += 1
        self._live[key] = self._count
        # The count decides between equal deadlines, so keys and payloads are never compared.
        heapq.heappush(self._heap, (at_s, self._count, key, payload))
        if len(self._heap) > 2 * len(self._live) + DEAD_ENTRIES_KEPT_MIN:
            self._compact()

    def cancel(self, key: str | int) -> bool:
        """Forget the timer ``key``; False when there is none."""
        return self._live.pop(key, None) is not None

    def clear(self) -> None:
        """Forget all timers."""
        self._heap.clear()
        self._live.clear()

    def earliest_s(self) -> float:
        """Deadline of the next timer, or infinity."""
        while self._heap:
            at_s, count, key, _ = self._heap[0]
            if self._live.get(key) == count:
                return at_s
            heapq.heappop(self._heap)
        return math.inf

    def pop_due(self, now: float) -> Payload | None:
        """Remove and return the next timer whose time has come, or None."""
        if self.earliest_s() > now:
            return None
        _, _, key, payload = heapq.heappop(self._heap)
        del self._live[key]
        return payload

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
        heapq.heapify(self._heap)


class Alarm:
    """Calls ``ring`` on the loop's thread at (or a little before) the earliest time asked for since it last rang."""

    __slots__ = ("_armed_s", "_clock", "_handle", "_lock", "_loop", "_ring")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, ring: Callable[[], Any]) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        self._lock = threading.Lock()
        self._armed_s = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def at(self, at_s: float) -> None:
        """Ring no later than ``at_s``, as far as the loop keeps time (any thread)."""
        if at_s >= self._armed_s:  # unlocked: a stale view is only ever too late, and is looked at again below
            return
        with self._lock:
            if at_s >= self._armed_s:
                return
            self._armed_s = at_s
        if on_loop(self._loop):
            self._arm()
        elif not call_soon(self._loop, self._arm):
            self.cancel()

    def cancel(self) -> None:
        """Do not ring (any thread; one ring may already be on its way)."""
        with self._lock:
            self._armed_s = math.inf
        if self._handle is not None and on_loop(self._loop):
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        at_s = self._armed_s
        if at_s != math.inf:
            # A delay, not a time: the loop's clock need not be ours.
            self._handle = self._loop.call_later(max(0.0, at_s - self._clock.now()), self._rang)

    def _rang(self) -> None:
        self._handle = None
        with self._lock:
            self._armed_s = math.inf
        self._ring()


def on_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the calling thread is running ``loop`` right now."""
    return asyncio._get_running_loop() is loop


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], Any]) -> bool:
    """``loop.call_soon_threadsafe``, but False instead of an exception when the loop is closed (the process ends)."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True
