"""The world below the machines: virtual time, processes, their mailboxes and timers, the network between them.

Theory of operation
-------------------
**Cells.** A cell is one machine with what a shell gives it: a mailbox with lanes, timers, a performer of operations
and the list of requests it has not answered. A step takes one message, calls ``handle``, carries out the effects in
order. Then the cell is busy for a few (seeded) microseconds, in which messages pile up; due timers go before them.

**Processes and channels.** A message to another process is encoded at once and decoded when it arrives. Two processes
share one channel, made by the first message either way. It ends when a process ends (or when a fault breaks it): each
surviving side then hears ``PeerGone``, after what still arrived; what was on its way and would have come later is
lost, as in a connection that is reset. Sending to a process that is gone is a dial that fails: ``PeerGone`` again.

**Failure.** Whatever raises inside a step is a bug. It surfaces from ``run`` as ``SimulationError`` with seed, time and
message, which is all it takes to see it again.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from actorrt.kernel.effects import CancelTimer, Do, Effect, Fail, Reply, Send, SetTimer
from actorrt.kernel.machine import Machine
from actorrt.kernel.mailbox import Mailbox
from actorrt.kernel.message import NOWHERE, Address, Envelope, Message, PeerGone, RequestFailed
from actorrt.kernel.trace import Trace
from actorrt.protocol import make_codec
from actorrt.transports.fabric import Drop, Fabric, Link

HANDLING_S_MAX = 20e-6
"""A step takes up to this long."""
GONE_DELAY_S_MAX = 0.004
"""From the end of a process until a peer notices."""
DIAL_FAILS_S_MAX = 0.002
REQUESTER = "request"
"""The actor name requests come from, as in ``wire.router``."""
LINK = Link(latency_s=0.0001, jitter_s=0.0004)


class SimulationError(AssertionError):
    """A machine failed, or an invariant did not hold; the text says where and how to see it again."""


class Observer(Protocol):
    """Somebody who watches the world. All methods are optional in spirit; derive from ``Watcher``."""

    def stepped(self, cell: Cell, envelope: Envelope, effects: list[Effect], now: float) -> None:
        """A machine handled a message, and its effects were carried out."""

    def arrived(self, src: Address, dst: Address, body: Message, now: float) -> None:
        """A message came from another process (or another actor of this one)."""

    def ended(self, process: Process, reason: str, now: float) -> None:
        """A process ended."""


class Watcher:
    """An observer of nothing; override what is of interest."""

    def stepped(self, cell: Cell, envelope: Envelope, effects: list[Effect], now: float) -> None:
        """See ``Observer``."""

    def arrived(self, src: Address, dst: Address, body: Message, now: float) -> None:
        """See ``Observer``."""

    def ended(self, process: Process, reason: str, now: float) -> None:
        """See ``Observer``."""


class Cell:
    """One machine in one process, with what a shell gives it."""

    __slots__ = (
        "address",
        "busy_until_s",
        "due",
        "machine",
        "mailbox",
        "open",
        "perform",
        "process",
        "scheduled",
        "steps",
        "timers",
    )

    def __init__(self, process: Process, name: str, machine: Machine, perform: Callable[[Any], None]) -> None:
        self.process = process
        self.address = Address(process.name, name)
        self.machine = machine
        self.perform = perform
        self.mailbox = Mailbox()
        self.timers: dict[str, tuple[int, Message]] = {}
        """Key -> (number of the setting, body)."""
        self.due: deque[tuple[str, int]] = deque()
        self.open: dict[tuple[Address, int], str] = {}
        """Requests not answered yet, with the name of their message."""
        self.busy_until_s = 0.0
        self.scheduled = False
        self.steps = 0

    def pop(self) -> Envelope | None:
        """Next thing to handle: timers that are due, then the mailbox."""
        while self.due:
            key, number = self.due.popleft()
            timer = self.timers.get(key)
            if timer is not None and timer[0] == number:
                del self.timers[key]
                return Envelope(NOWHERE, timer[1])
        return self.mailbox.pop()

    def __repr__(self) -> str:
        return f"Cell({self.address})"


class Process:
    """One operating system process: machines by actor name, and requests that wait for their answers."""

    def __init__(self, world: World, name: str, pid: int) -> None:
        self.world = world
        self.name = name
        self.pid = pid
        self.alive = True
        self.cells: dict[str, Cell] = {}
        self.requests: dict[int, tuple[Address, Message, Callable[[Message], None]]] = {}
        self.on_end: Callable[[str], None] = lambda _reason: None
        """Told when the process has ended (its parent reaps it)."""
        self._request_count = 0

    def attach(self, name: str, machine: Machine, perform: Callable[[Any], None]) -> Cell:
        """Put a machine into this process."""
        assert name not in self.cells
        cell = self.cells[name] = Cell(self, name, machine, perform)
        return cell

    def request(self, dst: Address, body: Message, answered: Callable[[Message], None]) -> None:
        """Send a request; ``answered`` gets the answer, or ``RequestFailed``."""
        self._request_count += 1
        self.requests[self._request_count] = (dst, body, answered)
        self.world.send(self, REQUESTER, dst, body, request_id=self._request_count)

    def post(self, name: str, body: Any) -> None:
        """Hand a message of this process itself to one of its machines."""
        self.world.post(self.cells[name], Envelope(NOWHERE, body))

    def __repr__(self) -> str:
        return f"Process({self.name}, pid={self.pid}, {'alive' if self.alive else 'ended'})"


class Channel:
    """The connection of two processes."""

    __slots__ = ("arrives_s", "broken", "deaf")

    def __init__(self) -> None:
        self.broken = False
        """Nothing that is sent from now on gets through."""
        self.deaf: dict[str, None] = {}
        """Sides that have heard of the end."""
        self.arrives_s: dict[str, float] = {}
        """By receiver: when the last message gets there."""


class World:
    """See the module's text.

    Args:
        seed: everything random comes from it.
        link: how processes reach each other while nothing is wrong.
        check_steps: a machine's invariants are asserted after every so many of its steps; 0: never.
    """

    def __init__(self, seed: int, *, link: Link = LINK, check_steps: int = 1) -> None:
        self.seed = seed
        self.check_steps = check_steps
        self.now = 0.0
        self.steps = 0
        self.fabric = Fabric(link)
        self.trace = Trace()
        self.processes: dict[str, Process] = {}
        self.channels: dict[tuple[str, str], Channel] = {}
        self.observers: list[Observer] = []
        self._heap: list[tuple[float, int, Process | None, Callable[[], None]]] = []
        self._count = 0
        self._pids = 1000
        self._codec = make_codec()
        self._network_rng = self.rng("network")
        self._handling_rng = self.rng("handling")

    def rng(self, purpose: str) -> random.Random:
        """Return a stream of random numbers for one purpose: what one part draws does not move the others."""
        return random.Random(f"{self.seed}/{purpose}")  # noqa: S311 - the whole point is that it can be repeated

    def __repr__(self) -> str:
        return f"World(seed={self.seed}, now={self.now:.6f}, steps={self.steps}, {len(self.processes)} processes)"

    # ------------------------------------------------------------------ time
    def after(self, delay_s: float, call: Callable[[], None], process: Process | None = None) -> None:
        """Call this in ``delay_s``, unless ``process`` has ended by then."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._count, process, call))

    def run(self, until: Callable[[], bool], time_max_s: float) -> None:
        """Let time pass until ``until()`` holds. Raises SimulationError when it does not by ``time_max_s``."""
        while not until():
            if not self._heap or self._heap[0][0] > time_max_s:
                why = "nothing happens any more" if not self._heap else f"it is {time_max_s:g} s"
                raise SimulationError(f"{why}, and what was waited for has not come about: {self!r}")
            self._next()

    def run_for(self, duration_s: float) -> None:
        """Let this much time pass."""
        end_s = self.now + duration_s
        while self._heap and self._heap[0][0] <= end_s:
            self._next()
        self.now = end_s

    def _next(self) -> None:
        self.now, _, process, call = heapq.heappop(self._heap)
        if process is None or process.alive:
            call()

    # ------------------------------------------------------------------ processes
    def spawn(self, name: str) -> Process:
        """Start a process without machines."""
        assert name not in self.processes, f"there is a process {name} already"
        self._pids += 1
        process = self.processes[name] = Process(self, name, self._pids)
        return process

    def end(self, process: Process, reason: str, *, orderly: bool) -> None:
        """A process ends. ``orderly``: what it has sent still arrives; else the last of it may be lost."""
        if not process.alive:
            return
        process.alive = False
        for pair, channel in list(self.channels.items()):
            if process.name in pair:
                self._break(pair, channel, reason, orderly=orderly)
        process.on_end(reason)
        for observer in self.observers:
            observer.ended(process, reason, self.now)

    # ------------------------------------------------------------------ mailboxes and steps
    def post(self, cell: Cell, envelope: Envelope) -> None:
        """Queue a message; it is handled as soon as the machine has time."""
        cell.mailbox.append(envelope)
        self._wake(cell)

    def _wake(self, cell: Cell) -> None:
        if not cell.scheduled:
            cell.scheduled = True
            self.after(max(0.0, cell.busy_until_s - self.now), functools.partial(self._step, cell), cell.process)

    def _step(self, cell: Cell) -> None:
        cell.scheduled = False
        envelope = cell.pop()
        if envelope is None:
            return
        try:
            self._handle(cell, envelope)
        except SimulationError:
            raise
        except Exception as error:
            text = f"seed {self.seed}, t={self.now:.6f}, step {self.steps}: {cell.address}"
            raise SimulationError(f"{text} handled {envelope!r}: {type(error).__name__}: {error}") from error
        cell.busy_until_s = self.now + HANDLING_S_MAX * self._handling_rng.random()
        if cell.process.alive and (cell.mailbox or cell.due):
            self._wake(cell)

    def _handle(self, cell: Cell, envelope: Envelope) -> None:
        body = envelope.body
        if envelope.request_id:
            cell.open[envelope.src, envelope.request_id] = type(body).__name__
        effects = cell.machine.handle(envelope, self.now)
        self.steps += 1
        self.trace.record(str(cell.address), self.now, envelope, effects)
        cell.steps += 1
        if self.check_steps and cell.steps % self.check_steps == 0:
            cell.machine.check()
        for effect in effects:
            self._carry_out(cell, effect)
            if not cell.process.alive:
                break  # the effect was its end
        if cell.open and type(body) is PeerGone:
            for key in [key for key in cell.open if key[0].process == body.process]:
                del cell.open[key]
        for observer in self.observers:
            observer.stepped(cell, envelope, effects, self.now)

    def _carry_out(self, cell: Cell, effect: Effect) -> None:
        match effect:
            case Send(dst, body):
                self.send(cell.process, cell.address.actor, dst, body)
            case Do(operation):
                cell.perform(operation)
            case Reply(dst, request_id, body):
                self._answer(cell, dst, request_id, body)
            case Fail(dst, request_id, kind, text):
                self._answer(cell, dst, request_id, RequestFailed(kind, text))
            case SetTimer(key, at_s, body):
                self._count += 1
                cell.timers[key] = (self._count, body)
                fire = functools.partial(self._fire, cell, key, self._count)
                self.after(max(0.0, at_s - self.now), fire, cell.process)
            case CancelTimer(key):
                cell.timers.pop(key, None)
            case _:
                raise TypeError(f"{cell.address} returned {effect!r}, which is not an effect")

    def _fire(self, cell: Cell, key: str, number: int) -> None:
        cell.due.append((key, number))
        self._wake(cell)

    def _answer(self, cell: Cell, dst: Address, request_id: int, body: Message) -> None:
        if cell.open.pop((dst, request_id), None) is None and self._is_connected(cell.process.name, dst.process):
            raise SimulationError(f"{cell.address} answers request {request_id} of {dst}, which is not open: {body!r}")
        self.send(cell.process, cell.address.actor, dst, body, reply_to=request_id)

    # ------------------------------------------------------------------ network
    def send(
        self, process: Process, src_actor: str, dst: Address, body: Message, request_id: int = 0, reply_to: int = 0
    ) -> None:
        """Send a message as ``wire.router`` would."""
        frames = [bytes(frame) for frame in self._codec.encode(dst.actor, src_actor, body, request_id, reply_to)]
        if dst.process in {"", process.name}:
            self._deliver(process, process.name, frames)
            return
        pair = _pair(process.name, dst.process)
        channel = self.channels.get(pair)
        if channel is None:
            channel = self.channels[pair] = Channel()
            target = self.processes.get(dst.process)
            if target is None or not target.alive:
                channel.broken = True
                self._tell_gone(pair, channel, process.name, "nobody answers there", DIAL_FAILS_S_MAX)
        if channel.broken:
            if process.name in channel.deaf:
                # It has heard of the end and dials again, while the other side has not even noticed.
                del channel.deaf[process.name]
                self._tell_gone(pair, channel, process.name, "the connection was closed", GONE_DELAY_S_MAX)
            return
        size_bytes = sum(map(len, frames))
        route = self.fabric.route(process.name, dst.process, self.now, self._network_rng, size_bytes=size_bytes)
        if isinstance(route, Drop):
            self._break(pair, channel, route.reason, orderly=False)
            return
        channel.arrives_s[dst.process] = route.at
        arrive = functools.partial(self._arrive, channel, dst.process, process.name, frames)
        self.after(route.at - self.now, arrive, self.processes[dst.process])

    def _arrive(self, channel: Channel, receiver: str, sender: str, frames: list[bytes]) -> None:
        if receiver not in channel.deaf:
            self._deliver(self.processes[receiver], sender, frames)

    def _deliver(self, process: Process, sender: str, frames: list[bytes]) -> None:
        wire = self._codec.decode(frames)
        src, dst = Address(sender, wire.src), Address(process.name, wire.dst)
        for observer in self.observers:
            observer.arrived(src, dst, wire.body, self.now)
        if wire.reply_to:
            request = process.requests.pop(wire.reply_to, None)
            if request is not None:
                request[2](wire.body)
            return
        cell = process.cells.get(wire.dst)
        if cell is not None:
            self.post(cell, Envelope(src, wire.body, wire.request_id))
        elif wire.request_id:
            text = f"{type(wire.body).__name__}: there is no actor {wire.dst!r} at {process.name}"
            self.send(process, wire.dst, src, RequestFailed("InternalError", text), reply_to=wire.request_id)

    def disconnect(self, one: str, other: str, reason: str) -> None:
        """Break the connection of two living processes, if there is one: both lose what is on its way."""
        pair = _pair(one, other)
        channel = self.channels.get(pair)
        if channel is not None and not channel.broken:
            self._break(pair, channel, reason, orderly=False)

    def _break(self, pair: tuple[str, str], channel: Channel, reason: str, *, orderly: bool) -> None:
        if channel.broken:
            return
        channel.broken = True
        for side in pair:
            last_s = max(0.0, channel.arrives_s.get(side, self.now) - self.now) if orderly else 0.0
            self._tell_gone(pair, channel, side, reason, GONE_DELAY_S_MAX, last_s)

    def _tell_gone(
        self, pair: tuple[str, str], channel: Channel, side: str, reason: str, delay_s_max: float, after_s: float = 0.0
    ) -> None:
        process = self.processes.get(side)
        if process is not None and process.alive:
            delay_s = after_s + delay_s_max * self._network_rng.random()
            self.after(delay_s, functools.partial(self._gone, pair, channel, process, reason), process)

    def _gone(self, pair: tuple[str, str], channel: Channel, process: Process, reason: str) -> None:
        peer = pair[0] if pair[1] == process.name else pair[1]
        channel.deaf[process.name] = None
        if all(side in channel.deaf or not self._is_alive(side) for side in pair):
            self.channels.pop(pair, None)
        if not self._is_alive(peer):
            self.fabric.forget(peer)
        failed = [number for number, request in process.requests.items() if request[0].process == peer]
        for dst, body, answered in [process.requests.pop(number) for number in failed]:
            answered(RequestFailed("InternalError", f"{type(body).__name__} to {dst}: the peer is gone: {reason}"))
        envelope = Envelope(Address(peer, ""), PeerGone(peer, reason))
        for cell in list(process.cells.values()):
            self.post(cell, envelope)

    def _is_alive(self, name: str) -> bool:
        process = self.processes.get(name)
        return process is not None and process.alive

    def _is_connected(self, one: str, other: str) -> bool:
        channel = self.channels.get(_pair(one, other))
        return one == other or (channel is not None and not channel.broken)


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
