import asyncio

import pytest
import zmq

from actorrt.transports.base import Limits
from actorrt.transports.conformance_tools import Recorder
from actorrt.transports.zeromq import ZeromqTransport
from actorrt.transports.zeromq_channel import WINDOW_BYTES, milliseconds


def test_milliseconds_never_become_zero():
    assert [milliseconds(duration_s) for duration_s in (0.0, 0.0004, 0.05, 5.0)] == [1, 1, 50, 5000]


@pytest.mark.asyncio
async def test_no_more_than_a_window_is_handed_to_libzmq():
    transport = ZeromqTransport(asyncio.get_running_loop(), Limits())
    with zmq.Context() as context, context.socket(zmq.ROUTER) as deaf:
        deaf.linger = 0
        port = deaf.bind_to_random_port("tcp://127.0.0.1")
        channel = transport.connect(f"tcp://127.0.0.1:{port}", Recorder("ours"))
        for size_bytes in (10, 1 << 20):
            while channel.pending_bytes == 0:
                channel.send([bytes(size_bytes)])
            assert 0 <= channel._credit_bytes < WINDOW_BYTES
            channel._outbox.clear()
        transport.close()
