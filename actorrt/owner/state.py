"""The owner as a machine: requests of its process, messages from raylets, workers, owners and the GCS (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actorrt.gcs.messages import CreateActor, KillActor
from actorrt.kernel.effects import Do, Effect, Fail, Reply, Send, SetTimer
from actorrt.kernel.limits import COUNT_HOLDS_INTERVAL_S
from actorrt.kernel.message import NOWHERE, Address, Envelope, PeerGone
from actorrt.owner import messages as incoming
from actorrt.owner import requests
from actorrt.owner.calls import ActorCaller
from actorrt.owner.explain import Explainer
from actorrt.owner.objects import ACTOR_HANDLE_SUFFIX, ObjectTable
from actorrt.owner.operations import Deliver, LosePeer, PrintLines, Wake
from actorrt.owner.references import largest_references
from actorrt.owner.stores import Stores
from actorrt.owner.submission import TaskSubmitter
from actorrt.owner.tasks import ENDED, PUSHED, QUEUED, WAITING, ObjectRecord, PendingActor, Task
from actorrt.wire.records import Failure, Stored
from actorrt.wire.values import NONE_VALUE

TICK_S = 0.05
TICK = "tick"
COUNT = "count"


class OwnerStatistics(msgspec.Struct, frozen=True):
    """Figures of one owner."""

    objects: int
    tasks_pending: int
    tasks_finished: int
    tasks_retried: int
    leases: int
    actors_known: int
    objects_lent: int
    objects_stored: int


class OwnerMachine:
    """Pure state of one owner; see ``actorrt.owner``.

    Args:
        me: address of this owner.
        raylet: address of the node's raylet.
        gcs: address of the GCS.
    """

    def __init__(self, me: Address, raylet: Address, gcs: Address) -> None:
        self.me = me
        self.raylet = raylet
        self.gcs = gcs
        self.objects = ObjectTable(me.process, self._dependency_ready)
        self.submitter = TaskSubmitter(self.objects, raylet)
        self.stores = Stores(self.objects, self.submitter.lineage)
        self.caller = ActorCaller(self.submitter, gcs)
        self.objects.on_handles_gone = self.caller.handles_gone
        self.explainer = Explainer(self.objects, self.submitter, self.caller)
        self._ticking = False
        self._counting = False
        self._effects: list[Effect] = []
        self._handlers: dict[type, Callable[[Envelope, Any], None]] = {
            requests.Submit: self._submit,
            requests.Release: lambda _e, m: self.objects.release(m.object_ids),
            requests.AddRefs: lambda _e, m: self.objects.add_refs(m.refs),
            requests.PutObject: self._put,
            requests.TakeItem: lambda _e, m: self.submitter.streams.take(m.object_id),
            requests.DropStream: lambda _e, m: self.submitter.streams.drop(m.task_id),
            requests.AddWaiter: lambda _e, m: self.objects.waiting.add(m.waiter),
            requests.DropWaiter: lambda _e, m: self.objects.waiting.drop(m.waiter),
            requests.Renew: self._renew,
            requests.Lend: lambda _e, m: self.objects.lend(m.refs, m.borrower),
            requests.ReportHeld: self._report_held,
            requests.Cancel: self._cancel,
            requests.CancelChildren: self._cancel_children,
            requests.StartActor: self._start_actor,
            requests.WatchActor: self._watch_actor,
            requests.Tick: self._tick,
            requests.CountHolds: self._count_holds,
            incoming.HoldsCounted: lambda _e, _m: None,
            incoming.TasksDone: self._tasks_done,
            incoming.ItemsYielded: lambda _e, m: self.submitter.streams.received(m.task_id, m.items),
            incoming.TasksReturned: self._tasks_returned,
            incoming.CallsRefused: lambda _e, m: self.caller.refused(m.actor_id, m.incarnation, m.task_ids),
            incoming.LeaseGranted: lambda e, m: self.submitter.granted(e.src, m),
            incoming.LeasesRedirected: lambda e, m: self.submitter.redirected(e.src, m),
            incoming.LeasesRefused: lambda e, m: self.submitter.refused(e.src, m),
            incoming.LeaseRecalled: lambda e, m: self.submitter.recalled(e.src, m.lease_id),
            incoming.LeasedWorkerDied: lambda e, m: self.submitter.worker_died(e.src, m),
            incoming.GetObjects: lambda e, m: self.objects.serve(e.src, m.object_ids),
            incoming.DropGets: lambda e, m: self.objects.drop_gets(e.src, m.object_ids),
            incoming.ObjectsReady: self._objects_ready,
            incoming.BorrowersAdded: self._borrowers_added,
            incoming.BorrowersRemoved: self._borrowers_removed,
            incoming.CancelOwned: self._cancel_owned,
            incoming.CopiesAdded: lambda _e, m: self.stores.copies_added(m.keys, m.holder),
            incoming.CopiesRemoved: lambda _e, m: self.stores.copies_removed(m.keys, m.holder),
            incoming.LocateObject: lambda e, m: self.stores.locate(e.src, m.key, self._effects),
            incoming.VerifyObjects: lambda _e, m: self.stores.verify(m.keys, m.holder),
            incoming.GetReferences: self._get_references,
            incoming.ActorChanged: lambda _e, m: self.caller.changed(m.info),
            incoming.Published: lambda _e, m: self._effects.append(Do(Deliver(m))),
            incoming.NodeChanged: self._node_changed,
            incoming.LogLines: lambda _e, m: self._effects.append(Do(PrintLines(m))),
            PeerGone: self._peer_gone,
        }

    def handle(self, envelope: Envelope, now: float) -> list[Effect]:
        """See ``kernel.machine.Machine``."""
        effects: list[Effect] = []
        self._effects = effects
        self.objects.effects = effects
        self.submitter.effects = effects
        self.submitter.now = now
        self.caller.effects = effects
        self.caller.now = now
        handler = self._handlers.get(type(envelope.body))
        if handler is not None:
            handler(envelope, envelope.body)
        elif envelope.request_id:
            name = type(envelope.body).__name__
            effects.append(Fail(envelope.src, envelope.request_id, "InternalError", f"an owner does not answer {name}"))
        while self.submitter.dirty or self.caller.dirty:  # what fails while one pumps may concern the other
            if self.submitter.dirty:
                self.submitter.pump()
            if self.caller.dirty:
                self.caller.pump()
        self.objects.flush()
        if not self._ticking and (self.submitter.workers or self.caller.lost):
            self._ticking = True
            effects.append(SetTimer(TICK, now + TICK_S, requests.Tick()))
        if self.objects.borrowed_by and not self._counting:
            self._counting = True
            effects.append(SetTimer(COUNT, now + COUNT_HOLDS_INTERVAL_S, requests.CountHolds()))
        return effects

    # ------------------------------------------------------------------ requests of this process
    def _submit(self, _envelope: Envelope, message: requests.Submit) -> None:
        submitter = self.submitter
        if message.adopted:
            self.objects.add_refs(message.adopted)
        if message.puts:
            self.objects.put(message.puts)
        for task in message.tasks:
            submitter.admit(task)
            if task.actor_id:
                self.caller.submit(task)
                if task.dependency_ids and submitter.arguments.failure(task) is not None:
                    self.caller.dependency_ready(task)
            elif task.dependency_ids and (failure := submitter.arguments.failure(task)) is not None:
                submitter.arguments.forget(task)
                submitter.finish(task, (failure,), received=False)
            elif not task.missing:
                submitter.enqueue(task)
        if message.released:
            self.objects.release(message.released)

    def _put(self, _envelope: Envelope, message: requests.PutObject) -> None:
        self.objects.put([(message.object_id, message.result)])

    def _renew(self, _envelope: Envelope, message: requests.Renew) -> None:
        for ref, key in message.stale:
            self.stores.renew(ref, key)

    def _report_held(self, _envelope: Envelope, message: requests.ReportHeld) -> None:
        message.answer.extend(self.objects.held_of(message.refs))
        self._effects.append(Do(Wake(message.waiter)))

    def _dependency_ready(self, dependent: Task | PendingActor) -> None:
        if isinstance(dependent, PendingActor):
            self._actor_dependency_ready(dependent)
        elif dependent.state == ENDED:
            return
        elif dependent.actor_id:
            self.caller.dependency_ready(dependent)
        else:
            failure = self.submitter.arguments.failure(dependent)
            if failure is not None:
                self.submitter.arguments.forget(dependent)
                self.submitter.finish(dependent, (failure,), received=False)
            elif dependent.missing == 0 and dependent.state != QUEUED:
                self.submitter.enqueue(dependent)

    def _cancel(self, _envelope: Envelope, message: requests.Cancel) -> None:
        self._cancel_object(message.object_id, message.owner, force=message.force, recursive=message.recursive)

    def _cancel_object(self, object_id: bytes, owner: str, *, force: bool, recursive: bool) -> None:
        if owner != self.me.process:
            self._effects.append(Send(Address(owner, "owner"), incoming.CancelOwned(object_id, force, recursive)))
            return
        record = self.objects.records.get(object_id)
        task = record.task if record is not None else None
        if task is None or task.state == ENDED:
            return
        if task.actor_id:
            self.caller.cancel(task, force=force, recursive=recursive)
        else:
            self.submitter.cancel(task, force=force, recursive=recursive)

    def _cancel_children(self, _envelope: Envelope, message: requests.CancelChildren) -> None:
        for task in [t for t in self.submitter.tasks.values() if t.parent_task_id == message.parent_task_id]:
            if task.actor_id:
                self.caller.cancel(task, force=False, recursive=True)
            else:
                self.submitter.cancel(task, force=False, recursive=True)

    # ------------------------------------------------------------------ actors
    def _start_actor(self, _envelope: Envelope, message: requests.StartActor) -> None:
        spec = message.spec
        handle = ObjectRecord(None, 1)
        handle.result = NONE_VALUE
        self.objects.records[spec.actor_id + ACTOR_HANDLE_SUFFIX] = handle
        self.objects.pin(message.dependencies)
        self.objects.pin(message.refs)
        pending = PendingActor(spec, tuple(ref.object_id for ref in message.dependencies))
        for ref in message.dependencies:
            record = self.objects.records[ref.object_id]
            if self.objects.is_gone(ref.object_id, record):
                self.objects.remake(ref.object_id)
            if record.result is None:
                pending.missing += 1
                if record.dependents is None:
                    record.dependents = [pending]
                else:
                    record.dependents.append(pending)
                self.objects.fetch(ref, record)
        if pending.missing:
            self._effects.append(Send(self.gcs, CreateActor(spec, ready=False)))
        self._actor_dependency_ready(pending)
        # Subscribed only now: the GCS must have heard of the actor first.
        client = self.caller.client_of(spec.actor_id)
        client.pinned = message.dependencies + message.refs
        if client.doomed is not None:
            self.caller.creation_failed(spec.actor_id, client.doomed)  # once more: now there is something to unpin

    def _actor_dependency_ready(self, pending: PendingActor) -> None:
        if pending.failure is not None:
            return
        results = [self.objects.records[object_id].result for object_id in pending.dependency_ids]
        for result in results:
            if type(result) is Failure:
                pending.failure = result
                self.objects.forget_dependent(pending, pending.dependency_ids)
                self.caller.creation_failed(pending.spec.actor_id, result)
                kill = KillActor(pending.spec.actor_id, no_restart=True, kind="init_failed", text=result.text)
                self._effects.append(Send(self.gcs, kill))
                return
        if pending.missing == 0:
            values = tuple(
                self.objects.holdings.current(r) if type(r) is Stored else r for r in results if r is not None
            )
            spec = msgspec.structs.replace(pending.spec, dependencies=values)
            self._effects.append(Send(self.gcs, CreateActor(spec)))

    def _watch_actor(self, _envelope: Envelope, message: requests.WatchActor) -> None:
        client = self.caller.client_of(message.actor_id)
        if message.info is not None and client.info is None:
            self.caller.changed(message.info)

    # ------------------------------------------------------------------ workers
    def _tasks_done(self, envelope: Envelope, message: incoming.TasksDone) -> None:
        submitter = self.submitter
        worker = submitter.workers_by_process.get(envelope.src.process)
        for outcome in message.outcomes:
            is_current = True
            if outcome.retry_wanted or outcome.item_count > 0:
                known = submitter.tasks.get(outcome.task_id)
                is_current = known is None or not known.actor_id or self.caller.is_current(known, envelope.src)
            task = submitter.outcome(worker, outcome, envelope.src, is_current=is_current)
            if task is not None and task.actor_id:
                if task.state == ENDED:
                    self.caller.call_ended(task)
                else:
                    self.caller.call_retried(task)

    def _tasks_returned(self, envelope: Envelope, message: incoming.TasksReturned) -> None:
        worker = self.submitter.workers_by_process.get(envelope.src.process)
        if worker is not None:
            self.submitter.returned(message.task_ids, worker)

    # ------------------------------------------------------------------ other owners
    def _objects_ready(self, _envelope: Envelope, message: incoming.ObjectsReady) -> None:
        objects = self.objects
        for object_id, result in message.objects:
            record = objects.records.get(object_id)
            if record is None or record.result is not None:
                objects.give_back((result,), ours=False)
            else:
                objects.resolve(object_id, record, result, received=True)

    def _borrowers_added(self, _envelope: Envelope, message: incoming.BorrowersAdded) -> None:
        for ref in message.refs:
            self.objects.add_borrower(ref.object_id, message.borrower)

    def _borrowers_removed(self, envelope: Envelope, message: incoming.BorrowersRemoved) -> None:
        for object_id in message.object_ids:
            self.objects.remove_borrower(object_id, envelope.src.process)

    def _cancel_owned(self, _envelope: Envelope, message: incoming.CancelOwned) -> None:
        self._cancel_object(message.object_id, self.me.process, force=message.force, recursive=message.recursive)

    # ------------------------------------------------------------------ news and losses
    def _node_changed(self, _envelope: Envelope, message: incoming.NodeChanged) -> None:
        if not message.alive:
            self.submitter.raylet_gone(message.raylet.process, message.text or "it died")
            self.objects.process_gone(message.raylet.process)
            self.stores.node_gone(message.raylet.process, message.text or "it died")

    def _peer_gone(self, _envelope: Envelope, message: PeerGone) -> None:
        process = message.process
        self.submitter.process_gone(process)
        self.submitter.raylet_gone(process, message.reason)
        self.caller.process_gone(process)
        self.objects.process_gone(process)
        if process == self.gcs.process:
            self.caller.gcs_gone(message.reason)
        if process in {self.gcs.process, self.raylet.process}:
            self._effects.append(Do(LosePeer(process, message.reason)))

    def _tick(self, _envelope: Envelope, _message: requests.Tick) -> None:
        self._ticking = False
        self.submitter.tick()
        self.caller.tick()

    def _count_holds(self, _envelope: Envelope, _message: requests.CountHolds) -> None:
        self._counting = False
        for process, object_ids in self.objects.borrowed_by.items():
            self._effects.append(Send(Address(process, "owner"), incoming.HoldsCounted(len(object_ids))))

    # ------------------------------------------------------------------ inspection
    def _get_references(self, envelope: Envelope, message: incoming.GetReferences) -> None:
        if not envelope.request_id:
            return
        entries = largest_references(self.objects, self.submitter, self.caller.clients.values(), message.references_max)
        omitted = len(self.objects.records) - len(entries)
        answer = incoming.References(self.raylet.process, entries, omitted, len(self.submitter.tasks))
        self._effects.append(Reply(envelope.src, envelope.request_id, answer))

    def check(self) -> None:
        """See ``kernel.machine.Machine``."""
        self.objects.check()
        submitter = self.submitter
        submitter.streams.check()
        submitter.lineage.check()
        seen: dict[bytes, None] = {}
        for worker in submitter.workers.values():
            for task_id, task in worker.in_flight.items():
                # One given up for lost elsewhere may have ended by the late word of its first worker.
                assert task.worker is worker or task.state == ENDED, f"{task!r} is in flight at another worker"
                if task.state == PUSHED:
                    assert task_id not in seen, f"{task!r} is in flight twice"
                    seen[task_id] = None
        for scheduling_class in submitter.classes.values():
            for task in scheduling_class.queue:
                assert task.state in {QUEUED, ENDED}, f"{task!r} is queued and in flight"
                assert task.state == ENDED or task.task_id not in seen, f"{task!r} is queued twice"
                seen[task.task_id] = None
        for client in self.caller.clients.values():
            for task in [*client.in_flight.values(), *(t for t in client.queue if t.state != ENDED)]:
                assert task.task_id not in seen, f"{task!r} is queued or in flight twice"
                seen[task.task_id] = None
        for task_id, task in submitter.tasks.items():
            assert task.state != ENDED, f"ended task {task_id.hex()} is still pending"
            assert task.state == WAITING or task_id in seen, f"{task!r} is lost"

    def statistics(self) -> OwnerStatistics:
        """See ``kernel.machine.Machine``."""
        return OwnerStatistics(
            objects=len(self.objects.records),
            tasks_pending=len(self.submitter.tasks),
            tasks_finished=self.submitter.finished_count,
            tasks_retried=self.submitter.retried_count,
            leases=len(self.submitter.workers),
            actors_known=len(self.caller.clients),
            objects_lent=sum(len(v) for v in self.objects.borrowed_by.values()),
            objects_stored=len(self.objects.holdings),
        )


def local(body: Any) -> Envelope:
    """Envelope of a request made in this process."""
    return Envelope(NOWHERE, body)
