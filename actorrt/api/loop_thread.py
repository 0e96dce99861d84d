"""The event loop of a process, on a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

STOP_TIMEOUT_S = 5.0


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Uvloop where it exists, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class LoopThread:
    """Runs an event loop until ``stop``."""

    def __init__(self, name: str) -> None:
        self.loop = new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start and wait until the loop turns."""
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._started.set)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def call(self, function: Callable[[], T], timeout_s: float = 30.0) -> T:
        """Run ``function`` on the loop's thread and return what it returns (or raise what it raises)."""
        if threading.current_thread() is self._thread:
            return function()
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                future.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return future.result(timeout_s)

    def call_later(self, delay_s: float, function: Callable[[], None]) -> None:
        """Run ``function`` on the loop's thread after ``delay_s`` (any thread), unless the loop has stopped by then."""
        with contextlib.suppress(RuntimeError):  # it is closed already
            self.loop.call_soon_threadsafe(self.loop.call_later, delay_s, function)

    def stop(self) -> None:
        """Stop the loop and end the thread (idempotent)."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            if threading.current_thread() is not self._thread:
                self._thread.join(STOP_TIMEOUT_S)

    def __repr__(self) -> str:
        return f"LoopThread({self._thread.name}, alive={self._thread.is_alive()})"
