"""The executor: the only place that runs user code.

Theory of operation
-------------------
Tasks and plain actors run on one thread, in a worker process its *main* thread (so that ``KeyboardInterrupt``, signal
handlers and libraries that insist on the main thread work). Works wait in a deque that the worker machine appends to;
the executor takes from the left, ``Return`` takes unstarted ones from the right.

*Outcomes* are collected and handed to the machine in batches, which turn into one message: at once when nothing else is
queued (latency), else after 1 ms or ``OUTCOMES_HELD_MAX`` outcomes, and always before a function starts that is not
known to be quick. Should a quick one turn out slow, a timer on the loop hands over what lies there. What is held back
when the process is killed is lost, and those tasks run again although they had run. Hence tasks that must not
(``max_retries=0``) start only when nothing is held back, and are handed over at once. Every end that is not a sudden
death (``sys.exit``,
``max_calls``, ``cancel(force=True)``) hands over everything first. What is left for such tasks: the process being
killed between the return of the function and the write of its outcome to the socket, some 20 µs in this thread, or
until the loop comes to it where another thread is just driving the worker's shell.

*Async actors* run all methods on one event loop in that same thread; *threaded* actors and concurrency groups of plain
actors have a pool of threads per group.

*Cancelling* a running task raises ``KeyboardInterrupt`` in it: by a real SIGINT to the main thread in a worker process
(which also ends ``time.sleep`` and blocking system calls), by CPython's asynchronous exceptions where workers are
threads. It is meant for user code alone: the interrupter names the task (``_interrupt_task``) before it looks whether
its code runs (``_main_task``), the executor takes ``_main_task`` away before it looks whether it was named. So at least
one of them sees the other, and no interrupt is left over for what comes after.

*Ending.* The executor asks the machine (``ExitRequested``), which tells everybody what they must know and then answers
``Exit``; only then may the process end. A message that was posted is not a message that was sent.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import ctypes
import inspect
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import uvloop

from actorrt.kernel.context import TaskContext, current_task
from actorrt.kernel.limits import OUTCOMES_HELD_MAX
from actorrt.kernel.message import NOWHERE, Envelope
from actorrt.wire.failures import failure_of
from actorrt.wire.records import (
    ActorSpec,
    DeathCause,
    Failure,
    RefInfo,
    Result,
    Stored,
    TaskOutcome,
    TaskTemplate,
)
from actorrt.worker import packing
from actorrt.worker.host import Host
from actorrt.worker.messages import ActorCreated, ExitRequested, TasksFinished, WorksReturned
from actorrt.worker.operations import Create, Exit, Interrupt, Return, Run, UseAccelerators, Work
from actorrt.worker.streaming import ItemSender

logger = logging.getLogger("actorrt.worker")

OUTCOMES_HOLD_S = 0.001
QUICK_S = 0.0005
"""Functions faster than this on average may run before earlier outcomes are handed over."""
OUTCOMES_TIMER_S = 0.005
CANCELS_REMEMBERED_MAX = 1000
"""Cancels of tasks that were neither queued nor running: just being taken from the queue, or just ended."""
EXIT_WAIT_S = 1.0
"""How long the end of the process waits for the machine's last words."""
LEAVE_WAIT_S = 10.0
"""How long the main thread stays while another one ends the process."""


class ActorExit(SystemExit):
    """Raised by ``exit_actor`` inside an actor's method."""


class _Callable:
    """A loaded function and how long it takes."""

    __slots__ = ("average_s", "calls", "function")

    def __init__(self, function: Any) -> None:
        self.function = function
        self.average_s = 1.0  # unknown counts as slow
        self.calls = 0

    def learn(self, duration_s: float) -> None:
        """It ran once more."""
        self.average_s = duration_s if not self.calls else self.average_s + 0.2 * (duration_s - self.average_s)
        self.calls += 1


class Executor:
    """See the module's text. ``is_process``: this is a worker process (real signals), not a test cluster's thread."""

    def __init__(self, host: Host, *, is_process: bool) -> None:
        self.host = host
        self.is_process = is_process
        self._queue: deque[Work] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._idle = True
        self._stop = False
        self._graceful_cause: DeathCause | None = None
        self._finished: deque[TaskOutcome] = deque()
        self._first_unsent_s = 0.0
        self._timer_armed = False
        self._functions: dict[bytes, _Callable] = {}
        self._methods: dict[str, _Callable] = {}
        self._running: dict[bytes, tuple[TaskContext, int, Any]] = {}
        """Running task -> (context, thread ident, asyncio task)."""
        self._cancels: dict[bytes, None] = {}
        self._interrupt_task: bytes = b""
        self._main_task: bytes = b""
        self._main_ident = 0
        self._create: Create | None = None
        self._spec: ActorSpec | None = None
        self._instance: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_wake_pending = False
        self._context = contextvars.copy_context()
        """Of the thread that runs user code: calls of async actors start in it, whichever thread announces them."""
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._threaded_pending = 0
        self._lock = threading.Lock()
        self._interrupt_lock = threading.Lock()
        self._ending = False
        """Some thread of ours asked for the end of the worker, and waits for the machine's leave to go."""
        self._may_leave = threading.Event()

    # ------------------------------------------------------------------ operations (any thread, under the shell's lock)
    def perform(self, operation: Any) -> None:
        """Carry out one operation of the worker machine."""
        kind = type(operation)
        if kind is Run:
            self._queue.extend(operation.works)
            self._notify()
        elif kind is Create:
            self._create = operation
            self._notify()
        elif kind is UseAccelerators:
            self.host.use_accelerators(operation.ids)
        elif kind is Return:
            self._return_works(operation)
        elif kind is Interrupt:
            self._interrupt(operation)
        elif kind is Exit:
            self._exit(operation)
        else:
            raise TypeError(f"unknown operation {operation!r}")

    def _notify(self) -> None:
        loop = self._loop
        if loop is not None:
            if not self._loop_wake_pending:
                self._loop_wake_pending = True
                with contextlib.suppress(RuntimeError):  # the loop is closing: the process ends
                    loop.call_soon_threadsafe(self._start_queued, context=self._context)
        elif self._idle:
            self._idle = False
            self._wake.put(None)

    def _return_works(self, operation: Return) -> None:
        returned: list[bytes] = []
        kept: list[Work] = []
        while len(returned) < operation.count:
            try:
                work = self._queue.pop()
            except IndexError:
                break
            if operation.src is None or work.src == operation.src:
                returned.append(work.call.task_id)
            else:
                kept.append(work)
        if kept:
            self._queue.extend(reversed(kept))
            self._notify()  # the executor may have found the queue empty in between
        self._post(WorksReturned(tuple(reversed(returned))))

    def _interrupt(self, operation: Interrupt) -> None:
        task_id = operation.task_id
        running = self._running.get(task_id)
        if running is None:
            if self._drop_queued(task_id):
                return
            # It is being taken from the queue this moment (then the executor finds the note, or we find it running),
            # or it just ended.
            self._cancels[task_id] = None
            if len(self._cancels) > CANCELS_REMEMBERED_MAX:
                self._cancels.pop(next(iter(self._cancels)), None)
            running = self._running.get(task_id)
            if running is None:
                return
        context, ident, async_task = running
        context.cancelled = True
        if operation.recursive:
            self.host.cancel_children(task_id)
        if operation.force:
            self._stop = True  # whatever the task still does, none is started after it
            self._flush()
            cause = DeathCause("killed", "cancelled with force=True", pid=self.host.pid, exit_code=1)
            self._post(ExitRequested(cause, 1))
        elif async_task is not None:
            assert self._loop is not None
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker ends
                self._loop.call_soon_threadsafe(async_task.cancel)
        elif self._spec is None:
            self._raise_interrupt(task_id, ident)

    def _drop_queued(self, task_id: bytes) -> bool:
        for work in list(self._queue):
            if work.call.task_id == task_id:
                try:
                    self._queue.remove(work)
                except ValueError:  # it is just being taken by the executor
                    return False
                self._finished.append(TaskOutcome(task_id, (_cancelled(work.template),)))
                self._flush()
                return True
        return False

    def _raise_interrupt(self, task_id: bytes, ident: int) -> None:
        if self.is_process:
            self._interrupt_task = task_id
            signal.pthread_kill(self._main_ident, signal.SIGINT)
            return
        with self._interrupt_lock:
            self._interrupt_task = task_id
            if self._main_task == task_id:
                _raise_in_thread(ident, KeyboardInterrupt)

    def _leave_user_code(self) -> None:
        """From here on no interrupt may arrive."""
        self._main_task = b""
        if self._interrupt_task and not self.is_process:
            with self._interrupt_lock:
                self._interrupt_task = b""
                _raise_in_thread(self._main_ident, None)

    def on_sigint(self) -> bool:
        """From the process's SIGINT handler: is the interrupt meant for the task that runs now?"""
        return bool(self._interrupt_task) and self._interrupt_task == self._main_task

    def _exit(self, operation: Exit) -> None:
        cause = operation.cause or DeathCause("exit", "told to exit", pid=self.host.pid)
        if operation.graceful and self._spec is not None:
            self._graceful_cause = operation.cause or DeathCause("out_of_scope", "its last handle went out of scope")
            self._notify()
        elif self._ending:
            self._may_leave.set()
        else:
            self._stop = True
            if self.is_process:
                # Not here: this may be the loop's thread, which has the last words still to write.
                threading.Thread(target=self.host.leave, args=(cause, operation.exit_code), daemon=True).start()
            else:
                self.host.leave(cause, operation.exit_code)
                self._wake_up()

    def _wake_up(self) -> None:
        self._idle = False
        self._wake.put(None)
        self._notify()

    def stop(self) -> None:
        """Run nothing more (in-process workers: the thread ends once the running task has returned)."""
        self._stop = True
        self._queue.clear()
        self._may_leave.set()
        self._wake_up()

    # ------------------------------------------------------------------ the thread
    def run(self) -> None:
        """Run works until the worker ends; call in the thread that is to run user code."""
        self._main_ident = threading.get_ident()
        self.host.enter()
        self._context = contextvars.copy_context()
        while not self._stop:
            try:
                self._loop_once()
            except KeyboardInterrupt:
                # An interrupt that came too late for its task; nothing here is half done (see on_sigint).
                logger.debug("an interrupt arrived between tasks")
            except Exception as error:  # noqa: BLE001 - a bug of ours: better a dead worker than one that hangs
                self._broken(error)
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        if self.is_process:
            # Returning would end the process: leave that to the thread that is at it, with last words to write.
            threading.Event().wait(LEAVE_WAIT_S)
        self._instance = None  # what a thread leaves must not wait for the garbage collector
        self._methods.clear()

    def _broken(self, error: BaseException) -> None:
        logger.error("the executor failed: %r", error, exc_info=error)
        self._end(DeathCause("exit", f"the executor failed: {error!r}", pid=self.host.pid, exit_code=1), 1)

    def _loop_once(self) -> None:
        if self._create is not None:
            self._construct()
            if self._loop is not None:
                self._run_loop()
            return
        try:
            work = self._queue.popleft()
        except IndexError:
            self._wait()
            return
        if self._pools:
            self._dispatch(work)
        else:
            self._run_work(work)

    def _wait(self) -> None:
        self._flush()
        if self._graceful_cause is not None and not self._threaded_pending:
            self._end(self._graceful_cause, 0, hooks=True)
            return
        self._idle = True
        if (
            self._queue
            or self._create is not None
            or self._stop
            or (self._graceful_cause is not None and not self._threaded_pending)
        ):
            self._idle = False  # it came before the flag was up: nobody will wake us
            return
        self._wake.get()

    # ------------------------------------------------------------------ the end
    def _end(self, cause: DeathCause, exit_code: int, *, hooks: bool = False) -> None:
        """End the worker from a thread of ours."""
        self._flush()
        self._stop = True
        self._ending = True
        if hooks and self.is_process:
            atexit._run_exitfuncs()
        self._post(ExitRequested(cause, exit_code))
        self._may_leave.wait(EXIT_WAIT_S)
        self.host.leave(cause, exit_code)

    # ------------------------------------------------------------------ one task
    def _callable_of(self, template: TaskTemplate) -> _Callable:
        if template.method_name:
            found = self._methods.get(template.method_name)
            if found is None:
                found = _Callable(self._method(template.method_name))
                self._methods[template.method_name] = found
            return found
        found = self._functions.get(template.function_key)
        if found is None:
            found = _Callable(self.host.load_function(template))
            self._functions[template.function_key] = found
        return found

    def _method(self, name: str) -> Any:
        if name == "__ray_ready__":
            return lambda: True
        if name == "__ray_call__":
            return lambda function, *args, **kwargs: function(self._instance, *args, **kwargs)
        if name == "__ray_terminate__":
            return _exit_actor
        return getattr(self._instance, name)

    def _run_work(self, work: Work, *, pooled: bool = False) -> None:
        """Run one task or call in this thread (``pooled``: of a threaded actor) and see to its outcome."""
        template = work.template
        task_id = work.call.task_id
        context = TaskContext(task_id, template.name, template.function_name, template.resources, work.call.attempt)
        token = current_task.set(context)
        self._running[task_id] = (context, threading.get_ident() if pooled else self._main_ident, None)
        if self._cancels:
            self._find_cancel(task_id, context)
        known: _Callable | None = None
        sender: ItemSender | None = None
        results: tuple[Any, ...]
        retry_wanted = False
        started_s = time.perf_counter()
        try:
            try:
                known = self._callable_of(template)
                if self._finished and (known.average_s > QUICK_S or self._runs_once(template)):
                    self._flush()
                try:
                    if not pooled:
                        self._main_task = task_id
                    if context.cancelled:
                        raise KeyboardInterrupt  # it was cancelled before it could be interrupted
                    args, kwargs = self._arguments(work)  # may take long: they may have to come from elsewhere
                    value = known.function(*args, **kwargs)
                    if template.is_streaming:
                        sender = self._sender(work)
                        self._send_each(sender, value, context, pooled=pooled)
                    results = packing.packed(value, template, task_id, work.src.process, self.host.keep)
                finally:
                    if os.getpid() != self.host.pid:
                        _end_fork()
                    self._main_task = b""
                    if self._interrupt_task:
                        self._leave_user_code()
                for result in results:
                    if result.refs:  # lent while the value, and with it our own hold, still lives
                        self.host.lend(result.refs, work.src.process)
                del args, kwargs, value  # before asking what is still held
                if self._spec is not None and context.cancelled:
                    results = (_cancelled(template),)  # type: ignore[unreachable] # another thread sets the flag
            except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
                self._leave_user_code()
                _ended(sender)  # it may be the end of the process
                failure = self._raised(work, error, context)
                if failure is None:
                    return
                results = (failure,)
                retry_wanted = failure.kind == "TaskError" and packing.retry_wanted(template, error)
        finally:
            self._running.pop(task_id, None)
            current_task.reset(token)
        ended_s = time.perf_counter()
        if known is not None:
            known.learn(ended_s - started_s)
        self._finish(work, results, ended_s - started_s, ended_s, retry_wanted=retry_wanted, item_count=_ended(sender))
        if template.max_calls and known is not None and known.calls >= template.max_calls:
            text = f"max_calls={template.max_calls} of {template.name} is reached"
            self._end(DeathCause("exit", text, pid=self.host.pid), 0)

    def _sender(self, work: Work) -> ItemSender:
        return ItemSender(work.call.task_id, work.src.process, self.host, self._post)

    def _send_each(self, sender: ItemSender, items: Any, context: TaskContext, *, pooled: bool) -> None:
        """Send what a generator yields. No interrupt may arrive in the middle of sending."""
        try:
            for item in items:
                value = sender.pack(item)
                self._main_task = b""
                if self._interrupt_task:
                    self._leave_user_code()
                sender.send(value)
                if not pooled:
                    self._main_task = context.task_id
                if context.cancelled and self._spec is None:
                    raise KeyboardInterrupt
        finally:
            if inspect.isgenerator(items):
                items.close()  # here and now: its `finally` is the task's code

    def _find_cancel(self, task_id: bytes, context: TaskContext) -> None:
        """Was it cancelled while it was being taken from the queue?"""
        if task_id in self._cancels:
            self._cancels.pop(task_id, None)
            context.cancelled = True

    def _runs_once(self, template: TaskTemplate) -> bool:
        """A task that must not run twice. (Calls in an actor's hands are never repeated unless they may be.)"""
        return not template.max_retries and self._spec is None

    def _arguments(self, work: Work) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            return packing.unpack_call(work.call, self.host.load)
        except Exception as error:
            error.add_note(f"(while unpickling the arguments of {work.template.name})")
            raise

    async def _arguments_async(self, work: Work) -> tuple[tuple[Any, ...], dict[str, Any]]:
        call = work.call
        if not any(type(result) is Stored for result in call.dependencies):
            return self._arguments(work)
        return packing.unpack_loaded(call, await self.host.load_async(call.dependencies))

    def _raised(self, work: Work, error: BaseException, context: TaskContext) -> Failure | None:
        """What a task that raised leaves to its owner; None when it is the end of the worker."""
        if isinstance(error, SystemExit):
            self._system_exit(work, error)
            return None
        is_interrupt = isinstance(error, (KeyboardInterrupt, asyncio.CancelledError))
        if context.cancelled and (is_interrupt or self._spec is not None):
            return _cancelled(work.template)
        return failure_of(error, work.template.function_name, self.host.pid, self.host.node_id)

    def _system_exit(self, work: Work, error: SystemExit) -> None:
        """``sys.exit`` in a task ends the process; ``exit_actor`` ends the actor by intent."""
        code = error.code if isinstance(error.code, int) else (0 if error.code is None else 1)
        if self._spec is not None:
            cause = DeathCause("exit_actor", f"exit_actor() was called in {work.template.name}", pid=self.host.pid)
        else:
            text = f"the task called sys.exit({error.code!r})"
            cause = DeathCause("exit", text, pid=self.host.pid, exit_code=code)
        self._end(cause, code, hooks=True)

    # ------------------------------------------------------------------ outcomes
    def _finish(
        self,
        work: Work,
        results: tuple[Result, ...],
        duration_s: float,
        now_s: float,
        *,
        retry_wanted: bool = False,
        item_count: int = -1,
    ) -> None:
        finished = self._finished
        if not finished:
            self._first_unsent_s = now_s
        call = work.call
        borrowed = self._borrowed(work) if call.refs or call.dependencies else ()
        finished.append(TaskOutcome(call.task_id, results, duration_s, borrowed, retry_wanted, item_count))
        if (
            not self._queue
            or len(finished) >= OUTCOMES_HELD_MAX
            or now_s - self._first_unsent_s >= OUTCOMES_HOLD_S
            or self._runs_once(work.template)
        ):
            self._flush()
        elif not self._timer_armed:
            self._timer_armed = True
            self.host.call_soon(self._flush_by_timer, OUTCOMES_TIMER_S)

    def _borrowed(self, work: Work) -> tuple[RefInfo, ...]:
        """Which refs from its arguments does this process keep? (Ask when the arguments are gone.)"""
        call = work.call
        refs = call.refs + tuple(r for d in call.dependencies if type(d) is not Failure for r in d.refs)
        return self.host.still_held(refs) if refs else ()

    def _flush_by_timer(self) -> None:
        self._timer_armed = False
        if self._finished:
            self._flush()
            if self._queue:
                self._timer_armed = True
                self.host.call_soon(self._flush_by_timer, OUTCOMES_TIMER_S)

    def _flush(self) -> None:
        finished = self._finished
        if not finished:
            return
        batch: list[TaskOutcome] = []
        with contextlib.suppress(IndexError):  # two threads may empty the deque; each outcome goes to one of them
            while True:
                batch.append(finished.popleft())
        if batch:
            self._post(TasksFinished(tuple(batch)))

    def _post(self, body: Any) -> None:
        self.host.post(Envelope(NOWHERE, body))

    # ------------------------------------------------------------------ actors
    def _construct(self) -> None:
        create = self._create
        assert create is not None
        self._create = None
        spec = create.spec
        self._spec = spec
        context = TaskContext(spec.actor_id, f"{spec.class_name}.__init__", spec.class_name, spec.resources)
        token = current_task.set(context)
        try:
            cls = self.host.load_class(spec)
            args, kwargs = packing.unpack(spec.arguments, spec.dependencies, self.host.load)
            if spec.is_async:
                self._prepare_loop(spec)
                assert self._loop is not None
                self._instance = self._loop.run_until_complete(self._construct_async(cls, args, kwargs))
            else:
                self._instance = cls(*args, **kwargs)
                self._prepare_pools(spec)
            del args, kwargs
            cause = None
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
            failure = failure_of(error, f"{spec.class_name}.__init__", self.host.pid, self.host.node_id)
            text = f"{spec.class_name}.__init__ raised {''.join(traceback.format_exception_only(error)).strip()}"
            cause = DeathCause("init_failed", text, pid=self.host.pid, failure=failure)
            if self._loop is not None:
                self._loop.close()
                self._loop = None
        finally:
            current_task.reset(token)
        self._post(ActorCreated(cause))

    async def _construct_async(self, cls: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
        return cls(*args, **kwargs)

    def _prepare_pools(self, spec: ActorSpec) -> None:
        groups = dict(spec.concurrency_groups)
        if spec.max_concurrency <= 1 and not groups:
            return
        for name, size in [("", max(1, spec.max_concurrency)), *groups.items()]:
            self._pools[name] = ThreadPoolExecutor(size, f"group-{name or 'default'}", self.host.enter)

    def _dispatch(self, work: Work) -> None:
        pool = self._pools.get(work.template.concurrency_group)
        if pool is None:
            error = packing.no_group(work.template, self._pools)
            failure = failure_of(error, work.template.function_name, self.host.pid, self.host.node_id)
            self._finish(work, (failure,), 0.0, time.perf_counter())
            return
        with self._lock:
            self._threaded_pending += 1
        pool.submit(self._run_threaded, work)

    def _run_threaded(self, work: Work) -> None:
        try:
            self._run_work(work, pooled=True)
            self._flush()
        except Exception as error:  # noqa: BLE001 - a bug of ours: better a dead worker than one that hangs
            self._broken(error)
        with self._lock:
            self._threaded_pending -= 1
        if self._graceful_cause is not None:
            self._wake.put(None)

    # ------------------------------------------------------------------ async actors
    def _prepare_loop(self, spec: ActorSpec) -> None:
        self._loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._semaphores[""] = asyncio.Semaphore(max(1, spec.max_concurrency))
        for name, size in spec.concurrency_groups:
            self._semaphores[name] = asyncio.Semaphore(size)

    def _run_loop(self) -> None:
        loop = self._loop
        assert loop is not None
        loop.call_soon(self._start_queued)
        loop.run_forever()
        if not self.is_process:  # a process ends with all it has; a thread must tidy up
            calls = asyncio.all_tasks(loop)
            for call in calls:
                call.cancel()
            loop.run_until_complete(asyncio.gather(*calls, return_exceptions=True))
            loop.close()

    def _start_queued(self) -> None:
        self._loop_wake_pending = False
        loop = self._loop
        assert loop is not None
        while True:
            try:
                work = self._queue.popleft()
            except IndexError:
                break
            self._threaded_pending += 1
            template = work.template
            context = TaskContext(
                work.call.task_id,
                template.name,
                template.function_name,
                template.resources,
                work.call.attempt,
                is_async=True,
            )
            task = loop.create_task(self._run_async(work, context))
            self._running[work.call.task_id] = (context, self._main_ident, task)
        if self._graceful_cause is not None and not self._threaded_pending:
            self._end(self._graceful_cause, 0, hooks=True)
        if self._stop:
            loop.stop()

    async def _run_async(self, work: Work, context: TaskContext) -> None:
        try:
            await self._await_work(work, context)
        except Exception as error:  # noqa: BLE001 - a bug of ours: better a dead worker than one that hangs
            self._broken(error)
        self._threaded_pending -= 1
        assert self._loop is not None
        if self._stop or (self._graceful_cause is not None and not self._threaded_pending):
            self._loop.call_soon(self._start_queued)

    async def _await_work(self, work: Work, context: TaskContext) -> None:
        """``_run_work`` for methods that may be coroutines."""
        template = work.template
        task_id = work.call.task_id
        current_task.set(context)
        sender: ItemSender | None = None
        results: tuple[Any, ...]
        retry_wanted = False
        started_s = time.perf_counter()
        try:
            semaphore = self._semaphores.get(template.concurrency_group)
            if semaphore is None:
                raise packing.no_group(template, self._semaphores)  # noqa: TRY301 - an outcome like any other
            async with semaphore:
                if self._cancels:
                    self._find_cancel(task_id, context)
                if context.cancelled:
                    raise asyncio.CancelledError  # noqa: TRY301 - an outcome like any other
                started_s = time.perf_counter()
                known = self._callable_of(template)
                args, kwargs = await self._arguments_async(work)
                value = known.function(*args, **kwargs)
                if inspect.isawaitable(value):
                    value = await value
                if template.is_streaming:
                    sender = self._sender(work)
                    await _send_all(sender, value)
                results = packing.packed(value, template, task_id, work.src.process, self.host.keep)
            for result in results:
                if result.refs:
                    self.host.lend(result.refs, work.src.process)
            del args, kwargs, value
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
            _ended(sender)  # it may be the end of the process
            failure = self._raised(work, error, context)
            if failure is None:
                return
            results = (failure,)
            retry_wanted = failure.kind == "TaskError" and packing.retry_wanted(template, error)
        finally:
            self._running.pop(task_id, None)
        assert self._loop is not None
        item_count = _ended(sender)
        is_first = not self._finished
        duration_s = time.perf_counter() - started_s
        borrowed = self._borrowed(work)
        self._finished.append(TaskOutcome(task_id, results, duration_s, borrowed, retry_wanted, item_count))
        if is_first:
            self._loop.call_soon(self._flush)  # with all that end in this turn of the loop


def _ended(sender: ItemSender | None) -> int:
    """Hand over the last items of a stream; how many there were in all (-1: no stream)."""
    if sender is None:
        return -1
    sender.flush()
    return sender.count


async def _send_all(sender: ItemSender, items: Any) -> None:
    if hasattr(items, "__aiter__"):
        async for item in items:
            sender.send(sender.pack(item))
    else:
        for item in items:
            sender.send(sender.pack(item))


def _raise_in_thread(ident: int, error: type[BaseException] | None) -> None:
    """Raise in another thread as soon as it runs Python code; None takes back what has not been raised yet."""
    what = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), what)


def _exit_actor() -> None:
    raise ActorExit(0)


def _end_fork() -> NoReturn:
    """User code forked, and it is the child that comes back: it has our sockets, but no right to speak for us."""
    code = 0
    error = sys.exception()
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF)


def _cancelled(template: TaskTemplate) -> Failure:
    return Failure("TaskCancelledError", f"task {template.name} was cancelled", pid=os.getpid())
