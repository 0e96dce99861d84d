"""A task of ``max_retries=0`` is started at most once, whatever dies in the middle of a deep pipeline of quick ones."""

import pytest

from actorrt.sim import faults
from actorrt.sim.checkers import Watch
from actorrt.sim.runtime import Book, Wait
from actorrt.sim.town import Town
from actorrt.sim.world import SimulationError, World
from actorrt.worker.operations import Run
from actorrt.worker.state import WorkerMachine
from tests.sim.story import quick

TASKS = 1200
BEGIN_S = 0.03
"""By then the pipelines are full; it takes a tenth of a second to empty them."""


def play(seed, crash):
    world = World(seed, check_steps=16)
    town = Town(world, Book({"quick": quick}))
    town.add_node(1)
    town.add_node(2)
    town.join_all()
    watch = Watch(town)

    def main(context):
        refs = tuple(context.submit("quick", number, max_retries=0) for number in range(TASKS))
        yield Wait(refs, len(refs))
        return sum(type(result).__name__ == "Failure" for result in context.runtime.results_of(refs))

    driver = town.add_driver(main)
    crash(town, world.now + BEGIN_S + 0.002 * (seed % 30))
    world.run(lambda: driver.done, 60)
    if driver.error is not None:
        raise driver.error
    watch.check_all_ended()
    assert len(town.executions) <= TASKS
    return driver.value


@pytest.mark.parametrize("seed", [1, 36, 64])
def test_although_a_node_is_lost(seed):
    """With these seeds an outcome is lost on its way: the task after it has run although it is not the first."""
    assert play(seed, lambda town, at_s: faults.crash_node(town, town.nodes[1], at_s)) > 0


@pytest.mark.parametrize("seed", range(4))
def test_although_a_worker_is_lost(seed):
    assert play(seed, faults.crash_worker) <= 1, "what had not been started goes elsewhere"


def test_a_worker_that_runs_a_task_twice_is_seen(monkeypatch):
    original = WorkerMachine.handle

    def handle(self, envelope, now):
        effects = original(self, envelope, now)
        return effects + [effect for effect in effects if isinstance(getattr(effect, "operation", None), Run)]

    monkeypatch.setattr(WorkerMachine, "handle", handle)
    with pytest.raises(SimulationError, match="may not be repeated"):
        play(1, faults.crash_worker)
