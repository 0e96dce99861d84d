"""Requests that wait for their answer: a bounded table of futures with deadlines.

Theory of operation
-------------------
``open`` enters a future before the request is sent; exactly one of ``answer``, ``fail_all_of``, a deadline or
``close`` takes it out again and resolves it, whichever comes first; what comes later finds nothing and does nothing.
Futures are resolved outside the lock, because their callbacks run in the resolving thread and may well make the next
request.

The futures are ``concurrent.futures`` ones, already running, so they cannot be cancelled: a blocked thread waits on
one directly, a coroutine through ``asyncio.wrap_future``; who loses interest just lets go, and the deadline tidies
up.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from concurrent.futures import Future
from typing import Final

import msgspec

from actorrt.kernel.clock import Alarm, Clock, TimerHeap
from actorrt.kernel.errors import InternalError, Overloaded, RequestTimedOut, error_class
from actorrt.kernel.message import Address, Message, RequestFailed

logger = logging.getLogger("actorrt.wire")

REQUESTS_MAX: Final = 100_000
"""Requests of one process that wait for an answer."""


class _Request(msgspec.Struct, frozen=True, gc=False):
    future: Future[Message]
    dst: Address
    body: str
    timeout_s: float | None


class Requests:
    """The table. All methods may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, requests_max: int = REQUESTS_MAX) -> None:
        self._clock = clock
        self._requests_max = requests_max
        self._lock = threading.Lock()
        self._table: dict[int, _Request] = {}
        self._deadlines: TimerHeap[int] = TimerHeap()
        self._alarm = Alarm(loop, clock, self._expire)
        self._numbers = itertools.count(1)
        self._closed = False

    def __len__(self) -> int:
        return len(self._table)

    def open(self, dst: Address, body: Message, timeout_s: float | None) -> tuple[int, Future[Message]]:
        """Number and future of a new request; when it is refused here, the number is 0 and the future has failed."""
        future: Future[Message] = Future()
        future.set_running_or_notify_cancel()
        at_s = None if timeout_s is None else self._clock.now() + timeout_s
        with self._lock:
            if self._closed:
                future.set_exception(InternalError("this process is shutting down"))
                return 0, future
            if len(self._table) >= self._requests_max:
                future.set_exception(Overloaded(f"{len(self._table)} requests wait for an answer already"))
                return 0, future
            number = next(self._numbers)
            self._table[number] = _Request(future, dst, type(body).__name__, timeout_s)
            if at_s is not None:
                self._deadlines.set(number, at_s, number)
        if at_s is not None:
            self._alarm.at(at_s)
        return number, future

    def answer(self, number: int, body: Message) -> None:
        """An answer came. One that is too late is dropped."""
        with self._lock:
            request = self._table.pop(number, None)
            self._deadlines.cancel(number)
        if request is None:
            logger.debug("answer %s to request %d came too late", type(body).__name__, number)
        elif type(body) is RequestFailed:
            request.future.set_exception(error_class(body.kind)(body.text))
        else:
            request.future.set_result(body)

    def fail(self, number: int, error: Exception) -> None:
        """The request could not be sent."""
        with self._lock:
            request = self._table.pop(number, None)
            self._deadlines.cancel(number)
        if request is not None:
            request.future.set_exception(error)

    def fail_all_of(self, processes: tuple[str, ...], reason: Exception) -> None:
        """These processes are gone: nobody will answer."""
        with self._lock:
            numbers = [number for number, request in self._table.items() if request.dst.process in processes]
            requests = [self._table.pop(number) for number in numbers]
            for number in numbers:
                self._deadlines.cancel(number)
        for request in requests:
            request.future.set_exception(type(reason)(f"{request.body} to {request.dst}: {reason}"))

    def close(self) -> None:
        """Fail what waits and refuse what comes."""
        with self._lock:
            self._closed = True
            requests = list(self._table.values())
            self._table.clear()
            self._deadlines.clear()
        self._alarm.cancel()
        for request in requests:
            request.future.set_exception(
                InternalError(f"{request.body} to {request.dst}: this process is shutting down")
            )

    def _expire(self) -> None:
        expired = []
        with self._lock:
            now = self._clock.now()
            while (number := self._deadlines.pop_due(now)) is not None:
                expired.append(self._table.pop(number))
            next_s = self._deadlines.earliest_s()
        self._alarm.at(next_s)
        for request in expired:
            text = f"{request.dst} did not answer {request.body} within {request.timeout_s:g} s"
            request.future.set_exception(RequestTimedOut(text))
