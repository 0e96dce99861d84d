"""A GCS machine with a clock, timers that fire, and short ways to say what happens around it."""

import random

from actorrt.gcs import messages as m
from actorrt.gcs.state import GcsMachine
from actorrt.kernel.effects import CancelTimer, Fail, Reply, Send, SetTimer
from actorrt.kernel.message import NOWHERE, Address, Envelope, PeerGone
from actorrt.owner.messages import ActorChanged
from actorrt.raylet.messages import StartActor
from actorrt.scheduling.resources import parse
from actorrt.wire.records import ActorSpec, DeathCause, JobConfig, NodeInfo, NodeLoad, Value

CLUSTER = b"c" * 16
DRIVER = Address("ipc://driver", "owner")
OTHER = Address("ipc://other", "owner")


def raylet(name):
    return Address(f"ipc://{name}", "raylet")


def worker(name):
    return Address(f"ipc://{name}", "worker")


def node_info(name, labels=None, **resources):
    return NodeInfo(
        node_id=name.encode(),
        raylet=raylet(name),
        hostname=name,
        address="127.0.0.1",
        resources=parse(resources or {"CPU": 4}),
        labels=labels or {},
    )


def job_config(driver=DRIVER, namespace="ns"):
    return JobConfig(b"", driver, namespace, driver_pid=7)


def actor_spec(actor_id, /, job_id=b"\0\0\0\1", owner=DRIVER, holds=None, needs=None, **more):
    return ActorSpec(
        actor_id=actor_id.encode(),
        job_id=job_id,
        owner=owner,
        class_key=b"key",
        class_name="Counter",
        arguments=Value(b"args"),
        resources=parse(holds or {}),
        placement_resources=parse(needs or {}),
        **{"namespace": "ns", **more},
    )


class World:
    """Every step is checked; ``sent`` keeps what went out since ``take``."""

    def __init__(self, *nodes, jobs=(DRIVER,), seed=0, **resources):
        self.machine = GcsMachine(CLUSTER, random.Random(seed))
        self.now = 100.0
        self.effects = []
        self.timers = {}
        self.versions = {}
        self.request_id = 0
        for name in nodes:
            self.join(name, **resources)
        for driver in jobs:
            self.ask(m.RegisterJob(job_config(driver), raylet(nodes[0])), src=driver)
        self.take()

    # ---- in
    def tell(self, body, src=NOWHERE, request_id=0):
        """One step; returns its effects."""
        effects = self.machine.handle(Envelope(src, body, request_id), self.now)
        for effect in effects:
            if isinstance(effect, SetTimer):
                assert effect.at_s >= self.now
                self.timers[effect.key] = effect
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.key, None)
        self.machine.check()
        self.effects.extend(effects)
        return effects

    def ask(self, body, src=DRIVER):
        """A request; returns the answer's body, the ``Fail``, or None when there is no answer yet."""
        self.request_id += 1
        answers = [
            effect
            for effect in self.tell(body, src, self.request_id)
            if isinstance(effect, Reply | Fail) and (effect.dst, effect.request_id) == (src, self.request_id)
        ]
        assert len(answers) <= 1
        if not answers:
            return None
        return answers[0] if isinstance(answers[0], Fail) else answers[0].body

    def run(self, seconds, heartbeats=()):
        """Let time pass; the nodes named report all along."""
        end = self.now + seconds
        beat = self.now
        while True:
            due = min(
                [effect.at_s for effect in self.timers.values()] + ([beat] if heartbeats else []), default=end + 1
            )
            if due > end:
                break
            self.now = max(self.now, due)
            if heartbeats and due == beat:
                beat += 0.5
                for name in heartbeats:
                    self.report(name)
            for key, effect in list(self.timers.items()):
                if effect.at_s <= self.now and self.timers.get(key) is effect:
                    del self.timers[key]
                    self.tell(effect.body)
        self.now = end

    def join(self, name, labels=None, **resources):
        return self.ask(m.RegisterNode(node_info(name, labels, **resources)), src=raylet(name))

    def report(self, name, src=None, version=None, **available):
        """A load report; without quantities, all of the node (or what it said last) is free."""
        node = self.machine.nodes.alive.get(name.encode())
        free = parse(available) if available else (node.load.available if node else {})
        self.versions[name] = self.versions.get(name, 0) + 1 if version is None else version
        return self.tell(m.LoadReported(NodeLoad(name.encode(), free, self.versions[name])), src or raylet(name))

    def gone(self, process, reason="connection reset"):
        return self.tell(PeerGone(process, reason))

    def create(self, actor_id, /, get_if_exists=False, ready=True, **options):
        spec = actor_spec(actor_id, **options)
        return self.ask(m.CreateActor(spec, get_if_exists, ready), src=spec.owner)

    def started(self, name, node=None, incarnation=None):
        """The raylet asked last says that the actor runs."""
        actor = self.machine.actors.living[name.encode()]
        at = node or actor.node_id.decode()
        number = actor.incarnation if incarnation is None else incarnation
        body = m.ActorStarted(name.encode(), number, worker(f"w-{name}-{number}"), b"w", at.encode(), 4242)
        return self.tell(body, raylet(at))

    def start_failed(self, name, kind="start_failed", retry=False, **where):
        return self._news(m.ActorStartFailed, name, kind, where, retry)

    def died(self, name, kind="signal", **where):
        return self._news(m.ActorDied, name, kind, where)

    def _news(self, message, name, kind, where, *more):
        actor = self.machine.actors.living.get(name.encode())
        at = where.get("node") or actor.node_id.decode()
        number = where.get("incarnation") or actor.incarnation
        return self.tell(message(name.encode(), number, DeathCause(kind, f"{kind} happened"), *more), raylet(at))

    def follow(self, name, follower=DRIVER):
        self.tell(m.SubscribeActor(name.encode()), follower)

    # ---- out
    def take(self):
        """Effects since the last time, without timers."""
        taken = [effect for effect in self.effects if not isinstance(effect, SetTimer | CancelTimer)]
        self.effects = []
        return taken

    def sent(self, kind, to=None):
        """Bodies of this kind sent since ``take`` (which this does not end)."""
        return [
            effect.body
            for effect in self.effects
            if isinstance(effect, Send) and isinstance(effect.body, kind) and to in (None, effect.dst)
        ]

    def info(self, name):
        return self.machine.actors.info(name.encode())

    def state(self, name):
        return self.info(name).state

    def starts(self):
        """(actor, node, incarnation) of the creations asked for since ``take``."""
        return [
            (effect.body.spec.actor_id.decode(), effect.dst.process.removeprefix("ipc://"), effect.body.incarnation)
            for effect in self.effects
            if isinstance(effect, Send) and isinstance(effect.body, StartActor)
        ]

    def told(self, follower=DRIVER):
        """(actor, state) of the news a follower got since ``take``."""
        return [(body.info.actor_id.decode(), body.info.state) for body in self.sent(ActorChanged, follower)]
