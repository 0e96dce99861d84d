"""The suite must be able to fail: transports broken in one way each, and the same transport unbroken."""

import asyncio
import itertools

import pytest

from actorrt.transports import conformance_tools
from actorrt.transports.base import Limits
from actorrt.transports.conformance import check_transport
from actorrt.transports.conformance_tools import ConformanceError, Pair
from actorrt.transports.inproc import Hub, InprocTransport


class Mangler:
    """A handler before the handler, that does what a broken transport would do."""

    def __init__(self, handler, how):
        self.handler = handler
        self.how = how

    def received(self, channel, messages):
        if self.how == "reorders":
            messages = messages[::-1]
        elif self.how == "duplicates":
            messages = [*messages, messages[-1]]
        elif self.how == "loses":
            messages = messages[:-1] if len(messages) > 1 else messages
        elif self.how == "merges frames":
            messages = [[b"".join(message)] for message in messages]
        elif self.how == "truncates":
            messages = [[frame[:262_144] for frame in message] for message in messages]
        self.handler.received(channel, messages)

    def closed(self, channel, reason):
        if self.how == "never tells":
            return
        if self.how == "tells nonsense":
            reason = RuntimeError("what?")
        self.handler.closed(channel, reason)
        if self.how == "tells twice":
            self.handler.closed(channel, reason)


class Broken(InprocTransport):
    def __init__(self, loop, limits, hub, how):
        if how == "unbounded":
            limits = Limits()
        super().__init__(loop, limits, hub)
        self.how = how

    def listen(self, address, accept):
        return super().listen(address, lambda channel: Mangler(accept(channel), self.how))

    def connect(self, address, handler):
        return super().connect(address, Mangler(handler, self.how))


def broken_pairs(how):
    numbers = itertools.count()
    hub = Hub()

    def make_pair(loop, limits):
        return Pair(
            server=Broken(loop, limits, hub, how),
            client=Broken(loop, limits, hub, how),
            new_address=lambda: f"inproc://{next(numbers)}",
            limits=limits,
        )

    return make_pair


@pytest.mark.parametrize(
    "how",
    [
        "reorders",
        "duplicates",
        "loses",
        "merges frames",
        "truncates",
        "never tells",
        "tells nonsense",
        "tells twice",
        "unbounded",
    ],
)
def test_the_suite_fails_on_a_broken_transport(how, monkeypatch):
    monkeypatch.setattr(conformance_tools, "DEADLINE_S", 0.2)
    with pytest.raises(ConformanceError):
        asyncio.run(check_transport(broken_pairs(how)))


def test_the_suite_passes_on_the_same_transport_unbroken():
    asyncio.run(check_transport(broken_pairs("not at all")))
