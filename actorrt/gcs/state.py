"""The GCS machine: dispatches each message to its noun, and tells the stories that concern several nouns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from actorrt.gcs import messages as m
from actorrt.gcs.actors import Actors
from actorrt.gcs.functions import Functions
from actorrt.gcs.jobs import Jobs
from actorrt.gcs.kv import Kv
from actorrt.gcs.nodes import Nodes
from actorrt.gcs.placement import SETTLE_S, Placement
from actorrt.gcs.pubsub import PubSub
from actorrt.kernel.effects import CancelTimer, Effect, Fail, Reply, Send, SetTimer
from actorrt.kernel.limits import HEARTBEAT_INTERVAL_S, NODE_DEAD_AFTER_S, RESOURCE_REPORT_INTERVAL_S
from actorrt.kernel.message import Done, Envelope, Message, PeerGone, RequestFailed
from actorrt.owner.messages import NodeChanged
from actorrt.raylet.messages import JobFinished, JobStarted, StopActor, StopNode
from actorrt.wire.records import DeathCause

if TYPE_CHECKING:
    import random

PENDING_ACTORS_SHOWN_MAX: Final = 1000
"""Pending actors listed in a ``Status``; their number is in it anyway."""

Handler = Callable[[Envelope, Any, float, list[Effect]], None]


class GcsStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures for operators and tests."""

    nodes_alive: int
    nodes_dead: int
    jobs_running: int
    jobs_finished: int
    actors: dict[str, int]
    actors_waiting: int
    actors_dead: int
    subscriptions: int
    functions: int
    functions_bytes: int
    parked_requests: int
    kv_pairs: int
    kv_bytes: int
    channels: int
    stale_ignored: int
    """News of actors or nodes that were no longer what the sender believed."""


class GcsMachine:
    """The global control service of one cluster. ``rng`` breaks ties between equally good nodes."""

    def __init__(self, cluster_id: bytes, rng: random.Random) -> None:
        self.cluster_id = cluster_id
        self.nodes = Nodes()
        self.functions = Functions()
        self.jobs = Jobs()
        self.kv = Kv()
        self.placement = Placement(self.nodes, rng)
        self.actors = Actors(self.nodes, self.jobs, self.placement)
        self.pubsub = PubSub()
        self._started_s: float | None = None
        self._health_due_s: float | None = None
        self._view_due_s: float | None = None
        self._view_sent_s = float("-inf")
        self._placement_due_s: float | None = None
        self._stale_ignored = 0
        self._handlers: dict[type[Message], Handler] = {
            m.RegisterNode: self._register_node,
            m.LoadReported: self._load_reported,
            m.DrainNode: self._drain_node,
            m.ListNodes: lambda envelope, _, __, out: _reply(
                envelope, m.NodeList(self.nodes.infos(), self.nodes.loads()), out
            ),
            m.RegisterJob: self._register_job,
            m.FinishJob: self._finish_job_asked,
            m.GetJob: lambda envelope, body, _, out: _reply(envelope, self.jobs.answer(body), out),
            m.KvPut: lambda envelope, body, _, out: _reply(envelope, self.kv.put(body), out),
            m.KvGet: lambda envelope, body, _, out: _reply(envelope, self.kv.get(body), out),
            m.KvDelete: lambda envelope, body, _, out: _reply(envelope, self.kv.delete(body), out),
            m.KvKeys: lambda envelope, body, _, out: _reply(envelope, self.kv.keys(body), out),
            m.ExportFunction: self._export_function,
            m.GetFunction: self._get_function,
            m.CreateActor: self._create_actor,
            m.GetNamedActor: self._get_named_actor,
            m.ListActors: self._list_actors,
            m.SubscribeActor: self._subscribe_actor,
            m.UnsubscribeActor: lambda envelope, body, _, __: self.actors.followers.remove(body.actor_id, envelope.src),
            m.KillActor: self._kill_actor,
            m.ActorOutOfScope: lambda _, body, __, out: self.actors.out_of_scope(body.actor_id, out),
            m.ActorStarted: self._actor_started,
            m.ActorStartFailed: self._actor_start_failed,
            m.ActorDied: self._actor_died,
            m.Subscribe: self._subscribe,
            m.Unsubscribe: self._unsubscribe,
            m.Publish: self._publish,
            m.GetStatus: self._get_status,
            m.StopCluster: self._stop_cluster,
            m.HealthDue: self._health_due,
            m.ViewDue: self._view_due,
            m.PlacementDue: self._placement_due,
            PeerGone: self._peer_gone,
        }

    def __repr__(self) -> str:
        return f"GcsMachine({self.cluster_id.hex()}, {self.statistics()!r})"

    def handle(self, envelope: Envelope, now: float) -> list[Effect]:
        """Take one message; see ``kernel.machine``."""
        if self._started_s is None:
            self._started_s = now
        out: list[Effect] = []
        handler = self._handlers.get(type(envelope.body))
        if handler is None:
            _refuse(envelope, "InternalError", f"the GCS does not understand {type(envelope.body).__name__}", out)
        else:
            handler(envelope, envelope.body, now, out)
        self._settle(now, out)
        return out

    def check(self) -> None:
        """Assert the invariants of all nouns, and those between them."""
        self.nodes.check()
        self.functions.check()
        self.jobs.check()
        self.kv.check()
        self.actors.check()
        self.pubsub.check()
        _check_between(self)

    def statistics(self) -> GcsStatistics:
        """Return the figures of the moment."""
        return GcsStatistics(
            nodes_alive=len(self.nodes.alive),
            nodes_dead=len(self.nodes.dead),
            jobs_running=len(self.jobs.running),
            jobs_finished=len(self.jobs.finished),
            actors=dict(self.actors.counts),
            actors_waiting=len(self.placement.line_of),
            actors_dead=len(self.actors.dead),
            subscriptions=self.actors.followers.count(),
            functions=self.functions.count(),
            functions_bytes=self.functions.bytes_used,
            parked_requests=self.functions.parked_count,
            kv_pairs=self.kv.count(),
            kv_bytes=self.kv.bytes_used,
            channels=len(self.pubsub.channels),
            stale_ignored=self._stale_ignored,
        )

    # ---- nodes
    def _register_node(self, envelope: Envelope, body: m.RegisterNode, now: float, out: list[Effect]) -> None:
        refusal = self.nodes.refusal(body.node)
        if refusal:
            _refuse(envelope, "NodeDiedError", refusal, out)
            return
        former = self.nodes.at_raylet(body.node.raylet)
        if former and former != body.node.node_id:
            text = f"its address was taken over by node {body.node.node_id.hex()}"
            self._bury(former, DeathCause("node_died", text, node_id=former), now, out)
        joined = self.nodes.register(body.node, now)
        answer = m.NodeRegistered(self.nodes.living_infos(), self.nodes.loads(), self.jobs.needed())
        _reply(envelope, answer, out)
        if joined:
            self._tell_drivers(NodeChanged(body.node.node_id, body.node.raylet, alive=True, text="joined"), out)
        self._send_changes(now, out)
        self.actors.place(now, out)

    def _load_reported(self, envelope: Envelope, body: m.LoadReported, now: float, out: list[Effect]) -> None:
        node_id = body.load.node_id
        if node_id in self.nodes.alive:
            if self.nodes.hear(body.load, now) and self.placement.lines:
                self._arm_placement(now + SETTLE_S, out)
            return
        self._stale_ignored += 1
        if node_id in self.nodes.dead:
            # It was only cut off. Its actors live elsewhere by now, so it must not go on.
            out.append(Send(envelope.src, StopNode(f"node {node_id.hex()} was declared dead")))

    def _drain_node(self, envelope: Envelope, body: m.DrainNode, now: float, out: list[Effect]) -> None:
        raylet = self.nodes.raylet_of(body.node_id)
        if raylet is None and body.node_id not in self.nodes.dead:
            _refuse(envelope, "NodeDiedError", f"no node {body.node_id.hex()} is known", out)
            return
        _reply(envelope, Done(), out)
        if raylet is not None:
            out.append(Send(raylet, StopNode(body.text)))
            text = f"node {body.node_id.hex()} left: {body.text}"
            self._bury(body.node_id, DeathCause("node_died", text, node_id=body.node_id), now, out)

    def _health_due(self, _envelope: Envelope, _body: m.HealthDue, now: float, out: list[Effect]) -> None:
        due_s, self._health_due_s = self._health_due_s, None
        for node_id in self.nodes.silent(now, now if due_s is None else due_s):
            text = f"node {node_id.hex()} was silent for more than {NODE_DEAD_AFTER_S:g} s"
            self._bury(node_id, DeathCause("node_died", text, node_id=node_id), now, out)

    def _bury(self, node_id: bytes, cause: DeathCause, now: float, out: list[Effect]) -> None:
        """A node is dead: everybody hears of it, then its actors are restarted elsewhere or end."""
        info = self.nodes.bury(node_id, cause)
        self._send_changes(now, out)
        self._tell_drivers(NodeChanged(node_id, info.raylet, alive=False, text=cause.text), out)
        self.actors.node_died(node_id, cause, now, out)

    # ---- jobs
    def _register_job(self, envelope: Envelope, body: m.RegisterJob, _now: float, out: list[Effect]) -> None:
        node_id = self.nodes.at_raylet(body.raylet)
        if not node_id:
            _refuse(envelope, "NodeDiedError", f"no living node is at {body.raylet}", out)
            return
        known = self.jobs.of_driver(body.job.driver)
        job = self.jobs.register(body.job, node_id)
        if job is None:
            _refuse(envelope, "Overloaded", f"{len(self.jobs.running)} jobs are running, the most allowed", out)
            return
        if known is None:
            self._broadcast(JobStarted(job.config), out)
        _reply(envelope, m.JobRegistered(job.config, job.node_id), out)

    def _finish_job_asked(self, envelope: Envelope, body: m.FinishJob, _now: float, out: list[Effect]) -> None:
        self._finish_job(body.job_id, body.text, out)
        _reply(envelope, Done(), out)

    def _finish_job(self, job_id: bytes, text: str, out: list[Effect]) -> None:
        """A job is over: its actors end (not the detached ones), who waits for its code hears so, nodes clean up."""
        if self.jobs.finish(job_id, text or "finished") is None:
            return
        self.actors.job_ended(job_id, text, out)
        self.functions.end_job(job_id, f"job {job_id.hex()} has ended ({text})", out)
        if job_id not in self.jobs.pins:
            self.functions.drop_job(job_id)
        self._broadcast(JobFinished(job_id), out)

    # ---- functions
    def _export_function(self, _envelope: Envelope, body: m.ExportFunction, _now: float, out: list[Effect]) -> None:
        if not self.jobs.refusal(body.job_id):
            self.functions.export(body, out)

    def _get_function(self, envelope: Envelope, body: m.GetFunction, _now: float, out: list[Effect]) -> None:
        why = self.jobs.refusal(body.job_id)
        if not why and body.job_id not in self.jobs.running:
            why = f"job {body.job_id.hex()} has ended without exporting it"
        self.functions.get(envelope, body, out, job_text=why)

    # ---- actors
    def _create_actor(self, envelope: Envelope, body: m.CreateActor, now: float, out: list[Effect]) -> None:
        spec = body.spec
        info = self.actors.info(spec.actor_id)
        created = True
        if info is None and body.get_if_exists and spec.name:
            info = self.actors.named(spec.namespace, spec.name)
            created = info is None
        if info is None:
            refusal = self.actors.refusal(spec)
            if refusal is not None:
                _refuse(envelope, *refusal, out)
                return
            self.actors.register(spec)
            info = self.actors.info(spec.actor_id)
            assert info is not None
        _reply(envelope, m.ActorRegistered(info, created), out)
        if body.ready and created:
            self.actors.make_ready(spec, now, out)

    def _get_named_actor(self, envelope: Envelope, body: m.GetNamedActor, _now: float, out: list[Effect]) -> None:
        info = self.actors.named(body.namespace, body.name)
        if info is None:
            text = f"no actor named {body.name!r} lives in namespace {body.namespace!r}"
            _refuse(envelope, "ActorNotFoundError", text, out)
        else:
            _reply(envelope, m.ActorRegistered(info, created=False), out)

    def _list_actors(self, envelope: Envelope, body: m.ListActors, _now: float, out: list[Effect]) -> None:
        _reply(envelope, m.ActorList(self.actors.infos(alive_only=body.alive_only)), out)

    def _subscribe_actor(self, envelope: Envelope, body: m.SubscribeActor, _now: float, out: list[Effect]) -> None:
        if not self.actors.subscribe(body.actor_id, envelope.src, out):
            _refuse(envelope, "Overloaded", f"actor {body.actor_id.hex()} has too many subscribers", out)

    def _kill_actor(self, envelope: Envelope, body: m.KillActor, now: float, out: list[Effect]) -> None:
        cause = DeathCause(body.kind, body.text)
        if self.actors.kill(body.actor_id, cause, now, out, no_restart=body.no_restart):
            _reply(envelope, Done(), out)
        else:
            text = f"actor {body.actor_id.hex()} is unknown: its handle belongs to another session, or it died long ago"
            _refuse(envelope, "ActorHandleNotFoundError", text, out)

    def _actor_started(self, envelope: Envelope, body: m.ActorStarted, _now: float, out: list[Effect]) -> None:
        actor = self.actors.awaited(body.actor_id, body.incarnation, envelope.src)
        if actor is not None and actor.node_id == body.node_id:
            self.actors.started(actor, body.worker, body.worker_id, body.pid, out)
            return
        self._stale_ignored += 1
        cause = DeathCause("killed", "the actor is dead, or was started elsewhere", pid=body.pid, node_id=body.node_id)
        out.append(Send(envelope.src, StopActor(body.actor_id, body.incarnation, cause)))

    def _actor_start_failed(self, envelope: Envelope, body: m.ActorStartFailed, now: float, out: list[Effect]) -> None:
        actor = self.actors.awaited(body.actor_id, body.incarnation, envelope.src)
        if actor is None:
            self._stale_ignored += 1
        else:
            self.actors.start_failed(actor, body.cause, now, out, retry=body.retry)

    def _actor_died(self, envelope: Envelope, body: m.ActorDied, now: float, out: list[Effect]) -> None:
        actor = self.actors.awaited(body.actor_id, body.incarnation, envelope.src)
        if actor is None:
            self._stale_ignored += 1
        else:
            self.actors.died(actor, body.cause, now, out)

    def _placement_due(self, _envelope: Envelope, _body: m.PlacementDue, now: float, out: list[Effect]) -> None:
        self._placement_due_s = None
        self.actors.place(now, out)

    # ---- pub/sub
    def _subscribe(self, envelope: Envelope, body: m.Subscribe, _now: float, out: list[Effect]) -> None:
        if self.pubsub.subscribe(body.channel, envelope.src):
            _reply(envelope, Done(), out)
        else:
            _refuse(envelope, "Overloaded", f"there are {self.pubsub.count} subscriptions, the most allowed", out)

    def _unsubscribe(self, envelope: Envelope, body: m.Unsubscribe, _now: float, out: list[Effect]) -> None:
        self.pubsub.unsubscribe(body.channel, envelope.src)
        _reply(envelope, Done(), out)

    def _publish(self, envelope: Envelope, body: m.Publish, _now: float, out: list[Effect]) -> None:
        self.pubsub.publish(body, out)
        _reply(envelope, Done(), out)

    # ---- operator
    def _get_status(self, envelope: Envelope, _body: m.GetStatus, now: float, out: list[Effect]) -> None:
        assert self._started_s is not None
        answer = m.Status(
            cluster_id=self.cluster_id,
            nodes=self.nodes.infos(),
            loads=self.nodes.loads(),
            jobs=tuple(job.config for job in self.jobs.running.values()),
            actors={**self.actors.counts, "DEAD": len(self.actors.dead)},
            uptime_s=now - self._started_s,
            pending_actors=self.actors.pending_infos(PENDING_ACTORS_SHOWN_MAX),
        )
        _reply(envelope, answer, out)

    def _stop_cluster(self, envelope: Envelope, _body: m.StopCluster, _now: float, out: list[Effect]) -> None:
        _reply(envelope, Done(), out)
        self._broadcast(StopNode("the cluster is stopped"), out)

    # ---- processes
    def _peer_gone(self, _envelope: Envelope, body: PeerGone, now: float, out: list[Effect]) -> None:
        """A process is gone: whatever it was to us (node, driver, owner, subscriber, requester) is over."""
        process = body.process
        self.pubsub.drop_process(process)
        self.actors.followers.drop_process(process)
        self.functions.drop_process(process)
        for job in self.jobs.of_process(process):
            text = f"its driver (pid {job.config.driver_pid}) is gone: {body.reason}"
            self._finish_job(job.config.job_id, text, out)
        for node_id in self.nodes.of_process(process):
            text = f"node {node_id.hex()} is gone: {body.reason}"
            self._bury(node_id, DeathCause("node_died", text, node_id=node_id), now, out)
        self.actors.owner_gone(process, body.reason, out)

    # ---- the end of every step
    def _settle(self, now: float, out: list[Effect]) -> None:
        """Do what follows from whatever happened, and keep the timers that must run running."""
        for job_id in self.actors.released_jobs:
            self.functions.drop_job(job_id)
        self.actors.released_jobs.clear()
        if self.nodes.changed_loads and self._view_due_s is None:
            self._view_due_s = max(now, self._view_sent_s + RESOURCE_REPORT_INTERVAL_S)
            out.append(SetTimer("view", self._view_due_s, m.ViewDue()))
        if self.nodes.alive and self._health_due_s is None:
            self._health_due_s = now + HEARTBEAT_INTERVAL_S
            out.append(SetTimer("health", self._health_due_s, m.HealthDue()))
        elif not self.nodes.alive and self._health_due_s is not None:
            self._health_due_s = None
            out.append(CancelTimer("health"))
        if (due_s := self.placement.next_due_s(now)) is not None:
            self._arm_placement(due_s, out)

    def _arm_placement(self, due_s: float, out: list[Effect]) -> None:
        if self._placement_due_s is None or due_s < self._placement_due_s:
            self._placement_due_s = due_s
            out.append(SetTimer("placement", due_s, m.PlacementDue()))

    def _view_due(self, _envelope: Envelope, _body: m.ViewDue, now: float, out: list[Effect]) -> None:
        self._view_due_s = None
        self._send_changes(now, out)

    def _send_changes(self, now: float, out: list[Effect]) -> None:
        changes = self.nodes.take_changes()
        if changes is not None:
            self._view_sent_s = now
            self._broadcast(changes, out)

    def _broadcast(self, body: Message, out: list[Effect]) -> None:
        out.extend(Send(raylet, body) for raylet in self.nodes.raylets())

    def _tell_drivers(self, body: Message, out: list[Effect]) -> None:
        out.extend(Send(job.config.driver, body) for job in self.jobs.running.values())


def _reply(envelope: Envelope, body: Message, out: list[Effect]) -> None:
    """Answer a request; who did not ask for an answer gets none."""
    if isinstance(body, RequestFailed):
        _refuse(envelope, body.kind, body.text, out)
    elif envelope.request_id:
        out.append(Reply(envelope.src, envelope.request_id, body))


def _refuse(envelope: Envelope, kind: str, text: str, out: list[Effect]) -> None:
    if envelope.request_id:
        out.append(Fail(envelope.src, envelope.request_id, kind, text))


def _check_between(gcs: GcsMachine) -> None:
    """What must hold between nouns, and between them and the timers, after every step."""
    assert not [job_id for job_id in gcs.functions.parked if job_id not in gcs.jobs.running]
    kept = [*gcs.jobs.running, *gcs.jobs.pins]
    assert not [job_id for job_id in gcs.functions.jobs if job_id not in kept], "functions nobody needs are kept"
    assert not gcs.actors.released_jobs
    assert (gcs._health_due_s is not None) == bool(gcs.nodes.alive), "health is not looked after"
    assert not gcs.nodes.changed_nodes, "a change of membership waits"
    assert not gcs.nodes.changed_loads or gcs._view_due_s is not None, "changed loads are not sent"
    assert gcs.placement.next_due_s(0.0) is None or gcs._placement_due_s is not None, "actors are forgotten"
