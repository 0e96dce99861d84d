import pytest

from actorrt.gcs import followers as followers_module
from actorrt.gcs.followers import Followers
from actorrt.kernel.message import Address
from actorrt.wire.records import ActorInfo

A, A2, B = Address("a", "owner"), Address("a", "worker"), Address("b", "owner")


@pytest.fixture
def followers():
    table = Followers()
    yield table
    table.check()


def told(followers, actor_id=b"x"):
    out = []
    followers.tell(ActorInfo(actor_id, b"", "ALIVE"), out)
    return [effect.dst for effect in out]


def test_followers_are_told_once_each(followers):
    for follower in (A, B, A):
        assert followers.add(b"x", follower)
    assert told(followers) == [A, B]
    assert told(followers, b"y") == []
    followers.remove(b"x", A)
    followers.remove(b"x", A)
    assert told(followers) == [B]
    assert followers.count() == 1


def test_drop_process_and_actor(followers):
    for actor_id in (b"x", b"y"):
        for follower in (A, A2, B):
            followers.add(actor_id, follower)
    followers.remove(b"x", A2)
    followers.check()
    followers.drop_process("a")
    assert told(followers) == told(followers, b"y") == [B]
    followers.drop_actor(b"x")
    assert told(followers) == []
    assert followers.of_process == {"b": {b"y": None}}


def test_bounded(followers, monkeypatch):
    monkeypatch.setattr(followers_module, "PEERS_MAX", 1)
    assert followers.add(b"x", A)
    assert not followers.add(b"x", B)
    assert followers.add(b"x", A)
    assert followers.add(b"y", B)
