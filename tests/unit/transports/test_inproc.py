import asyncio
import threading

import pytest

from actorrt.transports.base import Limits
from actorrt.transports.conformance_tools import Recorder
from actorrt.transports.errors import BadAddress, Closed, PeerGone
from actorrt.transports.inproc import MESSAGES_PER_TURN_MAX, Hub, InprocTransport


def new_transport(hub):
    return InprocTransport(asyncio.get_running_loop(), Limits(), hub)


@pytest.mark.asyncio
async def test_hubs_are_worlds_of_their_own():
    one, other = new_transport(Hub()), new_transport(Hub())
    recorder = Recorder("accepted")
    one.listen("inproc://name", recorder.adopt)
    other.listen("inproc://name", recorder.adopt)
    with pytest.raises(BadAddress, match="taken"):
        one.listen("inproc://name", recorder.adopt)
    stranger = new_transport(Hub())
    lost = Recorder("lost")
    stranger.connect("inproc://name", lost)
    reason = await lost.until_closed(PeerGone)
    assert "nobody listens" in str(reason)
    for transport in (one, other, stranger):
        transport.close()


@pytest.mark.asyncio
async def test_receivers_share_no_memory_with_senders():
    transport = new_transport(Hub())
    kept = []

    class Keeper(Recorder):
        def received(self, channel, messages):
            kept.extend(messages)
            super().received(channel, messages)

    keeper = Keeper("accepted")
    transport.listen("inproc://name", keeper.adopt)
    channel = transport.connect("inproc://name", Recorder("ours"))
    mutable = bytearray(b"before")
    constant = b"constant"
    channel.send([mutable, memoryview(mutable)[:3], constant])
    await keeper.until_messages(1)
    assert channel.pending_bytes == 0
    mutable[:] = b"after!"
    assert kept == [[b"before", b"bef", b"constant"]]
    assert kept[0][2] is constant
    transport.close()


@pytest.mark.asyncio
async def test_a_long_inbox_leaves_the_loop_room():
    transport = new_transport(Hub())
    sizes = []

    class Counter(Recorder):
        def received(self, channel, messages):
            sizes.append(len(messages))
            super().received(channel, messages)

    counter = Counter("accepted")
    transport.listen("inproc://name", counter.adopt)
    channel = transport.connect("inproc://name", Recorder("ours"))
    for _ in range(MESSAGES_PER_TURN_MAX + 10):
        channel.send([b"x"])
    await counter.until_messages(MESSAGES_PER_TURN_MAX + 10)
    assert sizes == [MESSAGES_PER_TURN_MAX, 10]
    transport.close()


@pytest.mark.asyncio
async def test_a_peer_whose_loop_was_closed_is_gone():
    hub = Hub()
    listening = threading.Event()
    finish = threading.Event()

    def run():
        async def main():
            InprocTransport(asyncio.get_running_loop(), Limits(), hub).listen("inproc://name", Recorder("x").adopt)
            listening.set()
            await asyncio.to_thread(finish.wait)

        asyncio.run(main())  # the transport is deliberately left open

    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(listening.wait)
    transport = new_transport(hub)
    ours, late = Recorder("ours"), Recorder("late")
    channel = transport.connect("inproc://name", ours)
    finish.set()
    await asyncio.to_thread(thread.join)
    with pytest.raises(Closed):
        for _ in range(2):  # the first may still find the wake-up of the connection pending
            channel.send([b"hello?"])
            channel._other._waking = False
    await ours.until_closed(PeerGone)
    transport.connect("inproc://name", late)
    await late.until_closed(PeerGone)
    transport.close()


def test_representations_tell_what_matters():
    async def main():
        hub = Hub()
        transport = new_transport(hub)
        listener = transport.listen("inproc://name", Recorder("x").adopt)
        channel = transport.connect("inproc://name", Recorder("y"))
        assert "name" in repr(hub)
        assert "name" in repr(listener)
        assert "open" in repr(channel)
        transport.close()
        assert "closed" in repr(channel)
        assert "closed" in repr(listener)

    asyncio.run(main())
