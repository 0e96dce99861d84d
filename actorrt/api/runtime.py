"""The runtime of one process: its owner machine in a shell, and the blocking and awaiting faces of it.

Theory of operation
-------------------
``submit`` does the least possible: the task goes into a deque. If nothing of ours is unfinished, the calling thread
hands it to the owner's shell itself, which pushes it to the worker's socket: no other thread is involved. If work is in
flight already, tasks are gathered (up to 64, or until somebody waits, or until the loop looks), and travel in one
message.

Reading is lock-free: the machine puts results into its records, ``get`` looks there, and only registers a waiter when
something is missing. Dropped refs are noted in a deque too and handed over together with the next batch, or by the loop
soon after.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

from actorrt.api.awaiting import Awaiter
from actorrt.api.blocking import Blocker
from actorrt.api.environments import merged_environment
from actorrt.api.exports import Exports
from actorrt.api.loading import Loader, deadline_of, rebuilt
from actorrt.api.local_wait import LocalWait
from actorrt.api.readiness import Readiness
from actorrt.api.refs import ObjectRef
from actorrt.cluster.shelf import Shelf
from actorrt.kernel.clock import MonotonicClock
from actorrt.kernel.errors import InternalError, LocalRayletDiedError, Overloaded
from actorrt.kernel.ids import TaskIdSource
from actorrt.kernel.limits import PENDING_TASKS_MAX
from actorrt.kernel.message import Address, Message
from actorrt.kernel.shell import Shell
from actorrt.owner.holdings import OBJECTS, object_id_of
from actorrt.owner.messages import Published
from actorrt.owner.operations import Deliver, LosePeer, PrintLines, Wake
from actorrt.owner.requests import (
    AddRefs,
    AddWaiter,
    CancelChildren,
    DropStream,
    DropWaiter,
    Lend,
    Release,
    Renew,
    ReportHeld,
    Submit,
)
from actorrt.owner.state import OwnerMachine, local
from actorrt.owner.tasks import Task, Waiter
from actorrt.wire import values
from actorrt.wire.failures import plain
from actorrt.wire.records import Environment, JobConfig, NodeInfo, RefInfo, Result, Stored
from actorrt.wire.router import Router

logger = logging.getLogger("actorrt")

SUBMIT_BATCH_MAX = 64
RELEASE_DELAY_S = 0.02
REQUEST_TIMEOUT_S = 60.0
SHUT_DOWN = "the runtime that this ref belongs to was shut down"

_generations = itertools.count(1)


class Runtime:
    """One process's (or, in-process, one worker's) part in the cluster."""

    def __init__(
        self,
        *,
        router: Router,
        loop: asyncio.AbstractEventLoop,
        raylet: Address,
        gcs: Address,
        job: JobConfig,
        node: NodeInfo,
        worker_id: bytes,
        is_driver: bool,
        session_dir: str = "",
        show: Callable[[Any], None] | None = None,
        tell_store: Callable[[Message], None] | None = None,
    ) -> None:
        self.generation = next(_generations)
        self.router = router
        self.loop = loop
        self.raylet = raylet
        self.gcs = gcs
        self.job = job
        self.node = node
        self.worker_id = worker_id
        self.is_driver = is_driver
        self.session_dir = session_dir
        self.pid = os.getpid()
        self.accelerator_ids: dict[str, tuple[str, ...]] = {}
        self.actor: Any = None
        """In an actor's worker: its ActorSpec."""
        self.actor_incarnation = 0
        self.closed = False
        self.warned_blocking = False
        self.lost_reason = ""
        self.me = Address(router.process, "owner")
        self.machine = OwnerMachine(self.me, raylet, gcs)
        self._records = self.machine.objects.records
        self._unfinished = self.machine.submitter.tasks
        self.shell = Shell(
            "owner",
            self.machine,
            clock=MonotonicClock(),
            loop=loop,
            outbox=router,
            perform=self._perform,
            on_failure=self._failed,
        )
        router.attach("owner", self.shell.post)
        self.shelf = _shelf(router, raylet, loop, self.flush, tell_store)
        self._task_ids = TaskIdSource(os.urandom)
        self._pending: deque[Task] = deque()
        self._puts: deque[tuple[bytes, Result]] = deque()
        self._released: deque[bytes] = deque()
        self._dropped: deque[bytes] = deque()
        self._adopted: deque[RefInfo] = deque()
        self._wake_pending = False
        self._release_pending = False
        self.exports = Exports(self.job, lambda body: router.send(gcs, "owner", body))
        self._kept: list[Any] = []
        self._flush_lock = threading.RLock()
        """Re-entrant: a callback that the machine's effects run may submit."""
        self._flushing = 0
        """Somebody is at it: what is not gathered any more need not be with the machine yet."""
        self._awaiter = Awaiter(self.add_waiter, self.drop_waiter)
        self.blocker = Blocker(self.add_waiter, self.drop_waiter, self.check_alive)
        self.readiness = Readiness(self.machine, self.blocker, self.flush_puts, self.check_alive)
        self.loader = Loader(self.shelf, self.blocker, self.machine.objects.holdings.current, self.renew)
        self._show = show
        self._subscribers: dict[str, Callable[[bytes], None]] = {}
        self.actor_clients = self.machine.caller.clients

    # ------------------------------------------------------------------ submitting (hot)
    def new_task_id(self) -> bytes:
        """A fresh task id."""
        return self._task_ids.next()

    def submit(self, task: Task) -> Any:
        """Hand over a task; returns its ref (or list of refs, or None for num_returns=0)."""
        if self.closed:
            raise InternalError("the runtime was shut down")
        pending = self._pending
        pending.append(task)
        if not self._unfinished or len(pending) >= SUBMIT_BATCH_MAX:
            self.flush()
        elif not self._wake_pending:
            self._wake_pending = True
            self._call_soon(self._flush_from_loop)
        count = task.template.spec.num_returns
        if count == 1:
            return ObjectRef(task.task_id + b"\x00\x00\x00\x00", self.me.process, self)
        if count == 0:
            return None
        return [ObjectRef(task.task_id + index.to_bytes(4, "big"), self.me.process, self) for index in range(count)]

    def check_room(self) -> None:
        """Refuse to let pending tasks grow without bound."""
        if len(self._unfinished) > PENDING_TASKS_MAX:
            raise Overloaded(
                f"{len(self._unfinished)} tasks of this process are unfinished (limit {PENDING_TASKS_MAX})"
            )

    def flush(self) -> None:
        """Hand everything gathered to the owner machine, in an order that never frees what a pending task needs."""
        if not (self._pending or self._puts or self._released or self._adopted or self._dropped or self._flushing):
            return
        with self._flush_lock:
            self._flushing += 1
            try:
                # Releases first into our hands, last to the machine: what was dropped up to here was used, if at all,
                # by tasks queued before.
                released = _drain(self._released) if self._released else []
                adopted = _drain(self._adopted) if self._adopted else []
                dropped = _drain(self._dropped) if self._dropped else []
                if self._pending or self._puts:
                    tasks = _drain(self._pending)  # before the objects, which were put before the tasks that need them
                    puts = _drain(self._puts) if self._puts else []
                    self.shell.post(local(Submit(tasks, adopted, released, puts)))
                else:
                    if adopted:
                        self.shell.post(local(AddRefs(adopted)))
                    if released:
                        self.shell.post(local(Release(released)))
                for task_id in dropped:
                    self.shell.post(local(DropStream(task_id)))
            finally:
                self._flushing -= 1

    def flush_puts(self) -> bool:
        """What is looked for may be among the objects that were put and not told yet; whether there were any."""
        if not self._puts:
            return False
        self.flush()
        return True

    def _flush_from_loop(self) -> None:
        self._wake_pending = False
        self.flush()

    def _flush_releases(self) -> None:
        self._release_pending = False
        if not self.closed:
            self.flush()

    def _call_soon(self, callback: Callable[[], None]) -> None:
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            if not self.closed:
                raise

    def released(self, object_id: bytes) -> None:
        """An ObjectRef went (from ``__del__``: any thread, any moment)."""
        if self.closed:
            return
        self._released.append(object_id)
        self._release_soon()

    def stream_dropped(self, task_id: bytes) -> None:
        """The generator of a stream went (from ``__del__``)."""
        if not self.closed:
            self._dropped.append(task_id)
            self._release_soon()

    def _release_soon(self) -> None:
        if not self._release_pending:
            self._release_pending = True
            try:
                self.loop.call_soon_threadsafe(self._arm_release)
            except RuntimeError:
                self.closed = True

    def _arm_release(self) -> None:
        self.loop.call_later(RELEASE_DELAY_S, self._flush_releases)

    def adopt_ref(self, object_id: bytes, owner: str) -> ObjectRef[Any]:
        """An ObjectRef made by unpickling."""
        self._adopted.append(RefInfo(object_id, owner))
        return ObjectRef(object_id, owner, self)

    # ------------------------------------------------------------------ put, get, wait
    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value; it is ours."""
        task_id = self._task_ids.next()
        return self._own(task_id, values.dumps(value, self.shelf.keep, (task_id, 0, self.me.process)))

    def put_pickled(self, pickled: values.Pickled) -> ObjectRef[Any] | None:
        """Store what is pickled already. None: there is no store within reach."""
        task_id = self._task_ids.next()
        stored = self.shelf.keep(pickled, (task_id, 0, self.me.process))
        return None if stored is None else self._own(task_id, stored)

    def _own(self, task_id: bytes, result: Result) -> ObjectRef[Any]:
        if self.closed:
            raise InternalError("the runtime was shut down")
        object_id = task_id + b"\x00\x00\x00\x00"
        puts = self._puts
        puts.append((object_id, result))
        if len(puts) >= SUBMIT_BATCH_MAX:
            self.flush()
        elif not self._release_pending:
            self._release_soon()  # nobody can miss it before: whatever tells others of the ref flushes first
        return ObjectRef(object_id, self.me.process, self)

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None) -> list[Any]:
        """Values of the refs; raises the first failure known."""
        deadline_s = deadline_of(timeout_s)
        results = self.readiness.results_of(refs, timeout_s)
        return self.loader.load_all(results, deadline_s)  # type: ignore[arg-type]

    def wait(
        self, refs: Sequence[ObjectRef[Any]], count: int, timeout_s: float | None, *, fetch_local: bool
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Block until ``count`` are ready or the time is up; returns (at most ``count`` ready ones, the rest).

        ``fetch_local``: a value that lies in the store of another node is ready when it is here.
        """
        deadline_s = deadline_of(timeout_s)
        ready, rest = self.readiness.wait(refs, count, timeout_s)
        if fetch_local and self.machine.objects.any_stored(ref._id for ref in ready):
            return LocalWait(self, refs, count).run(deadline_s)
        return ready, rest

    def renew(self, stale: list[Stored], done: Callable[[list[Result | None]], None]) -> None:
        """See ``pinning.Renew``. The refs made here hold the objects until the answer has come."""
        refs = [self.adopt_ref(object_id_of(stored.key), stored.owner) for stored in stale]
        infos = tuple(RefInfo(ref._id, ref._owner) for ref in refs)
        self.flush()
        self.shell.post(local(Renew(tuple((info, stored.key) for info, stored in zip(infos, stale, strict=True)))))
        self.add_waiter(Waiter(infos, len(infos), lambda: done([self.result_of(ref._id) for ref in refs])))

    def result_of(self, object_id: bytes) -> Result | None:
        """The result of an object of this process, if it is there."""
        record = self._records.get(object_id)
        return None if record is None else record.result

    def block(self, ref: RefInfo) -> None:
        """Wait in this thread until one object is ready."""
        self.blocker.wait((ref,), 1, None, fail_fast=False)

    async def suspend(self, ref: RefInfo) -> None:
        """Wait in this coroutine until one object is ready."""
        await self._awaiter.suspend(ref)

    def check_alive(self) -> None:
        """Raise what somebody who waits must hear when nothing will come any more."""
        if self.closed or self.lost_reason or self.shell.failure is not None:
            raise self._lost_error()

    def _lost_error(self) -> Exception:
        if self.lost_reason:
            return LocalRayletDiedError(self.lost_reason)
        if self.shell.failure is not None:
            return InternalError(f"the owner failed: {self.shell.failure!r}")
        return InternalError("the runtime was shut down, or lost the object, while somebody waited for it")

    def on_block(self, began: Callable[[], None], ended: Callable[[], None]) -> None:
        """In a worker: call these around every wait of a running task (it gives its CPU back meanwhile)."""
        self.blocker.began, self.blocker.ended = began, ended

    # ------------------------------------------------------------------ awaiting
    def await_ref(self, ref: ObjectRef[Any]) -> Generator[Any, None, Any]:
        """The ``__await__`` of a ref."""
        if self.closed:
            raise InternalError(SHUT_DOWN)
        record = self._records.get(ref._id)
        if record is None or record.result is None:
            yield from self._awaiter.wait(RefInfo(ref._id, ref._owner))
            record = self._records.get(ref._id)
        assert record is not None
        result = record.result
        if result is None:
            raise InternalError(self.lost_reason or SHUT_DOWN)
        try:
            if type(result) is Stored:
                return (yield from self.loader.steps((result,)))[0]
            return rebuilt(result)
        except (StopIteration, StopAsyncIteration) as error:
            raise plain(error) from error.__cause__

    def future_of(self, ref: ObjectRef[Any]) -> concurrent.futures.Future[Any]:
        """A concurrent future of a ref."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()
        if self.closed:
            future.set_exception(InternalError(SHUT_DOWN))
            return future

        def loaded(value: Any, error: BaseException | None, _held: ObjectRef[Any] = ref) -> None:
            # The ref is held until the value is here: the caller need not have one any more.
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(plain(error) if isinstance(error, Exception) else error)

        def wake() -> None:
            record = self._records.get(ref._id)
            if record is None or record.result is None:
                loaded(None, InternalError(self.lost_reason or SHUT_DOWN))
            else:
                self.loader.call_back(record.result, loaded)

        self.add_waiter(Waiter((RefInfo(ref._id, ref._owner),), 1, wake))
        return future

    def add_waiter(self, waiter: Waiter) -> None:
        """Register a waiter, after everything submitted so far."""
        self.flush()
        self.shell.post(local(AddWaiter(waiter)))

    def drop_waiter(self, waiter: Waiter) -> None:
        """Forget it."""
        self.shell.post(local(DropWaiter(waiter)))

    def environment_of(self, environment: Environment) -> Environment:
        """A task's environment on top of its job's: variables merge, the task's win."""
        return merged_environment(self.job.environment, environment)

    def keep(self, thing: Any) -> None:
        """Hold something as long as the runtime lives."""
        self._kept.append(thing)

    # ------------------------------------------------------------------ asking components
    def ask(self, dst: Address, body: Message, timeout_s: float = REQUEST_TIMEOUT_S) -> Any:
        """Send a request and block for its answer. Raises the error class the answer names, or RequestTimedOut."""
        if self.lost_reason:
            raise LocalRayletDiedError(self.lost_reason)
        future = self.router.request(dst, body, timeout_s)
        return future.result(timeout_s + 5)

    def subscribe(self, channel: str, callback: Callable[[bytes], None]) -> None:
        """Local delivery of a pub/sub channel (the GCS subscription is the caller's)."""
        self._subscribers[channel] = callback

    # ------------------------------------------------------------------ refs in values
    def lend(self, refs: tuple[RefInfo, ...], borrower: str) -> None:
        """See ``owner.objects``."""
        self.flush()
        self.shell.post(local(Lend(refs, borrower)))

    def still_held(self, refs: tuple[RefInfo, ...]) -> tuple[RefInfo, ...]:
        """See ``owner.requests.ReportHeld``."""
        self.flush()
        done = threading.Lock()
        done.acquire()
        answer: list[RefInfo] = []
        self.shell.post(local(ReportHeld(refs, answer, Waiter((), 0, done.release))))
        if not done.acquire(timeout=30):
            raise InternalError("the owner did not answer within 30 s")
        return tuple(answer)

    def cancel_children(self, task_id: bytes) -> None:
        """Cancel what this task submitted."""
        self.flush()
        self.shell.post_later(local(CancelChildren(task_id)))

    # ------------------------------------------------------------------ operations of the machine
    def _perform(self, operation: Any) -> None:
        kind = type(operation)
        if kind is Wake:
            operation.waiter.wake()
        elif kind is PrintLines:
            if self._show is not None:
                self._show(operation.lines)
        elif kind is Deliver:
            self._deliver(operation.published)
        elif kind is LosePeer:
            self._lost(operation)
        else:
            raise TypeError(f"unknown operation {operation!r}")

    def _deliver(self, published: Published) -> None:
        callback = self._subscribers.get(published.channel)
        if callback is not None:
            callback(published.data)

    def _lost(self, operation: LosePeer) -> None:
        if self.closed or self.lost_reason:
            return
        what = "the cluster's head" if operation.process == self.gcs.process else "this node's process"
        self.lost_reason = f"{what} is gone ({operation.reason})"
        self._wake_everybody()
        if self.is_driver:
            logger.error("actorrt: %s; call init() again to start or join another cluster", self.lost_reason)

    def _failed(self, error: BaseException) -> None:
        self.lost_reason = f"the owner of this process failed: {error!r}"

    def close(self) -> None:
        """Stop the owner (loop thread); whoever waits gets an error."""
        self.closed = True
        self.shelf.close()
        self.shell.stop()
        self._wake_everybody()

    def _wake_everybody(self) -> None:
        """Nothing will come any more: let threads, coroutines and futures find out (under the shell's lock)."""
        for record in list(self._records.values()):
            waiters, record.waiters = record.waiters, None
            for waiter in waiters or ():
                if not waiter.done:
                    waiter.done = True
                    waiter.wake()


def _shelf(
    router: Router,
    raylet: Address,
    loop: asyncio.AbstractEventLoop,
    before_wait: Callable[[], None],
    tell_store: Callable[[Message], None] | None,
) -> Shelf:
    objects = Address(raylet.process, OBJECTS)
    return Shelf(
        request=lambda body: router.request(objects, body, None),
        send=tell_store or (lambda body: router.send(objects, "owner", body)),
        loop=loop,
        me=router.process,
        node=raylet.process,
        pid=os.getpid(),
        identity=lambda: router.identity,
        before_wait=before_wait,
        outlives=tell_store is not None,
    )


def _drain(items: deque[Any]) -> list[Any]:
    drained: list[Any] = []
    try:
        while True:
            drained.append(items.popleft())
    except IndexError:
        return drained
