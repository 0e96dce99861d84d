"""Results to values: those in messages at once, those in object stores when the node has them here and pinned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import Any

from actorrt.api.blocking import Blocker
from actorrt.api.pinning import Here, Pinning, Renew
from actorrt.cluster import shelf
from actorrt.cluster.shelf import Shelf
from actorrt.kernel.errors import GetTimeoutError, InternalError
from actorrt.wire.failures import exception_of
from actorrt.wire.records import Failure, Result, Stored, Value
from actorrt.wire.values import loads

HERE_GRACE_S = 1.0
"""What is on this node comes within moments: ``get(timeout=0)`` may take so long for it, if the machine is busy."""


class Loader:
    """Args:
    shelf: this process's access to the node's store.
    blocker: waits in threads.
    current: a stored result with the holders of today.
    renew: finds out what became of stored results that could not be had.
    """

    def __init__(self, shelf: Shelf, blocker: Blocker, current: Callable[[Stored], Stored], renew: Renew) -> None:
        self._shelf = shelf
        self._blocker = blocker
        self._current = current
        self._renew = renew

    # ------------------------------------------------------------------ in threads
    def load_all(
        self, results: Sequence[Result], deadline_s: float | None = None, *, for_arguments: bool = False
    ) -> list[Any]:
        """The values; raises the first failure, and GetTimeoutError when one was not here in time."""
        small: list[Any] = []
        try:
            for result in results:
                if type(result) is not Value:
                    break
                small.append(loads(result))
            else:
                return small
        except Exception as error:
            raise _unreadable(error) from error
        stored = self._stored_among(results)
        if not stored:
            return [rebuilt(result) for result in results]
        if deadline_s is not None and all(self._shelf.node in each.holders for each in stored):
            deadline_s = max(deadline_s, time.monotonic() + HERE_GRACE_S)  # ready values are had without waiting
        pinning = Pinning(self._shelf, self._renew, stored, for_arguments=for_arguments)
        try:
            in_time = self._blocker.wait_future(pinning.answer, deadline_s, lambda: f"{_describe(stored)} not here yet")
        except BaseException:
            pinning.abandon()
            raise
        if not in_time:
            pinning.abandon()
            raise GetTimeoutError(f"get: {_describe(stored)} not here in time")
        return self._rebuilt(results, stored, pinning.answer)

    # ------------------------------------------------------------------ in coroutines
    def steps(self, results: Sequence[Result]) -> Generator[Any, None, list[Any]]:
        """``load_all`` as the inside of an ``__await__``."""
        stored = self._stored_among(results)
        if not stored:
            return [rebuilt(result) for result in results]
        pinning = Pinning(self._shelf, self._renew, stored)
        try:
            yield from asyncio.wrap_future(pinning.answer).__await__()
        except BaseException:
            pinning.abandon()
            raise
        return self._rebuilt(results, stored, pinning.answer)

    async def load_all_async(self, results: Sequence[Result]) -> list[Any]:
        """``load_all`` for coroutines."""
        return await _Awaitable(self.steps(results))

    def call_back(self, result: Result, done: Callable[[Any, BaseException | None], None]) -> None:
        """Call ``done(value, None)`` or ``done(None, error)``, in whatever thread brings the value."""

        def loaded(answer: Future[Here] | None) -> None:
            try:
                value = rebuilt(result) if answer is None else self._rebuilt((result,), stored, answer)[0]
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                done(None, error)
            else:
                done(value, None)

        stored = [self._current(result)] if isinstance(result, Stored) else []
        if stored:
            Pinning(self._shelf, self._renew, stored).answer.add_done_callback(loaded)
        else:
            loaded(None)

    # ------------------------------------------------------------------ inside
    def _stored_among(self, results: Sequence[Result]) -> list[Stored]:
        """Those that lie in stores, each once; raises the first failure before anything is asked for."""
        stored: dict[bytes, Stored] = {}
        for result in results:
            if type(result) is Stored:
                stored[result.key] = result
            elif type(result) is Failure:
                raise exception_of(result)
        return [self._current(each) for each in stored.values()]

    def _rebuilt(self, results: Sequence[Result], stored: list[Stored], answer: Future[Here]) -> list[Any]:
        here = answer.result()
        views = dict(zip([each.key for each in stored], self._shelf.take(here.found, here.keys), strict=True))
        for view in views.values():
            if isinstance(view, Failure):
                raise exception_of(view)
        return [_load(views[result.key]) if type(result) is Stored else rebuilt(result) for result in results]


def _load(view: memoryview | Value | Failure) -> Any:
    if not isinstance(view, memoryview):
        return rebuilt(view)  # small, when it was made again
    try:
        return shelf.load(view)
    except Exception as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> InternalError:
    return InternalError(f"the value could not be rebuilt here: {type(error).__name__}: {error}")


def rebuilt(result: Result) -> Any:
    """The value of a result that came in a message (or its failure, raised)."""
    if isinstance(result, Failure):
        raise exception_of(result)
    assert not isinstance(result, Stored)
    try:
        return loads(result)
    except Exception as error:
        raise _unreadable(error) from error


def _describe(stored: list[Stored]) -> str:
    first = stored[0]
    where = ", ".join(first.holders) or "nobody"
    return f"{len(stored)} values in object stores (the first: {first.size_bytes} bytes, held by {where}) were"


def deadline_of(timeout_s: float | None) -> float | None:
    """When a timeout is over."""
    return None if timeout_s is None else time.monotonic() + timeout_s


class _Awaitable:
    """Makes a generator of futures awaitable."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Generator[Any, None, list[Any]]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._steps
