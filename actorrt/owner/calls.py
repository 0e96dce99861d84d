"""Calling actors: one queue per actor, pushed straight to its worker (pure).

Calls of this process to one actor are pushed in submission order over one ordered path, so the actor runs them in that
order. A call whose arguments are not there holds back the later ones, unless the actor said that order does not matter
(async and threaded actors). Calls are kept while the actor is created or restarted; calls that were in its hands when
its process died fail, or go again if ``max_task_retries`` allows.

**Losses.** When the connection to an actor ends (or it refuses calls it should take), nothing more is pushed until the
GCS has spoken, as only it knows whether the actor is restarted. If it stays silent for ``NEWS_S`` it is asked; when it
says that the very same process is alive, only the connection was lost: what was in flight fails (nobody knows what
became of it) and the queue goes on over a new connection. Without a GCS there will be no news, and the calls fail.
"""

from __future__ import annotations

from collections import deque

from actorrt.gcs.messages import ActorOutOfScope, SubscribeActor
from actorrt.kernel import limits
from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.message import Address
from actorrt.owner.deaths import UNKNOWN_CAUSE, cancelled_failure, death_failure, describe_death, unavailable_failure
from actorrt.owner.submission import TaskSubmitter
from actorrt.owner.tasks import ENDED, PUSHED, QUEUED, WAITING, Task
from actorrt.wire.records import ActorInfo, Failure, RefInfo, TaskCall, TaskTemplate
from actorrt.worker.messages import CancelTask, PushCalls

NEWS_S = 2.0
"""How long the GCS may be silent about an actor whose connection was lost."""


class ActorClient:
    """What this process knows of one actor, and its calls to it."""

    __slots__ = (
        "actor_id",
        "asked",
        "doomed",
        "finished_count",
        "in_flight",
        "info",
        "lost_process",
        "lost_s",
        "out_of_scope",
        "pinned",
        "queue",
    )

    def __init__(self, actor_id: bytes) -> None:
        self.actor_id = actor_id
        self.info: ActorInfo | None = None
        self.queue: deque[Task] = deque()
        self.in_flight: dict[bytes, Task] = {}
        self.finished_count = 0
        """Calls ended (read by the API for ``max_pending_calls``)."""
        self.lost_process = ""
        """The connection to this process was lost; what that means the GCS will say."""
        self.lost_s = 0.0
        self.asked = False
        """The GCS was asked what became of it."""
        self.out_of_scope = False
        """No handle left here: tell the GCS once the last call has ended."""
        self.doomed: Failure | None = None
        """Calls fail with this: an argument of the constructor failed, or nobody will ever tell us of the actor."""
        self.pinned: tuple[RefInfo, ...] = ()
        """Refs in the constructor's arguments: held until the actor is dead, because a restart needs them again."""


class ActorCaller:
    """See the module's text."""

    def __init__(self, submitter: TaskSubmitter, gcs: Address) -> None:
        self.submitter = submitter
        self.gcs = gcs
        self.effects: list[Effect] = []
        self.clients: dict[bytes, ActorClient] = {}
        self.dirty: dict[bytes, None] = {}
        self.now = 0.0
        self.lost: dict[bytes, None] = {}
        """Actors with a ``lost_process``."""
        self._dead: dict[bytes, None] = {}
        """Dead actors we still know, oldest first."""
        self._gcs_lost = ""

    def client_of(self, actor_id: bytes) -> ActorClient:
        """Client of an actor; the first use subscribes to its news."""
        client = self.clients.get(actor_id)
        if client is None:
            client = ActorClient(actor_id)
            self.clients[actor_id] = client
            if self._gcs_lost:
                self._doom(client)
            else:
                self.effects.append(Send(self.gcs, SubscribeActor(actor_id)))
        return client

    def submit(self, task: Task) -> None:
        """A new call (its returns and holds are recorded already)."""
        client = self.client_of(task.actor_id)
        client.queue.append(task)
        if not task.missing:
            task.state = QUEUED
        self.dirty[task.actor_id] = None

    def dependency_ready(self, task: Task) -> None:
        """An argument of a waiting call arrived (or failed)."""
        failure = self.submitter.arguments.failure(task)
        if failure is not None:
            self._end(task, failure)
        elif task.missing == 0 and task.state == WAITING:
            task.state = QUEUED
        self.dirty[task.actor_id] = None

    def pump(self) -> None:
        """Push what can be pushed, once per step."""
        dirty, self.dirty = self.dirty, {}
        for actor_id in dirty:
            client = self.clients.get(actor_id)
            if client is not None:
                self._pump_client(client)

    def _pump_client(self, client: ActorClient) -> None:
        info = client.info
        queue = client.queue
        if client.doomed is not None or (info is not None and info.state == "DEAD"):
            while queue:
                self._end(queue.popleft(), client.doomed or death_failure(client.actor_id, info))
            return
        while queue and queue[0].state == ENDED:
            queue.popleft()
        if queue and info is not None and info.state == "ALIVE" and not client.lost_process:
            self._push(client, info)
        if client.out_of_scope and not queue and not client.in_flight:
            client.out_of_scope = False
            self.effects.append(Send(self.gcs, ActorOutOfScope(client.actor_id)))

    def _push(self, client: ActorClient, info: ActorInfo) -> None:
        queue = client.queue
        in_flight = client.in_flight
        known = self.submitter.templates_sent.setdefault(info.worker.process, {})
        calls: list[TaskCall] = []
        templates: list[TaskTemplate] = []
        held_back: list[Task] = []
        room = limits.ACTOR_CALLS_IN_FLIGHT_MAX - len(in_flight)
        while queue and room > 0:
            task = queue[0]
            if task.state == WAITING or (task.dependency_ids and not self.submitter.arguments.are_there(task)):
                if not info.out_of_order:
                    break
                held_back.append(queue.popleft())
                continue
            queue.popleft()
            if task.state == ENDED:
                continue
            spec = task.template.spec
            if spec.number not in known:
                known[spec.number] = None
                templates.append(spec)
            task.state = PUSHED
            in_flight[task.task_id] = task
            room -= 1
            calls.append(self.submitter.arguments.call_of(task))
        queue.extendleft(reversed(held_back))
        if calls:
            self.effects.append(
                Send(info.worker, PushCalls(client.actor_id, info.incarnation, tuple(templates), tuple(calls)))
            )

    def _end(self, task: Task, failure: Failure) -> None:
        if task.state == ENDED:
            return
        client = self.clients[task.actor_id]
        client.in_flight.pop(task.task_id, None)
        client.finished_count += 1
        self.submitter.arguments.forget(task)
        self.submitter.finish(task, (failure,), received=False)

    # ------------------------------------------------------------------ outcomes and news
    def call_ended(self, task: Task) -> None:
        """A call of ours has its outcome (recorded by the submitter)."""
        client = self.clients.get(task.actor_id)
        if client is None:
            return
        client.in_flight.pop(task.task_id, None)  # not there: given up for lost, and to be run again
        client.finished_count += 1
        if client.queue or client.out_of_scope:
            self.dirty[task.actor_id] = None

    def call_retried(self, task: Task) -> None:
        """The method raised and is to run again: behind what is queued (retries run out of order)."""
        client = self.clients[task.actor_id]
        client.in_flight.pop(task.task_id, None)
        task.state = QUEUED
        client.queue.append(task)
        self.dirty[task.actor_id] = None

    def is_current(self, task: Task, sender: Address) -> bool:
        """Whether this worker is the one that has the call in hand."""
        client = self.clients.get(task.actor_id)
        return client is not None and client.info is not None and client.info.worker.process == sender.process

    def refused(self, actor_id: bytes, incarnation: int, task_ids: tuple[bytes, ...]) -> None:
        """The worker is not that incarnation, or about to end: the calls wait for news of the actor."""
        client = self.clients.get(actor_id)
        if client is None:
            return
        self._requeue(client, [client.in_flight[t] for t in task_ids if t in client.in_flight])
        if client.info is not None and client.info.incarnation == incarnation and client.info.state == "ALIVE":
            self._lose_connection(client)
        self.dirty[actor_id] = None

    def _requeue(self, client: ActorClient, tasks: list[Task]) -> None:
        for task in reversed(tasks):
            client.in_flight.pop(task.task_id, None)
            if task.cancelled:
                self._end(task, cancelled_failure(task))
            elif task.state == PUSHED:
                task.state = QUEUED
                client.queue.appendleft(task)

    def changed(self, info: ActorInfo) -> None:
        """News from the GCS."""
        client = self.clients.get(info.actor_id)
        if client is None:
            return
        before = client.info
        if before is not None and (info.incarnation < before.incarnation or before.state == "DEAD"):
            return  # news may overtake each other only through a restart of the GCS; never go back
        client.info = info
        self.dirty[info.actor_id] = None
        same = before is not None and before.state == info.state == "ALIVE" and before.incarnation == info.incarnation
        if same:
            if client.lost_process and client.asked:
                self._found(client)
                self._lose_in_flight(client, "the connection to it was lost for a moment")
            return
        self._found(client)
        if info.state == "DEAD":
            for task in list(client.in_flight.values()):
                self._end(task, cancelled_failure(task) if task.cancelled else death_failure(info.actor_id, info))
            self._unpin(client)
            self._note_dead(info.actor_id)
        elif before is not None and before.state == "ALIVE":
            self._lose_in_flight(client, f"{describe_death(info.death or UNKNOWN_CAUSE)}; it is being restarted")

    def _lose_in_flight(self, client: ActorClient, why: str) -> None:
        again: list[Task] = []
        for task in list(client.in_flight.values()):
            if task.cancelled:
                self._end(task, cancelled_failure(task))
            elif task.retries_left:
                self.submitter.retry(task)
                again.append(task)
            else:
                self._end(task, unavailable_failure(client.actor_id, client.info, why))
        self._requeue(client, again)

    def _note_dead(self, actor_id: bytes) -> None:
        self._dead[actor_id] = None
        if len(self._dead) > limits.DEAD_ACTORS_KEPT_MAX:
            oldest = next(iter(self._dead))
            del self._dead[oldest]
            if not self.clients[oldest].queue:  # else it is about to be pumped, and forgotten with the next use
                del self.clients[oldest]
                self.dirty.pop(oldest, None)

    def _unpin(self, client: ActorClient) -> None:
        pinned, client.pinned = client.pinned, ()
        self.submitter.objects.unpin(pinned)

    # ------------------------------------------------------------------ losses
    def _lose_connection(self, client: ActorClient) -> None:
        assert client.info is not None
        client.lost_process = client.info.worker.process
        client.lost_s = self.now
        client.asked = False
        self.lost[client.actor_id] = None
        if self._gcs_lost:
            self._doom(client)

    def _found(self, client: ActorClient) -> None:
        client.lost_process = ""
        self.lost.pop(client.actor_id, None)

    def process_gone(self, process: str) -> None:
        """A connection was lost. If it was an actor's, push nothing there until the GCS has spoken."""
        for client in list(self.clients.values()):
            if client.info is not None and client.info.state == "ALIVE" and client.info.worker.process == process:
                self._lose_connection(client)

    def tick(self) -> None:
        """Ask for news that are overdue."""
        for actor_id in self.lost:
            client = self.clients[actor_id]
            if self.now - client.lost_s >= NEWS_S:
                client.lost_s = self.now
                client.asked = True
                self.effects.append(Send(self.gcs, SubscribeActor(actor_id)))

    def gcs_gone(self, reason: str) -> None:
        """Nobody will ever tell us how actors fared: fail what is in the hands of lost ones, and of those to come."""
        self._gcs_lost = reason or "it ended"
        for client in list(self.clients.values()):
            if client.info is None or client.info.state not in {"ALIVE", "DEAD"} or client.lost_process:
                self._doom(client)

    def _doom(self, client: ActorClient) -> None:
        text = f"actor {client.actor_id.hex()}: the cluster's head is gone ({self._gcs_lost})"
        client.doomed = Failure("ActorUnavailableError", text, subject_id=client.actor_id)
        self._found(client)
        for task in list(client.in_flight.values()):
            self._end(task, cancelled_failure(task) if task.cancelled else client.doomed)
        self._unpin(client)
        self.dirty[client.actor_id] = None

    # ------------------------------------------------------------------ cancel, scope
    def cancel(self, task: Task, *, force: bool, recursive: bool) -> None:
        """Cancel a call. (``force`` was refused by the API.)"""
        task.cancelled = True
        if task.state == ENDED:
            return
        client = self.clients[task.actor_id]
        if task.state == PUSHED and client.info is not None:
            task.retries_left = 0
            self.effects.append(Send(client.info.worker, CancelTask(task.task_id, force, recursive)))
        else:
            self._end(task, cancelled_failure(task))
            self.dirty[task.actor_id] = None

    def creation_failed(self, actor_id: bytes, failure: Failure) -> None:
        """An argument of the constructor failed: the actor never comes to be."""
        client = self.client_of(actor_id)
        client.doomed = failure
        self._unpin(client)
        self.dirty[actor_id] = None

    def handles_gone(self, actor_id: bytes) -> None:
        """The last counted handle of an actor we created is gone."""
        client = self.clients.get(actor_id)
        if client is None:
            self.effects.append(Send(self.gcs, ActorOutOfScope(actor_id)))
        else:
            client.out_of_scope = True
            self.dirty[actor_id] = None
