"""What ``api.runtime`` is to user code, for simulated user code.

Theory of operation
-------------------
User code is a *program*: a function (or a method) that takes a ``Context`` and arguments. It either returns a value at
once, or is a generator that yields what it waits for: ``Sleep``, ``Get``, ``Wait``, ``Put``, ``Ask``. Programs run in
virtual time; between two yields they take none. Large values go through the store of the node (``shelf``).

Refs are counted as the api counts ``ObjectRef`` instances: one for each ref a program gets, given back when its *scope*
(the task, the driver's program) ends, or by ``release``; ``keep`` takes a ref out of the scope (an actor's state).
What a program does is handed to the owner machine as the api does it: gathered, then adopted refs first, submissions
next, releases last.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

import msgspec

from actorrt.gcs.messages import ExportFunction, KillActor
from actorrt.kernel.ids import TaskIdSource
from actorrt.kernel.message import Address, Message
from actorrt.owner.messages import Published
from actorrt.owner.operations import Deliver, LosePeer, PrintLines, Wake
from actorrt.owner.requests import AddRefs, AddWaiter, Cancel, DropWaiter, PutObject, Release, Renew, StartActor, Submit
from actorrt.owner.state import OwnerMachine
from actorrt.owner.tasks import Task, Template, Waiter
from actorrt.scheduling.resources import UNIT
from actorrt.sim import values
from actorrt.sim.shelf import Load, Shelf
from actorrt.sim.storage import SimStorage
from actorrt.sim.values import Actor, Ref, TaskFailed, info_of
from actorrt.sim.world import Process, SimulationError, World
from actorrt.wire.records import ActorSpec, Failure, LeaseSpec, RefInfo, Result, Stored, TaskTemplate, Value
from actorrt.wire.values import NONE_VALUE

SWITCH_S_MAX = 50e-6
"""Until a woken thread runs."""
SUBMIT_BATCH_MAX = 64
LOSSES_MAX = 5
"""A get that meets lost values so often gives up."""
FIRST_RETURN = b"\x00\x00\x00\x00"
"""Behind a task's id in the id of its result."""


class Sleep(msgspec.Struct, frozen=True):
    """Work (or rest) for this long."""

    duration_s: float


class Get(msgspec.Struct, frozen=True):
    """Wait for all of these; sends their values, throws ``TaskFailed`` when one failed."""

    refs: tuple[Ref, ...]


class Wait(msgspec.Struct, frozen=True):
    """Wait until ``count`` of these are ready; sends a list of bool."""

    refs: tuple[Ref, ...]
    count: int


class Put(msgspec.Struct, frozen=True):
    """Make an object of this value, which may be large; sends its ref."""

    value: Any


class Ask(msgspec.Struct, frozen=True):
    """Send a request to a component; sends its answer, be it ``RequestFailed``."""

    dst: Address
    body: Message


class Interrupted(Exception):
    """Thrown into a program whose task is cancelled."""


Code: TypeAlias = Callable[..., Any]


class Book:
    """Functions and actor classes by name: what the programs of a simulation can call."""

    def __init__(self, functions: dict[str, Code] | None = None, classes: dict[str, type] | None = None) -> None:
        self.functions = functions or {}
        self.classes = classes or {}

    def find(self, name: str) -> Any:
        """The function or class of this name."""
        return self.functions.get(name) or self.classes[name]


class Runtime:
    """One process's owner machine and what programs do with it."""

    def __init__(
        self,
        world: World,
        process: Process,
        *,
        raylet: Address,
        gcs: Address,
        job_id: bytes,
        storage: SimStorage | None = None,
    ) -> None:
        self.world = world
        self.process = process
        self.gcs = gcs
        self.raylet = raylet
        self.job_id = job_id
        self.rng = world.rng(f"runtime {process.name}")
        self.me = Address(process.name, "owner")
        self.machine = OwnerMachine(self.me, raylet, gcs)
        self.cell = process.attach("owner", self.machine, self._perform)
        self.shelf = Shelf(process, Address(raylet.process, "objects"), storage)
        self.lost: list[LosePeer] = []
        self.published: list[Published] = []
        self._task_ids = TaskIdSource(self.rng.randbytes)
        self._pending: list[Task] = []
        self._adopted: list[RefInfo] = []
        self._released: list[bytes] = []
        self._templates: dict[bytes, Template] = {}
        self._exported: dict[bytes, None] = {}
        self._woken: dict[int, None] = {}
        self._waiter_count = 0

    # ------------------------------------------------------------------ what programs do
    def submit(self, name: str, arguments: tuple[Any, ...], parent_task_id: bytes, options: dict[str, Any]) -> Ref:
        """Submit a task of function ``name``."""
        return self._submit(self._function_template(name, **options), arguments, parent_task_id)

    def call(
        self, actor: Actor, method: str, arguments: tuple[Any, ...], parent_task_id: bytes, options: dict[str, Any]
    ) -> Ref:
        """Submit an actor call."""
        return self._submit(self._method_template(actor, method, **options), arguments, parent_task_id, actor.actor_id)

    def put(self, value: Any) -> Ref:
        """Make a small object of ours."""
        dumped = values.dumps(value)
        if self.shelf.takes(dumped):
            raise SimulationError(f"{len(dumped.data)} bytes take a while to be put: yield Put(...)")
        object_id = self._task_ids.next() + FIRST_RETURN
        self._enter(object_id, dumped)
        return Ref(object_id, self.process.name)

    def put_large(self, value: Any, done: Callable[[Ref | None, Failure | None], None]) -> None:
        """Make an object of ours of any size; ``done`` gets its ref, or why there is none."""
        object_id = self._task_ids.next() + FIRST_RETURN

        def kept(result: Result) -> None:
            if isinstance(result, Failure):
                done(None, result)
            else:
                self._enter(object_id, result)
                done(Ref(object_id, self.process.name), None)

        self.shelf.keep(values.dumps(value), object_id, self.process.name, kept)

    def _enter(self, object_id: bytes, result: Result) -> None:
        self.flush()
        self.process.post("owner", PutObject(object_id, result))

    def create(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Actor:
        """Create an actor of class ``name``."""
        spec, dependencies, refs = self._actor_spec(name, arguments, **options)
        self.flush()
        self.process.post("owner", StartActor(spec, dependencies, refs))
        return Actor(spec.actor_id, name, self.process.name, spec.max_task_retries)

    def cancel(self, ref: Ref, *, force: bool, recursive: bool) -> None:
        """Cancel the task that makes this."""
        self.flush()
        self.process.post("owner", Cancel(ref.object_id, ref.owner, force, recursive))

    def kill(self, actor: Actor, *, no_restart: bool) -> None:
        """End an actor (its process)."""
        self.flush()
        self.world.send(self.process, "owner", self.gcs, KillActor(actor.actor_id, no_restart))

    def adopt(self, thing: Ref | Actor) -> None:
        """A ref or handle came out of a value."""
        self._adopted.append(info_of(thing))

    def release(self, things: Sequence[Ref | Actor]) -> None:
        """Refs or handles went."""
        self._released.extend(info_of(thing).object_id for thing in things)

    def flush(self) -> None:
        """Hand everything gathered to the machine."""
        if self._adopted:
            adopted, self._adopted = self._adopted, []
            self.process.post("owner", AddRefs(adopted))
        if self._pending:
            pending, self._pending = self._pending, []
            self.process.post("owner", Submit(pending))
        if self._released:
            released, self._released = self._released, []
            self.process.post("owner", Release(released))

    # ------------------------------------------------------------------ waiting
    def results_of(self, refs: Sequence[Ref]) -> list[Result | None]:
        """What is known of these right now."""
        records = self.machine.objects.records
        current = self.machine.objects.holdings.current
        results = [None if (r := records.get(ref.object_id)) is None else r.result for ref in refs]
        return [current(result) if isinstance(result, Stored) else result for result in results]

    def wait(self, refs: Sequence[Ref], count: int, woken: Callable[[], None], *, fail_fast: bool) -> Waiter:
        """Have ``woken`` called once ``count`` of these are ready."""
        self._waiter_count += 1
        waiter = Waiter(
            tuple(map(info_of, refs)),
            count,
            functools.partial(self._wake, self._waiter_count, woken),
            fail_fast=fail_fast,
        )
        self.flush()
        self.process.post("owner", AddWaiter(waiter))
        return waiter

    def renew(self, stale: Sequence[tuple[Ref, Stored]]) -> None:
        """These values could not be had."""
        self.flush()
        self.process.post("owner", Renew(tuple((info_of(ref), stored.key) for ref, stored in stale)))

    def drop_waiter(self, waiter: Waiter) -> None:
        """Wait no longer."""
        self.process.post("owner", DropWaiter(waiter))

    def _wake(self, number: int, woken: Callable[[], None]) -> None:
        if number in self._woken:
            raise SimulationError(f"{self.me} wakes a waiter twice")
        self._woken[number] = None
        self.world.after(SWITCH_S_MAX * self.rng.random(), woken, self.process)

    def _perform(self, operation: Any) -> None:
        match operation:
            case Wake(waiter):
                waiter.wake()
            case Deliver(published):
                self.published.append(published)
            case LosePeer():
                self.lost.append(operation)
            case PrintLines():
                pass
            case _:
                raise TypeError(f"unknown operation {operation!r}")

    # ------------------------------------------------------------------ making tasks
    def _submit(
        self, template: Template, arguments: tuple[Any, ...], parent_task_id: bytes, actor_id: bytes = b""
    ) -> Ref:
        data, slots, refs = values.pack(arguments)
        task = Task(self._task_ids.next(), template, data, (), slots, refs, actor_id, parent_task_id)
        self._pending.append(task)
        if len(self._pending) >= SUBMIT_BATCH_MAX:
            self.flush()
        return Ref(task.task_id + FIRST_RETURN, self.process.name)

    def _export(self, name: str) -> bytes:
        key = name.encode().ljust(16, b".")
        if key not in self._exported:
            self._exported[key] = None
            self.world.send(self.process, "owner", self.gcs, ExportFunction(self.job_id, key, name, b""))
        return key

    def _function_template(
        self, name: str, *, cpus: float = 1, max_retries: int = 3, retry_exceptions: bool = False, max_calls: int = 0
    ) -> Template:
        resources = {"CPU": int(cpus * UNIT)} if cpus else {}
        spec = TaskTemplate(
            0,
            self._export(name),
            name,
            name,
            self.job_id,
            resources=resources,
            max_retries=max_retries,
            retry_exceptions=NONE_VALUE if retry_exceptions else None,
            max_calls=max_calls,
        )
        return self._template(spec, LeaseSpec(self.job_id, resources, name=name))

    def _method_template(self, actor: Actor, method: str, *, max_task_retries: int | None = None) -> Template:
        retries = actor.max_task_retries if max_task_retries is None else max_task_retries
        name = f"{actor.class_name}.{method}"
        key = actor.class_name.encode().ljust(16, b".")
        spec = TaskTemplate(0, key, name, name, self.job_id, max_retries=retries, method_name=method)
        return self._template(spec, None)

    def _template(self, spec: TaskTemplate, lease_spec: LeaseSpec | None) -> Template:
        key = msgspec.msgpack.encode((spec, lease_spec))
        known = self._templates.get(key)
        if known is None:
            lease_key = b""
            if lease_spec is not None:
                lease_key = msgspec.msgpack.encode(msgspec.structs.replace(lease_spec, name=""))
            numbered = msgspec.structs.replace(spec, number=len(self._templates) + 1)
            known = self._templates[key] = Template(numbered, lease_spec, lease_key)
        return known

    def _actor_spec(
        self,
        name: str,
        arguments: tuple[Any, ...],
        *,
        cpus: float = 0,
        max_restarts: int = 0,
        max_task_retries: int = 0,
        detached: bool = False,
    ) -> tuple[ActorSpec, tuple[RefInfo, ...], tuple[RefInfo, ...]]:
        key = self._export(name)
        data, slots, refs = values.pack(arguments)
        spec = ActorSpec(
            self._task_ids.next(),
            self.job_id,
            self.me,
            key,
            name,
            Value(data, (), refs),
            detached=detached,
            max_restarts=max_restarts,
            max_task_retries=max_task_retries,
            resources={"CPU": int(cpus * UNIT)} if cpus else {},
            placement_resources={} if cpus else {"CPU": UNIT},
        )
        return spec, slots, refs


class Context:
    """What a program is given: its runtime, its scope, and a stream of random numbers of its own."""

    def __init__(self, runtime: Runtime, task_id: bytes = b"", attempt: int = 0) -> None:
        self.runtime = runtime
        self.task_id = task_id
        self.attempt = attempt
        self.rng = runtime.world.rng(f"program {task_id.hex()} {attempt}")
        self.held: list[Ref | Actor] = []
        """What is released when the scope ends; one entry for each count."""

    @property
    def now(self) -> float:
        """The time."""
        return self.runtime.world.now

    def submit(self, name: str, *arguments: Any, **options: Any) -> Ref:
        """Submit a task (options: cpus, max_retries, retry_exceptions, max_calls)."""
        return self.hold(self.runtime.submit(name, arguments, self.task_id, options))

    def call(self, actor: Actor, method: str, *arguments: Any, **options: Any) -> Ref:
        """Call an actor (options: max_task_retries)."""
        return self.hold(self.runtime.call(actor, method, arguments, self.task_id, options))

    def put(self, value: Any) -> Ref:
        """Make a small object; see ``Put`` for large ones."""
        return self.hold(self.runtime.put(value))

    def create(self, name: str, *arguments: Any, **options: Any) -> Actor:
        """Create an actor (options: cpus, max_restarts, max_task_retries, detached)."""
        actor = self.runtime.create(name, arguments, options)
        self.held.append(actor)
        return actor

    def release(self, *things: Ref | Actor) -> None:
        """Drop refs before the scope ends, or ones that were kept."""
        for thing in things:
            if thing in self.held:
                self.held.remove(thing)
        self.runtime.release(things)

    def keep(self, thing: Ref | Actor) -> None:
        """Hold on to this beyond the scope."""
        self.held.remove(thing)

    def cancel(self, ref: Ref, *, force: bool = False, recursive: bool = True) -> None:
        """Cancel the task that makes this."""
        self.runtime.cancel(ref, force=force, recursive=recursive)

    def kill(self, actor: Actor, *, no_restart: bool = True) -> None:
        """End an actor."""
        self.runtime.kill(actor, no_restart=no_restart)

    def adopt(self, things: Sequence[Ref | Actor]) -> None:
        """Refs came out of a value: they belong to this scope."""
        for thing in things:
            self.runtime.adopt(thing)
            self.held.append(thing)

    def close(self) -> None:
        """The scope ends."""
        self.runtime.release(self.held)
        self.held = []

    def hold(self, ref: Ref) -> Ref:
        """A new ref belongs to this scope."""
        self.held.append(ref)
        return ref


Ended: TypeAlias = Callable[[Any, BaseException | None], None]


class Program:
    """A program under way. ``ended`` gets its value, or what it raised."""

    def __init__(
        self,
        context: Context,
        ended: Ended,
        *,
        block_began: Callable[[], None] | None = None,
        block_ended: Callable[[], None] | None = None,
    ) -> None:
        self.context = context
        self._runtime = context.runtime
        self._ended = ended
        self._block_began = block_began
        self._block_ended = block_ended
        self._generator: Generator[Any, Any, Any] | None = None
        self._turn = 0
        """Raised with every resumption: a wake-up of an earlier turn is stale."""
        self._waiter: Waiter | None = None
        self._blocked = False
        self._losses = 0
        """How often what a get wanted could not be had."""
        self.load: Load | None = None  # what it waits for in stores
        self.is_over = False

    def start(self, code: Code, arguments: Sequence[Any]) -> None:
        """Run ``code(context, *arguments)``, or set it going when it is a generator."""
        if self.is_over:
            return
        try:
            value = code(self.context, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever a program raises is its outcome
            self._finish(None, error)
            return
        if inspect.isgenerator(value):
            self._generator = value
            self._resume(None)
        else:
            self._finish(value, None)

    def interrupt(self) -> None:
        """Cancel it: what it waits for raises ``Interrupted``."""
        if self.is_over:
            return
        if self.load is not None:
            self.load.withdraw()
        if self._generator is None:  # it has not begun
            self._finish(None, Interrupted("cancelled"))
        else:
            self._unblock()
            self._resume(None, Interrupted("cancelled"))

    def _resume(self, value: Any, error: Exception | None = None) -> None:
        self._turn += 1
        assert self._generator is not None
        try:
            wish = self._generator.send(value) if error is None else self._generator.throw(error)
        except StopIteration as stop:
            self._finish(stop.value, None)
        except Exception as raised:  # noqa: BLE001 - whatever a program raises is its outcome
            self._finish(None, raised)
        else:
            self._runtime.flush()
            self._grant(wish)

    def _grant(self, wish: Any) -> None:
        world, process = self._runtime.world, self._runtime.process
        turn = self._turn
        match wish:
            case Sleep(duration_s):
                world.after(duration_s, functools.partial(self._resume_turn, turn, None), process)
            case Get(refs):
                self._block(wish, refs, len(refs), fail_fast=True)
            case Wait(refs, count):
                self._block(wish, refs, count, fail_fast=False)
            case Put(value):
                self._runtime.put_large(value, functools.partial(self._put, turn))
            case Ask(dst, body):
                process.request(dst, body, functools.partial(self._resume_turn, turn))
            case _:
                raise TypeError(f"a program yielded {wish!r}")

    def _resume_turn(self, turn: int, value: Any) -> None:
        if turn == self._turn and not self.is_over:
            self._resume(value)

    def _put(self, turn: int, ref: Ref | None, failure: Failure | None) -> None:
        if ref is not None and (turn != self._turn or self.is_over):
            self._runtime.release((ref,))  # the program has gone on without it
            self._runtime.flush()
        elif ref is not None:
            # Not in the middle of what the program said before: it may be at once.
            self.context.hold(ref)
            self._soon(turn, ref, None)
        elif failure is not None:
            self._soon(turn, None, TaskFailed(failure))

    def _soon(self, turn: int, value: Any, error: Exception | None) -> None:
        def resume() -> None:
            if turn == self._turn and not self.is_over:
                self._resume(value, error)

        self._runtime.world.after(0.0, resume, self._runtime.process)

    def _block(self, wish: Get | Wait, refs: tuple[Ref, ...], count: int, *, fail_fast: bool) -> None:
        if sum(result is not None for result in self._runtime.results_of(refs)) >= count:
            self._answer(self._turn, wish)
            return
        answer = functools.partial(self._answer, self._turn, wish)
        self._waiter = self._runtime.wait(refs, count, answer, fail_fast=fail_fast)
        self._begin_block()

    def _begin_block(self) -> None:
        if not self._blocked:
            self._blocked = True
            if self._block_began is not None:
                self._block_began()

    def _unblock(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done:
                self._runtime.drop_waiter(self._waiter)
            self._waiter = None
        if self._blocked:
            self._blocked = False
            if self._block_ended is not None:
                self._block_ended()

    def _answer(self, turn: int, wish: Get | Wait) -> None:
        if turn != self._turn or self.is_over:
            return
        results = self._runtime.results_of(wish.refs)
        if isinstance(wish, Wait):
            self._unblock()
            self._resume([result is not None for result in results])
            return
        stored = [result for result in results if isinstance(result, Stored)]
        if stored and not any(isinstance(result, Failure) for result in results):
            self._begin_block()
            self.load = self._runtime.shelf.load(stored, functools.partial(self._loaded, turn, wish, results))
        else:
            self._unblock()
            self._give(wish, results)

    def _loaded(self, turn: int, wish: Get, results: Sequence[Result | None], found: Sequence[Value | Failure]) -> None:
        """What lies in stores has come, or has not."""
        if turn != self._turn or self.is_over:
            return
        there = iter(found)
        complete = [next(there) if isinstance(result, Stored) else result for result in results]
        stale = [
            (ref, old)
            for ref, old, new in zip(wish.refs, results, complete, strict=True)
            if isinstance(old, Stored) and isinstance(new, Failure) and new.kind == "ObjectLostError"
        ]
        if stale and self._losses < LOSSES_MAX:
            self._losses += 1
            self._runtime.renew(stale)
            self._wait_again(wish)
        else:
            self._unblock()
            self._give(wish, complete)

    def _wait_again(self, wish: Get) -> None:
        """Their owners know better, or make them again."""
        answer = functools.partial(self._answer, self._turn, wish)
        self._waiter = self._runtime.wait(wish.refs, len(wish.refs), answer, fail_fast=True)

    def _give(self, wish: Get, results: Sequence[Result | None]) -> None:
        for result in results:
            if isinstance(result, Failure):
                self._resume(None, TaskFailed(result))
                return
        found = []
        for ref, result in zip(wish.refs, results, strict=True):
            if result is None:
                raise SimulationError(f"{self._runtime.me} woke a get, but {ref} is not ready")
            assert isinstance(result, Value)
            value, things = values.loads(result)
            self.context.adopt(things)
            found.append(value)
        self._resume(found)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        self.is_over = True
        self._ended(value, error)
        self._runtime.flush()
