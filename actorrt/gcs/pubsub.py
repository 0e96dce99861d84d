"""Channels: whoever subscribed hears what is published from then on, in order, while connected."""

from __future__ import annotations

from actorrt.gcs.messages import Publish
from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.limits import PARKED_REQUESTS_MAX
from actorrt.kernel.message import Address
from actorrt.owner.messages import Published


class PubSub:
    """Subscribers by channel."""

    def __init__(self) -> None:
        self.channels: dict[str, dict[Address, None]] = {}
        self.count = 0

    def subscribe(self, channel: str, subscriber: Address) -> bool:
        """Add a subscriber (twice is once); False when there are too many."""
        if self.count >= PARKED_REQUESTS_MAX and subscriber not in self.channels.get(channel, {}):
            return False
        subscribers = self.channels.setdefault(channel, {})
        self.count += subscriber not in subscribers
        subscribers[subscriber] = None
        return True

    def unsubscribe(self, channel: str, subscriber: Address) -> None:
        """Remove a subscriber, if it is one."""
        subscribers = self.channels.get(channel, {})
        if subscriber in subscribers:
            del subscribers[subscriber]
            self.count -= 1
            if not subscribers:
                del self.channels[channel]

    def publish(self, message: Publish, out: list[Effect]) -> None:
        """Hand a message to the channel's subscribers."""
        body = Published(message.channel, message.data)
        out.extend(Send(subscriber, body) for subscriber in self.channels.get(message.channel, {}))

    def drop_process(self, process: str) -> None:
        """Remove the subscribers of a process that is gone."""
        for channel, subscribers in list(self.channels.items()):
            for subscriber in [address for address in subscribers if address.process == process]:
                self.unsubscribe(channel, subscriber)

    def check(self) -> None:
        """Assert that subscribers are counted right and no channel is empty."""
        assert sum(map(len, self.channels.values())) == self.count <= PARKED_REQUESTS_MAX, self.count
        assert all(self.channels.values()), "an empty channel is kept"
