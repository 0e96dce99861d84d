"""ActorPool: a fixed set of actors that share work between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import actorrt
from actorrt.exceptions import ActorDiedError, TaskError

_Call = Callable[[Any, Any], Any]
_TIMED_OUT = "the result was not there in time"


class ActorPool:
    """Give each actor one call at a time, and hand out the results.

    What is submitted while no actor is idle waits here, and is called when a result is *taken* (``get_next`` and its
    like): taking results is what keeps the pool going. An actor that died is not used again. The pool is for one
    thread.

        pool = ActorPool([Worker.remote(), Worker.remote()])
        list(pool.map(lambda actor, value: actor.double.remote(value), [1, 2, 3]))  # [2, 4, 6]

    Args:
        actors: handles.
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle: list[Any] = list(actors)
        self._calls: dict[int, tuple[list[Any], Any, Any]] = {}
        """By the number of the call: its refs, what the user's function returned, the actor."""
        self._numbers: dict[Any, int] = {}
        """Of calls, by the last of their refs."""
        self._waiting: deque[tuple[_Call, Any]] = deque()
        self._next_number = 0
        self._next_return = 0

    # ------------------------------------------------------------------ many values
    def map(self, fn: _Call, values: Iterable[Any]) -> Iterator[Any]:
        """Call ``fn(actor, value)``, which returns a ref, for each value; iterate the results in the order of values.

        What was submitted earlier is done first; the results that nobody took are dropped.
        """
        self._drop_earlier()
        for value in values:
            self.submit(fn, value)
        return self._iterate(self.get_next)

    def map_unordered(self, fn: _Call, values: Iterable[Any]) -> Iterator[Any]:
        """As ``map``, but results are iterated in the order in which they become ready."""
        self._drop_earlier()
        for value in values:
            self.submit(fn, value)
        return self._iterate(self.get_next_unordered)

    def _iterate(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def _drop_earlier(self) -> None:
        while self._calls:
            self._release(next(iter(self._calls)))
        self._waiting.clear()  # none, unless every actor is dead

    # ------------------------------------------------------------------ one value
    def submit(self, fn: _Call, value: Any) -> None:
        """Call ``fn(actor, value)``, which returns a ref, with the next idle actor."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        try:
            returned = fn(actor, value)
        except BaseException:
            self._idle.append(actor)
            raise
        refs = list(returned) if isinstance(returned, list) else [returned]
        self._calls[self._next_number] = (refs, returned, actor)
        self._numbers[refs[-1]] = self._next_number
        self._next_number += 1

    def has_next(self) -> bool:
        """Is there a result to take, now or later?"""
        return bool(self._calls or self._waiting)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Wait for the next result, in the order of submission, and return it.

        Args:
            timeout: seconds; None waits for ever.
            ignore_if_timedout: after a timeout, forget this call: its actor counts as idle again.

        Raises:
            StopIteration: nothing was submitted.
            TimeoutError: the result was not there in time; without ``ignore_if_timedout`` it may be taken later.
            ValueError: it was passed over by ``get_next_unordered``.
            ActorDiedError: the call's actor is dead, or (for what was still waiting) all are.
        """
        self._check_any()
        number = self._next_return
        if number not in self._calls:
            raise ValueError("get_next() cannot follow get_next_unordered(): what would be next was passed over")
        refs, returned, _ = self._calls[number]
        if timeout is not None and actorrt.wait(refs, num_returns=len(refs), timeout=timeout)[1]:
            return self._timed_out(number, ignore_if_timedout)
        return self._take(number, returned)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Wait for any result and return it. Arguments and errors are those of ``get_next``."""
        self._check_any()
        ready, _ = actorrt.wait(list(self._numbers), num_returns=1, timeout=timeout)
        if not ready:
            return self._timed_out(next(iter(self._calls)), ignore_if_timedout)
        number = self._numbers[ready[0]]
        return self._take(number, self._calls[number][1])

    def _check_any(self) -> None:
        """Raise unless a call is under way."""
        if self._calls:
            return
        if not self._waiting:
            raise StopIteration("there are no more results")
        self._waiting.popleft()
        raise ActorDiedError("no actor of the pool is left to do this; push() another for what is still waiting")

    def _timed_out(self, number: int, ignore: bool) -> Any:
        if not ignore:
            raise TimeoutError(_TIMED_OUT)
        self._release(number)
        raise TimeoutError(f"{_TIMED_OUT}, and the call is forgotten")

    def _take(self, number: int, returned: Any) -> Any:
        is_alive = True
        try:
            return actorrt.get(returned)
        except ActorDiedError as error:
            # An actor whose method met another, dead one is alive itself.
            is_alive = isinstance(error, TaskError)
            raise
        finally:
            self._release(number, is_alive=is_alive)

    def _release(self, number: int, *, is_alive: bool = True) -> None:
        refs, _, actor = self._calls.pop(number)
        del self._numbers[refs[-1]]
        self._next_return = max(self._next_return, number + 1)
        self._return_actor(actor, is_alive=is_alive)

    def _return_actor(self, actor: Any, *, is_alive: bool = True) -> None:
        if is_alive:
            self._idle.append(actor)
        if self._waiting and self._idle:
            self.submit(*self._waiting.popleft())

    # ------------------------------------------------------------------ the actors
    def has_free(self) -> bool:
        """Is an actor idle, with nothing waiting for it?"""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> Any:
        """Take an idle actor out of the pool; None if there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Add an actor.

        Raises ValueError if it is in the pool already.
        """
        if actor in self._idle or any(actor == busy for _, _, busy in self._calls.values()):
            raise ValueError(f"{actor!r} is in the pool already")
        self._return_actor(actor)
