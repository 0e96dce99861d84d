"""The executor of a simulated worker: performs the worker machine's operations, with programs for user code.

It follows ``worker.executor`` in what other machines can see: one work at a time in the order given, ``Return`` takes
unstarted works from the end, outcomes are held back for a moment while quick works follow (never those of tasks that
must not run twice), refs in results are lent before the result leaves, refs still held are asked for before the outcome
is reported, functions are fetched from the GCS on first use, and the process ends only when the machine says so.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from actorrt.gcs.messages import FunctionFound, GetFunction
from actorrt.kernel.limits import OUTCOMES_HELD_MAX
from actorrt.kernel.message import Message
from actorrt.owner.requests import CancelChildren, Lend, ReportHeld
from actorrt.owner.tasks import Waiter
from actorrt.sim import values
from actorrt.sim.runtime import FIRST_RETURN, SWITCH_S_MAX, Book, Code, Context, Interrupted, Program, Runtime
from actorrt.sim.values import TaskFailed
from actorrt.wire.records import DeathCause, Failure, RefInfo, Result, TaskOutcome, Value
from actorrt.worker.messages import (
    ActorCreated,
    BlockBegan,
    BlockEnded,
    ExitRequested,
    TasksFinished,
    WorksReturned,
)
from actorrt.worker.operations import Create, Exit, Interrupt, Return, Run, Work
from actorrt.worker.state import WorkerMachine

QUICK_S = 0.0005
OUTCOMES_HOLD_S = 0.001
OUTCOMES_TIMER_S = 0.005
OVERHEAD_S_MIN = 0.00003
OVERHEAD_S_MAX = 0.0002
"""What running anything costs, beside what its program says."""
EXIT_WAIT_S = 5.0
"""How long the executor waits for the machine's leave to end."""


class ActorExit(Exception):
    """A method raises it to end its actor (``exit_actor``)."""


class Crash(Exception):
    """A program raises it to end its process on the spot, as a segmentation fault would."""


class Executor:
    """See the module's text.

    Args:
        runtime: the owner in the same process.
        machine: the worker machine it works for.
        book: functions and classes.
        leave: ends the process (cause, orderly).
        started: told of every work whose program starts, with the actor's incarnation (0 for tasks).
    """

    def __init__(
        self,
        runtime: Runtime,
        machine: WorkerMachine,
        book: Book,
        leave: Callable[[DeathCause, bool], None],
        started: Callable[[Work, int], None],
    ) -> None:
        self.runtime = runtime
        self.machine = machine
        self._book = book
        self._leave = leave
        self._on_start = started
        self._world = runtime.world
        self._process = runtime.process
        self._rng = runtime.world.rng(f"executor {runtime.process.name}")
        self._queue: deque[Work] = deque()
        self._finished: list[TaskOutcome] = []
        self._first_unsent_s = 0.0
        self._averages_s: dict[str, float] = {}
        self._calls: dict[str, int] = {}
        self._loaded: dict[bytes, str] = {}
        self._create: Create | None = None
        self._instance: Any = None
        self._graceful_cause: DeathCause | None = None
        self._ending: DeathCause | None = None
        self._busy = False
        self._stopped = False
        self._running: Work | None = None
        self._program: Program | None = None
        self._started_s = 0.0

    # ------------------------------------------------------------------ operations
    def perform(self, operation: Any) -> None:
        """Carry out one operation of the worker machine."""
        match operation:
            case Run(works):
                self._queue.extend(works)
                self._kick()
            case Create():
                self._create = operation
                self._kick()
            case Return(count, src):
                self._return_works(count, src)
            case Interrupt():
                self._interrupt(operation)
            case Exit(graceful, cause):
                self._exit(cause, graceful=graceful)
            case _:
                raise TypeError(f"unknown operation {operation!r}")

    def _return_works(self, count: int, src: Any) -> None:
        returned: list[bytes] = []
        kept: list[Work] = []
        while self._queue and len(returned) < count:
            work = self._queue.pop()
            if src is None or work.src == src:
                returned.append(work.call.task_id)
            else:
                kept.append(work)
        if kept:
            self._queue.extend(reversed(kept))
            self._kick()
        self._post(WorksReturned(tuple(reversed(returned))))

    def _interrupt(self, operation: Interrupt) -> None:
        work = self._running
        if work is not None and work.call.task_id == operation.task_id:
            if operation.recursive:
                self._process.post("owner", CancelChildren(operation.task_id))
            if operation.force:
                self._stopped = True  # whatever the task still does, none is started after it
                self._flush()
                cause = DeathCause("killed", "cancelled with force=True", pid=self._process.pid, exit_code=1)
                self._post(ExitRequested(cause, 1))
            elif self._create is None and self._instance is None and self._program is not None:
                # In a step of the machine, which must be over before the program goes on.
                self._world.after(0.0, self._program.interrupt, self._process)
            return
        for queued in list(self._queue):
            if queued.call.task_id == operation.task_id:
                self._queue.remove(queued)
                text = f"task {queued.template.name} was cancelled"
                self._finished.append(TaskOutcome(operation.task_id, (Failure("TaskCancelledError", text),)))
                self._flush()

    def _exit(self, cause: DeathCause | None, *, graceful: bool) -> None:
        if graceful and self.machine.actor is not None:
            self._graceful_cause = cause or DeathCause("out_of_scope", "its last handle went out of scope")
            self._kick()
        else:
            self._stopped = True
            self._go(cause or self._ending or DeathCause("exit", "told to exit"))

    def _end(self, cause: DeathCause, exit_code: int = 0) -> None:
        """Ask the machine for leave to end; it answers with ``Exit``."""
        self._flush()
        self._stopped = True
        self._ending = cause
        self._post(ExitRequested(cause, exit_code))
        self._world.after(EXIT_WAIT_S, functools.partial(self._go, cause), self._process)

    def _go(self, cause: DeathCause, *, orderly: bool = True) -> None:
        # Not in the middle of somebody's step: what was said before has to leave first.
        self._world.after(0.0, functools.partial(self._leave, cause, orderly), self._process)

    # ------------------------------------------------------------------ the thread
    def _kick(self) -> None:
        if not self._busy and not self._stopped:
            self._busy = True
            self._world.after(SWITCH_S_MAX * self._rng.random(), self._next, self._process)

    def _next(self) -> None:
        self._busy = False
        if self._stopped:
            return
        if self._create is not None:
            self._busy = True
            spec = self._create.spec
            self._load(spec.class_key, self._construct)
        elif self._queue:
            self._busy = True
            work = self._running = self._queue.popleft()
            self._started_s = self._world.now
            self._load(work.template.function_key, functools.partial(self._run, work))
        else:
            self._flush()
            if self._graceful_cause is not None:
                self._end(self._graceful_cause)

    def _load(self, key: bytes, loaded: Callable[[str, str], None]) -> None:
        """Call ``loaded(name, error)`` once the function or class is here."""
        name = self._loaded.get(key)
        if name is not None:
            loaded(name, "")
            return

        def answered(body: Message) -> None:
            if isinstance(body, FunctionFound):
                self._loaded[key] = body.name
                loaded(body.name, "")
            else:
                loaded("", repr(body))

        self._process.request(self.runtime.gcs, GetFunction(self.runtime.job_id, key), answered)

    # ------------------------------------------------------------------ a task or call
    def _run(self, work: Work, name: str, error: str) -> None:
        call, template = work.call, work.template
        context = Context(self.runtime, call.task_id, call.attempt)
        ended = functools.partial(self._ended, work, context)
        if error:
            ended(None, RuntimeError(error))
            return
        if self._averages_s.get(template.name, 1.0) > QUICK_S or self._runs_once(work):
            self._flush()
        program = Program(context, ended, block_began=self._block_began, block_ended=self._block_ended)
        self._program = program
        code = getattr(self._instance, template.method_name) if template.method_name else self._book.find(name)

        def loaded(dependencies: Sequence[Result]) -> None:
            if self._stopped or program.is_over:
                return
            lost = [result for result in dependencies if isinstance(result, Failure)]
            if lost:
                program.is_over = True
                ended(None, TaskFailed(lost[0]))
                return
            arguments = self._arguments(call.arguments, dependencies, context)
            self._after_overhead(functools.partial(self._begin, work, program, code, arguments))

        program.load = self.runtime.shelf.load_among(call.dependencies, loaded, for_arguments=True)

    def _begin(self, work: Work, program: Program, code: Code, arguments: list[Any]) -> None:
        if not self._stopped:
            self._on_start(work, self.machine.incarnation)
            program.start(code, arguments)

    def _runs_once(self, work: Work) -> bool:
        return not work.template.max_retries and self.machine.actor is None

    def _after_overhead(self, call: Callable[[], None]) -> None:
        delay_s = OVERHEAD_S_MIN + (OVERHEAD_S_MAX - OVERHEAD_S_MIN) * self._rng.random()
        self._world.after(delay_s, call, self._process)

    def _arguments(self, data: bytes, dependencies: Sequence[Result], context: Context) -> list[Any]:
        slots = []
        for result in dependencies:
            assert isinstance(result, Value), "a failed argument reached a worker"
            value, things = values.loads(result)
            context.adopt(things)
            slots.append(value)
        arguments, things = values.unpack(data, slots)
        context.adopt(things)
        return arguments

    def _block_began(self) -> None:
        self._post(BlockBegan())

    def _block_ended(self) -> None:
        self._post(BlockEnded())

    def _ended(self, work: Work, context: Context, value: Any, error: BaseException | None) -> None:
        """The program is over: lend what is in the result, drop its scope, ask what is still held, report."""
        if self._stopped:
            return
        if isinstance(error, Crash):
            self._crash()
            return
        if isinstance(error, ActorExit):
            self._end(DeathCause("exit_actor", f"exit_actor() in {work.template.name}", self._process.pid))
            return
        result = self._result(work, value, error)
        if isinstance(result, Value):
            object_id = work.call.task_id + FIRST_RETURN
            kept = functools.partial(self._kept, work, context, error)
            self.runtime.shelf.keep(result, object_id, work.src.process, kept)
        else:
            self._kept(work, context, error, result)

    def _kept(self, work: Work, context: Context, error: BaseException | None, result: Result) -> None:
        """The result lies where it will stay."""
        if self._stopped:
            return
        if not isinstance(result, Failure) and result.refs:
            self.runtime.flush()
            self._process.post("owner", Lend(result.refs, work.src.process))
        context.close()
        self.runtime.flush()
        retry_wanted = error is not None and work.template.retry_exceptions is not None
        retry_wanted = retry_wanted and not isinstance(error, Interrupted)
        refs = work.call.refs + tuple(r for d in work.call.dependencies if not isinstance(d, Failure) for r in d.refs)
        report = functools.partial(self._report, work, result, retry_wanted)
        if refs:
            answer: list[RefInfo] = []
            woken = functools.partial(self._held_known, report, answer)
            self._process.post("owner", ReportHeld(refs, answer, Waiter((), 0, woken)))
        else:
            report(())

    def _result(self, work: Work, value: Any, error: BaseException | None) -> Result:
        name = work.template.name
        if error is None:
            return values.dumps(value)
        if isinstance(error, Interrupted):
            return Failure("TaskCancelledError", f"task {name} was cancelled", pid=self._process.pid)
        text = error.failure.text if isinstance(error, TaskFailed) else str(error)
        return Failure("TaskError", text, type_name=type(error).__name__, function_name=name, pid=self._process.pid)

    def _held_known(self, report: Callable[[tuple[RefInfo, ...]], None], answer: list[RefInfo]) -> None:
        delay_s = SWITCH_S_MAX * self._rng.random()
        self._world.after(delay_s, lambda: report(tuple(answer)), self._process)

    def _report(self, work: Work, result: Result, retry_wanted: bool, borrowed: tuple[RefInfo, ...]) -> None:
        if self._stopped:
            return
        name = work.template.name
        duration_s = self._world.now - self._started_s
        average_s = self._averages_s.get(name)
        self._averages_s[name] = duration_s if average_s is None else average_s + 0.2 * (duration_s - average_s)
        self._calls[name] = self._calls.get(name, 0) + 1
        self._running = self._program = None
        if not self._finished:
            self._first_unsent_s = self._world.now
        self._finished.append(TaskOutcome(work.call.task_id, (result,), duration_s, borrowed, retry_wanted))
        is_late = self._world.now - self._first_unsent_s >= OUTCOMES_HOLD_S
        if not self._queue or len(self._finished) >= OUTCOMES_HELD_MAX or is_late or self._runs_once(work):
            self._flush()
        else:
            self._world.after(OUTCOMES_TIMER_S, self._flush, self._process)
        self._busy = False
        if work.template.max_calls and self._calls[name] >= work.template.max_calls:
            text = f"max_calls={work.template.max_calls} of {name} is reached"
            self._end(DeathCause("exit", text, self._process.pid))
        else:
            self._kick()

    # ------------------------------------------------------------------ actors
    def _construct(self, name: str, error: str) -> None:
        create = self._create
        assert create is not None
        spec = create.spec
        context = Context(self.runtime, spec.actor_id, create.incarnation)
        if error:
            self._constructed(context, None, None, RuntimeError(error))
            return
        instance = self._book.classes[name]()
        ended = functools.partial(self._constructed, context, instance)
        program = Program(context, ended, block_began=self._block_began, block_ended=self._block_ended)
        begin = getattr(instance, "begin", _nothing)

        def loaded(dependencies: Sequence[Result]) -> None:
            lost = [result for result in dependencies if isinstance(result, Failure)]
            if lost:
                ended(None, TaskFailed(lost[0]))
                return
            arguments = self._arguments(spec.arguments.data, dependencies, context)
            self._after_overhead(functools.partial(program.start, begin, arguments))

        self.runtime.shelf.load_among(spec.dependencies, loaded, for_arguments=True)

    def _constructed(self, context: Context, instance: Any, _value: Any, error: BaseException | None) -> None:
        if self._stopped:
            return
        if isinstance(error, Crash):
            self._crash()
            return
        context.close()
        self.runtime.flush()
        self._create = None
        self._instance = instance
        cause = None
        if error is not None:
            failure = Failure("TaskError", str(error), type_name=type(error).__name__, pid=self._process.pid)
            cause = DeathCause("init_failed", f"__init__ raised {error}", self._process.pid, failure=failure)
        self._post(ActorCreated(cause))
        self._busy = False
        self._kick()

    # ------------------------------------------------------------------ outcomes
    def _crash(self) -> None:
        self._stopped = True
        self._go(DeathCause("signal", "killed by signal 11", self._process.pid, signal=11), orderly=False)

    def _flush(self) -> None:
        if self._finished:
            finished, self._finished = self._finished, []
            self._post(TasksFinished(tuple(finished)))

    def _post(self, body: Any) -> None:
        self._process.post("worker", body)


def _nothing(_context: Context, *_arguments: Any) -> None:
    """``begin`` of a class that has none."""
