"""The wiring: a raylet in a shell says that it is there."""

import asyncio
import random

from actorrt.gcs.messages import LoadReported
from actorrt.kernel.message import Envelope
from actorrt.raylet import messages
from actorrt.raylet.actor import RAYLET, begin, make_raylet
from actorrt.raylet.operations import StartWorker
from tests.unit.raylet.harness import DRIVER, GCS, job, node_info, spec


class StillClock:
    def now(self):
        return 5.0


class Outbox:
    def __init__(self):
        self.sent = []

    def send(self, dst, src_actor, body, request_id=0, reply_to=0):
        self.sent.append((dst, src_actor, body))


def test_a_raylet_in_its_shell():
    loop = asyncio.new_event_loop()
    try:
        outbox, performed, rng = Outbox(), [], random.Random(1)
        shell = make_raylet(
            node_info(),
            GCS,
            rng=rng,
            random_bytes=rng.randbytes,
            clock=StillClock(),
            loop=loop,
            outbox=outbox,
            perform=performed.append,
            on_failure=print,
        )
        begin(shell)
        [(dst, src_actor, body)] = outbox.sent
        assert (dst, src_actor) == (GCS, RAYLET)
        assert isinstance(body, LoadReported)
        shell.post(Envelope(GCS, messages.JobStarted(job())))
        shell.post(Envelope(DRIVER, messages.RequestLeases(1, spec(), 1)))
        assert [type(operation) for operation in performed] == [StartWorker]
        shell.stop()
        assert shell.failure is None
    finally:
        loop.close()
