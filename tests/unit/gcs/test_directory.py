"""The actor directory under random stories: owners, raylets and the network do as they please."""

from typing import ClassVar

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

from actorrt.gcs import messages as m
from actorrt.gcs.actors import STATES
from actorrt.kernel.effects import Fail, Send
from actorrt.kernel.limits import NODE_DEAD_AFTER_S
from actorrt.kernel.message import Address
from actorrt.owner.messages import ActorChanged
from actorrt.raylet.messages import StartActor, StopActor
from actorrt.wire.records import DeathCause, Strategy
from tests.unit.gcs.world import DRIVER, OTHER, World, job_config, raylet


class Directory(RuleBasedStateMachine):
    """Random events from owners, raylets and the network; the machine's own check runs after each."""

    # Few names and mostly useful choices: rare luck is what a random story lacks, not variety.
    names = st.sampled_from([f"{letter}{number}" for letter in "uvw" for number in range(4)])
    picks = st.integers(0, 5)
    nodes = st.sampled_from(["n0", "n1", "n2"])
    kinds = st.sampled_from(["exit", "signal", "killed", "init_failed", "exit_actor", "start_failed", "oom"])
    owners = st.sampled_from([DRIVER, Address("ipc://w-u0-1", "owner"), Address("ipc://w9", "owner")])
    seen: ClassVar = {}

    @initialize(seed=st.integers(0, 3))
    def begin(self, seed):
        self.world = World("n0", "n1", jobs=(DRIVER,), seed=seed, CPU=2)
        self.jobs = [b"\0\0\0\1"]
        self.incarnations = {}
        self.dead = {}

    def saw(self, what):
        self.seen[what] = self.seen.get(what, 0) + 1

    def actor(self, name):
        return self.world.machine.actors.living.get(name.encode())

    @rule(
        name=names, owner=owners, ready=st.sampled_from([True, True, False]), detached=st.booleans(),
        named=st.booleans(),
        restarts=st.sampled_from([-1, 1, 0]), cpu=st.sampled_from([0, 1, 2, 8]), exists=st.booleans(),
        strategy=st.sampled_from([Strategy(), Strategy("SPREAD"), Strategy("NODE_AFFINITY", b"n1")]),
    )  # fmt: skip
    def create(self, name, owner, ready, detached, named, restarts, cpu, exists, strategy):
        options = {"name": "shared" if named else "", "detached": detached, "max_restarts": restarts}
        answer = self.world.create(
            name, exists, ready, owner=owner, job_id=self.jobs[-1], holds={"CPU": cpu}, strategy=strategy, **options
        )
        assert isinstance(answer, Fail | m.ActorRegistered)
        self.saw(f"created {answer.created}" if isinstance(answer, m.ActorRegistered) else f"refused {answer.kind}")

    def placed(self, pick, *states):
        """One of the actors a raylet was asked for."""
        found = [a for a in self.world.machine.actors.living.values() if a.node_id and a.state in states]
        return found[pick % len(found)].spec.actor_id.decode() if found else None

    @rule(pick=picks)
    def start(self, pick):
        name = self.placed(pick, "PENDING_CREATION", "RESTARTING")
        if name:
            self.world.started(name)

    @rule(name=names, owner=owners, detached=st.booleans(), restarts=st.sampled_from([-1, 1]))
    def create_and_start(self, name, owner, detached, restarts):
        self.create_ready(name, owner, detached, restarts)
        actor = self.actor(name)
        if actor is not None and actor.node_id and actor.state != "ALIVE":
            self.world.started(name)
            self.world.follow(name, OTHER)

    def create_ready(self, name, owner, detached, restarts):
        self.world.create(name, owner=owner, job_id=self.jobs[-1], detached=detached, max_restarts=restarts)

    @rule(pick=picks)
    def start_late(self, pick):
        name = self.placed(pick, "ALIVE", "RESTARTING")
        if name and self.actor(name).incarnation > 1:
            self.world.started(name, incarnation=self.actor(name).incarnation - 1)
            self.saw("late start")

    @rule(pick=picks, kind=kinds, retry=st.booleans())
    def fail(self, pick, kind, retry):
        name = self.placed(pick, "PENDING_CREATION", "RESTARTING")
        if name:
            self.world.start_failed(name, kind, retry)

    @rule(pick=picks, kind=kinds)
    def die(self, pick, kind):
        name = self.placed(pick, "PENDING_CREATION", "RESTARTING", "ALIVE")
        if name:
            self.world.died(name, kind)

    def any_id(self, pick):
        """Of an actor, living or dead, or of none."""
        known = [*self.world.machine.actors.living, *self.world.machine.actors.dead, b"nobody"]
        return known[pick % len(known)]

    @rule(pick=picks, node=nodes, number=st.integers(0, 3), what=st.sampled_from([m.ActorDied, m.ActorStartFailed]))
    def stray(self, pick, node, number, what):
        self.world.tell(what(self.any_id(pick), number, DeathCause("exit", "stray")), raylet(node))

    @rule(pick=picks, no_restart=st.booleans())
    def kill(self, pick, no_restart):
        self.world.ask(m.KillActor(self.any_id(pick), no_restart))

    @rule(pick=picks)
    def leave_scope(self, pick):
        self.world.tell(m.ActorOutOfScope(self.any_id(pick)), DRIVER)

    @rule(pick=picks, follow=st.sampled_from([True, True, False]))
    def follow(self, pick, follow):
        message = m.SubscribeActor if follow else m.UnsubscribeActor
        self.world.tell(message(self.any_id(pick)), OTHER)

    @rule(process=st.sampled_from(["ipc://w-u0-1", "ipc://w9", "ipc://other", "ipc://driver"]))
    def lose_process(self, process):
        self.world.gone(process)

    @rule(node=nodes)
    def lose_node(self, node):
        self.world.gone(f"ipc://{node}")

    @rule(node=nodes, cpu=st.integers(0, 2))
    def join_or_report(self, node, cpu):
        if node.encode() in self.world.machine.nodes.dead:
            self.world.machine.nodes.dead.pop(node.encode())  # as if forgotten: the id is new to the GCS
            self.world.machine.nodes.changed_nodes.pop(node.encode(), None)
        if node.encode() not in self.world.machine.nodes.alive:
            self.world.join(node, CPU=2)
        else:
            self.world.report(node, CPU=cpu)

    @rule()
    def finish_job(self):
        self.world.ask(m.FinishJob(self.jobs[-1]))

    @precondition(lambda self: self.world.machine.nodes.alive and not self.world.machine.jobs.running)
    @rule()
    def new_job(self):
        node = next(iter(self.world.machine.nodes.alive.values()))
        answer = self.world.ask(m.RegisterJob(job_config(), node.info.raylet))
        self.jobs.append(answer.job.job_id)

    @rule(seconds=st.sampled_from([0.05, 0.5, 3.0, NODE_DEAD_AFTER_S + 1]))
    def wait(self, seconds):
        alive = [node_id.decode() for node_id in self.world.machine.nodes.alive]
        self.world.run(seconds, heartbeats=alive)

    @invariant()
    def creations_are_numbered_upwards_and_the_dead_stay_dead(self):
        if not hasattr(self, "world"):
            return
        for effect in self.world.take():
            if not isinstance(effect, Send):
                continue
            match effect.body:
                case StartActor(spec, incarnation):
                    assert incarnation >= self.incarnations.get(spec.actor_id, 0)
                    assert incarnation - self.incarnations.get(spec.actor_id, 0) <= 1
                    self.incarnations[spec.actor_id] = incarnation
                    self.saw(f"creation {min(incarnation, 3)}")
                    assert spec.actor_id not in self.dead
                case ActorChanged(info) if info.death is None or info.death.kind != "unknown":
                    assert info.actor_id not in self.dead or info.state == "DEAD"
                case StopActor(_, _, _, graceful):
                    self.saw(f"stopped {graceful}")
        for actor_id, info in self.world.machine.actors.dead.items():
            if actor_id not in self.dead:
                self.saw(f"died {info.death.kind}")
                self.dead[actor_id] = None
        for actor in self.world.machine.actors.living.values():
            self.saw(actor.state)


def test_whatever_happens_the_directory_stays_consistent():
    Directory.seen = {}
    run_state_machine_as_test(
        Directory, settings=settings(max_examples=150, stateful_step_count=50, deadline=None, derandomize=True)
    )
    for what in (
        "created True", "created False", "refused ActorAlreadyExistsError", "refused ActorDiedError",
        "creation 1", "creation 2", "stopped True", "stopped False",
        "died killed", "died owner_died", "died job_finished", "died node_died", "died init_failed",
        "died unschedulable",
        "died out_of_scope", *STATES[:-1],
    ):  # fmt: skip
        assert Directory.seen.get(what), f"never happened: {what} (only {Directory.seen})"
