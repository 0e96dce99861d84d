"""Sending the items of a generator as it yields them.

Items go out in batches while the generator is quick, and at once when it is not: an item that is held back while the
next one is being made is handed over by a timer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from actorrt.wire import values
from actorrt.wire.records import Result, Stored, Value
from actorrt.worker.host import Host
from actorrt.worker.messages import ItemsProduced

ITEMS_HELD_MAX = 64
ITEMS_BYTES_HELD_MAX = 256 * 1024
ITEMS_TIMER_S = 0.005
QUICK_S = 0.0005


class ItemSender:
    """Items of one task.

    Args:
        task_id: whose items.
        owner: process address of whoever gets them.
        host: keeps large items, registers receivers of refs, calls back later.
        post: hands a message to the worker machine.
    """

    def __init__(self, task_id: bytes, owner: str, host: Host, post: Callable[[ItemsProduced], None]) -> None:
        self.count = 0
        self._task_id = task_id
        self._owner = owner
        self._host = host
        self._post = post
        self._held: list[tuple[int, Result]] = []
        self._held_bytes = 0
        self._last_s = 0.0
        self._timer_armed = False
        self._lock = threading.Lock()
        """Held while a batch is handed over, so that two threads cannot swap batches."""

    def pack(self, item: Any) -> Value | Stored:
        """Serialise the next item (user code may run in there)."""
        return values.dumps(item, self._host.keep, (self._task_id, self.count, self._owner))

    def send(self, value: Value | Stored) -> None:
        """One item more (which the caller still holds: with it live the refs inside)."""
        if value.refs:
            self._host.lend(value.refs, self._owner)
        now = time.perf_counter()
        is_quick = now - self._last_s < QUICK_S
        self._last_s = now
        with self._lock:
            self._held.append((self.count, value))
            self.count += 1
            self._held_bytes += value.size_bytes() if isinstance(value, Value) else 0
            wait = is_quick and len(self._held) < ITEMS_HELD_MAX and self._held_bytes < ITEMS_BYTES_HELD_MAX
            if not wait:
                self._flush()
                return
            if self._timer_armed:
                return
            self._timer_armed = True
        self._host.call_soon(self._by_timer, ITEMS_TIMER_S)

    def flush(self) -> None:
        """Hand over what is held (before the task's outcome)."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._held_bytes = 0
            self._post(ItemsProduced(self._task_id, tuple(held)))

    def _by_timer(self) -> None:
        self._timer_armed = False
        self.flush()
