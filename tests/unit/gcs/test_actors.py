"""The actor directory, through the machine's messages."""

import pytest

from actorrt.gcs import actors as actors_module
from actorrt.gcs import messages as m
from actorrt.gcs.actors import STATES, TRANSITIONS
from actorrt.gcs.placement import QUEUE_AFTER_S
from actorrt.kernel.effects import Fail, Reply, Send
from actorrt.kernel.message import Address, Done
from actorrt.owner.messages import ActorChanged
from actorrt.raylet.messages import JobStarted, StartActor, StopActor
from actorrt.wire.records import Strategy
from tests.unit.gcs.world import DRIVER, OTHER, World, raylet, worker


# ---- the life cycle as data
def test_transitions_say_everything():
    assert {state for state, _ in TRANSITIONS} == set(STATES) - {"DEAD"}
    assert set(TRANSITIONS.values()) == set(STATES) - {"DEPENDENCIES_UNREADY"}
    assert all(TRANSITIONS[state, "ended"] == "DEAD" for state in STATES[:-1])
    assert {state for (_, event), state in TRANSITIONS.items() if event == "started"} == {"ALIVE"}


def test_an_illegal_event_raises():
    world = World("a")
    world.create("x", ready=False)
    actor = world.machine.actors.living[b"x"]
    with pytest.raises(KeyError):
        world.machine.actors._enter(actor, "started")


# ---- one life as a transcript
def line(effect):
    """One effect as a line of a transcript."""
    where = str(getattr(effect, "dst", "")).replace("ipc://", "")
    match effect:
        case Send(_, StartActor(spec, incarnation)):
            return f"{where}: start {spec.actor_id.decode()} #{incarnation}"
        case Send(_, StopActor(actor_id, incarnation, cause, graceful)):
            return f"{where}: stop {actor_id.decode()} #{incarnation} {cause.kind}{' gracefully' * graceful}"
        case Send(_, ActorChanged(info)):
            death = f" ({info.death.kind})" if info.death else ""
            return f"{where}: {info.actor_id.decode()} is {info.state} #{info.incarnation}{death}"
        case Reply(_, _, m.ActorRegistered(info, created)):
            return f"{where}: registered {info.actor_id.decode()} {info.state}{'' if created else ' (existing)'}"
        case Reply(_, _, Done()):
            return f"{where}: done"
        case Fail(_, _, kind, _):
            return f"{where}: refused {kind}"
    return f"{where}: {type(getattr(effect, 'body', effect)).__name__}"


def late_start(world):
    """The raylet's news crossed our StopActor on the way."""
    return world.tell(m.ActorStarted(b"y", 1, worker("w"), b"w", b"a", 1), raylet("a"))


STORY = [
    (
        lambda w: w.create("x", name="n", max_restarts=1),
        "owner@driver: registered x DEPENDENCIES_UNREADY; raylet@a: start x #1",
    ),
    (lambda w: w.follow("x"), "owner@driver: x is PENDING_CREATION #1"),
    (lambda w: w.started("x"), "owner@driver: x is ALIVE #1"),
    (lambda w: w.create("y", name="n"), "owner@driver: refused ActorAlreadyExistsError"),
    (lambda w: w.create("y", name="n", get_if_exists=True), "owner@driver: registered x ALIVE (existing)"),
    (lambda w: w.died("x", "signal"), "owner@driver: x is RESTARTING #1 (signal); raylet@a: start x #2"),
    (lambda w: w.died("x", "exit", node="a", incarnation=1), ""),
    (lambda w: w.started("x"), "owner@driver: x is ALIVE #2"),
    (lambda w: w.started("x"), ""),
    (lambda w: w.died("x", "oom"), "owner@driver: x is DEAD #2 (oom)"),
    (lambda w: w.follow("x"), "owner@driver: x is DEAD #2 (oom)"),
    (lambda w: w.create("y", name="n"), "owner@driver: registered y DEPENDENCIES_UNREADY; raylet@a: start y #1"),
    (lambda w: w.ask(m.KillActor(b"y")), "raylet@a: stop y #1 killed; owner@driver: done"),
    (lambda w: w.ask(m.KillActor(b"y")), "owner@driver: done"),
    (lambda w: w.ask(m.KillActor(b"zzz")), "owner@driver: refused ActorHandleNotFoundError"),
    (late_start, "raylet@a: stop y #1 killed"),
    (lambda w: w.ask(m.GetNamedActor("n", "ns")), "owner@driver: refused ActorNotFoundError"),
]


def test_a_life():
    world = World("a")
    for number, (step, expected) in enumerate(STORY):
        step(world)
        assert "; ".join(map(line, world.take())) == expected, f"step {number}"


# ---- registration
def test_arguments_that_are_not_there_yet():
    world = World("a")
    assert world.create("x", ready=False).info.state == "DEPENDENCIES_UNREADY"
    assert world.starts() == []
    assert "arguments" in world.info("x").pending_reason
    answer = world.create("x", holds={"CPU": 1})
    assert (answer.created, answer.info.actor_id) == (True, b"x")
    assert world.starts() == [("x", "a", 1)]
    assert world.sent(StartActor)[0].spec.resources  # the second message's spec counts


def test_a_repeated_creation_changes_nothing():
    world = World("a")
    world.create("x")
    world.started("x")
    world.take()
    assert world.create("x").info.state == "ALIVE"
    assert world.starts() == []
    world.ask(m.KillActor(b"x"))
    assert world.create("x").info.state == "DEAD"
    assert world.starts() == []


def test_killed_while_its_arguments_are_awaited():
    world = World("a")
    world.create("x", ready=False)
    world.ask(m.KillActor(b"x"))
    assert world.create("x").info.death.kind == "killed"
    assert world.starts() == []


def test_names_are_per_namespace_and_race_safe():
    world = World("a")
    world.create("x", name="n")
    assert world.create("y", name="n", namespace="other").created
    fail = world.create("z", name="n")
    assert fail.kind == "ActorAlreadyExistsError"
    assert "'n'" in fail.text
    again = world.create("z", name="n", get_if_exists=True)
    assert (again.created, again.info.actor_id) == (False, b"x")
    assert world.info("z") is None
    assert world.ask(m.GetNamedActor("n", "other"), OTHER).info.actor_id == b"y"
    assert world.create("u").created  # without a name
    assert world.create("v").created


def test_an_unknown_job_is_refused():
    world = World("a")
    fail = world.create("x", job_id=b"\0\0\0\7")
    assert (fail.kind, "unknown" in fail.text) == ("ActorDiedError", True)


def test_unborn_actors_are_bounded(monkeypatch):
    monkeypatch.setattr(actors_module, "PARKED_REQUESTS_MAX", 1)
    world = World("a")
    world.create("x", ready=False)
    assert world.create("y").kind == "Overloaded"
    world.create("x")
    world.started("x")
    assert world.create("y").created


# ---- placement
def test_it_prefers_the_drivers_node():
    world = World("a", "b", "c")
    for name in "uvw":
        world.create(name, holds={"CPU": 0.5})
    assert [node for _, node, _ in world.starts()] == ["a", "a", "a"]


def test_waiting_is_explained_and_ends_when_a_node_joins():
    world = World("a")
    world.create("x", holds={"GPU": 1})
    world.follow("x")
    assert "GPU: 1" in world.info("x").pending_reason
    status = world.ask(m.GetStatus())
    assert "GPU: 1" in status.pending_actors[0].pending_reason
    assert status.actors["PENDING_CREATION"] == 1
    world.join("g", CPU=1, GPU=1)
    assert world.starts() == [("x", "g", 1)]
    assert "created on node" in world.info("x").pending_reason
    world.started("x")
    assert world.info("x").pending_reason == ""


def test_a_changed_load_is_looked_at():
    world = World("a", "b", CPU=1)
    for name in "xyz":
        world.create(name, holds={"CPU": 1})
    assert [item[:2] for item in world.starts()] == [("x", "a"), ("y", "b")]
    world.started("x")
    world.report("a", slot=1)
    world.ask(m.KillActor(b"x"))
    world.take()
    world.report("a", CPU=1)
    world.run(0.05)
    assert world.starts() == [("z", "a", 1)]


def test_a_long_wait_ends_in_a_raylets_queue():
    world = World("a", "b", CPU=1)
    for name in ("a", "b"):
        world.report(name, CPU=0)
    world.create("x", holds={"CPU": 1})
    world.run(QUEUE_AFTER_S - 0.2, heartbeats=("a", "b"))
    assert world.starts() == []
    world.run(0.4, heartbeats=("a", "b"))
    assert len(world.starts()) == 1


def test_a_lost_race_is_retried_later_under_the_same_number():
    world = World("a")
    world.create("x")
    world.take()
    world.start_failed("x", retry=True)
    assert (world.starts(), world.state("x")) == ([], "PENDING_CREATION")
    world.run(0.3)
    assert world.starts() == [("x", "a", 1)]
    world.started("x")
    world.died("x")
    assert world.info("x").state == "DEAD"


def test_hard_affinity_to_a_dead_node_is_unschedulable():
    world = World("a")
    world.create("x", ready=False)
    world.follow("x")
    world.create("x", strategy=Strategy("NODE_AFFINITY", b"gone"))
    assert world.told()[-1] == ("x", "DEAD")
    assert world.info("x").death.kind == "unschedulable"


# ---- restarts
def test_restarts_without_limit():
    world = World("a")
    world.create("x", max_restarts=-1)
    for number in range(1, 6):
        world.started("x")
        assert (world.state("x"), world.info("x").incarnation) == ("ALIVE", number)
        world.died("x")
        assert (world.state("x"), world.info("x").restarts_left) == ("RESTARTING", -1)


def test_a_crash_in_init_counts_an_exception_is_final():
    world = World("a")
    world.create("x", max_restarts=1)
    world.died("x")
    assert (world.state("x"), world.info("x").restarts_left) == ("RESTARTING", 0)
    assert world.starts()[-1] == ("x", "a", 2)
    world.died("x")
    assert world.state("x") == "DEAD"
    world.create("y", max_restarts=-1)
    world.start_failed("y", "init_failed")
    assert world.info("y").death.kind == "init_failed"


def test_an_actor_that_dies_in_init_again_and_again_is_slowed_down():
    world = World("a")
    world.create("x", max_restarts=-1)
    world.died("x")
    world.take()
    for _ in range(20):
        world.run(60, heartbeats=("a",))
        assert len(world.starts()) <= 1
        world.take()
        if world.info("x").node_id:
            world.died("x")
            assert world.starts() == []
    assert world.info("x").incarnation > 10


def test_a_success_forgives_earlier_failures():
    world = World("a")
    world.create("x", max_restarts=-1)
    world.start_failed("x", retry=True)
    world.run(1, heartbeats=("a",))
    world.started("x")
    world.died("x")
    world.take()
    world.died("x")  # its first crash in __init__ since then
    assert world.starts() == [("x", "a", 3)]


@pytest.mark.parametrize("kind", ["exit_actor", "job_finished", "out_of_scope"])
def test_an_intended_end_is_no_reason_to_restart(kind):
    world = World("a")
    world.create("x", max_restarts=-1)
    world.started("x")
    world.died("x", kind)
    assert world.info("x").death.kind == kind


def test_the_cause_of_a_restart_is_told():
    world = World("a")
    world.create("x", max_restarts=1)
    world.started("x")
    world.died("x", "oom")
    assert world.info("x").death.kind == "oom"
    world.started("x")
    assert world.info("x").death is None


# ---- killing
def test_kill_without_restart_while_pending():
    world = World("a")
    world.create("x", holds={"GPU": 1}, max_restarts=-1, name="n")
    world.ask(m.KillActor(b"x"))
    assert world.info("x").death.kind == "killed"
    world.join("g", GPU=1)
    assert world.starts() == []
    assert world.create("y", name="n").created


def test_kill_without_restart_while_being_created_stops_the_creation():
    world = World("a")
    world.create("x", max_restarts=-1)
    world.ask(m.KillActor(b"x"))
    assert [(body.actor_id, body.incarnation, body.graceful) for body in world.sent(StopActor)] == [(b"x", 1, False)]
    assert world.state("x") == "DEAD"


def test_kill_with_restart_goes_through_the_death_of_the_process():
    world = World("a")
    world.create("x", max_restarts=1)
    world.started("x")
    world.ask(m.KillActor(b"x", no_restart=False))
    assert world.state("x") == "ALIVE"
    assert len(world.sent(StopActor, raylet("a"))) == 1
    world.died("x", "killed")
    assert world.state("x") == "RESTARTING"
    world.started("x")
    world.ask(m.KillActor(b"x", no_restart=False))
    world.died("x", "killed")
    assert world.info("x").death.kind == "killed"


def test_kill_with_restart_while_it_waits_for_a_node_uses_a_restart():
    world = World("a")
    world.create("x", holds={"GPU": 1}, max_restarts=1)
    world.ask(m.KillActor(b"x", no_restart=False))
    assert (world.state("x"), world.info("x").restarts_left) == ("RESTARTING", 0)
    world.ask(m.KillActor(b"x", no_restart=False))
    assert world.state("x") == "DEAD"


def test_kill_with_restart_while_arguments_are_awaited():
    world = World("a")
    world.create("x", ready=False, max_restarts=1)
    world.ask(m.KillActor(b"x", no_restart=False))
    assert world.state("x") == "DEPENDENCIES_UNREADY"
    world.create("y", ready=False)
    world.ask(m.KillActor(b"y", no_restart=False))
    assert world.state("y") == "DEAD"


# ---- out of scope
def test_out_of_scope_ends_gracefully_and_frees_the_name():
    world = World("a")
    world.create("x", name="n", max_restarts=-1)
    world.started("x")
    world.tell(m.ActorOutOfScope(b"x"), DRIVER)
    world.tell(m.ActorOutOfScope(b"x"), DRIVER)
    (stop,) = world.sent(StopActor)
    assert (stop.graceful, stop.cause.kind) == (True, "out_of_scope")
    assert world.state("x") == "ALIVE"  # calls already pushed to it are still answered
    assert world.ask(m.GetNamedActor("n", "ns")).kind == "ActorNotFoundError"
    assert world.create("y", name="n").created
    world.died("x", "exit")
    assert world.info("x").death.kind == "out_of_scope"
    assert world.ask(m.GetNamedActor("n", "ns")).info.actor_id == b"y"


def test_out_of_scope_before_it_lives_ends_it_at_once():
    world = World("a")
    world.create("x")
    world.tell(m.ActorOutOfScope(b"x"), DRIVER)
    assert world.state("x") == "DEAD"
    assert [body.graceful for body in world.sent(StopActor)] == [False]
    world.tell(m.ActorOutOfScope(b"x"), DRIVER)
    world.tell(m.ActorOutOfScope(b"nobody"), DRIVER)


def test_a_detached_actor_has_no_scope():
    world = World("a")
    world.create("x", name="n", detached=True)
    world.started("x")
    world.tell(m.ActorOutOfScope(b"x"), DRIVER)
    assert world.sent(StopActor) == []


# ---- losing what it depends on
def test_node_death_restarts_elsewhere_or_ends():
    world = World("a", "b", jobs=(DRIVER,))
    on_b = {"strategy": Strategy("NODE_AFFINITY", b"b", soft=True)}
    world.create("x", max_restarts=1, **on_b)
    world.create("y", **on_b)
    world.create("z", max_restarts=1, **on_b)
    world.started("x")
    world.started("y")
    world.follow("x")
    world.take()
    world.gone("ipc://b", "killed by test")
    assert world.starts() == [("x", "a", 2), ("z", "a", 2)]
    assert world.told() == [("x", "RESTARTING")]
    assert world.sent(StopActor) == []
    cause = world.info("y").death
    assert (cause.kind, cause.node_id) == ("node_died", b"b")
    assert b"b".hex() in cause.text
    assert "killed by test" in cause.text


def test_news_from_a_dead_node_is_stale():
    world = World("a", "b")
    world.create("x", max_restarts=1, strategy=Strategy("NODE_AFFINITY", b"b", soft=True))
    world.gone("ipc://b")
    world.take()
    world.started("x", "b", 1)
    assert (world.state("x"), world.info("x").node_id) == ("RESTARTING", b"a")
    assert [effect.dst for effect in world.take()] == [raylet("b")]  # told to stop what it started
    assert world.machine.statistics().stale_ignored == 1


def test_news_of_the_node_that_lost_the_race_is_stale():
    world = World("a", "b")
    world.create("x", holds={"CPU": 1})
    world.start_failed("x", retry=True)
    world.gone("ipc://a")
    world.run(0.3)
    assert world.info("x").node_id == b"b"
    world.join("c")
    world.died("x", node="c")  # the same number, but not the node that was asked
    assert world.state("x") == "PENDING_CREATION"
    world.started("x")
    assert world.state("x") == "ALIVE"


def test_the_owners_death_ends_what_it_owns_except_the_detached():
    world = World("a")
    owner = Address("ipc://w1", "owner")
    world.create("x", owner=owner, max_restarts=-1)
    world.create("y", owner=owner, detached=True, name="n")
    world.create("z")
    world.started("x")
    world.take()
    world.gone("ipc://w1", "it crashed")
    assert [world.state(name) for name in "xyz"] == ["DEAD", "PENDING_CREATION", "PENDING_CREATION"]
    cause = world.info("x").death
    assert cause.kind == "owner_died"
    assert "owner" in cause.text
    assert "it crashed" in cause.text
    assert [body.actor_id for body in world.sent(StopActor)] == [b"x"]


def test_the_death_of_an_actor_ends_what_it_owns():
    world = World("a", "b")
    world.create("x", strategy=Strategy("NODE_AFFINITY", b"b"))
    world.started("x")
    world.create("y", owner=Address("ipc://w-x-1", "owner"), strategy=Strategy("NODE_AFFINITY", b"a"))
    world.started("y")
    world.died("x")
    assert world.info("y").death.kind == "owner_died"
    world.create("u", strategy=Strategy("NODE_AFFINITY", b"b"))
    world.started("u")
    world.create("v", owner=Address("ipc://w-u-1", "owner"), strategy=Strategy("NODE_AFFINITY", b"a"))
    world.gone("ipc://b")
    assert (world.info("u").death.kind, world.info("v").death.kind) == ("node_died", "owner_died")


def test_a_detached_actor_outlives_its_job_and_restarts_with_it():
    world = World("a")
    world.create("x", detached=True, name="n", max_restarts=1)
    world.create("y")
    world.started("x")
    world.ask(m.FinishJob(b"\0\0\0\1"))
    assert (world.state("x"), world.info("y").death.kind) == ("ALIVE", "job_finished")
    world.take()
    world.died("x")
    kinds = [type(effect.body) for effect in world.take()]
    assert kinds == [JobStarted, StartActor]  # the raylet forgot the job
    world.started("x")
    assert world.ask(m.GetNamedActor("n", "ns"), OTHER).info.state == "ALIVE"


# ---- subscriptions
def test_followers_hear_the_present_and_every_change():
    world = World("a", jobs=(DRIVER, OTHER))
    world.create("x", max_restarts=1)
    world.follow("x")
    world.follow("x", OTHER)
    world.started("x")
    world.tell(m.UnsubscribeActor(b"x"), OTHER)
    world.died("x")
    assert world.told() == [("x", "PENDING_CREATION"), ("x", "ALIVE"), ("x", "RESTARTING")]
    assert world.told(OTHER) == [("x", "PENDING_CREATION"), ("x", "ALIVE")]
    world.ask(m.KillActor(b"x"))
    assert world.told()[-1] == ("x", "DEAD")
    assert world.machine.statistics().subscriptions == 0


def test_an_unknown_actor_is_dead():
    world = World("a")
    world.follow("nobody")
    (change,) = world.sent(ActorChanged, DRIVER)
    assert (change.info.state, change.info.actor_id) == ("DEAD", b"nobody")
    assert "does not know" in change.info.death.text


def test_a_follower_that_is_gone_is_forgotten():
    world = World("a", jobs=(DRIVER, OTHER))
    world.create("x")
    world.follow("x", OTHER)
    world.gone("ipc://other")
    world.take()
    world.started("x")
    assert world.told(OTHER) == []


# ---- listing
def test_lists():
    world = World("a")
    world.create("x", name="n", handle_data=b"h")
    world.create("y")
    world.ask(m.KillActor(b"y"))
    everything = world.ask(m.ListActors())
    assert [(info.actor_id, info.state) for info in everything.actors] == [(b"y", "DEAD"), (b"x", "PENDING_CREATION")]
    (info,) = world.ask(m.ListActors(alive_only=True)).actors
    assert (info.name, info.namespace, info.class_name, info.handle_data) == ("n", "ns", "Counter", b"h")


def test_the_dead_are_bounded(monkeypatch):
    monkeypatch.setattr(actors_module, "DEAD_ACTORS_KEPT_MAX", 2)
    world = World("a")
    for name in "uvwx":
        world.create(name)
        world.ask(m.KillActor(name.encode()))
    assert list(world.machine.actors.dead) == [b"w", b"x"]
    assert world.ask(m.KillActor(b"u")).kind == "ActorHandleNotFoundError"


# ---- determinism
def test_seeds_decide():
    def story(seed):
        world = World("a", "b", "c", seed=seed)
        for index in range(20):
            world.create(f"x{index}", needs={"CPU": 1})
        return world.starts()

    assert story(1) == story(1)
    assert story(1) != story(2)
