"""A link between a scripted channel and a scripted office."""

import asyncio
import os

import pytest

from actorrt.kernel.limits import HELLO_BYTES_MAX
from actorrt.wire.handshake import Handshake, Identity, Role
from actorrt.wire.peers import SOURCES_CACHED_MAX, Link, Peer


def handshake(role):
    identity = Identity(
        description=role.name,
        cluster_id=b"",
        token=b"t",
        protocol_version=1,
        python_version=(3, 11),
        random_bytes=os.urandom,
    )
    return Handshake(role, identity, f"unix:///{role.name}")


class Pipe:
    peer = "somebody"
    pending_bytes = 5

    def __init__(self):
        self.sent = []
        self.closed = 0
        self.bytes_max = None

    def send(self, frames):
        self.sent.append(frames)

    def close(self):
        self.closed += 1

    def set_message_bytes_max(self, bytes_max):
        self.bytes_max = bytes_max


class Office:
    def __init__(self, loop):
        self.loop = loop
        self.told = []

    def say(self, link, messages):
        for message in messages:
            link.pipe.send([message])

    def proved(self, link, proved):
        link.peer = Peer(proved.process)
        link.peer.links.append(link)
        self.told.append("proved")

    def not_proved(self, link, reason):
        self.told.append(f"not proved: {reason}")
        link.end()

    def received(self, link, messages):
        self.told.append(messages)

    def link_closed(self, link, reason):
        self.told.append(f"closed: {reason}")


@pytest.fixture
def office():
    loop = asyncio.new_event_loop()
    yield Office(loop)
    loop.close()


def established(office):
    """A proved link, with a message that came in the same read as the proof."""
    link, pipe = Link(office, handshake(Role.ACCEPTER), None), Pipe()
    link.begin(pipe, 5.0)
    assert pipe.bytes_max == HELLO_BYTES_MAX
    other = handshake(Role.DIALER)
    link.received(pipe, [[other.start()[0]]])
    proofs = [proof for frames in pipe.sent for proof in other.receive(frames)]
    link.received(pipe, [proofs, [b"first"], [b"second"]])
    return link, pipe


def test_from_handshake_to_messages(office):
    link, pipe = established(office)
    assert office.told == ["proved", [[b"first"], [b"second"]]]
    link.received(pipe, [[b"third"]])
    assert office.told[-1] == [[b"third"]]
    assert link.name == "unix:///DIALER"
    assert "established" in repr(link)
    link.closed(pipe, ValueError("gone"))
    link.closed(pipe, ValueError("again"))
    assert office.told[3:] == ["closed: gone"]
    assert "ended" in repr(link)


def test_a_failed_handshake(office):
    link, pipe = Link(office, handshake(Role.ACCEPTER), None), Pipe()
    assert link.name == "a peer"
    link.begin(pipe, 5.0)
    assert link.name == "somebody"
    assert "opening" in repr(link)
    link.received(pipe, [[b"noise"], [b"more"]])
    link.received(pipe, [[b"more"]])
    assert office.told == ["not proved: peer sent something else than a handshake"]
    assert pipe.closed == 1
    assert pipe.sent == []


def test_an_early_end(office):
    link, pipe = Link(office, handshake(Role.DIALER), None), Pipe()
    link.begin(pipe, 5.0)
    assert len(pipe.sent) == 1
    link.closed(pipe, ValueError("refused"))
    assert office.told == ["not proved: refused"]
    Link(office, handshake(Role.DIALER), None).end()  # before there is a channel


def test_a_handshake_takes_too_long(office):
    link = Link(office, handshake(Role.DIALER), None)
    link.begin(Pipe(), 0.001)
    office.loop.call_later(0.01, office.loop.stop)
    office.loop.run_forever()
    assert office.told == ["not proved: no handshake within 0.001 s"]


def test_sources_are_cached_and_bounded(office):
    link, _ = established(office)
    assert link.source("owner") is link.source("owner")
    assert link.source("owner").process == "unix:///DIALER"
    for number in range(2 * SOURCES_CACHED_MAX):
        assert link.source(str(number)).actor == str(number)
    assert len(link.sources) == SOURCES_CACHED_MAX


def test_a_peer_describes_itself(office):
    link, _ = established(office)
    peer = link.peer
    assert peer.information().pending_bytes == 5
    assert peer.information().channels == 1
    assert "1 channels" in repr(peer)
    assert "being dialled" in repr(Peer("x"))
    peer.lost = True
    assert "lost" in repr(peer)
