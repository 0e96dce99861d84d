"""The one generic shell: mailbox -> machine -> effects -> ports.

Theory of operation
-------------------
A shell has no thread. Whoever brings a message drives it ("combining"):

* ``post`` appends to the mailbox and *tries* to take the lock. With the lock it handles everything queued, its own
  message and others', lets go, and looks once more (a message appended while it was letting go would otherwise lie
  there until the next one comes). Without it, it returns: the holder will see the message before it stops.
* ``post_later`` appends and makes the loop drive soon, with one wake-up per burst: for bringers that should not pay
  for the handling, such as ``__del__``.

So the machine is run by one thread at a time, never waits for a lock, and a message handled by the thread that
brought it crosses no thread at all. A port called in the middle of a step may post to the same shell: its own thread
holds the lock, so the message is only appended and the outer loop handles it after the step. Nothing recurses into
the machine.

A step: take a message, call ``handle``, carry out the effects in order. Timers live in a heap that only the driver
touches; the loop sets one alarm for the earliest (``clock.Alarm``).

Requests. The shell remembers which requests its machine has not answered. When it stops, or the machine fails, all of
them and all still queued are answered ``RequestFailed(InternalError)``; so are requests that come later. Silence is
never an answer.

Failure. An exception out of the machine or a port is a bug: the machine is not run again, ``failure`` keeps the
exception, ``on_failure`` is told once. What brought the message sees nothing of it, except ``KeyboardInterrupt`` and
its like, which go on to the caller after the shell has been stopped: half a step cannot be undone. A program that
wants to survive Ctrl-C calls ``defer_interrupt`` from its SIGINT handler: the interrupt is then raised when its
thread is out of every shell.

Fairness. A driver handles at most ``TURN_MESSAGES_MAX`` messages and leaves the rest to the loop, so a user's thread
is not kept for good by what others bring, and the loop gets to its sockets even when a machine keeps itself busy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import msgspec

from actorrt.kernel.clock import Alarm, Clock, TimerHeap, call_soon, on_loop
from actorrt.kernel.effects import CancelTimer, Do, Effect, Fail, Reply, Send, SetTimer
from actorrt.kernel.errors import InternalError
from actorrt.kernel.limits import MAILBOX_MESSAGES_MAX
from actorrt.kernel.machine import Machine
from actorrt.kernel.mailbox import Mailbox, Overflow
from actorrt.kernel.message import NOWHERE, Address, Envelope, Message, PeerGone, RequestFailed
from actorrt.kernel.trace import Trace

logger = logging.getLogger("actorrt.kernel")

TURN_MESSAGES_MAX = 10_000
"""Messages one driver handles before it leaves the rest to the loop."""
OPEN_REQUESTS_MAX = 200_000
"""Requests the machine may leave unanswered; further ones are refused as Overloaded."""
TIMERS_MAX = 1_000_000
"""Timers of one machine; more are a bug."""


class Outbox(Protocol):
    """Where messages leave: ``wire.router.Router`` or a fake."""

    def send(self, dst: Address, src_actor: str, body: Message, request_id: int = 0, reply_to: int = 0) -> None:
        """Send ``body`` (any thread); never raises for anything a peer can cause."""


class ShellStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A shell's figures at one moment."""

    name: str
    handled: int
    queued: int
    open_requests: int
    timers: int
    stopped: bool
    failure: str


class Shell:
    """Runs one machine. See the module's theory of operation."""

    def __init__(
        self,
        name: str,
        machine: Machine,
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        perform: Callable[[Any], None],
        on_failure: Callable[[BaseException], None],
        trace: Trace | None = None,
        messages_max: int = MAILBOX_MESSAGES_MAX,
        check: bool | None = None,
    ) -> None:
        self.name = name
        self.machine = machine
        self.failure: BaseException | None = None
        self.stopped = False
        self._now = clock.now
        self._loop = loop
        self._outbox = outbox
        self._perform = perform
        self._on_failure = on_failure
        self._trace = trace
        self._check = os.environ.get("ACTORRT_CHECK") == "1" if check is None else check
        self._watched = self._check or trace is not None
        self._mailbox = Mailbox(messages_max)
        self._append = self._mailbox.append
        self._control, self._supervision, self._normal = self._mailbox.lanes
        self._lock = threading.Lock()
        self._handled = 0
        self._open: dict[tuple[Address, int], None] = {}
        self._timers: TimerHeap[Message] = TimerHeap()
        self._alarm = Alarm(loop, clock, self._ring)
        self._attention = False  # a stop was asked for, or timers are due: the driver looks before its next message
        self._timers_due = False
        self._stop_wanted = False
        self._wake_pending = False
        self._interrupted_ident = 0  # thread that must raise KeyboardInterrupt once it is out of here

    def __repr__(self) -> str:
        state = "failed" if self.failure is not None else "stopped" if self.stopped else "running"
        return f"Shell({self.name!r}, {state}, queued={len(self._mailbox)}, handled={self._handled})"

    # ---- bringing messages
    def post(self, envelope: Envelope) -> None:
        """Queue a message and handle it in this thread, unless another thread is at it (any thread).

        Raises ``Overflow`` when the mailbox is full and this thread cannot wait for room: the loop's thread must not,
        and the driver itself would wait for good. Any other thread waits, by draining.
        """
        if self._lock.acquire(False):
            try:
                is_idle = not (self._control or self._supervision or self._normal or self._attention)
                if is_idle:
                    # Nothing waits, so nothing is overtaken: the message need not pass through the mailbox.
                    self._step(envelope)
            finally:
                self._lock.release()
            if is_idle:
                if self._control or self._supervision or self._normal or self._attention or self._interrupted_ident:
                    self._drive()
                return
        try:
            self._append(envelope)
        except Overflow:
            self._append_when_drained(envelope)
        self._drive()  # whoever held the lock may have looked for the last time before the append

    def post_later(self, envelope: Envelope) -> None:
        """Queue a message for the loop to handle soon (any thread). Raises ``Overflow`` when the mailbox is full."""
        self._append(envelope)
        if not self._wake_pending and not self._wake():
            self._drive()  # the loop is closed; whoever still comes by handles what there is

    def drive(self) -> None:
        """Handle everything queued, unless another thread is at it (any thread)."""
        self._drive()

    def stop(self) -> None:
        """Run the machine no more, fail unanswered requests, drop timers (idempotent).

        When another thread is in the middle of a step, it ends the step and then carries out the stop.
        """
        self._stop_wanted = True
        self._attention = True
        self._drive()

    def statistics(self) -> ShellStatistics:
        """Figures of this shell (any thread; not one consistent cut)."""
        return ShellStatistics(
            name=self.name,
            handled=self._handled,
            queued=len(self._mailbox),
            open_requests=len(self._open),
            timers=len(self._timers),
            stopped=self.stopped,
            failure="" if self.failure is None else repr(self.failure),
        )

    # ---- who drives
    def _drive(self) -> None:
        # Signal handlers run between bytecodes. Everything from taking the lock to letting go happens in this frame and
        # below, or in post's: that is how defer_interrupt knows that an exception would leave the lock taken or a step
        # half done.
        lock = self._lock
        while lock.acquire(False):
            try:
                more = self._turn()
            finally:
                lock.release()
            if more:
                if self._wake():
                    break
            elif not (self._control or self._supervision or self._normal or self._attention):
                break
        if self._interrupted_ident and self._interrupted_ident == threading.get_ident():
            self._interrupted_ident = 0
            raise KeyboardInterrupt

    def _wake(self) -> bool:
        """Make the loop drive soon; False when the loop is closed."""
        self._wake_pending = True
        if call_soon(self._loop, self._woken):
            return True
        self._wake_pending = False
        return False

    def _woken(self) -> None:
        # Before draining: who appends after this line and finds the flag down wakes the loop again.
        self._wake_pending = False
        self._drive()

    def _ring(self) -> None:
        self._timers_due = True
        self._attention = True
        self._drive()

    def _append_when_drained(self, envelope: Envelope) -> None:
        # Called by post; the frame of interest is post's caller.
        if on_loop(self._loop) or _inside(self, sys._getframe(2)):
            self._append(envelope)
            return
        while True:
            with self._lock:
                if self._turn():
                    continue
            try:
                self._append(envelope)
                return
            except Overflow:
                continue

    # ---- the driver's part: everything below runs under the lock
    def _turn(self) -> bool:
        """Handle what is queued; True when some of it is left for later."""
        pop = self._mailbox.pop
        for _ in range(TURN_MESSAGES_MAX):
            if self._attention:
                self._attend()
            envelope = pop()
            if envelope is None:
                return False
            self._step(envelope)
        return True

    def _step(self, envelope: Envelope) -> None:
        if self.stopped:
            self._refuse(envelope.src, envelope.request_id)
            return
        try:
            if envelope.request_id and not self._opened(envelope):
                return
            now = self._now()
            effects = self.machine.handle(envelope, now)
            self._handled += 1
            if self._watched:
                self._watch(now, envelope, effects)
            for effect in effects:
                if isinstance(effect, Send):
                    self._outbox.send(effect.dst, self.name, effect.body)
                elif isinstance(effect, Do):
                    self._perform(effect.operation)
                else:
                    self._carry_out(effect)
            if self._open and type(envelope.body) is PeerGone:
                self._forget_requests_of(envelope.body.process)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    def _watch(self, now: float, envelope: Envelope, effects: list[Effect]) -> None:
        if self._trace is not None:
            self._trace.record(self.name, now, envelope, effects)
        if self._check:
            self.machine.check()

    def _carry_out(self, effect: Effect) -> None:
        """The effects that are not on the hot path."""
        match effect:
            case Reply(dst, request_id, body):
                self._open.pop((dst, request_id), None)
                self._outbox.send(dst, self.name, body, reply_to=request_id)
            case Fail(dst, request_id, kind, text):
                self._open.pop((dst, request_id), None)
                self._outbox.send(dst, self.name, RequestFailed(kind, text), reply_to=request_id)
            case SetTimer(key, at_s, body):
                assert len(self._timers) < TIMERS_MAX, f"{self.name} has set {TIMERS_MAX} timers"
                self._timers.set(key, at_s, body)
                self._alarm.at(at_s)
            case CancelTimer(key):
                self._timers.cancel(key)
            case _:
                raise TypeError(f"{self.name} returned {effect!r}, which is not an effect")

    def _opened(self, envelope: Envelope) -> bool:
        if len(self._open) >= OPEN_REQUESTS_MAX:
            text = f"{self.name} has {len(self._open)} unanswered requests"
            self._outbox.send(envelope.src, self.name, RequestFailed("Overloaded", text), reply_to=envelope.request_id)
            return False
        self._open[envelope.src, envelope.request_id] = None
        return True

    def _forget_requests_of(self, process: str) -> None:
        for key in [key for key in self._open if key[0].process == process]:
            del self._open[key]

    def _attend(self) -> None:
        self._attention = False
        if self._stop_wanted and not self.stopped:
            self._end()
        if self._timers_due:
            self._timers_due = False
            while not self._stop_wanted and not self.stopped:
                body = self._timers.pop_due(self._now())
                if body is None:
                    self._alarm.at(self._timers.earliest_s())
                    break
                self._step(Envelope(NOWHERE, body))

    # ---- the end
    def _fail(self, error: BaseException) -> None:
        if self.stopped:  # a port failed while the end was being carried out
            logger.error("%s: %r while stopping", self.name, error, exc_info=error)
            return
        self.failure = error
        logger.error("%s failed: %r", self.name, error, exc_info=error)
        self._end()
        try:
            self._on_failure(error)
        except Exception:
            logger.exception("%s: on_failure failed", self.name)

    def _end(self) -> None:
        self.stopped = True
        self._timers.clear()
        self._alarm.cancel()
        unanswered = list(self._open)
        self._open.clear()
        for src, request_id in unanswered:
            self._refuse(src, request_id)

    def _refuse(self, src: Address, request_id: int) -> None:
        if not request_id:
            return
        text = f"{self.name} stopped" if self.failure is None else f"{self.name} failed: {self.failure!r}"
        try:
            self._outbox.send(src, self.name, RequestFailed(InternalError.__name__, text), reply_to=request_id)
        except Exception:
            logger.exception("%s: could not refuse request %d of %s", self.name, request_id, src)


_DRIVING = (Shell.post.__code__, Shell._drive.__code__)


def defer_interrupt(frame: FrameType | None) -> bool:
    """For a SIGINT handler: whether the interrupted thread is inside a shell.

    If so, ``KeyboardInterrupt`` is raised when the thread leaves the outermost one, and the handler must just return;
    raised at once it would tear a machine's step in two, which is the end of that machine.
    """
    outermost = None
    while frame is not None:
        if frame.f_code in _DRIVING:
            outermost = frame.f_locals["self"]
        frame = frame.f_back
    if outermost is None:
        return False
    outermost._interrupted_ident = threading.get_ident()
    return True


def _inside(shell: Shell, frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code in _DRIVING and frame.f_locals["self"] is shell:
            return True
        frame = frame.f_back
    return False
