"""Routers whose peers vanish, lie, talk nonsense or too much."""

import asyncio
import logging
import random

import pytest

from actorrt.kernel.errors import (
    AuthenticationError,
    InternalError,
    Overloaded,
    ProtocolMismatchError,
)
from actorrt.kernel.mailbox import Overflow
from actorrt.kernel.message import Address, Done, PeerGone
from actorrt.transports.base import Limits
from actorrt.transports.errors import BadAddress, Closed, TooLarge
from actorrt.transports.errors import Overflow as ChannelFull
from actorrt.transports.unix import UnixTransport
from actorrt.wire.handshake import Handshake, Role
from actorrt.wire.router import RouterLimits
from tests.unit.wire.world import (
    CLUSTER,
    CODEC,
    WAIT_S,
    Echo,
    Inbox,
    Numbered,
    at,
    identity,
    logged,
    world,
)


# ---- losing
@pytest.mark.asyncio
async def test_peer_gone_comes_after_the_last_message_and_once_per_actor(kind, folder):
    async with world(kind, folder) as made:
        a, inbox = made.router("a")
        second = Inbox()
        a.attach("second", second.post)
        b, _ = made.router("b")
        for number in range(1000):
            b.send(at(a), "actor", Numbered(0, number))
        await inbox.until_count(1)
        for number in range(1000, 1100):
            b.send(at(a), "actor", Numbered(0, number))
        await inbox.until_count(1100)
        b.close()
        await second.until_gone()
        assert [type(body) for body in inbox.bodies] == [Numbered] * 1100 + [PeerGone]
        assert [type(body) for body in second.bodies] == [PeerGone]
        assert a.peers() == ()
        assert a.statistics().received == 1100


@pytest.mark.asyncio
async def test_nobody_there(kind, folder):
    async with world(kind, folder) as made:
        a, inbox = made.router("a")
        nobody = Address(made.address(), "actor")
        a.send(nobody, "actor", Done())
        assert (await inbox.until_gone()).process == nobody.process
        elsewhere = Address("quic://192.0.2.1:1", "actor")
        with pytest.raises(InternalError, match="no address of"):
            await asyncio.wrap_future(a.request(elsewhere, Echo("x"), None))
        with pytest.raises(BadAddress, match="no transport"):
            a.listen("quic://127.0.0.1:0")


@pytest.mark.asyncio
async def test_a_later_send_dials_anew(folder):
    async with world("unix", folder) as made:
        a, inbox_a = made.router("a")
        address = made.address()
        a.send(Address(address, "actor"), "actor", Numbered(0, 1))
        await inbox_a.until_gone()
        b, inbox_b = made.router("b", listen=False)
        b.listen(address)
        a.send(Address(address, "actor"), "actor", Numbered(0, 2))
        await inbox_b.until_count(1)
        assert inbox_b.bodies == [Numbered(0, 2)]


@pytest.mark.asyncio
async def test_an_address_taken_over_by_another_process(folder):
    async with world("unix", folder) as made:
        loop = asyncio.get_running_loop()
        a, inbox_a = made.router("a")
        b, inbox_b = made.router("b", transports=[UnixTransport(loop, Limits())])
        former = f"{b.process},tcp://192.0.2.1:1"  # it had a second address
        with pytest.raises(InternalError, match=r"another process \(b\) answers"):
            await asyncio.wrap_future(a.request(Address(former, "actor"), Echo("x"), None))
        assert (await inbox_a.until_gone()).process == former
        assert inbox_b.envelopes == []
        # The channel is as good as any other to the process that did answer.
        a.send(at(b), "actor", Done())
        await inbox_b.until_count(1)


# ---- strangers
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"token": b"guessed"}, AuthenticationError, "could not prove the cluster's token"),
        ({"protocol_version": 2}, ProtocolMismatchError, "speaks protocol 1, this process 2"),
        ({"python_version": (3, 12)}, ProtocolMismatchError, r"runs Python 3\.11, this process 3\.12"),
        ({"cluster_id": b"d" * 16}, ProtocolMismatchError, "belongs to another cluster"),
    ],
)
async def test_strangers(kind, folder, caplog, changes, error, text):
    with logged() as log:
        await meet_stranger(kind, folder, log, changes, error, text)
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


async def meet_stranger(kind, folder, log, changes, error, text):
    async with world(kind, folder) as made:
        a, inbox_a = made.router("a", **changes)
        b, inbox_b = made.router("b")
        with pytest.raises(error, match=text):
            await asyncio.wrap_future(a.request(at(b), Echo("x"), None))
        await inbox_a.until_gone()
        await log.until("before it proved itself")
        assert inbox_b.envelopes == []
        assert b.peers() == ()


@pytest.mark.asyncio
async def test_a_driver_learns_the_cluster(kind, folder):
    async with world(kind, folder) as made:
        a, _ = made.router("a", cluster_id=b"")
        b, inbox = made.router("b")
        a.send(at(b), "actor", Done())
        await inbox.until_count(1)
        assert a.cluster_id == CLUSTER


class Raw:
    """A handler that only remembers."""

    def __init__(self):
        self.closing = asyncio.Event()
        self.messages = []

    def received(self, channel, messages):
        self.messages += messages

    def closed(self, channel, reason):
        self.closing.set()


@pytest.mark.asyncio
async def test_noise_disturbs_nobody(kind, folder, caplog):
    """A thousand random and truncated openings, while a well-behaved pair goes on talking."""
    async with world(kind, folder) as made:
        a, _ = made.router("a")
        b, inbox = made.router("b")
        transport = made.transport()
        rng = random.Random(7)
        hello = Handshake(Role.DIALER, identity("c"), "unix:///c").start()[0]
        for number in range(1000):
            raw = Raw()
            channel = transport.connect(b.process, raw)
            noise = rng.randbytes(rng.randrange(1, 200)) if number % 2 else hello[: rng.randrange(len(hello))]
            channel.send([noise])
            a.send(at(b), "actor", Numbered(0, number))
            async with asyncio.timeout(WAIT_S):
                await raw.closing.wait()
            assert raw.messages == []
        await inbox.until_count(1000)
        assert [body.number for body in inbox.bodies] == list(range(1000))
        warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert len(warnings) == 1000
        assert {r.name for r in warnings} == {"actorrt.wire"}
        assert [peer.process for peer in b.peers()] == [a.process]
        transport.close()


async def prove(made, router):
    """A channel to ``router`` that has proved itself and speaks for itself."""
    raw = Raw()
    ready = asyncio.Event()
    shake = Handshake(Role.DIALER, identity("raw"), f"unix://{made.folder}/raw")
    transport = made.transport()
    channel = transport.connect(router.process, raw)

    def received(_, messages):
        for frames in messages:
            for data in shake.receive(frames):
                channel.send([data])
        if shake.peer is not None:
            ready.set()

    raw.received = received
    for data in shake.start():
        channel.send([data])
    async with asyncio.timeout(WAIT_S):
        await ready.wait()
    return transport, channel, raw


@pytest.mark.asyncio
async def test_a_proved_peer_that_talks_nonsense_is_dropped(kind, folder):
    async with world(kind, folder) as made:
        a, _ = made.router("a")
        b, inbox = made.router("b")
        a.send(at(b), "actor", Numbered(0, 0))
        await inbox.until_count(1)
        transport, channel, raw = await prove(made, b)
        channel.send(CODEC.encode("actor", "x", Numbered(9, 9)))
        await inbox.until_count(2)
        channel.send([b"\x93garbage"])
        channel.send(CODEC.encode("actor", "x", Numbered(9, 10)))
        gone = await inbox.until_gone()
        assert "not a message" in gone.reason
        async with asyncio.timeout(WAIT_S):
            await raw.closing.wait()
        a.send(at(b), "actor", Numbered(0, 1))
        await inbox.until_count(4)
        assert inbox.bodies[-1] == Numbered(0, 1)
        assert Numbered(9, 10) not in inbox.bodies
        transport.close()


@pytest.mark.asyncio
async def test_an_unproved_peer_may_not_send_much(kind, folder):
    async with world(kind, folder) as made:
        b, inbox = made.router("b")
        transport = made.transport()
        raw = Raw()
        channel = transport.connect(b.process, raw)
        channel.send([b"x" * 100_000])
        async with asyncio.timeout(WAIT_S):
            await raw.closing.wait()
        assert inbox.envelopes == []
        transport.close()


@pytest.mark.asyncio
async def test_silence_is_not_waited_for(kind, folder, caplog):
    async with world(kind, folder) as made:
        limits = RouterLimits(handshake_timeout_s=0.01, connect_timeout_s=0.01)
        b, _ = made.router("b", limits=limits)
        transport = made.transport()
        raw = Raw()
        transport.connect(b.process, raw)
        async with asyncio.timeout(WAIT_S):
            await raw.closing.wait()
        assert "no handshake within" in caplog.text
        # And the other way round: somebody accepts and says nothing.
        mute = made.address()
        transport.listen(mute, lambda channel: Raw())
        with pytest.raises(InternalError, match="no handshake within"):
            await asyncio.wrap_future(b.request(Address(mute, "actor"), Echo("x"), None))
        transport.close()


# ---- overload
@pytest.mark.asyncio
async def test_an_overloaded_actor(kind, folder):
    async with world(kind, folder) as made:
        a, inbox_a = made.router("a")
        b, _ = made.router("b", listen=True)
        b.detach("actor")

        def full(envelope):
            if type(envelope.body) is not PeerGone:
                raise Overflow("full")

        b.attach("actor", full)
        with pytest.raises(Overloaded, match="full"):
            await asyncio.wrap_future(a.request(at(b), Echo("x"), None))
        with pytest.raises(Overloaded, match="full"):
            await asyncio.wrap_future(b.request(at(b), Echo("x"), None))
        with pytest.raises(Overflow):
            b.send(at(b), "other", Done())
        # A message nobody waits for is not lost in silence: it costs the connection.
        a.send(at(b), "actor", Done())
        await inbox_a.until_gone()


@pytest.mark.asyncio
async def test_bounded_queue_and_peers(kind, folder):
    async with world(kind, folder) as made:
        limits = RouterLimits(send_queue_messages_max=10, peers_max=2, requests_max=2)
        a, inbox = made.router("a", limits=limits)
        mute = made.address()
        transport = made.transport()
        transport.listen(mute, lambda channel: Raw())
        for _ in range(11):
            a.send(Address(mute, "actor"), "actor", Done())
        assert "wait already" in (await inbox.until_gone()).reason
        inbox.envelopes.clear()
        for index in range(3):
            a.send(Address(f"{mute}{index}", "actor"), "actor", Done())
        await inbox.until(lambda i: any("peers already" in body.reason for body in i.bodies))
        first, second = (a.request(Address(mute, "actor"), Done(), None) for _ in range(2))
        with pytest.raises(Overloaded, match="2 requests wait"):
            a.request(Address(mute, "actor"), Done(), None).result(0)
        a.close()
        assert first.exception() is not None
        assert second.exception() is not None
        transport.close()


class Stuck:
    """An established channel that refuses."""

    def __init__(self, channel, error):
        self.channel = channel
        self.error = error

    def send(self, frames):
        raise self.error

    def __getattr__(self, name):
        return getattr(self.channel, name)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "request_error"),
    [(Closed("x"), None), (ChannelFull("x"), InternalError), (TooLarge("x"), ValueError)],
)
async def test_a_channel_that_refuses(kind, folder, error, request_error):
    async with world(kind, folder) as made:
        a, inbox_a = made.router("a")
        b, inbox_b = made.router("b")
        a.send(at(b), "actor", Done())
        await inbox_b.until_count(1)
        link = a._channels[b.process]
        link.pipe = Stuck(link.pipe, error)
        future = a.request(at(b), Echo("x"), None)
        if request_error is not None:
            with pytest.raises(request_error):
                await asyncio.wrap_future(future)
        a.send(at(b), "actor", Done())
        if request_error is None:
            assert not future.done()  # the loop has not heard of the end yet
            link.pipe.close()
            link.closed(link.pipe, error)
            with pytest.raises(InternalError):
                await asyncio.wrap_future(future)
        await inbox_a.until_gone()


@pytest.mark.asyncio
async def test_an_answer_too_large(kind, folder):
    async with world(kind, folder) as made:
        a, _ = made.router("a")
        b, inbox = made.router("b")
        refused = []

        def reply(envelope):
            link = b._channels[a.process]
            send = link.pipe.send

            class Small(Stuck):
                def send(self, frames):
                    if not refused:
                        refused.append(frames)
                        raise TooLarge("too large")
                    send(frames)

            link.pipe = Small(link.pipe, None)
            b.send(envelope.src, "actor", Echo("x"), reply_to=envelope.request_id)

        inbox.reply = reply
        with pytest.raises(InternalError, match="the answer is too large"):
            await asyncio.wrap_future(a.request(at(b), Echo("x"), None))
