"""The GCS in its shell."""

import asyncio
import random

import pytest

from actorrt.gcs import messages as m
from actorrt.gcs.actor import make_gcs
from actorrt.kernel.clock import LoopClock
from actorrt.kernel.message import Envelope, RequestFailed
from tests.unit.gcs.world import CLUSTER, node_info, raylet


class Outbox:
    def __init__(self):
        self.sent = []

    def send(self, dst, src_actor, body, request_id=0, reply_to=0):
        self.sent.append((dst, src_actor, body, reply_to))


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_a_request_is_answered_and_one_after_the_end_refused(loop):
    outbox, failures = Outbox(), []
    shell = make_gcs(
        CLUSTER, rng=random.Random(0), clock=LoopClock(loop), loop=loop, outbox=outbox, on_failure=failures.append
    )

    async def talk():
        shell.post(Envelope(raylet("a"), m.RegisterNode(node_info("a")), 3))
        shell.post(Envelope(raylet("a"), m.ListNodes(), 4))
        shell.stop()
        shell.post(Envelope(raylet("a"), m.ListNodes(), 5))

    loop.run_until_complete(talk())
    answers = {reply_to: body for _, _, body, reply_to in outbox.sent if reply_to}
    assert isinstance(answers[3], m.NodeRegistered)
    assert [info.node_id for info in answers[4].nodes] == [b"a"]
    assert isinstance(answers[5], RequestFailed)
    assert {src for _, src, _, _ in outbox.sent} == {"gcs"}
    assert failures == []
