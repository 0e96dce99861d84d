"""Waiting for refs in threads."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeAlias

from actorrt.kernel.context import current_task
from actorrt.owner.tasks import Waiter
from actorrt.wire.records import RefInfo

logger = logging.getLogger("actorrt")

QUICK_S = 0.005
"""An answer that comes within this time is no reason to give the CPU to others."""
LOOK_INTERVAL_S = 1.0
"""A waiting thread looks this often whether its runtime still lives, whatever else may be wrong."""


LONG_WAIT_S = float(os.environ.get("ACTORRT_LONG_WAIT_S", "30"))
"""A wait that has taken so long is logged, with what it waits for; and again after 4, 16, ... times as long."""

Explain: TypeAlias = Callable[[], str]


def _nothing() -> str:
    return "nothing more is known"


class Blocker:
    """Blocks a thread on the owner's waiters.

    Args:
        add: registers a waiter with the owner (after everything submitted so far).
        drop: forgets one.
        check_alive: raises when nothing will come any more.
    """

    def __init__(
        self, add: Callable[[Waiter], None], drop: Callable[[Waiter], None], check_alive: Callable[[], None]
    ) -> None:
        self._add = add
        self._drop = drop
        self._check_alive = check_alive
        self.began: Callable[[], None] | None = None
        """Called when a running task begins to wait, so that its CPU can be given to others."""
        self.ended: Callable[[], None] | None = None

    def wait(
        self,
        infos: tuple[RefInfo, ...],
        count: int,
        timeout_s: float | None,
        *,
        fail_fast: bool,
        explain: Explain = _nothing,
    ) -> bool:
        """Wait until ``count`` of the objects are ready (``fail_fast``: or one has failed); False: the time was up.

        ``explain`` says what is waited for, when it has taken long.
        """
        done = threading.Lock()
        done.acquire()
        waiter = Waiter(infos, count, done.release, fail_fast=fail_fast)
        self._add(waiter)
        if done.acquire(blocking=False):
            return True
        if timeout_s is not None and timeout_s <= 0:
            self._drop(waiter)
            return False
        blocks = self.began is not None and current_task.get() is not None
        if blocks:
            assert self.began is not None
            self.began()
        finished = False
        try:
            finished = self._wait_for(done, timeout_s, explain)
        finally:
            if blocks:
                assert self.ended is not None
                self.ended()
            if not finished:
                self._drop(waiter)
        return finished

    def wait_future(self, future: Future[Any], deadline_s: float | None, explain: Explain = _nothing) -> bool:
        """Wait until the future is done, whatever it holds; False: the time was up."""
        done = threading.Lock()
        done.acquire()
        future.add_done_callback(lambda _future: done.release())
        left_s = None if deadline_s is None else deadline_s - time.monotonic()
        if left_s is not None and left_s <= QUICK_S:
            return done.acquire(timeout=max(0.0, left_s))
        if done.acquire(timeout=QUICK_S):
            return True
        blocks = self.began is not None and current_task.get() is not None
        if blocks:
            assert self.began is not None
            self.began()
        try:
            return self._wait_for(done, None if deadline_s is None else deadline_s - time.monotonic(), explain)
        finally:
            if blocks:
                assert self.ended is not None
                self.ended()

    def _wait_for(self, done: threading.Lock, timeout_s: float | None, explain: Explain) -> bool:
        began_s = time.monotonic()
        deadline_s = None if timeout_s is None else began_s + timeout_s
        told_s = LONG_WAIT_S
        while True:
            left_s = LOOK_INTERVAL_S if deadline_s is None else min(LOOK_INTERVAL_S, deadline_s - time.monotonic())
            if left_s <= 0:
                return done.acquire(blocking=False)
            if done.acquire(timeout=left_s):
                return True
            self._check_alive()
            waited_s = time.monotonic() - began_s
            if waited_s >= told_s:
                told_s *= 4
                logger.warning("waiting for %.0f s: %s", waited_s, explain())
