"""A shell around a scripted machine, with a fake way out."""

from actorrt.kernel.clock import MonotonicClock
from actorrt.kernel.message import LANE_CONTROL, Address, Done, Envelope, Message
from actorrt.kernel.shell import Shell

WAIT_S = 20
PEER = Address("unix:///peer", "owner")


class Numbered(Message):
    sender: int
    number: int


class Urgent(Message):
    LANE = LANE_CONTROL


class Tick(Message):
    text: str


class Outbox:
    def __init__(self):
        self.sent = []
        self.error = None

    def send(self, dst, src_actor, body, request_id=0, reply_to=0):
        if self.error is not None:
            raise self.error
        self.sent.append((dst, src_actor, body, reply_to))


class Script:
    """A machine that answers each body as told."""

    def __init__(self, answers=None):
        self.answers = answers or (lambda body: [])
        self.bodies = []
        self.checks = 0

    def handle(self, envelope, now):
        self.bodies.append(envelope.body)
        return self.answers(envelope.body)

    def check(self):
        self.checks += 1

    def statistics(self):
        return Done()


class Rig:
    def __init__(self, loop, answers=None, **options):
        self.machine = Script(answers)
        self.outbox = Outbox()
        self.failures = []
        self.performed = []
        self.perform = self.performed.append
        options = {"clock": MonotonicClock(), "check": False, **options}
        self.shell = Shell(
            "owner",
            self.machine,
            loop=loop,
            outbox=self.outbox,
            perform=self._perform,
            on_failure=self.failures.append,
            **options,
        )

    def _perform(self, operation):
        self.perform(operation)

    def post(self, body, request_id=0):
        self.shell.post(Envelope(PEER, body, request_id))


def spin(loop, times=3):
    for _ in range(times):
        loop.call_soon(loop.stop)
        loop.run_forever()


def run_until(loop, condition):
    """Turn the loop until the condition holds."""
    deadline_s = loop.time() + WAIT_S
    while not condition():
        assert loop.time() < deadline_s, "waited in vain"
        loop.call_later(0.0005, loop.stop)
        loop.run_forever()
