"""The worker as a machine: who sent which task, what goes to the executor, what goes back (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actorrt.kernel.effects import Do, Effect, Fail, Send
from actorrt.kernel.message import Address, Envelope, PeerGone
from actorrt.owner.messages import CallsRefused, ItemsYielded, TasksDone, TasksReturned
from actorrt.raylet.messages import ActorInitialized, WorkerBlocked, WorkerExiting, WorkerReady, WorkerUnblocked
from actorrt.wire.records import ActorSpec, DeathCause, Failure, TaskCall, TaskOutcome, TaskTemplate
from actorrt.worker import messages as incoming
from actorrt.worker.operations import Create, Exit, Interrupt, Return, Run, UseAccelerators, Work

EARLY_CANCELS_MAX = 10_000


class WorkerStatistics(msgspec.Struct, frozen=True):
    """Figures of one worker."""

    assigned: int
    finished: int
    is_actor: bool
    blocked: int


class WorkerMachine:
    """Pure state of one worker; see ``actorrt.worker``.

    Args:
        worker_id: given by the raylet.
        me: address of this worker.
        raylet: the raylet that started it.
        pid: process id (reported with ``WorkerReady``).
    """

    def __init__(self, worker_id: bytes, me: Address, raylet: Address, pid: int) -> None:
        self.worker_id = worker_id
        self.me = me
        self.raylet = raylet
        self.pid = pid
        self.assigned: dict[bytes, Address] = {}
        """Task -> who pushed it, while it has no outcome."""
        self.templates: dict[tuple[str, int], TaskTemplate] = {}
        self.early_cancels: dict[bytes, None] = {}
        self.accelerator_ids: dict[str, tuple[str, ...]] = {}
        self.actor: ActorSpec | None = None
        self.incarnation = 0
        self.blocked = 0
        self.finished = 0
        self.exiting: incoming.ExitRequested | None = None
        """The executor wants to end; nothing is accepted any more."""
        self._effects: list[Effect] = []
        self._handlers: dict[type, Callable[[Envelope, Any], None]] = {
            incoming.PushTasks: self._push_tasks,
            incoming.PushCalls: self._push_calls,
            incoming.TasksFinished: self._tasks_finished,
            incoming.ItemsProduced: self._items_produced,
            incoming.TakeBack: lambda e, m: self._effects.append(Do(Return(m.count, e.src))),
            incoming.WorksReturned: self._works_returned,
            incoming.CancelTask: self._cancel,
            incoming.CreateActorHere: self._create_actor,
            incoming.ActorCreated: self._actor_created,
            incoming.BlockBegan: self._block_began,
            incoming.BlockEnded: self._block_ended,
            incoming.ExitWorker: self._exit,
            incoming.ExitRequested: self._exit_requested,
            incoming.Started: lambda _e, _m: self._effects.append(
                Send(self.raylet, WorkerReady(self.worker_id, self.pid, self.me))
            ),
            PeerGone: self._peer_gone,
        }

    def handle(self, envelope: Envelope, now: float) -> list[Effect]:  # noqa: ARG002 - the machine protocol
        """See ``kernel.machine.Machine``."""
        effects: list[Effect] = []
        self._effects = effects
        handler = self._handlers.get(type(envelope.body))
        if handler is not None:
            handler(envelope, envelope.body)
        elif envelope.request_id:
            name = type(envelope.body).__name__
            effects.append(Fail(envelope.src, envelope.request_id, "InternalError", f"a worker does not answer {name}"))
        return effects

    # ------------------------------------------------------------------ work arrives
    def _push_tasks(self, envelope: Envelope, message: incoming.PushTasks) -> None:
        ids = tuple(call.task_id for call in message.calls)
        if self.exiting is not None or not self._knows(envelope.src, message.templates, message.calls):
            self._effects.append(Send(envelope.src, TasksReturned(ids)))
            return
        self._use(message.accelerator_ids)
        self._accept(envelope.src, message.calls)
        if self.blocked:
            self._effects.append(Do(Return(len(message.calls))))

    def _push_calls(self, envelope: Envelope, message: incoming.PushCalls) -> None:
        actor = self.actor
        if (
            actor is None
            or actor.actor_id != message.actor_id
            or message.incarnation != self.incarnation
            or self.exiting is not None
            or not self._knows(envelope.src, message.templates, message.calls)
        ):
            ids = tuple(call.task_id for call in message.calls)
            self._effects.append(Send(envelope.src, CallsRefused(message.actor_id, message.incarnation, ids)))
            return
        self._accept(envelope.src, message.calls)

    def _knows(self, src: Address, templates: tuple[TaskTemplate, ...], calls: tuple[TaskCall, ...]) -> bool:
        """Learn the templates that come along; are those of all calls known?

        Not if the connection was lost in between: we forgot what came over the old one, and the owner has not heard.
        """
        known = self.templates
        process = src.process
        for template in templates:
            known[process, template.number] = template
        return all((process, call.template) in known for call in calls)

    def _accept(self, src: Address, calls: tuple[TaskCall, ...]) -> None:
        process = src.process
        known = self.templates
        assigned = self.assigned
        works: list[Work] = []
        for call in calls:
            task_id = call.task_id
            if task_id in assigned:
                continue  # a duplicate
            assigned[task_id] = src
            works.append(Work(call, known[process, call.template], src))
        if self.early_cancels:
            self._drop_cancelled(works)
        if works:
            self._effects.append(Do(Run(works)))

    def _use(self, accelerator_ids: dict[str, tuple[str, ...]]) -> None:
        if accelerator_ids and accelerator_ids != self.accelerator_ids:
            self.accelerator_ids = accelerator_ids
            self._effects.append(Do(UseAccelerators(accelerator_ids)))

    def _drop_cancelled(self, works: list[Work]) -> None:
        for work in list(works):
            task_id = work.call.task_id
            if task_id in self.early_cancels:
                del self.early_cancels[task_id]
                del self.assigned[task_id]
                works.remove(work)
                text = f"task {work.template.name} was cancelled before it started"
                outcome = TaskOutcome(task_id, (Failure("TaskCancelledError", text, subject_id=task_id),))
                self._effects.append(Send(work.src, TasksDone((outcome,))))

    # ------------------------------------------------------------------ work ends
    def _tasks_finished(self, _envelope: Envelope, message: incoming.TasksFinished) -> None:
        assigned = self.assigned
        by_owner: dict[Address, list[TaskOutcome]] = {}
        for outcome in message.outcomes:
            src = assigned.pop(outcome.task_id, None)
            if src is None:
                continue
            self.finished += 1
            mine = by_owner.get(src)
            if mine is None:
                by_owner[src] = [outcome]
            else:
                mine.append(outcome)
        for src, outcomes in by_owner.items():
            self._effects.append(Send(src, TasksDone(tuple(outcomes))))

    def _items_produced(self, _envelope: Envelope, message: incoming.ItemsProduced) -> None:
        src = self.assigned.get(message.task_id)
        if src is not None:
            self._effects.append(Send(src, ItemsYielded(message.task_id, message.items)))

    def _works_returned(self, _envelope: Envelope, message: incoming.WorksReturned) -> None:
        by_owner: dict[Address, list[bytes]] = {}
        for task_id in message.task_ids:
            src = self.assigned.pop(task_id, None)
            if src is not None:
                by_owner.setdefault(src, []).append(task_id)
        for src, ids in by_owner.items():
            self._effects.append(Send(src, TasksReturned(tuple(ids))))
        if self.exiting is not None:
            self._leave(self.exiting)

    def _cancel(self, _envelope: Envelope, message: incoming.CancelTask) -> None:
        if message.task_id in self.assigned:
            self._effects.append(Do(Interrupt(message.task_id, message.force, message.recursive)))
        else:
            self.early_cancels[message.task_id] = None
            if len(self.early_cancels) > EARLY_CANCELS_MAX:
                del self.early_cancels[next(iter(self.early_cancels))]

    # ------------------------------------------------------------------ actor
    def _create_actor(self, _envelope: Envelope, message: incoming.CreateActorHere) -> None:
        if self.actor is not None:
            return  # a duplicate
        self.actor = message.spec
        self.incarnation = message.incarnation
        self._use(message.accelerator_ids)
        self._effects.append(Do(Create(message.spec, message.incarnation)))

    def _actor_created(self, _envelope: Envelope, message: incoming.ActorCreated) -> None:
        assert self.actor is not None
        self._effects.append(
            Send(
                self.raylet,
                ActorInitialized(self.worker_id, self.actor.actor_id, self.incarnation, message.cause),
            )
        )

    # ------------------------------------------------------------------ blocking, ending
    def _block_began(self, _envelope: Envelope, _message: incoming.BlockBegan) -> None:
        self.blocked += 1
        if self.blocked == 1 and self.exiting is None:
            self._effects.append(Send(self.raylet, WorkerBlocked(self.worker_id)))
            if self.actor is None and self.assigned:
                self._effects.append(Do(Return(len(self.assigned))))

    def _block_ended(self, _envelope: Envelope, _message: incoming.BlockEnded) -> None:
        self.blocked -= 1
        if self.blocked == 0 and self.exiting is None:
            self._effects.append(Send(self.raylet, WorkerUnblocked(self.worker_id)))

    def _exit(self, _envelope: Envelope, message: incoming.ExitWorker) -> None:
        self._effects.append(Do(Exit(message.graceful, message.cause)))

    def _exit_requested(self, _envelope: Envelope, message: incoming.ExitRequested) -> None:
        if self.exiting is not None:
            return
        self.exiting = message
        self._effects.append(Send(self.raylet, WorkerExiting(self.worker_id, message.cause)))
        if self.actor is None and self.assigned:
            self._effects.append(Do(Return(len(self.assigned))))  # goes on with WorksReturned
        else:
            self._leave(message)

    def _leave(self, request: incoming.ExitRequested) -> None:
        """All that had to be said is said: the executor may end the process."""
        self._effects.append(Do(Exit(graceful=False, cause=request.cause, exit_code=request.exit_code)))

    def _peer_gone(self, _envelope: Envelope, message: PeerGone) -> None:
        process = message.process
        if process == self.raylet.process:
            cause = DeathCause("node_died", f"its node's process is gone ({message.reason})")
            self._effects.append(Do(Exit(graceful=False, cause=cause)))
            return
        for key in [key for key in self.templates if key[0] == process]:
            del self.templates[key]

    # ------------------------------------------------------------------ inspection
    def check(self) -> None:
        """See ``kernel.machine.Machine``."""
        assert self.blocked >= 0, "a block ended that never began"
        assert len(self.early_cancels) <= EARLY_CANCELS_MAX

    def statistics(self) -> WorkerStatistics:
        """See ``kernel.machine.Machine``."""
        return WorkerStatistics(len(self.assigned), self.finished, self.actor is not None, self.blocked)
