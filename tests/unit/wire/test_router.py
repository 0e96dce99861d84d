"""Routers: messages, requests, threads. What goes wrong is in test_router_losses."""

import asyncio
import logging
import os
import threading

import msgspec
import pytest

from actorrt.kernel.errors import (
    InternalError,
    RequestTimedOut,
)
from actorrt.kernel.message import Address, Done, Envelope, PeerGone, RequestFailed
from actorrt.transports.base import Limits
from actorrt.transports.inproc import Hub, InprocTransport
from actorrt.transports.unix import UnixTransport
from actorrt.wire.records import Buffer
from actorrt.wire.router import Router
from tests.unit.wire.world import CODEC, LIMITS, WAIT_S, Echo, Loaded, Numbered, at, identity, make_transport, world


# ---- sending
@pytest.mark.asyncio
async def test_a_message_and_its_answer(kind, folder):
    async with world(kind, folder) as made:
        a, inbox_a = made.router("a")
        b, inbox_b = made.router("b")
        a.send(at(b), "actor", Numbered(1, 2))
        await inbox_b.until_count(1)
        assert inbox_b.envelopes == [Envelope(at(a), Numbered(1, 2))]
        b.send(inbox_b.envelopes[0].src, "actor", Done())
        await inbox_a.until_count(1)
        assert inbox_a.envelopes == [Envelope(at(b), Done())]
        # The answer took the same channel.
        assert [peer.channels for peer in b.peers()] == [1]
        assert b.peers()[0].description == "a"
        assert a.statistics().sent == 1
        assert a.statistics().received == 1
        assert a.statistics().peers == 1


@pytest.mark.asyncio
async def test_what_is_sent_before_the_channel_stands_keeps_its_order(kind, folder):
    async with world(kind, folder) as made:
        a, _ = made.router("a")
        b, inbox = made.router("b")
        for number in range(100):
            a.send(at(b), "actor", Numbered(0, number))
        assert a.statistics().queued == 100
        await inbox.until_count(1)
        for number in range(100, 200):
            a.send(at(b), "actor", Numbered(0, number))
        await inbox.until_count(200)
        assert [body.number for body in inbox.bodies] == list(range(200))


@pytest.mark.asyncio
async def test_large_blocks_travel_as_frames(kind, folder):
    async with world(kind, folder) as made:
        a, _ = made.router("a")
        b, inbox = made.router("b")
        data = os.urandom(3 << 20)
        a.send(at(b), "actor", Loaded(Buffer(data)))
        await inbox.until_count(1)
        assert bytes(inbox.bodies[0].data.data) == data


@pytest.mark.asyncio
async def test_simultaneous_dials(kind, folder):
    async with world(kind, folder) as made:
        a, inbox_a = made.router("a")
        b, inbox_b = made.router("b")
        for number in range(50):
            a.send(at(b), "actor", Numbered(0, number))
            b.send(at(a), "actor", Numbered(1, number))
        await inbox_a.until_count(50)
        await inbox_b.until_count(50)
        for number in range(50, 100):
            a.send(at(b), "actor", Numbered(0, number))
            b.send(at(a), "actor", Numbered(1, number))
        await inbox_a.until_count(100)
        await inbox_b.until_count(100)
        assert [body.number for body in inbox_a.bodies] == list(range(100))
        assert [body.number for body in inbox_b.bodies] == list(range(100))
        # Whatever the number of channels: one loss, told once.
        b.close()
        gone = await inbox_a.until_gone()
        assert gone.process == b.process
        assert sum(type(body) is PeerGone for body in inbox_a.bodies) == 1


@pytest.mark.asyncio
async def test_to_the_own_process(kind, folder):
    async with world(kind, folder) as made:
        a, inbox = made.router("a")
        a.send(at(a), "other", Numbered(1, 2))
        a.send(Address("", "actor"), "other", Numbered(1, 3))
        assert inbox.envelopes == [Envelope(at(a, "other"), Numbered(1, n)) for n in (2, 3)]
        assert a.peers() == ()
        inbox.reply = lambda envelope: a.send(envelope.src, "actor", Done(), reply_to=envelope.request_id)
        assert a.request(at(a), Echo("x"), WAIT_S).result(0) == Done()


@pytest.mark.asyncio
async def test_several_addresses(folder):
    """A process with an inproc and a unix address is reached by the first usable one, under whichever name."""
    async with world("unix", folder) as made:
        loop = asyncio.get_running_loop()
        b, inbox = made.router(
            "b", transports=[InprocTransport(loop, Limits(), made.hub), UnixTransport(loop, Limits())], listen=False
        )
        b.listen("inproc://b")
        b.listen(made.address())
        assert len(b.process.split(",")) == 2
        far, _ = made.router("far")  # unix only
        near, _ = made.router("near", transports=[InprocTransport(loop, Limits(), made.hub)], listen=False)
        far.send(at(b), "actor", Numbered(1, 1))
        near.send(at(b), "actor", Numbered(2, 1))
        # By one of the addresses only: the same peer, once it has said its name.
        one_name = b.process.split(",")[1]
        far.send(Address(one_name, "actor"), "actor", Numbered(1, 2))
        await inbox.until_count(3)
        far.send(Address(one_name, "actor"), "actor", Numbered(1, 3))
        far.send(at(b), "actor", Numbered(1, 4))
        await inbox.until_count(5)
        assert [peer.process for peer in far.peers()] == [b.process]


@pytest.mark.asyncio
async def test_a_process_that_listens_nowhere_gets_its_answers(kind, folder):
    async with world(kind, folder) as made:
        a, inbox_a = made.router("a", listen=False)
        b, inbox_b = made.router("b")
        a.send(at(b), "actor", Numbered(1, 1))
        await inbox_b.until_count(1)
        src = inbox_b.envelopes[0].src
        assert src.process.startswith("none://")
        b.send(src, "actor", Done())
        await inbox_a.until_count(1)
        with pytest.raises(RuntimeError, match="listen first"):
            a.listen(made.address())


@pytest.mark.asyncio
async def test_messages_for_unknown_actors(kind, folder, caplog):
    caplog.set_level(logging.DEBUG, "actorrt.wire")
    async with world(kind, folder) as made:
        a, _ = made.router("a")
        b, inbox = made.router("b")
        failed = a.request(at(b, "nobody"), Echo("x"), WAIT_S)
        with pytest.raises(InternalError, match="no actor 'nobody'"):
            await asyncio.wrap_future(failed)
        with pytest.raises(InternalError, match="no actor 'nobody'"):
            a.request(at(a, "nobody"), Echo("x"), WAIT_S).result(0)
        a.send(at(b, "nobody"), "actor", Done())
        b.detach("actor")
        b.attach("actor", inbox.post)
        with pytest.raises(ValueError, match="attached already"):
            b.attach("actor", inbox.post)
        a.send(at(b), "actor", Done())
        await inbox.until_count(1)
        assert "Done from actor@" in caplog.text


# ---- requests
@pytest.mark.asyncio
async def test_requests(kind, folder):
    async with world(kind, folder) as made:
        a, _ = made.router("a")
        b, inbox = made.router("b")

        def reply(envelope):
            body = envelope.body
            answer = RequestFailed("ActorNotFoundError", "who?") if body.text == "bad" else Echo(body.text.upper())
            if body.text != "silence":
                b.send(envelope.src, "actor", answer, reply_to=envelope.request_id)

        inbox.reply = reply
        futures = [a.request(at(b), Echo(f"n{n}"), WAIT_S) for n in range(20)]
        answers = await asyncio.gather(*map(asyncio.wrap_future, futures))
        assert answers == [Echo(f"N{n}") for n in range(20)]
        with pytest.raises(ValueError, match=r"who\?") as caught:
            await asyncio.wrap_future(a.request(at(b), Echo("bad"), None))
        assert type(caught.value).__name__ == "ActorNotFoundError"
        with pytest.raises(RequestTimedOut, match=r"did not answer Echo within 0\.01 s"):
            await asyncio.wrap_future(a.request(at(b), Echo("silence"), 0.01))
        assert a.statistics().requests == 0


@pytest.mark.asyncio
async def test_a_request_fails_with_its_peer(kind, folder):
    async with world(kind, folder) as made:
        a, inbox_a = made.router("a")
        b, inbox_b = made.router("b")
        future = a.request(at(b), Echo("x"), None)
        await inbox_b.until_count(1)
        b.close()
        with pytest.raises(InternalError, match=r"Echo to actor@.*gone"):
            await asyncio.wrap_future(future)
        assert (await inbox_a.until_gone()).process == b.process
        # Nobody is there any more: told again for a later attempt, which is made anew.
        inbox_a.envelopes.clear()
        with pytest.raises(InternalError):
            await asyncio.wrap_future(a.request(at(b), Echo("x"), None))
        await inbox_a.until_gone()
        assert a.peers() == ()


@pytest.mark.asyncio
async def test_close_fails_requests(kind, folder):
    async with world(kind, folder) as made:
        a, _ = made.router("a")
        b, inbox = made.router("b")
        future = a.request(at(b), Echo("x"), None)
        await inbox.until_count(1)
        a.close()
        a.close()
        with pytest.raises(InternalError, match="shutting down"):
            future.result(0)
        with pytest.raises(InternalError, match="shutting down"):
            a.request(at(b), Echo("x"), None).result(0)
        a.send(at(b), "actor", Done())
        await inbox.until_gone()


@pytest.mark.asyncio
async def test_what_cannot_travel_is_told_at_once(kind, folder):
    async with world(kind, folder) as made:
        a, _ = made.router("a")
        b, _ = made.router("b")
        with pytest.raises(TypeError, match="object cannot travel"):
            a.request(at(b), Echo(object()), None)
        assert a.statistics().requests == 0


# ---- threads
class Elsewhere:
    """A router on a loop of its own thread."""

    def __init__(self, make):
        self.loop = asyncio.new_event_loop()
        self.router = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make,))
        self._thread.start()
        self._ready.wait(WAIT_S)

    def _run(self, make):
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._begin, make)
        self.loop.run_forever()
        self.loop.close()

    def _begin(self, make):
        self.router = make(self.loop)
        self._ready.set()

    def close(self):
        def end():
            self.router.close()
            self.loop.call_later(0.01, self.loop.stop)

        self.loop.call_soon_threadsafe(end)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


class Counting:
    """Counts on whichever thread; tells when it has seen enough."""

    def __init__(self, count):
        self.bodies = []
        self.count = count
        self.enough = threading.Event()
        self.threads = set()

    def post(self, envelope):
        self.threads.add(threading.get_ident())
        self.bodies.append(envelope.body)
        if len(self.bodies) == self.count:
            self.enough.set()


def test_threads_hammering(kind, folder):
    """Four threads send to two routers on two other threads, from before the channel stands: order per sender is
    kept."""
    hub = Hub()
    senders, messages = 4, 500

    def make(name):
        def made(loop):
            router = Router(loop, [make_transport(kind, loop, hub)], lambda: CODEC, identity(name), LIMITS)
            router.listen(f"inproc://{name}" if kind == "inproc" else f"{kind}://{folder}/{name}")
            return router

        return made

    sides = [Elsewhere(make(name)) for name in "abc"]
    try:
        a, b, c = (side.router for side in sides)
        inboxes = [Counting(senders * messages) for _ in range(2)]
        for router, inbox in zip((b, c), inboxes, strict=True):
            router.attach("actor", inbox.post)
        start = threading.Barrier(senders)
        data = Buffer(b"y" * 1000)

        def hammer(sender):
            start.wait(WAIT_S)
            for number in range(messages):
                for router in (b, c):
                    a.send(at(router), "actor", Numbered(sender, number))
                if number % 50 == 0:
                    a.send(at(b, "nobody"), "actor", Loaded(data))  # buffers of several threads do not mix

        threads = [threading.Thread(target=hammer, args=(sender,)) for sender in range(senders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        for inbox in inboxes:
            assert inbox.enough.wait(WAIT_S)
            for sender in range(senders):
                assert [body.number for body in inbox.bodies if body.sender == sender] == list(range(messages))
            assert len(inbox.threads) == 1  # the loop's
        futures = [a.request(at(b, "nobody"), Echo("x"), WAIT_S) for _ in range(10)]
        for future in futures:
            with pytest.raises(InternalError, match="no actor"):
                future.result(WAIT_S)
    finally:
        for side in sides:
            side.close()


def test_identity_is_frozen_and_keeps_its_secret():
    with pytest.raises(AttributeError):
        identity("a").token = b"x"
    assert "token" not in repr(identity("a"))
    assert msgspec.structs.replace(identity("a"), cluster_id=b"").cluster_id == b""
