"""What every transport needs of its event loop: reach it from any thread, and survive a handler that raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actorrt.transports.base import Channel, Frame, Handler


class LoopSide:
    """One event loop as seen from its own thread and from others."""

    __slots__ = ("loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def is_here(self) -> bool:
        """Whether the caller runs on the loop's thread, inside the loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def soon(self, callback: Callable[[], None]) -> bool:
        """Call back in one of the loop's next turns; False when the loop is closed and never will."""
        try:
            if self.is_here():
                self.loop.call_soon(callback)
            else:
                self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            if not self.loop.is_closed():
                raise
            return False
        return True

    def received(self, handler: Handler, channel: Channel, messages: list[list[Frame]]) -> None:
        try:
            handler.received(channel, messages)
        except Exception as error:  # noqa: BLE001 - one handler's bug must not reach another's channel
            self._report(f"{handler!r}.received raised", error)

    def closed(self, handler: Handler, channel: Channel, reason: Exception) -> None:
        try:
            handler.closed(channel, reason)
        except Exception as error:  # noqa: BLE001 - as above; the other channels still have to hear
            self._report(f"{handler!r}.closed raised", error)

    def _report(self, text: str, error: Exception) -> None:
        self.loop.call_exception_handler({"message": text, "exception": error})
