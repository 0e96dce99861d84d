"""The shell with many threads at it: everything handled once, nothing overtaken, nothing left behind."""

import threading

import pytest

from actorrt.kernel.effects import Do, SetTimer
from actorrt.kernel.message import Done, Envelope
from tests.unit.kernel.shell_rig import PEER, WAIT_S, Numbered, Rig, Script, Tick, Urgent, run_until, spin


class Guarded(Script):
    """Notices a second thread inside ``handle``."""

    def __init__(self):
        super().__init__()
        self.inside = False
        self.collisions = 0

    def handle(self, envelope, now):
        self.collisions += self.inside
        self.inside = True
        self.bodies.append(envelope.body)
        for _ in range(envelope.body.number % 5):
            threading.get_ident()  # calls are where the interpreter changes threads
        effects = [Do(envelope.body)]
        self.inside = False
        return effects


@pytest.mark.parametrize("later", [False, True])
def test_many_threads(loop, later):
    """Every message is handled exactly once, each thread's in order, never two at a time, and none is left behind."""
    senders, messages = 8, 2000
    rig = Rig(loop)
    machine = rig.shell.machine = Guarded()
    start = threading.Barrier(senders)
    post = rig.shell.post_later if later else rig.shell.post

    def send(sender):
        start.wait(WAIT_S)
        for number in range(messages):
            post(Envelope(PEER, Numbered(sender, number)))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    if later:
        run_until(loop, lambda: len(machine.bodies) == senders * messages)
    for thread in threads:
        thread.join(WAIT_S)
    assert machine.collisions == 0
    assert len(rig.performed) == senders * messages
    for sender in range(senders):
        assert [body.number for body in machine.bodies if body.sender == sender] == list(range(messages))
    assert rig.performed == machine.bodies


def test_stop_while_another_thread_is_in_a_step(loop):
    entered, leave = threading.Event(), threading.Event()

    def answers(body):
        entered.set()
        leave.wait(WAIT_S)
        return []

    rig = Rig(loop, answers)
    thread = threading.Thread(target=rig.post, args=(Done(), 1))
    thread.start()
    entered.wait(WAIT_S)
    rig.shell.stop()  # does not wait
    assert not rig.shell.stopped
    leave.set()
    thread.join(WAIT_S)
    assert rig.shell.stopped
    assert [entry[3] for entry in rig.outbox.sent] == [1]


def test_a_timer_due_while_another_thread_drives(loop):
    entered, leave = threading.Event(), threading.Event()

    def answers(body):
        if body == Done():
            return [SetTimer("x", 0.0, Tick("x"))]
        if body == Urgent():
            entered.set()
            leave.wait(WAIT_S)
        return []

    rig = Rig(loop, answers)
    rig.post(Done())
    thread = threading.Thread(target=rig.post, args=(Urgent(),))
    thread.start()
    entered.wait(WAIT_S)
    spin(loop)  # the alarm rings, finds the lock taken, and leaves the timer to the driver
    assert Tick("x") not in rig.machine.bodies
    leave.set()
    thread.join(WAIT_S)
    assert rig.machine.bodies == [Done(), Urgent(), Tick("x")]


def test_nothing_queued_is_overtaken(loop):
    rig = Rig(loop)
    rig.shell.post_later(Envelope(PEER, Numbered(0, 1)))
    rig.post(Numbered(0, 2))
    assert rig.machine.bodies == [Numbered(0, 1), Numbered(0, 2)]


class LateLock:
    """Lets another thread's message in at the worst moment: after the holder's last look, before it lets go."""

    def __init__(self):
        self.lock = threading.Lock()
        self.before_release = []

    def acquire(self, blocking=True):
        return self.lock.acquire(blocking)

    def release(self):
        if self.before_release:
            self.before_release.pop()()
        self.lock.release()


@pytest.mark.parametrize("how", ["post", "drive"])
def test_a_message_that_comes_while_the_driver_lets_go(loop, how):
    rig = Rig(loop)
    rig.shell._lock = lock = LateLock()
    lock.before_release.append(lambda: rig.post(Numbered(0, 2)))
    if how == "post":
        rig.post(Numbered(0, 1))
    else:
        rig.shell._append(Envelope(PEER, Numbered(0, 1)))
        rig.shell.drive()
    assert rig.machine.bodies == [Numbered(0, 1), Numbered(0, 2)]
