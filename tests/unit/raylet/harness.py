"""A node under test: a raylet machine, its clock, and what it sent. Every step checks the machine's invariants."""

import random

from actorrt.gcs.messages import ActorDied, ActorStarted, ActorStartFailed, LoadReported
from actorrt.kernel.effects import Do, Fail, Reply, Send, SetTimer
from actorrt.kernel.message import NOWHERE, Address, Envelope, PeerGone
from actorrt.owner.messages import LeasedWorkerDied, LeaseGranted, LeaseRecalled, LeasesRedirected, LeasesRefused
from actorrt.raylet import messages
from actorrt.raylet.operations import KillWorker, StartWorker
from actorrt.raylet.state import RayletMachine
from actorrt.scheduling.resources import parse
from actorrt.wire.records import (
    ActorSpec,
    DeathCause,
    Environment,
    JobConfig,
    LeaseSpec,
    NodeInfo,
    NodeLoad,
    Strategy,
    Value,
)

JOB = b"job1"
GCS = Address("head", "gcs")
NODE_ID = b"N" * 16
DRIVER = Address("driver", "owner")
CPU1 = {"CPU": 1}


def owner(name):
    return Address(name, "owner")


def job(job_id=JOB, driver=DRIVER, environment=Environment()):
    return JobConfig(job_id, driver, "test", environment=environment)


def node_info(name="here", resources=None, labels=None, *, is_head=False, alive=True):
    node_id = NODE_ID if name == "here" else name.encode().ljust(16, b"-")
    given = parse(resources or {"CPU": 4})
    return NodeInfo(node_id, Address(name, "raylet"), name, name, name, given, labels or {}, is_head, alive=alive)


def load(info, resources, version=1):
    return NodeLoad(info.node_id, parse(resources), version)


def spec(resources=None, job_id=JOB, environment=None, strategy=None, labels=(), name="f"):
    return LeaseSpec(
        job_id,
        parse(CPU1 if resources is None else resources),
        strategy or Strategy(),
        tuple(labels),
        environment or Environment(),
        name,
    )


def actor_spec(number=1, resources=None, placement=None, *, detached=False, job_id=JOB, environment=None):
    return ActorSpec(
        bytes([number]) * 16,
        job_id,
        DRIVER,
        b"key",
        "Counter",
        Value(b"N"),
        detached=detached,
        resources=parse(resources or {}),
        placement_resources=parse(CPU1 if placement is None else placement),
        environment=environment or Environment(),
    )


class Node:
    """Drives one machine. ``auto``: processes start at once, and die when killed."""

    def __init__(self, resources=None, *, auto=True, jobs=(JOB,), seed=1, info=None, **options):
        rng = random.Random(seed)
        self.info = info or node_info(resources=resources)
        self.machine = RayletMachine(self.info, GCS, rng, rng.randbytes, **options)
        self.now = 100.0
        self.auto = auto
        self.started = []
        self.killed = []
        self.effects = []
        self.timers = {}
        self._ready = {}
        for job_id in jobs:
            self.tell(GCS, messages.JobStarted(job(job_id)))
        self.take()

    # ---- in
    def tell(self, src, body, request_id=0):
        """Hand in one message; with ``auto`` carry out what processes would do. Returns the effects of all that."""
        effects = self.machine.handle(Envelope(src, body, request_id), self.now)
        self.machine.check()
        self.effects += effects
        for effect in list(effects):
            if isinstance(effect, SetTimer):
                self.timers[effect.key] = effect
            elif isinstance(effect, Do):
                effects += self._perform(effect.operation)
        return effects

    def _perform(self, operation):
        if isinstance(operation, StartWorker):
            self.started.append(operation)
            return self.ready(operation.worker_id) if self.auto else []
        if isinstance(operation, KillWorker):
            self.killed.append(operation.worker_id)
            killed = DeathCause("signal", "killed by signal 9", signal=9)
            return self.die(operation.worker_id, killed) if self.auto else []
        return []

    def ready(self, worker_id, pid=None):
        pid = pid or 1000 + len(self._ready)
        self._ready[worker_id] = pid
        return self.tell(worker_address(worker_id), messages.WorkerReady(worker_id, pid, worker_address(worker_id)))

    def die(self, worker_id, cause=None):
        cause = cause or DeathCause("exit", "exit code 1", exit_code=1)
        return self.tell(NOWHERE, messages.WorkerDied(worker_id, cause))

    def request(self, src=DRIVER, class_id=1, count=1, hops=0, **wants):
        return self.tell(src, messages.RequestLeases(class_id, spec(**wants), count, hops))

    def give_back(self, lease, src=DRIVER, **details):
        return self.tell(src, messages.ReturnLease(lease.lease_id, **details))

    def gone(self, process, reason="connection lost"):
        return self.tell(NOWHERE, PeerGone(process, reason))

    def cluster(self, *nodes, loads=()):
        return self.tell(GCS, messages.ClusterChanged(tuple(nodes), tuple(loads)))

    def pass_time(self, seconds):
        """Let timers fire in their order until ``seconds`` have passed."""
        end, effects = self.now + seconds, []
        while True:
            due = sorted(((timer.at_s, key) for key, timer in self.timers.items() if timer.at_s <= end))
            if not due:
                break
            at_s, key = due[0]
            self.now = max(self.now, at_s)
            effects += self.tell(NOWHERE, self.timers.pop(key).body)
        self.now = end
        return effects

    # ---- out
    def take(self, kind=None):
        """Bodies of the messages sent since the last take, of one kind (or all)."""
        sent = [effect.body for effect in self.effects if isinstance(effect, Send)]
        if kind is None:
            self.effects.clear()
            return sent
        self.effects = [e for e in self.effects if not (isinstance(e, Send) and isinstance(e.body, kind))]
        return [body for body in sent if isinstance(body, kind)]

    def granted(self):
        return self.take(LeaseGranted)

    def operations(self, kind):
        return [e.operation for e in self.effects if isinstance(e, Do) and isinstance(e.operation, kind)]

    @property
    def free(self):
        return {name: fixed / 10_000 for name, fixed in self.machine.grants.ledger.free().items()}

    @property
    def figures(self):
        return self.machine.statistics()

    def reasons(self):
        return [demand.reason for demand in self.machine.queue.demands]


def worker_address(worker_id):
    return Address(f"worker-{worker_id.hex()}", "worker")


def owner_of(lease):
    """The owner inside a leased worker's process."""
    return Address(lease.worker.process, "owner")


__all__ = [
    "CPU1",
    "DRIVER",
    "GCS",
    "JOB",
    "NODE_ID",
    "ActorDied",
    "ActorStartFailed",
    "ActorStarted",
    "DeathCause",
    "Do",
    "Fail",
    "LeaseGranted",
    "LeaseRecalled",
    "LeasedWorkerDied",
    "LeasesRedirected",
    "LeasesRefused",
    "LoadReported",
    "Node",
    "Reply",
    "actor_spec",
    "job",
    "load",
    "node_info",
    "owner",
    "owner_of",
    "spec",
    "worker_address",
]
