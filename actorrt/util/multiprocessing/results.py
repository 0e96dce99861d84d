"""What the calls of a pool return: results to wait for, and iterators of results.

Each is told by the futures of its jobs; callbacks run in the threads of the crew, one at a time (``callback_lock``), as
programs written for the standard library expect.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import TimeoutError as PoolTimeoutError
from types import GenericAlias
from typing import Any, Self, TypeAlias

Callback: TypeAlias = Callable[[Any], object]


class AsyncResult:
    """The result of ``apply_async``, or with several jobs of ``map_async`` and ``starmap_async``.

    Args:
        callback: called with the result, if all is well.
        error_callback: called with the first error, if there is one.
        callback_lock: held meanwhile.
    """

    def __init__(
        self, callback: Callback | None, error_callback: Callback | None, callback_lock: threading.Lock | None = None
    ) -> None:
        self._callback = callback
        self._error_callback = error_callback
        self._callback_lock = callback_lock or threading.Lock()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._left = 0
        self._parts: list[Any] = []
        self._is_single = False
        self._value: Any = None
        self._error: BaseException | None = None

    def __class_getitem__(cls, item: Any) -> GenericAlias:
        return GenericAlias(cls, item)

    def follow(self, futures: list[Future[Any]], *, is_single: bool = False) -> None:
        """Be done when all of these are (called once).

        Without ``is_single``, their results are lists, and they are joined.
        """
        self._is_single = is_single
        self._left = len(futures)
        self._parts = [None] * len(futures)
        if not futures:
            self._value = []
            self._done.set()
        for index, future in enumerate(futures):
            future.add_done_callback(_Part(self, index))

    def fail(self, error: BaseException) -> None:
        """Be done, with this error."""
        self._error = error
        self._finish()

    def ready(self) -> bool:
        """Return whether it is there, or has failed."""
        return self._done.is_set()

    def successful(self) -> bool:
        """Return whether nothing was raised.

        Raises ValueError when it is not ready.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is ready, or the time (in seconds) is up."""
        self._done.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Wait for it and return it.

        Raises multiprocessing.TimeoutError when the time is up, and what the function raised.
        """
        if not self._done.wait(timeout):
            raise PoolTimeoutError
        if self._error is not None:
            raise self._error
        return self._value

    def take(self, index: int, future: Future[Any]) -> None:
        """One of the futures is done."""
        error = future.exception()
        with self._lock:
            if error is None:
                self._parts[index] = future.result()
            elif self._error is None:
                self._error = error
            self._left -= 1
            if self._left:
                return
        parts, self._parts = self._parts, []
        if self._error is None:
            self._value = parts[0] if self._is_single else [item for part in parts for item in part]
        self._finish()

    def _finish(self) -> None:
        try:
            with self._callback_lock:
                if self._error is None and self._callback is not None:
                    self._callback(self._value)
                elif self._error is not None and self._error_callback is not None:
                    self._error_callback(self._error)
        finally:
            self._callback = self._error_callback = None
            self._done.set()


class _Part:
    """Tells a result of a future."""

    __slots__ = ("_index", "_result")

    def __init__(self, result: AsyncResult, index: int) -> None:
        self._result = result
        self._index = index

    def __call__(self, future: Future[Any]) -> None:
        self._result.take(self._index, future)


class IMapIterator:
    """The result of ``imap`` and ``imap_unordered``: iterate it, or ask with ``next(timeout)``.

    Args:
        is_ordered: results come in the order of the items.
    """

    def __init__(self, *, is_ordered: bool) -> None:
        self._is_ordered = is_ordered
        self._changed = threading.Condition()
        self._ready: deque[tuple[deque[Any], BaseException | None]] = deque()
        """Chunks of results, or errors, that may go out."""
        self._early: dict[int, tuple[deque[Any], BaseException | None]] = {}
        """Those that have to wait for others, by index."""
        self._arrived = 0
        self._length: int | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Wait for the next result and return it.

        Raises multiprocessing.TimeoutError when the time (in seconds) is up, and what the function raised.
        """
        deadline_s = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._ready:
                if self._arrived == self._length:
                    raise StopIteration
                left_s = None if deadline_s is None else deadline_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    raise PoolTimeoutError
                self._changed.wait(left_s)
            items, error = self._ready[0]
            if error is not None or len(items) == 1:
                self._ready.popleft()
            if error is None:
                return items.popleft()
        raise error

    def take(self, index: int, future: Future[Any]) -> None:
        """The job of that index is done."""
        error = future.exception()
        self.add(index, [] if error is not None else future.result(), error)

    def add(self, index: int, items: list[Any], error: BaseException | None) -> None:
        """Results of that index (at least one), or an error."""
        chunk = deque(items), error
        with self._changed:
            if self._is_ordered and index != self._arrived:
                self._early[index] = chunk
                return
            while chunk is not None:
                self._ready.append(chunk)
                self._arrived += 1
                following = self._early.pop(self._arrived, None)
                if following is None:
                    break
                chunk = following
            self._changed.notify_all()

    def set_length(self, length: int) -> None:
        """So many chunks and errors there are."""
        with self._changed:
            self._length = length
            self._changed.notify_all()
