"""The wiring: an object manager in a shell."""

import asyncio

from actorrt.kernel.message import Envelope
from actorrt.objects.actor import OBJECTS, make_object_manager
from actorrt.objects.messages import Attach, Attached, StoreAnswered
from actorrt.objects.operations import Open, Watch
from tests.unit.objects.harness import ALICE, FACTS, ME, RAYLET


class StillClock:
    def now(self):
        return 5.0


class Outbox:
    def __init__(self):
        self.sent = []

    def send(self, dst, src_actor, body, request_id=0, reply_to=0):
        self.sent.append((dst, src_actor, body, reply_to))


def test_an_object_manager_in_its_shell():
    loop = asyncio.new_event_loop()
    try:
        outbox, performed = Outbox(), []
        shell = make_object_manager(
            ME,
            RAYLET,
            FACTS,
            bulk_endpoint="bulk",
            clock=StillClock(),
            loop=loop,
            outbox=outbox,
            perform=performed.append,
            on_failure=print,
        )
        assert ME.actor == OBJECTS
        shell.post(Envelope(ALICE, Attach(7), 3))
        assert performed == [Open(1)]
        shell.post(Envelope(ME, StoreAnswered(1)))
        assert performed[1:] == [Watch("alice", 7)]
        assert outbox.sent == [(ALICE, OBJECTS, Attached(*FACTS, "bulk"), 3)]
        shell.stop()
        assert shell.failure is None
    finally:
        loop.close()
