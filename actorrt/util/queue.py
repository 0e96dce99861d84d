"""A queue that tasks, actors and drivers share: a handle (``Queue``) of an async actor that holds the items.

Order: items put by one process one after the other come out in that order. Several that wait for the same item, or the
same room, have no promised order.
"""

from __future__ import annotations

import asyncio
import queue as standard
from collections.abc import Iterable
from typing import Any

import actorrt
from actorrt.exceptions import ActorDiedError, TaskError

__all__ = ["Empty", "Full", "Queue"]

WAITING_CALLS_MAX = 100_000
"""Calls of get and put that may wait in the actor at the same time; with more, those that would wake them queue up."""
GRACE_PERIOD_S = 5


class Empty(standard.Empty):
    """There is no item, or none came in time."""


class Full(standard.Full):
    """There is no room, or none was made in time."""


class Queue:
    """First in, first out; copies of it (pass it to tasks and actors) are the same queue.

    It lives as long as any copy does, or until ``shutdown``. Whatever is done with a queue whose actor is gone raises
    ``ActorDiedError``.

    Args:
        maxsize: so many items at most; 0 or less: without limit.
        actor_options: for the actor, as in ``.options()``. It takes no CPU by default.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        options = {"num_cpus": 0, "max_concurrency": WAITING_CALLS_MAX, **(actor_options or {})}
        self.maxsize = maxsize
        self.actor: Any = actorrt.remote(_QueueActor).options(**options).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    # ------------------------------------------------------------------ looking
    def size(self) -> int:
        """Return the number of items."""
        return int(actorrt.get(self._living().size.remote()))

    def qsize(self) -> int:
        """Return the number of items."""
        return self.size()

    def empty(self) -> bool:
        """Return whether there is no item."""
        return self.size() == 0

    def full(self) -> bool:
        """Return whether there is no room."""
        return 0 < self.maxsize <= self.size()

    # ------------------------------------------------------------------ waiting
    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item, when there is room.

        Args:
            item: a ref stands for its value, as with every argument of a call.
            block: wait for room.
            timeout: seconds; None waits for ever.

        Raises:
            Full: there is no room, or there was none in time.
            ValueError: the timeout is negative.
        """
        _check_timeout(block, timeout)
        if not _wait_here(self._living().put.remote(item, block, timeout)):
            raise Full

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as Ray
        """Do as ``put`` does, in a coroutine."""
        _check_timeout(block, timeout)
        if not await _wait_there(self._living().put.remote(item, block, timeout)):
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item.

        Args:
            block: wait for one.
            timeout: seconds; None waits for ever.

        Raises:
            Empty: there is no item, or there was none in time.
            ValueError: the timeout is negative.
        """
        _check_timeout(block, timeout)
        return _only(_wait_here(self._living().get.remote(block, timeout)))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as Ray
        """Do as ``get`` does, in a coroutine. Cancelling it leaves the item there, unless it was on its way already."""
        _check_timeout(block, timeout)
        return _only(await _wait_there(self._living().get.remote(block, timeout)))

    # ------------------------------------------------------------------ not waiting
    def put_nowait(self, item: Any) -> None:
        """Add an item; raises Full if there is no room."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """Take the next item; raises Empty if there is none."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all of these items in their order.

        Raises:
            Full: there is no room for all; none was added.
            TypeError: not an iterable.
        """
        if not isinstance(items, Iterable):
            raise TypeError(f"items must be iterable, got {type(items).__name__}")
        batch = list(items)
        size, was_added = actorrt.get(self._living().put_batch.remote(batch))
        if not was_added:
            raise Full(f"{len(batch)} items do not fit into a queue of {size} with maxsize={self.maxsize}")

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take so many items.

        Raises:
            Empty: there are fewer; none was taken.
            TypeError, ValueError: not a number of items.
        """
        if not isinstance(num_items, int):
            raise TypeError(f"num_items must be an int, got {type(num_items).__name__}")
        if num_items < 0:
            raise ValueError(f"num_items must not be negative, got {num_items}")
        size, items = actorrt.get(self._living().get_batch.remote(num_items))
        if items is None:
            raise Empty(f"{num_items} items cannot be taken from a queue of {size}")
        return list(items)

    # ------------------------------------------------------------------ the end
    def shutdown(self, force: bool = False, grace_period_s: float = GRACE_PERIOD_S) -> None:
        """End the queue and its actor; does nothing the second time.

        Args:
            force: kill the actor at once; otherwise it first does what was asked of it before.
            grace_period_s: then it is killed.
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            ended = actor.__ray_terminate__.remote()
            if actorrt.wait([ended], timeout=grace_period_s)[0]:
                return
        actorrt.kill(actor)

    def _living(self) -> Any:
        if self.actor is None:
            raise ActorDiedError("the queue was shut down")
        return self.actor


def _check_timeout(block: bool, timeout: float | None) -> None:
    if block and timeout is not None and timeout < 0:
        raise ValueError(f"timeout must not be negative, got {timeout}")


def _wait_here(ref: Any) -> Any:
    """The outcome of a call that may wait in the actor. An interrupted one is taken back, or it would eat an item."""
    try:
        return actorrt.get(ref)
    except KeyboardInterrupt:
        actorrt.cancel(ref)
        raise
    except TaskError as error:
        _check_ending(error)
        raise


async def _wait_there(ref: Any) -> Any:
    try:
        return await ref
    except asyncio.CancelledError:
        actorrt.cancel(ref)
        raise
    except TaskError as error:
        _check_ending(error)
        raise


def _check_ending(error: TaskError) -> None:
    """An actor that ends cancels the calls that wait in it."""
    if isinstance(error.cause, asyncio.CancelledError):
        raise ActorDiedError("the queue was shut down meanwhile") from error


def _only(items: tuple[Any, ...]) -> Any:
    if not items:
        raise Empty
    return items[0]


class _QueueActor:
    """Holds the items. It answers in values and not by raising: Empty and Full are everyday matters."""

    def __init__(self, maxsize: int) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def size(self) -> int:
        return self._items.qsize()

    async def put(self, item: Any, block: bool, timeout_s: float | None) -> bool:
        if not self._items.full():
            self._items.put_nowait(item)
            return True
        if not block:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                await self._items.put(item)
        except TimeoutError:
            return False
        return True

    async def get(self, block: bool, timeout_s: float | None) -> tuple[Any, ...]:
        """The item, or nothing."""
        if not self._items.empty():
            return (self._items.get_nowait(),)
        if not block:
            return ()
        try:
            async with asyncio.timeout(timeout_s):
                return (await self._items.get(),)
        except TimeoutError:
            return ()

    async def put_batch(self, items: list[Any]) -> tuple[int, bool]:
        size = self._items.qsize()
        if 0 < self._items.maxsize < size + len(items):
            return size, False
        for item in items:
            self._items.put_nowait(item)
        return size, True

    async def get_batch(self, count: int) -> tuple[int, list[Any] | None]:
        size = self._items.qsize()
        if count > size:
            return size, None
        return size, [self._items.get_nowait() for _ in range(count)]
