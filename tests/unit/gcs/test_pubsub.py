import pytest

from actorrt.gcs import pubsub as pubsub_module
from actorrt.gcs.messages import Publish
from actorrt.gcs.pubsub import PubSub
from actorrt.kernel.effects import Send
from actorrt.kernel.message import Address
from actorrt.owner.messages import Published

A, B = Address("a", "owner"), Address("b", "owner")


@pytest.fixture
def pubsub():
    table = PubSub()
    yield table
    table.check()


def published(pubsub, channel="c"):
    out = []
    pubsub.publish(Publish(channel, b"x"), out)
    assert all(effect == Send(effect.dst, Published(channel, b"x")) for effect in out)
    return [effect.dst for effect in out]


def test_subscribers_hear_their_channel_in_order_of_arrival(pubsub):
    assert published(pubsub) == []
    for subscriber in (B, A, B):
        assert pubsub.subscribe("c", subscriber)
    pubsub.subscribe("d", A)
    assert published(pubsub) == [B, A]
    assert published(pubsub, "d") == [A]
    pubsub.unsubscribe("c", B)
    pubsub.unsubscribe("c", B)
    assert published(pubsub) == [A]


def test_a_process_that_is_gone_hears_nothing(pubsub):
    pubsub.subscribe("c", A)
    pubsub.subscribe("c", Address("a", "worker"))
    pubsub.subscribe("d", A)
    pubsub.subscribe("c", B)
    pubsub.drop_process("a")
    assert published(pubsub) == [B]
    assert pubsub.count == 1
    assert list(pubsub.channels) == ["c"]


def test_bounded(pubsub, monkeypatch):
    monkeypatch.setattr(pubsub_module, "PARKED_REQUESTS_MAX", 1)
    assert pubsub.subscribe("c", A)
    assert pubsub.subscribe("c", A)
    assert not pubsub.subscribe("c", B)
    assert not pubsub.subscribe("d", A)
    assert list(pubsub.channels) == ["c"]
