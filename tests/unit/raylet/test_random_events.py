"""Any events in any order, duplicates and stale ones too: invariants hold, and when the world heals nothing is lost."""

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actorrt.kernel.effects import Do, Send
from actorrt.kernel.message import NOWHERE, PeerGone
from actorrt.owner.messages import LeasedWorkerDied, LeaseGranted, LeaseRecalled, LeasesRedirected, LeasesRefused
from actorrt.raylet import messages, pool
from actorrt.raylet.operations import KillWorker, StartWorker
from actorrt.wire.records import DeathCause, Environment, Strategy
from actorrt.worker.messages import CreateActorHere, ExitWorker
from tests.unit.raylet.harness import (
    GCS,
    ActorDied,
    ActorStarted,
    ActorStartFailed,
    Node,
    actor_spec,
    job,
    load,
    node_info,
    owner,
    spec,
    worker_address,
)

TOTAL = {"CPU": 3, "GPU": 1, "licence": 1}
JOBS = (b"job1", b"job2")
OTHERS = ("left", "right")
WANTS = (
    {"resources": {"CPU": 1}},
    {"resources": {"CPU": 3}},
    {"resources": {}},
    {"resources": {"CPU": 1, "GPU": 0.5}},
    {"resources": {"GPU": 1, "licence": 1}},
    {"resources": {"CPU": 9}},
    {"resources": {"CPU": 1}, "environment": Environment((("A", "1"),))},
    {"resources": {"CPU": 1}, "strategy": Strategy("SPREAD")},
    {"resources": {"CPU": 1}, "strategy": Strategy("NODE_AFFINITY", node_info("left").node_id)},
    {"resources": {"CPU": 1}, "strategy": Strategy("NODE_AFFINITY", node_info("left").node_id, soft=True)},
    {"resources": {"CPU": 1}, "labels": (("zone", "west"),)},
    {"resources": {"CPU": 1}, "labels": (("zone", "no such"),)},
)


SEEN = {}
"""What the machine sent in all runs, by type."""


class Raylet(RuleBasedStateMachine):
    """The world around one machine, with enough memory to know what it may expect."""

    @initialize(seed=st.integers(0, 100), workers_max=st.integers(3, 12), eager=st.booleans())
    def begin(self, seed, workers_max, eager):
        self.eager = eager  # processes start at once
        limits = {"workers_max": workers_max, "start_concurrency": 2, "queue_max": 40}
        self.node = Node(TOTAL, auto=False, jobs=(), seed=seed, **limits)
        self.asked = {}  # (owner process, class) -> requests not answered yet
        self.cancelled = {}  # same -> requests that may have been cancelled
        self.leases = {}  # lease id -> (holder process, worker id)
        self.lease_ids = {}
        self.processes = {}  # worker id -> "starting" | "up"
        self.doomed = {}  # killed or asked to exit
        self.actors = {}  # (actor id, incarnation) -> list of reports
        self.stopped = {}  # same -> StopActor messages sent
        self.created = {}  # worker id -> (actor id, incarnation)
        self.jobs = {}
        self.finished = {}
        self.old_workers = []
        self.last = None
        self.job_starts(JOBS[0])

    # ---- the world's side
    def tell(self, src, body):
        self.last = (src, body)
        for effect in self.node.tell(src, body):
            inner = getattr(effect, "body", None) or getattr(effect, "operation", None)
            SEEN[type(inner)] = SEEN.get(type(inner), 0) + 1
            if isinstance(effect, Send):
                self.receive(effect.dst, effect.body)
            elif isinstance(effect, Do) and isinstance(effect.operation, StartWorker):
                assert effect.operation.worker_id not in self.processes
                assert effect.operation.job.job_id in self.jobs
                self.processes[effect.operation.worker_id] = "starting"
                if self.eager:
                    self.report(effect.operation.worker_id)
            elif isinstance(effect, Do) and isinstance(effect.operation, KillWorker):
                self.doomed[effect.operation.worker_id] = None

    def receive(self, dst, body):
        if isinstance(body, LeaseGranted):
            assert body.lease_id not in self.lease_ids, "a lease id was used twice"
            assert self.processes.get(body.worker_id) == "up", "a worker that is not there was granted"
            taken = [w for _, w in self.leases.values()]
            assert body.worker_id not in taken, "two leases of one worker"
            assert body.worker_id not in self.doomed, "a dying worker was granted"
            assert body.worker_id not in self.created, "an actor's worker was granted"
            self.lease_ids[body.lease_id] = None
            self.answered(dst, body.class_id, 1)
            self.leases[body.lease_id] = (dst, body.worker_id)
        elif isinstance(body, LeasesRedirected | LeasesRefused):
            self.answered(dst, body.class_id, body.count)
        elif isinstance(body, LeasedWorkerDied):
            assert self.leases.pop(body.lease_id, None) is not None, "death of a lease nobody has"
        elif isinstance(body, LeaseRecalled):
            assert self.leases[body.lease_id][0] == dst, "a lease was recalled from somebody who does not hold it"
        elif isinstance(body, CreateActorHere):
            [worker_id] = [w for w in self.processes if worker_address(w) == dst]
            assert worker_id not in self.created
            assert worker_id not in [w for _, w in self.leases.values()]
            self.created[worker_id] = (body.spec.actor_id, body.incarnation)
        elif isinstance(body, ExitWorker):
            [worker_id] = [w for w in self.processes if worker_address(w) == dst]
            self.doomed[worker_id] = None
        elif isinstance(body, ActorStarted | ActorStartFailed | ActorDied):
            key = (body.actor_id, body.incarnation)
            if isinstance(body, ActorStartFailed) and body.retry:
                return
            reports = self.actors.setdefault(key, [])
            ended = [report for report in reports if report in {ActorDied, ActorStartFailed}]
            assert type(body) is ActorDied or not ended, f"{type(body).__name__} after {ended}"
            assert len(ended) <= self.stopped.get(key, 0), "an end was reported twice without being asked for"
            reports.append(type(body))

    def answered(self, dst, class_id, count):
        key = (dst.process, class_id)
        assert self.asked.get(key, 0) >= count, f"{key} was answered more often than it asked"
        self.asked[key] -= count

    def waiting(self, key):
        machine = self.node.machine
        demand = machine.queue.get((owner(key[0]), key[1]))
        grants = [grant for grant in machine.grants.table.values() if grant.demand_key == (owner(key[0]), key[1])]
        return (demand.count if demand else 0) + sum(not grant.worker_id for grant in grants)

    # ---- invariants
    @invariant()
    def no_request_is_lost(self):
        for key, count in self.asked.items():
            waits = self.waiting(key)
            assert waits <= count <= waits + self.cancelled.get(key, 0), f"{key}: {count} unanswered, {waits} wait"

    @invariant()
    def whoever_waits_knows_why(self):
        for demand in self.node.machine.queue.demands:
            assert demand.reason, demand

    # ---- events: owners
    @rule(
        process=st.sampled_from(["driver1", "driver2", "far"]),
        class_id=st.integers(1, 3),
        count=st.integers(0, 12),
        wants=st.sampled_from(WANTS),
        job_id=st.sampled_from(JOBS),
        hops=st.integers(0, 3),
    )
    def request(self, process, class_id, count, wants, job_id, hops):
        self.ask(process, class_id, count, {**wants, "job_id": job_id}, hops)

    def ask(self, process, class_id, count, wants, hops=0):
        key = (process, class_id)
        self.asked[key] = self.asked.get(key, 0) + count
        self.tell(owner(process), messages.RequestLeases(class_id, spec(**wants), count, hops))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), wants=st.sampled_from(WANTS[:4]), count=st.integers(1, 4))
    def request_of_a_task(self, data, wants, count):
        """A leased worker asks for workers of its own, then waits for them."""
        _, worker_id = self.leases[data.draw(st.sampled_from(list(self.leases)))]
        job_id = self.node.machine.pool.workers[worker_id].job_id
        self.ask(worker_address(worker_id).process, 1, count, {**wants, "job_id": job_id})
        self.tell(worker_address(worker_id), messages.WorkerBlocked(worker_id))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), count=st.integers(-1, 8))
    def cancel(self, data, count):
        key = data.draw(st.sampled_from(list(self.asked)))
        self.cancelled[key] = self.cancelled.get(key, 0) + max(0, count)
        self.tell(owner(key[0]), messages.CancelLeases(key[1], count))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), failed=st.booleans())
    def give_back(self, data, failed):
        lease_id = data.draw(st.sampled_from(list(self.leases)))
        holder, worker_id = self.leases.pop(lease_id)
        if failed:
            self.doomed[worker_id] = None
        self.tell(holder, messages.ReturnLease(lease_id, failed))

    @precondition(lambda self: self.lease_ids)
    @rule(data=st.data(), process=st.sampled_from(["driver1", "nobody"]))
    def give_back_what_one_has_not(self, data, process):
        lease_id = data.draw(st.sampled_from(list(self.lease_ids)))
        if lease_id not in self.leases or self.leases[lease_id][0].process != process:
            self.tell(owner(process), messages.ReturnLease(lease_id))

    @rule(data=st.data())
    def a_process_is_gone(self, data):
        names = ["driver1", "driver2", "far", "left", *(worker_address(w).process for w in self.processes)]
        self.gone(data.draw(st.sampled_from(names)))

    def gone(self, process):
        self.forget_owner(process)
        self.tell(NOWHERE, PeerGone(process, "test"))

    def forget_owner(self, process):
        for key in [key for key in self.asked if key[0] == process]:
            del self.asked[key]
            self.cancelled.pop(key, None)
        for lease_id, (holder, _) in list(self.leases.items()):
            if holder.process == process:
                del self.leases[lease_id]

    # ---- events: processes
    @precondition(lambda self: "starting" in self.processes.values())
    @rule(data=st.data())
    def worker_reports(self, data):
        self.report(data.draw(st.sampled_from([w for w, state in self.processes.items() if state == "starting"])))

    def report(self, worker_id):
        self.processes[worker_id] = "up"
        self.tell(NOWHERE, messages.WorkerReady(worker_id, 1, worker_address(worker_id)))

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def worker_dies(self, data):
        self.die(data.draw(st.sampled_from(list(self.processes))))

    @precondition(lambda self: self.doomed)
    @rule(data=st.data())
    def doomed_worker_dies(self, data):
        self.die(data.draw(st.sampled_from(list(self.doomed))))

    def die(self, worker_id):
        early = self.processes.pop(worker_id, None) == "starting"
        self.doomed.pop(worker_id, None)
        self.created.pop(worker_id, None)
        self.old_workers.append(worker_id)
        self.forget_owner(worker_address(worker_id).process)
        if early:
            self.tell(NOWHERE, messages.WorkerStartFailed(worker_id, "test"))
        else:
            self.tell(NOWHERE, messages.WorkerDied(worker_id, DeathCause("exit", "test")))

    @precondition(lambda self: self.processes or self.old_workers)
    @rule(data=st.data(), kind=st.sampled_from(["blocked", "unblocked", "ready", "started", "exiting"]))
    def worker_says(self, data, kind):
        worker_id = data.draw(st.sampled_from([*self.processes, *self.old_workers]))
        cause = DeathCause("exit", "leaving")
        body = {
            "blocked": messages.WorkerBlocked(worker_id),
            "unblocked": messages.WorkerUnblocked(worker_id),
            "started": messages.WorkerStarted(worker_id, 7),
            "ready": messages.WorkerReady(worker_id, 7, worker_address(worker_id)),
            "exiting": messages.WorkerExiting(worker_id, cause),
        }[kind]
        if kind in {"ready", "exiting"} and self.processes.get(worker_id) == "starting":
            return
        if kind == "exiting" and worker_id in self.processes:
            self.doomed[worker_id] = None
        self.tell(NOWHERE, body)

    @rule(mib=st.sampled_from([50, 500, 5000]), pid=st.sampled_from([1, 7]))
    def memory_is_short(self, mib, pid):
        groups = (messages.ProcessMemory(pid, mib << 20),)
        self.tell(NOWHERE, messages.MemoryPressed(15 << 30, 16 << 30, 0.9, "here", groups))

    @precondition(lambda self: self.old_workers)
    @rule(data=st.data())
    def worker_dies_again(self, data):
        worker_id = data.draw(st.sampled_from(self.old_workers))
        self.tell(NOWHERE, messages.WorkerDied(worker_id, DeathCause("exit", "again")))

    # ---- events: actors
    @rule(
        number=st.integers(1, 4),
        incarnation=st.integers(1, 3),
        resources=st.sampled_from([{}, {"CPU": 1}, {"GPU": 1}, {"CPU": 9}]),
        detached=st.booleans(),
        job_id=st.sampled_from(JOBS),
    )
    def start_actor(self, number, incarnation, resources, detached, job_id):
        made = actor_spec(number, resources, detached=detached, job_id=job_id)
        key = (made.actor_id, incarnation)
        self.actors.setdefault(key, [])
        self.tell(GCS, messages.StartActor(made, incarnation))

    @rule(number=st.integers(1, 4), incarnation=st.integers(1, 3), graceful=st.booleans())
    def stop_actor(self, number, incarnation, graceful):
        key = (bytes([number]) * 16, incarnation)
        self.stopped[key] = self.stopped.get(key, 0) + 1
        self.tell(GCS, messages.StopActor(*key, DeathCause("killed", "test"), graceful))

    @precondition(lambda self: self.created)
    @rule(data=st.data(), failed=st.booleans())
    def actor_initialized(self, data, failed):
        worker_id = data.draw(st.sampled_from(list(self.created)))
        actor_id, incarnation = self.created[worker_id]
        cause = DeathCause("init_failed", "test") if failed else None
        self.tell(NOWHERE, messages.ActorInitialized(worker_id, actor_id, incarnation, cause))

    # ---- events: jobs, the cluster, time
    @rule(job_id=st.sampled_from(JOBS))
    def job_starts(self, job_id):
        self.jobs[job_id] = None
        self.tell(GCS, messages.JobStarted(job(job_id, owner(f"driver{JOBS.index(job_id) + 1}"))))

    @rule(job_id=st.sampled_from(JOBS))
    def driver_joins(self, job_id):
        driver = owner(f"driver{JOBS.index(job_id) + 1}")
        self.tell(driver, messages.DriverJoined(job_id, driver))

    @rule(job_id=st.sampled_from(JOBS), joke=st.integers(0, 3))
    def job_finishes(self, job_id, joke):
        if joke:
            return  # finished jobs are dull: let them be rare
        driver = f"driver{JOBS.index(job_id) + 1}"
        self.finished[job_id] = None
        held = [lease_id for lease_id, (holder, _) in self.leases.items() if holder.process == driver]
        self.tell(GCS, messages.JobFinished(job_id))
        for lease_id in held:
            grant = self.node.machine.grants.table.get(lease_id)
            if grant is None or grant.holder is NOWHERE:
                self.leases.pop(lease_id, None)

    @rule(
        name=st.sampled_from(OTHERS),
        cpus=st.integers(0, 9),
        version=st.integers(1, 50),
        alive=st.booleans(),
        zone=st.sampled_from(["east", "west"]),
    )
    def cluster_changes(self, name, cpus, version, alive, zone):
        info = node_info(name, {"CPU": 9}, {"zone": zone}, alive=alive)
        self.tell(GCS, messages.ClusterChanged((info,), (load(info, {"CPU": cpus} if cpus else {}, version),)))

    @rule(seconds=st.sampled_from([0.01, 0.6, 2.5, 70.0]))
    def time_passes(self, seconds):
        self.node.now += seconds
        for key in list(self.node.timers):
            self.tell(NOWHERE, self.node.timers.pop(key).body)

    @precondition(lambda self: self.last and isinstance(self.last[1], messages.ReturnLease | messages.StartActor))
    @rule()
    def the_last_message_comes_twice(self):
        self.tell(*self.last)

    # ---- the end
    def teardown(self):
        if not hasattr(self, "node"):
            return
        for job_id in JOBS:
            self.job_starts(job_id)
        for number in range(1, 5):
            for incarnation in range(1, 4):
                self.stop_actor(number, incarnation, graceful=False)
        for _ in range(500):
            pool_ = self.node.machine.pool
            if self.doomed:
                self.die(next(iter(self.doomed)))
            elif "starting" in self.processes.values():
                worker_id = next(w for w, state in self.processes.items() if state == "starting")
                self.report(worker_id)
            elif self.leases:
                lease_id = next(iter(self.leases))
                holder, worker_id = self.leases.pop(lease_id)
                self.tell(NOWHERE, messages.WorkerUnblocked(worker_id))
                self.tell(holder, messages.ReturnLease(lease_id))
            elif pool_.count(pool.EXITING) or self.node.machine.queue.count:
                self.time_passes(31.0)
                for key, count in list(self.asked.items()):
                    if self.node.now > 2000:
                        self.cancelled[key] = count
                        self.tell(owner(key[0]), messages.CancelLeases(key[1], count))
            else:
                break
        self.no_request_is_lost()
        machine = self.node.machine
        machine.check()
        assert self.node.free == TOTAL, f"not everything came back: {machine.grants.table}"
        assert not machine.queue.count, machine.queue.demands
        assert not machine.actors.table
        for key, reports in self.actors.items():
            assert reports[-1] in {ActorDied, ActorStartFailed}, f"the end of {key} was never reported: {reports}"
        self.time_passes(10.0)
        for worker_id in list(self.doomed):
            self.die(worker_id)
        assert len(machine.pool.workers) <= machine.pool.workers_soft


def test_random_events():
    """The same events every time; ``ACTORRT_EXAMPLES=5000`` looks for new ones."""
    examples = int(os.environ.get("ACTORRT_EXAMPLES", "0"))
    SEEN.clear()
    run_state_machine_as_test(
        Raylet,
        settings=settings(max_examples=examples or 50, stateful_step_count=60, derandomize=not examples, database=None),
    )
    # A fuzz in which nothing ever succeeds proves nothing.
    for kind in (
        LeaseGranted,
        LeasesRedirected,
        LeasesRefused,
        LeaseRecalled,
        LeasedWorkerDied,
        CreateActorHere,
        ActorStarted,
        ActorStartFailed,
        ActorDied,
        ExitWorker,
        StartWorker,
        KillWorker,
    ):
        assert SEEN.get(kind), f"no {kind.__name__} in any run: {SEEN}"
