"""Waiting for refs in coroutines, of any number of event loops in any threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from typing import Any

from actorrt.owner.tasks import Waiter
from actorrt.wire.records import RefInfo


class Awaiter:
    """Turns the owner's waiters into asyncio futures; a burst of results wakes each waiting loop once.

    Args:
        add: registers a waiter with the owner.
        drop: forgets one.
    """

    def __init__(self, add: Callable[[Waiter], None], drop: Callable[[Waiter], None]) -> None:
        self._add = add
        self._drop = drop
        self._lock = threading.Lock()
        self._ready: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        """Futures to resolve, per loop that has been woken and has not come yet."""

    def wait(self, ref: RefInfo) -> Generator[Any, None, None]:
        """Suspend the running coroutine until the object is ready. Cancelling it leaves the task alone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiter = Waiter((ref,), 1, None)
        waiter.wake = _Wake(self, loop, future)
        self._add(waiter)
        try:
            yield from future
        except BaseException:
            self._drop(waiter)
            raise

    async def suspend(self, ref: RefInfo) -> None:
        """``wait`` for coroutines."""
        await _Awaitable(self.wait(ref))

    def wake(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        """Resolve a future of that loop soon (any thread)."""
        with self._lock:
            waiting = self._ready.get(loop)
            if waiting is not None:
                waiting.append(future)
                return
            self._ready[loop] = [future]
        try:
            loop.call_soon_threadsafe(self._resolve, loop)
        except RuntimeError:  # that loop is closed: nobody waits there any more
            with self._lock:
                self._ready.pop(loop, None)

    def _resolve(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            futures = self._ready.pop(loop, [])
        for future in futures:
            if not future.done():
                future.set_result(None)


class _Awaitable:
    """Makes a generator of futures awaitable."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Generator[Any, None, None]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, None, None]:
        return self._steps


class _Wake:
    """``Waiter.wake`` of a coroutine."""

    __slots__ = ("_awaiter", "_future", "_loop")

    def __init__(self, awaiter: Awaiter, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        self._awaiter = awaiter
        self._loop = loop
        self._future = future

    def __call__(self) -> None:
        self._awaiter.wake(self._loop, self._future)
