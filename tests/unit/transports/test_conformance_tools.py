import asyncio

import pytest

from actorrt.transports import conformance_tools
from actorrt.transports.conformance_tools import ConformanceError, Recorder, expect
from actorrt.transports.errors import Closed, PeerGone


def test_expect():
    expect([1], "fine")
    with pytest.raises(ConformanceError, match="empty"):
        expect([], "empty")


@pytest.mark.asyncio
async def test_a_recorder_remembers_and_complains():
    channel, other = object(), object()
    recorder = Recorder("r").adopt(channel)
    recorder.received(channel, [[b"a", memoryview(b"b")]])
    await recorder.until_messages(1)
    assert recorder.messages == [[b"a", b"b"]]
    recorder.closed(channel, Closed())
    assert isinstance(await recorder.until_closed(Closed), Closed)
    with pytest.raises(ConformanceError, match="should have ended with"):
        await recorder.until_closed(PeerGone)
    with pytest.raises(ConformanceError, match="never see 2 messages"):
        await recorder.until_messages(2)
    recorder.received(other, [])
    await asyncio.to_thread(recorder.closed, channel, Closed())
    assert recorder.faults == [
        "received was called after closed",
        "received was called for another channel",
        "received was called without messages",
        "closed was called after closed",
        "closed was called on another thread than the loop's",
    ]
    with pytest.raises(ConformanceError):
        recorder.verify()


@pytest.mark.asyncio
async def test_a_wait_in_vain_ends(monkeypatch):
    monkeypatch.setattr(conformance_tools, "DEADLINE_S", 0.01)
    with pytest.raises(ConformanceError, match="in vain for 1 messages"):
        await Recorder("r").until_messages(1)
