"""What the conformance checks are written with: a pair of transports, and handlers that remember and can be waited for.

Nothing here waits for time to pass: every wait is for an event, and the deadline only turns a hang into a failure.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from actorrt.transports.base import Channel, Frame, Limits, Listener, Transport

DEADLINE_S: Final = 15.0


class ConformanceError(Exception):
    """A transport broke a promise of ``transports.base``."""


def expect(condition: object, text: str) -> None:
    if not condition:
        raise ConformanceError(text)


@dataclass(slots=True, kw_only=True)
class Pair:
    """Two transports that can reach each other, for one check."""

    server: Transport
    client: Transport
    new_address: Callable[[], str]
    """A fresh address to listen at."""
    limits: Limits
    after: Callable[[], None] = lambda: None
    """Called when both are closed; raises if they left something behind."""


MakePair = Callable[[asyncio.AbstractEventLoop, Limits], Pair]
Check = Callable[[MakePair], Awaitable[None]]


class Recorder:
    """A handler that remembers, complains about impossible sequences, and can be waited for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.channel: Channel | None = None
        self.messages: list[list[bytes]] = []
        self.reasons: list[Exception] = []
        self.faults: list[str] = []
        self.on_message: Callable[[Channel, list[bytes]], None] | None = None
        self._changed = asyncio.Event()
        self._thread = threading.get_ident()

    def __repr__(self) -> str:
        return f"<Recorder {self.name}: {len(self.messages)} messages, {self.reasons}>"

    def adopt(self, channel: Channel) -> Recorder:
        self.channel = channel
        self._changed.set()
        return self

    def received(self, channel: Channel, messages: list[list[Frame]]) -> None:
        self._check_call(channel, "received")
        if not messages:
            self.faults.append("received was called without messages")
        for message in messages:
            copied = [bytes(frame) for frame in message]
            self.messages.append(copied)
            if self.on_message is not None:
                self.on_message(channel, copied)
        self._changed.set()

    def closed(self, channel: Channel, reason: Exception) -> None:
        self._check_call(channel, "closed")
        self.reasons.append(reason)
        self._changed.set()

    def _check_call(self, channel: Channel, what: str) -> None:
        if self.reasons:
            self.faults.append(f"{what} was called after closed")
        if threading.get_ident() != self._thread:
            self.faults.append(f"{what} was called on another thread than the loop's")
        if self.channel is not None and channel is not self.channel:
            self.faults.append(f"{what} was called for another channel")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    if self.reasons:
                        raise ConformanceError(f"{self!r} ended and will never see {what}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise ConformanceError(f"{self!r} waited in vain for {what}") from None
        self.verify()

    async def until_messages(self, count: int) -> None:
        await self.until(lambda: len(self.messages) >= count, f"{count} messages")

    async def until_closed(self, *kinds: type[Exception]) -> Exception:
        await self.until(lambda: bool(self.reasons), "closed")
        reason = self.reasons[0]
        expect(isinstance(reason, kinds), f"{self!r} should have ended with {kinds}")
        return reason

    def verify(self) -> None:
        expect(not self.faults, f"{self!r}: {self.faults}")


class Bench:
    """One pair of transports, a listener, and a way to get connected channels."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.accepted: list[Recorder] = []
        self.recorders: list[Recorder] = []
        self.on_accept: Callable[[Channel, Recorder], None] | None = None
        self._accepted = asyncio.Event()
        self.listener: Listener = pair.server.listen(pair.new_address(), self._accept)

    def _accept(self, channel: Channel) -> Recorder:
        recorder = Recorder(f"accepted {len(self.accepted)}").adopt(channel)
        self.accepted.append(recorder)
        self.recorders.append(recorder)
        if self.on_accept is not None:
            self.on_accept(channel, recorder)
        self._accepted.set()
        return recorder

    def dial(self, address: str | None = None) -> tuple[Channel, Recorder]:
        recorder = Recorder(f"dialled {len(self.recorders)}")
        channel = self.pair.client.connect(address or self.listener.address, recorder)
        recorder.adopt(channel)
        self.recorders.append(recorder)
        return channel, recorder

    async def until_accepted(self, count: int) -> Recorder:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while len(self.accepted) < count:
                    self._accepted.clear()
                    await self._accepted.wait()
        except TimeoutError:
            raise ConformanceError(f"waited in vain for connection {count}") from None
        return self.accepted[count - 1]

    async def connect(self) -> tuple[Channel, Recorder, Channel, Recorder]:
        """Our channel, our recorder, their channel, their recorder."""
        channel, recorder = self.dial()
        theirs = await self.until_accepted(len(self.accepted) + 1)
        assert theirs.channel is not None
        return channel, recorder, theirs.channel, theirs

    def finish(self) -> None:
        """Close both sides; every channel must have ended exactly once by then."""
        self.pair.client.close()
        self.pair.server.close()
        self.pair.client.close()  # idempotent
        for recorder in self.recorders:
            recorder.verify()
            expect(len(recorder.reasons) == 1, f"{recorder!r} should have ended exactly once")
        self.pair.after()
