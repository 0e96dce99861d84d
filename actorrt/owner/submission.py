"""Submitting tasks: leases, pushing, depth, outcomes, retries (pure).

Tasks that can share workers form a *scheduling class*. For each class the owner asks raylets for leases and pushes
tasks directly to the leased workers. How many tasks are in a worker's hands adapts: about ``PUSH_TARGET_S`` of work by
the smoothed duration of each function, so tiny tasks are pipelined hundreds deep and tasks above that go one at a time;
a function that was never seen goes one at a time until its first outcome. Tasks stuck behind one that turned out slow
are taken back.

**A worker's death** is told twice: by the end of its connection, which comes after the last outcome it sent, and by its
raylet, which knows the cause. Only when both are in are its tasks given up for lost: an outcome that was sent counts.
If one of the two does not come, the other is believed after a while (``LAST_WORDS_S``, ``DEATH_REPORT_S``).

**Who is charged.** Tasks run in push order, so the first one without an outcome is the one that ran: it loses a retry
(or fails). The others are queued again for free. With one exception: a worker may hold back outcomes of up to
``OUTCOMES_HELD_MAX`` quick functions that may be retried, so the culprit can be further back. All that may be it
therefore run again *alone*, each with a worker to itself: a second death then has exactly one explanation, and a task
that kills its workers uses up its own retries and nobody else's. Functions with ``max_retries=0`` are never held back
(see ``worker.executor``), so a task of theirs that is not the first has not been started and is not run twice. What
remains is the moment between the outcome's hand-over in the worker and its write to the socket. That holds as long as
its last outcomes reach us. When a node dies they may be lost on their way (or when we gave up waiting for them): then
any task in the worker's hands may have been started, and those of ``max_retries=0`` fail like the first.
"""

from __future__ import annotations

import itertools
from collections import deque

from actorrt.kernel import limits
from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.ids import object_id as make_object_id
from actorrt.kernel.message import Address
from actorrt.owner.arguments import Arguments
from actorrt.owner.deaths import cancelled_failure, crash_failure, lost_items_failure
from actorrt.owner.lineage import Lineage
from actorrt.owner.locality import Locality
from actorrt.owner.messages import LeasedWorkerDied, LeaseGranted, LeasesRedirected, LeasesRefused
from actorrt.owner.objects import ObjectTable
from actorrt.owner.streams import StreamTable
from actorrt.owner.tasks import ENDED, PUSHED, QUEUED, LeasedWorker, ObjectRecord, SchedulingClass, Task
from actorrt.raylet.messages import CancelLeases, RequestLeases, ReturnLease
from actorrt.wire.records import DeathCause, Failure, Result, TaskCall, TaskOutcome, TaskTemplate
from actorrt.worker.messages import CancelTask, PushTasks, TakeBack

TAKE_BACK_AFTER_S = 0.02
SMOOTHING = 0.2
LAST_WORDS_S = 0.5
"""How long outcomes of a worker that is dead, says its raylet, may still be on their way."""
DEATH_REPORT_S = 2.0
"""How long after the loss of its connection a raylet may take to report a worker's death."""
IDLE_CLASSES_KEPT_MAX = 1000
"""Scheduling classes nobody uses at the moment."""


class TaskSubmitter:
    """See the module's text."""

    def __init__(self, objects: ObjectTable, local_raylet: Address) -> None:
        self.objects = objects
        self.local_raylet = local_raylet
        self.effects: list[Effect] = []
        self.streams = StreamTable(objects)
        self.arguments = Arguments(objects)
        self.locality = Locality(objects, local_raylet.process)
        self.lineage = Lineage(objects, self.restart)
        objects.on_stored_gone, objects.remake = self.lineage.dropped, self.lineage.remake
        objects.record_ahead = self.streams.record_ahead
        self.classes: dict[bytes, SchedulingClass] = {}
        self.classes_by_id: dict[int, SchedulingClass] = {}
        self.workers: dict[tuple[str, int], LeasedWorker] = {}
        self.workers_by_process: dict[str, LeasedWorker] = {}
        self.tasks: dict[bytes, Task] = {}
        """Unfinished tasks and actor calls."""
        self.templates_sent: dict[str, dict[int, None]] = {}
        self.dirty: dict[bytes, None] = {}
        self.finished_count = 0
        self.retried_count = 0
        self.now = 0.0
        self._class_count = 0
        self._raylet_lost = ""
        """Why the node of this process is gone: no task can run any more."""

    # ------------------------------------------------------------------ submitting
    def admit(self, task: Task) -> None:
        """Record a new task, its returns and its holds on arguments. The caller queues it once nothing is missing."""
        self.tasks[task.task_id] = task
        records = self.objects.records
        count = task.template.spec.num_returns
        if count == 1:
            object_id = task.task_id + b"\x00\x00\x00\x00"
            task.returns = (object_id,)
            records[object_id] = ObjectRecord(task, 1)
        elif task.template.spec.is_streaming:
            self.streams.open(task)
        else:
            task.returns = tuple(make_object_id(task.task_id, index) for index in range(count))
            for object_id in task.returns:
                records[object_id] = ObjectRecord(task, 1)
        if task.refs:
            self.objects.pin(task.refs)
        if task.dependency_ids:
            self.arguments.admit(task)

    def restart(self, task: Task) -> None:
        """A task that ended runs again (see ``lineage``): its returns are pending already."""
        self.tasks[task.task_id] = task
        task.missing = 0
        task.alone = False
        self.retried_count += 1
        if task.refs:
            self.objects.pin(task.refs)
        if task.dependency_ids:
            self.arguments.admit(task)
        failure = self.arguments.failure(task)
        if failure is not None:
            self.arguments.forget(task)
            self.finish(task, (failure,), received=False)
        elif not task.missing:
            self.enqueue(task)

    def enqueue(self, task: Task) -> None:
        """The task's arguments are there."""
        lease_spec = task.template.lease_spec
        assert lease_spec is not None
        key, raylet = task.template.lease_key, self.local_raylet
        if task.dependency_ids and self.arguments.any_stored(task):
            key, raylet = self.locality.choose(task, lease_spec, raylet)
        scheduling_class = self.classes.get(key)
        if scheduling_class is None:
            if len(self.classes) >= IDLE_CLASSES_KEPT_MAX:
                self._forget_idle_classes()
            self._class_count += 1
            scheduling_class = SchedulingClass(self._class_count, key, lease_spec, raylet)
            self.classes[key] = scheduling_class
            self.classes_by_id[scheduling_class.class_id] = scheduling_class
        task.state = QUEUED
        scheduling_class.queue.append(task)
        self.dirty[key] = None

    def _forget_idle_classes(self) -> None:
        for key, known in list(self.classes.items()):
            if not (known.queue or known.workers or known.requested):
                del self.classes[key]
                del self.classes_by_id[known.class_id]

    def pump(self) -> None:
        """Push what can be pushed, ask for leases where more is queued; once per step."""
        dirty, self.dirty = self.dirty, {}
        for key in dirty:
            scheduling_class = self.classes.get(key)
            if scheduling_class is not None:
                self._pump_class(scheduling_class)
        self.locality.flush(self.effects)

    def _pump_class(self, scheduling_class: SchedulingClass) -> None:
        queue = scheduling_class.queue
        while queue and queue[0].state == ENDED:
            queue.popleft()
        if self._raylet_lost:
            while queue:
                lost = Failure("LocalRayletDiedError", f"the node of this process is gone ({self._raylet_lost})")
                self.finish(queue.popleft(), (lost,), received=False)
        if queue:
            workers = [w for w in scheduling_class.workers.values() if w.usable]
            if workers:
                self._assign(queue, workers)
        outstanding = sum(scheduling_class.requested.values())
        if queue:
            wanted = min(len(queue), limits.LEASE_REQUESTS_MAX) - outstanding
            if wanted > 0:
                raylet = scheduling_class.raylet
                scheduling_class.requested[raylet] = scheduling_class.requested.get(raylet, 0) + wanted
                self.effects.append(
                    Send(raylet, RequestLeases(scheduling_class.class_id, scheduling_class.spec, wanted))
                )
        elif outstanding:
            for raylet, count in scheduling_class.requested.items():
                self.effects.append(Send(raylet, CancelLeases(scheduling_class.class_id, count)))
            scheduling_class.requested = {}
        for worker in list(scheduling_class.workers.values()):
            if worker.recalled and not worker.in_flight:
                self.return_lease(worker)

    def _assign(self, queue: deque[Task], workers: list[LeasedWorker]) -> None:
        """Deal the queue out in rounds, so that workers fill evenly."""
        share = max(1, -(-len(queue) // len(workers)))
        workers.sort(key=_load_of)
        for worker in workers:
            calls: list[TaskCall] = []
            templates: list[TaskTemplate] = []
            in_flight = worker.in_flight
            known = self.templates_sent.setdefault(worker.address.process, {})
            taken = 0
            while queue and taken < share:
                task = queue[0]
                if task.state == ENDED or (task.dependency_ids and not self.arguments.are_there(task)):
                    queue.popleft()
                    continue
                template = task.template
                if in_flight:
                    average_s = template.average_s
                    if (
                        average_s < 0
                        or task.alone
                        or worker.expected_s + average_s > limits.PUSH_TARGET_S
                        or len(in_flight) >= limits.PUSH_DEPTH_MAX
                    ):
                        break
                queue.popleft()
                taken += 1
                self._push(task, worker, calls, templates, known)
                if task.alone:
                    break
            if calls:
                push = PushTasks(worker.lease_id, tuple(templates), tuple(calls), worker.accelerator_ids)
                self.effects.append(Send(worker.address, push))
            if not queue:
                return

    def _push(
        self,
        task: Task,
        worker: LeasedWorker,
        calls: list[TaskCall],
        templates: list[TaskTemplate],
        known: dict[int, None],
    ) -> None:
        template = task.template
        if template.spec.number not in known:
            known[template.spec.number] = None
            templates.append(template.spec)
        task.state = PUSHED
        task.worker = worker
        if not worker.in_flight:
            worker.last_outcome_s = self.now
        worker.in_flight[task.task_id] = task
        worker.alone = task.alone
        # What is added now is what must be taken off later, whatever the average is by then.
        task.expected_s = max(0.0, template.average_s)
        worker.expected_s += task.expected_s
        calls.append(self.arguments.call_of(task))

    # ------------------------------------------------------------------ outcomes
    def outcome(
        self, worker: LeasedWorker | None, outcome: TaskOutcome, sender: Address, *, is_current: bool = True
    ) -> Task | None:
        """A worker finished a task of ours. Returns the task when this ended it, or queued it again.

        ``is_current`` (actor calls): the sender is who has the call in hand. An outcome that comes late, from a worker
        given up for lost, is as good as any, unless all it says is that the task wants to run again, or
        items of its stream were lost with the connection.
        """
        if worker is not None:
            pushed = worker.in_flight.pop(outcome.task_id, None)
            if pushed is not None:
                self._learn(pushed, worker, outcome.duration_s)
        if outcome.borrowed:
            # Also for a task that nobody knows any more: the sender counts itself registered.
            self.objects.lend(outcome.borrowed, sender.process)
        task = self.tasks.get(outcome.task_id)
        if task is None:
            self.objects.give_back(outcome.results, ours=True)  # cancelled meanwhile, or a duplicate
            return None
        lacks_items = self.streams.lacks_items(task.task_id, outcome.item_count)
        if (outcome.retry_wanted or lacks_items) and not task.cancelled:
            if task.state != PUSHED or task.worker is not worker or not is_current:
                return None  # it is to run again anyway
            if task.retries_left:
                self.retry(task)
                return task
            if lacks_items:
                self.finish(task, (lost_items_failure(task),), received=False)
                return task
        self.finish(task, outcome.results, received=True)
        return task

    def _learn(self, task: Task, worker: LeasedWorker, duration_s: float) -> None:
        template = task.template
        if duration_s > 0:  # zero: it never ran
            average_s = template.average_s
            template.average_s = duration_s if average_s < 0 else average_s + SMOOTHING * (duration_s - average_s)
        worker.expected_s -= task.expected_s
        worker.last_outcome_s = self.now
        worker.taken_back = False
        self.dirty[worker.scheduling_class.key] = None
        if not worker.in_flight:
            worker.became_idle(self.now)

    def retry(self, task: Task) -> None:
        """Queue the task again, one retry less."""
        if task.retries_left > 0:
            task.retries_left -= 1
        task.attempt += 1
        task.worker = None
        self.retried_count += 1
        if task.actor_id:
            return
        self.enqueue(task)

    def finish(self, task: Task, results: tuple[Result, ...], *, received: bool) -> None:
        """The task ended for good: resolve its returns, release its arguments."""
        if task.state == ENDED:
            return
        task.state = ENDED
        task.worker = None
        del self.tasks[task.task_id]
        self.finished_count += 1
        objects = self.objects
        records = objects.records
        if len(results) == len(task.returns) and task.returns:
            for object_id, result in zip(task.returns, results, strict=True):
                record = records.get(object_id)
                if record is not None:
                    objects.resolve(object_id, record, result, received=received)
                elif received:  # of a task that ran again: this return is not known any more
                    objects.give_back((result,), ours=True)
        elif task.template.spec.is_streaming:
            self.streams.ended(task, results)
        elif task.returns:
            assert len(results) == 1, "one failure stands for all returns"
            for object_id in task.returns:
                if object_id in records:
                    objects.resolve(object_id, records[object_id], results[0], received=False)
        if objects.holdings or self.lineage.tasks:
            self.lineage.ended(task, results)
        if task.refs:
            objects.unpin(task.refs)
        if task.dependency_ids:
            objects.unpin(task.dependency_ids)
        task.arguments = b""
        task.buffers = ()

    def returned(self, task_ids: tuple[bytes, ...], worker: LeasedWorker) -> None:
        """Tasks the worker gives back unstarted: to the front of the queue, in their old order."""
        asked = worker.taken_back or worker.recalled
        queue = worker.scheduling_class.queue
        for task_id in reversed(task_ids):
            task = worker.in_flight.pop(task_id, None)
            if task is None or task.state != PUSHED or task.worker is not worker:
                continue
            worker.expected_s -= task.expected_s
            task.worker = None
            if task.cancelled:
                self.finish(task, (cancelled_failure(task),), received=False)
                continue
            task.state = QUEUED
            queue.appendleft(task)
        if worker.in_flight:
            worker.taken_back = True
        else:
            worker.became_idle(self.now)
            if not asked:
                worker.recalled = True  # one that wants nothing although nobody asked it is about to end
        self.dirty[worker.scheduling_class.key] = None

    # ------------------------------------------------------------------ leases
    def granted(self, raylet: Address, grant: LeaseGranted) -> None:
        """A worker of ours, for a while."""
        scheduling_class = self.classes_by_id.get(grant.class_id)
        if scheduling_class is None:
            self.effects.append(Send(raylet, ReturnLease(grant.lease_id)))
            return
        self._count_request(scheduling_class, raylet, 1)
        worker = LeasedWorker(
            grant.lease_id,
            grant.worker,
            raylet,
            grant.node_id,
            grant.pid,
            scheduling_class,
            self.now,
            grant.accelerator_ids,
        )
        key = (raylet.process, grant.lease_id)
        self.workers[key] = worker
        self.workers_by_process[grant.worker.process] = worker
        scheduling_class.workers[key] = worker
        if not scheduling_class.queue and len(scheduling_class.workers) > 1:
            self.return_lease(worker)
        else:
            self.dirty[scheduling_class.key] = None

    def _count_request(self, scheduling_class: SchedulingClass, raylet: Address, count: int) -> None:
        """So many requests have their answer (more than are counted when a cancel crossed a grant)."""
        left = scheduling_class.requested.get(raylet, 0) - count
        if left > 0:
            scheduling_class.requested[raylet] = left
        else:
            scheduling_class.requested.pop(raylet, None)

    def redirected(self, raylet: Address, redirect: LeasesRedirected) -> None:
        """Ask another raylet for these."""
        scheduling_class = self.classes_by_id.get(redirect.class_id)
        if scheduling_class is None:
            return
        self._count_request(scheduling_class, raylet, redirect.count)
        wanted = min(redirect.count, max(0, len(scheduling_class.queue) - sum(scheduling_class.requested.values())))
        if wanted:
            target = redirect.raylet
            for task in itertools.islice(scheduling_class.queue, wanted):
                self.locality.hint(task, target.process)
            self.dirty[scheduling_class.key] = None
            scheduling_class.requested[target] = scheduling_class.requested.get(target, 0) + wanted
            self.effects.append(
                Send(target, RequestLeases(scheduling_class.class_id, scheduling_class.spec, wanted, redirect.hops))
            )

    def refused(self, raylet: Address, refusal: LeasesRefused) -> None:
        """These can never run: fail as many queued tasks."""
        scheduling_class = self.classes_by_id.get(refusal.class_id)
        if scheduling_class is None:
            return
        self._count_request(scheduling_class, raylet, refusal.count)
        for _ in range(refusal.count):
            while scheduling_class.queue:
                task = scheduling_class.queue.popleft()
                if task.state != ENDED:
                    failure = Failure(refusal.kind, refusal.text, subject_id=task.task_id)
                    self.finish(task, (failure,), received=False)
                    break
        self.dirty[scheduling_class.key] = None

    def recalled(self, raylet: Address, lease_id: int) -> None:
        """Others wait: finish what is there and give the worker back."""
        worker = self.workers.get((raylet.process, lease_id))
        if worker is None:
            return
        worker.recalled = True
        if len(worker.in_flight) > 1:
            self.effects.append(Send(worker.address, TakeBack(len(worker.in_flight) - 1)))
        self.dirty[worker.scheduling_class.key] = None

    def return_lease(self, worker: LeasedWorker, *, failed: bool = False) -> None:
        """Give the worker back."""
        self._forget_worker(worker)
        self.effects.append(Send(worker.raylet, ReturnLease(worker.lease_id, failed)))

    def _forget_worker(self, worker: LeasedWorker) -> None:
        key = (worker.raylet.process, worker.lease_id)
        self.workers.pop(key, None)
        worker.scheduling_class.workers.pop(key, None)
        if self.workers_by_process.get(worker.address.process) is worker:
            del self.workers_by_process[worker.address.process]

    def tick(self) -> None:
        """Return leases idle for too long; take back what is stuck; give up on what nobody reports."""
        now = self.now
        for worker in list(self.workers.values()):
            if worker.death is not None:
                if now - worker.death_s >= LAST_WORDS_S:
                    self._lose_worker(worker, worker.death, unheard=True)
            elif worker.lost_s >= 0:
                if now - worker.lost_s >= DEATH_REPORT_S:
                    self.effects.append(Send(worker.raylet, ReturnLease(worker.lease_id, worker_failed=True)))
                    text = f"the connection to it was lost, and its node did not say why within {DEATH_REPORT_S} s"
                    cause = DeathCause("exit", text, pid=worker.pid, node_id=worker.node_id)
                    self._lose_worker(worker, cause, unheard=True)
            elif not worker.in_flight:
                if worker.scheduling_class.queue:
                    self.dirty[worker.scheduling_class.key] = None
                elif now - worker.idle_since_s >= limits.LEASE_LINGER_S:
                    self.return_lease(worker)
            elif (
                len(worker.in_flight) > 1 and not worker.taken_back and now - worker.last_outcome_s > TAKE_BACK_AFTER_S
            ):
                worker.taken_back = True
                self.effects.append(Send(worker.address, TakeBack(len(worker.in_flight) - 1)))

    # ------------------------------------------------------------------ deaths
    def worker_died(self, raylet: Address, death: LeasedWorkerDied) -> None:
        """The raylet says how a leased worker ended."""
        worker = self.workers.get((raylet.process, death.lease_id))
        if worker is not None:
            self._died(worker, death.cause)

    def raylet_gone(self, process: str, reason: str) -> None:
        """A raylet's process ended: its leases and requests with it. (Any process may be asked about.)"""
        if process == self.local_raylet.process:
            self._raylet_lost = reason or "it ended"
            self.dirty.update(dict.fromkeys(self.classes))
        for scheduling_class in self.classes.values():
            if scheduling_class.raylet.process == process:
                scheduling_class.raylet = self.local_raylet
            for raylet in [r for r in scheduling_class.requested if r.process == process]:
                del scheduling_class.requested[raylet]
                self.dirty[scheduling_class.key] = None
        for worker in [w for w in self.workers.values() if w.raylet.process == process]:
            text = f"node {worker.node_id.hex()} died ({reason})"
            self._died(worker, DeathCause("node_died", text, node_id=worker.node_id, pid=worker.pid))

    def process_gone(self, process: str) -> None:
        """A connection ended, and all that came over it has been read. Templates sent over it are forgotten."""
        self.templates_sent.pop(process, None)
        worker = self.workers_by_process.get(process)
        if worker is None:
            return
        if worker.death is not None:
            self._lose_worker(worker, worker.death)
        elif worker.in_flight:
            worker.lost_s = self.now
        else:
            self.return_lease(worker, failed=True)

    def _died(self, worker: LeasedWorker, cause: DeathCause) -> None:
        if worker.lost_s >= 0 or not worker.in_flight:
            self._lose_worker(worker, cause)
        elif worker.death is None:
            worker.death = cause
            worker.death_s = self.now

    def _lose_worker(self, worker: LeasedWorker, cause: DeathCause, *, unheard: bool = False) -> None:
        """Its tasks end or go elsewhere. ``unheard``: what it said last may not have reached us."""
        unheard = unheard or cause.kind == "node_died"
        self._forget_worker(worker)
        self.dirty[worker.scheduling_class.key] = None
        in_flight = [t for t in worker.in_flight.values() if t.state == PUSHED and t.worker is worker]
        worker.in_flight = {}
        # Forced cancelling and the end of a node are nobody's fault.
        explained = cause.kind == "node_died" or (bool(in_flight) and in_flight[0].cancelled)
        unstarted: list[Task] = []
        for position, task in enumerate(in_flight):
            task.worker = None
            task.alone = not explained and position <= limits.OUTCOMES_HELD_MAX
            if task.cancelled:
                self.finish(task, (cancelled_failure(task),), received=False)
            elif position and (task.template.max_retries or not unheard):
                task.state = QUEUED
                unstarted.append(task)
            elif task.retries_left:
                self.retry(task)
            else:
                self.finish(task, (crash_failure(task, worker, cause),), received=False)
        worker.scheduling_class.queue.extendleft(reversed(unstarted))

    # ------------------------------------------------------------------ cancel
    def cancel(self, task: Task, *, force: bool, recursive: bool) -> None:
        """Cancel a task that is not an actor call."""
        task.cancelled = True
        if task.state == PUSHED and task.worker is not None:
            task.retries_left = 0
            self.effects.append(Send(task.worker.address, CancelTask(task.task_id, force, recursive)))
            return
        self.arguments.forget(task)
        self.finish(task, (cancelled_failure(task),), received=False)
        lease_key = task.template.lease_key  # and, behind it, where the data is: it may be queued in one of several
        self.dirty.update(dict.fromkeys(key for key in self.classes if key.startswith(lease_key)))


def _load_of(worker: LeasedWorker) -> tuple[int, int]:
    return len(worker.in_flight), worker.lease_id
