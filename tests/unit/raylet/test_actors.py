"""The life of an actor as a table, and the reasons for its end."""

import pytest

from actorrt.raylet import actors
from actorrt.raylet.actors import best_cause
from actorrt.wire.records import DeathCause
from tests.unit.raylet.harness import GCS, NODE_ID, actor_spec

STOP = DeathCause("killed", "killed by actorrt.kill()")
SPEC = actor_spec(1, {"CPU": 1})


def test_the_table_reaches_every_state():
    states = [actors.WAITING, *actors.TRANSITIONS.values()]
    for state in (actors.PLACED, actors.CREATING, actors.ALIVE, actors.ENDING, actors.GONE):
        assert state in states
    assert not any(state == actors.GONE for state, _ in actors.TRANSITIONS), "nothing happens after the end"


def test_illegal_events_raise():
    hosted = actors.HostedActor(SPEC, 1)
    with pytest.raises(KeyError):
        hosted.move("initialized")


def test_best_cause():
    seen = DeathCause("signal", "killed by signal 9", pid=7, signal=9, stderr_tail=("x",))
    announced = DeathCause("exit_actor", "bye")
    assert best_cause(None, None, seen, NODE_ID).kind == "signal"
    assert best_cause(None, announced, seen, NODE_ID).kind == "exit_actor"
    best = best_cause(STOP, announced, seen, NODE_ID)
    assert (best.kind, best.pid, best.signal, best.stderr_tail, best.node_id) == ("killed", 7, 9, ("x",), NODE_ID)


def test_ended_incarnations_are_forgotten_some_time(monkeypatch):
    monkeypatch.setattr(actors, "DEAD_ACTORS_KEPT_MAX", 3)
    table = actors.Actors([], GCS, NODE_ID)
    for incarnation in range(5):
        table.remember_ended((b"a", incarnation))
    table.check()
    assert [table.has_ended(b"a", incarnation) for incarnation in range(5)] == [False, False, True, True, True]
