"""The shell: one thread inside the machine, everything handled once, effects in order, ends that are told."""

import asyncio
import signal
import threading

import pytest

from actorrt.kernel.clock import MonotonicClock
from actorrt.kernel.effects import CancelTimer, Do, Fail, Reply, Send, SetTimer
from actorrt.kernel.mailbox import Overflow
from actorrt.kernel.message import NOWHERE, Address, Done, Envelope, PeerGone, RequestFailed
from actorrt.kernel.shell import OPEN_REQUESTS_MAX, defer_interrupt
from actorrt.kernel.trace import Trace
from tests.unit.kernel.shell_rig import PEER, WAIT_S, Numbered, Rig, Script, Tick, Urgent, run_until, spin


# ---- messages and effects
def test_a_message_is_handled_by_the_thread_that_brings_it(loop):
    rig = Rig(loop)
    rig.post(Numbered(0, 1))
    assert rig.machine.bodies == [Numbered(0, 1)]
    assert rig.shell.statistics().handled == 1
    assert "running" in repr(rig.shell)


def test_effects_are_carried_out_in_order(loop):
    effects = [
        Send(PEER, Numbered(0, 1)),
        Do("first"),
        Reply(PEER, 7, Done()),
        Do("second"),
        Fail(PEER, 8, "ActorNotFoundError", "who?"),
        Send(PEER, Numbered(0, 2)),
    ]
    rig = Rig(loop, lambda body: effects)
    seen = rig.outbox.sent
    rig.perform = seen.append
    rig.post(Done())
    assert seen == [
        (PEER, "owner", Numbered(0, 1), 0),
        "first",
        (PEER, "owner", Done(), 7),
        "second",
        (PEER, "owner", RequestFailed("ActorNotFoundError", "who?"), 8),
        (PEER, "owner", Numbered(0, 2), 0),
    ]


def test_something_that_is_no_effect_is_a_failure(loop):
    rig = Rig(loop, lambda body: ["nonsense"])
    rig.post(Done())
    assert isinstance(rig.shell.failure, TypeError)


def test_a_port_may_post_to_its_own_shell(loop):
    """The message is handled after the step that brought it, not in the middle of it."""
    depth = []

    def answers(body):
        depth.append(body)
        assert len(depth) == 1
        depth.pop()
        return [Do("a"), Do("b")] if body == Done() else []

    rig = Rig(loop, answers)
    order = []

    def perform(operation):
        rig.post(Tick(operation))
        order.append(("performed", operation, list(rig.machine.bodies)))

    rig.perform = perform
    rig.post(Done())
    assert [entry[2] for entry in order] == [[Done()], [Done()]]
    assert rig.machine.bodies == [Done(), Tick("a"), Tick("b")]


def test_urgent_messages_overtake_queued_ones(loop):
    def answers(body):
        return [Do("fill")] if body == Done() else []

    rig = Rig(loop, answers)

    def perform(operation):
        for number in range(3):
            rig.post(Numbered(0, number))
        rig.post(Urgent())

    rig.perform = perform
    rig.post(Done())
    assert rig.machine.bodies == [Done(), Urgent(), *(Numbered(0, number) for number in range(3))]


def test_post_later_wakes_the_loop_once_per_burst(loop):
    rig = Rig(loop)
    calls = []
    original = loop.call_soon_threadsafe

    def counting(*args):
        calls.append(args)
        return original(*args)

    loop.call_soon_threadsafe = counting
    for number in range(10):
        rig.shell.post_later(Envelope(PEER, Numbered(0, number)))
    assert rig.machine.bodies == []
    assert len(calls) == 1
    spin(loop)
    assert len(rig.machine.bodies) == 10
    rig.shell.post_later(Envelope(PEER, Done()))
    assert len(calls) == 2
    spin(loop)
    assert rig.machine.bodies[-1] == Done()


def test_post_later_on_a_closed_loop_is_handled_here():
    loop = asyncio.new_event_loop()
    loop.close()
    rig = Rig(loop)
    rig.shell.post_later(Envelope(PEER, Done()))
    assert rig.machine.bodies == [Done()]


def test_a_turn_is_bounded(loop, monkeypatch):
    """A machine that keeps itself busy leaves the thread that woke it, and goes on in the loop."""
    monkeypatch.setattr("actorrt.kernel.shell.TURN_MESSAGES_MAX", 10)
    rig = Rig(loop, lambda body: [Do("again")] if len(rig.machine.bodies) < 35 else [])
    rig.perform = lambda operation: rig.post(Done())
    rig.post(Done())
    assert len(rig.machine.bodies) == 1 + 10
    run_until(loop, lambda: len(rig.machine.bodies) == 35)


def test_a_turn_on_a_closed_loop_goes_on(monkeypatch):
    monkeypatch.setattr("actorrt.kernel.shell.TURN_MESSAGES_MAX", 10)
    loop = asyncio.new_event_loop()
    loop.close()
    rig = Rig(loop, lambda body: [Do("again")] if len(rig.machine.bodies) < 35 else [])
    rig.perform = lambda operation: rig.post(Done())
    rig.post(Done())
    assert len(rig.machine.bodies) == 35


# ---- timers
def test_timers_fire_in_order_and_can_be_replaced_and_cancelled(loop):
    clock = MonotonicClock()

    def answers(body):
        if body != Done():
            return []
        now = clock.now()
        return [
            SetTimer("late", now + 0.02, Tick("late")),
            SetTimer("early", now + 0.01, Tick("early")),
            SetTimer("cancelled", now + 0.005, Tick("cancelled")),
            CancelTimer("cancelled"),
            CancelTimer("unknown"),
            SetTimer("replaced", now + 0.001, Tick("old")),
            SetTimer("replaced", now + 0.015, Tick("new")),
        ]

    rig = Rig(loop, answers)
    rig.post(Done())
    assert rig.shell.statistics().timers == 3
    run_until(loop, lambda: len(rig.machine.bodies) == 4)
    assert rig.machine.bodies == [Done(), Tick("early"), Tick("new"), Tick("late")]
    assert rig.shell.statistics().timers == 0


def test_a_timers_message_comes_from_nowhere(loop):
    seen = []

    class Machine(Script):
        def handle(self, envelope, now):
            seen.append((envelope.src, now))
            return [SetTimer("x", now, Tick("x"))] if len(seen) == 1 else []

    rig = Rig(loop)
    rig.shell.machine = Machine()
    rig.post(Done())
    run_until(loop, lambda: len(seen) == 2)
    assert seen[1][0] == NOWHERE
    assert seen[1][1] >= seen[0][1]


def test_a_timer_set_by_another_thread(loop):
    rig = Rig(loop, lambda body: [SetTimer("x", MonotonicClock.now() + 0.005, Tick("x"))] if body == Done() else [])
    thread = threading.Thread(target=rig.post, args=(Done(),))
    thread.start()
    thread.join(WAIT_S)
    run_until(loop, lambda: Tick("x") in rig.machine.bodies)


# ---- the end
def test_stop_fails_what_is_unanswered(loop):
    rig = Rig(loop, lambda body: [SetTimer("x", 0.0, Done())] if body == Numbered(0, 1) else [])
    rig.post(Numbered(0, 1), request_id=1)
    rig.post(Numbered(0, 2), request_id=2)
    rig.post(Numbered(0, 3))
    rig.shell._append(Envelope(PEER, Done(), 4))  # still in the mailbox
    rig.shell.stop()
    rig.shell.stop()
    rig.post(Done(), request_id=5)
    rig.post(Done())
    assert [entry[3] for entry in rig.outbox.sent] == [1, 2, 4, 5]
    assert {entry[2] for entry in rig.outbox.sent} == {RequestFailed("InternalError", "owner stopped")}
    assert len(rig.machine.bodies) == 3
    assert rig.shell.statistics().timers == 0
    assert rig.shell.stopped
    assert "stopped" in repr(rig.shell)
    spin(loop)
    assert len(rig.machine.bodies) == 3
    assert rig.failures == []


def test_answered_requests_are_not_failed(loop):
    rig = Rig(loop, lambda body: [Reply(PEER, 1, Done())] if body == Urgent() else [])
    rig.post(Done(), request_id=1)
    assert rig.shell.statistics().open_requests == 1
    rig.post(Urgent())
    assert rig.shell.statistics().open_requests == 0
    rig.shell.stop()
    assert rig.outbox.sent == [(PEER, "owner", Done(), 1)]


def test_requests_of_a_lost_peer_are_forgotten(loop):
    rig = Rig(loop)
    other = Address("unix:///other", "owner")
    rig.post(Done(), request_id=1)
    rig.shell.post(Envelope(other, Done(), 1))
    rig.post(PeerGone(PEER.process, "died"))
    rig.shell.stop()
    assert [entry[0] for entry in rig.outbox.sent] == [other]


def test_too_many_open_requests_are_refused(loop):
    rig = Rig(loop)
    for number in range(1, OPEN_REQUESTS_MAX + 1):
        rig.shell._open[PEER, number] = None
    rig.post(Done(), request_id=OPEN_REQUESTS_MAX + 1)
    assert rig.machine.bodies == []
    assert rig.outbox.sent[0][2].kind == "Overloaded"


def test_stop_from_inside_a_step(loop):
    rig = Rig(loop, lambda body: [Do("stop"), Do("still")])
    rig.perform = lambda operation: (rig.performed.append(operation), operation == "stop" and rig.shell.stop())
    rig.shell._append(Envelope(PEER, Done()))
    rig.post(Done(), request_id=3)
    assert len(rig.machine.bodies) == 1
    assert rig.performed == ["stop", "still"]  # the step is finished first
    assert [entry[3] for entry in rig.outbox.sent] == [3]


@pytest.mark.parametrize("where", ["handle", "perform", "outbox", "check"])
def test_an_exception_ends_the_shell(loop, where, caplog):
    error = ZeroDivisionError("a bug")

    def fail(*_):
        raise error

    rig = Rig(loop, lambda body: [Do("x"), Send(PEER, Done())] if body == Urgent() else [], check=where == "check")
    rig.post(Done(), request_id=1)
    if where == "handle":
        rig.machine.handle = fail
    elif where == "perform":
        rig.perform = fail
    elif where == "outbox":
        rig.outbox.error = error
    else:
        rig.machine.check = fail
    rig.post(Urgent())
    rig.outbox.error = None
    rig.post(Done(), request_id=2)
    assert rig.failures == [error]
    assert rig.shell.failure is error
    assert rig.shell.stopped
    assert "failed" in repr(rig.shell)
    assert "ZeroDivisionError" in rig.shell.statistics().failure
    refused = [(entry[2].kind, entry[3]) for entry in rig.outbox.sent if type(entry[2]) is RequestFailed]
    # With a broken outbox the first request cannot be told; that is logged.
    assert refused == [("InternalError", number) for number in ([2] if where == "outbox" else [1, 2])]
    assert "owner failed" in caplog.text


def test_a_failing_failure_handler_is_logged(loop, caplog):
    rig = Rig(loop, lambda body: 1 // 0)
    rig.shell._on_failure = lambda error: 1 // 0
    rig.post(Done())
    assert "on_failure failed" in caplog.text


def test_check_runs_after_every_step(loop, monkeypatch):
    rig = Rig(loop, check=True)
    rig.post(Done())
    assert rig.machine.checks == 1
    for value, checks in (("1", 1), ("", 0)):
        monkeypatch.setenv("ACTORRT_CHECK", value)
        rig = Rig(loop, check=None)
        rig.post(Done())
        assert rig.machine.checks == checks


def test_trace(loop):
    trace = Trace()
    rig = Rig(loop, lambda body: [Send(PEER, Done())], trace=trace)
    rig.post(Done())
    assert [event.body for event in trace.events] == ["Done"]


# ---- interrupts
def test_an_interrupt_in_a_step_ends_the_shell_and_goes_on(loop):
    def interrupted(body):
        raise KeyboardInterrupt

    rig = Rig(loop, interrupted)
    with pytest.raises(KeyboardInterrupt):
        rig.post(Done())
    assert isinstance(rig.shell.failure, KeyboardInterrupt)
    assert len(rig.failures) == 1


def test_an_interrupt_can_be_deferred_until_the_outermost_shell_is_left(loop):
    inner = Rig(loop, lambda body: signal.raise_signal(signal.SIGINT) or [Do("inner")])
    outer = Rig(loop, lambda body: [Do("call"), Do("outer")] if body == Done() else [])
    outer.perform = lambda operation: inner.post(Done()) if operation == "call" else outer.performed.append(operation)
    handled = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: handled.append(defer_interrupt(frame)))
    try:
        with pytest.raises(KeyboardInterrupt):
            outer.post(Done())
        signal.raise_signal(signal.SIGINT)  # not inside a shell
    finally:
        signal.signal(signal.SIGINT, previous)
    assert handled == [True, False]
    assert inner.performed == ["inner"]
    assert outer.performed == ["outer"]
    assert outer.shell.failure is None
    outer.post(Urgent())
    assert outer.machine.bodies == [Done(), Urgent()]


# ---- bounds
def test_overflow_on_the_loop_and_inside_a_step(loop):
    rig = Rig(loop, lambda body: [Do("fill")] if body == Done() else [], messages_max=2)
    raised = []

    def perform(operation):
        try:
            for number in range(3):
                rig.post(Numbered(0, number))
        except Overflow as error:
            raised.append(error)

    rig.perform = perform
    rig.post(Done())
    assert len(raised) == 1
    assert rig.machine.bodies == [Done(), Numbered(0, 0), Numbered(0, 1)]
    raised.clear()

    def on_loop():
        with rig.shell._lock:  # another thread is driving
            perform(None)
        loop.stop()

    loop.call_soon(on_loop)
    loop.run_forever()
    assert len(raised) == 1
    with rig.shell._lock, pytest.raises(Overflow):
        rig.shell.post_later(Envelope(PEER, Done()))


def test_a_local_caller_waits_for_room(loop):
    """A thread whose message finds the mailbox full drains it, as soon as the driver lets it."""
    entered, leave = threading.Event(), threading.Event()

    def answers(body):
        if body == Urgent():
            entered.set()
            leave.wait(WAIT_S)
        return []

    rig = Rig(loop, answers, messages_max=5)
    driver = threading.Thread(target=rig.post, args=(Urgent(),))
    driver.start()
    entered.wait(WAIT_S)
    for number in range(5):
        rig.post(Numbered(0, number))
    late = threading.Thread(target=rig.post, args=(Numbered(0, 5),))
    late.start()
    leave.set()
    driver.join(WAIT_S)
    late.join(WAIT_S)
    assert rig.machine.bodies == [Urgent(), *(Numbered(0, number) for number in range(6))]
