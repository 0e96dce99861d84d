import pytest

from actorrt.sim import faults
from actorrt.sim.runtime import Book, Sleep
from actorrt.sim.town import Town
from actorrt.sim.world import Watcher, World


class Ends(Watcher):
    def __init__(self):
        self.seen = []

    def ended(self, process, reason, now):
        self.seen.append((process.name, reason, now))


def rest(_context):
    yield Sleep(100)


@pytest.fixture
def town():
    town = Town(World(1), Book())
    for _ in range(2):
        town.add_node(2)
    town.join_all()
    town.add_driver(rest, town.nodes[1])
    town.world.run_for(1)
    town.ends = Ends()
    town.world.observers.append(town.ends)
    return town


def test_a_node_crashes_on_time(town):
    faults.crash_node(town, town.nodes[1], town.world.now + 1)
    town.world.run_for(0.9)
    assert town.nodes[1].alive
    town.world.run_for(0.2)
    assert not town.nodes[1].alive
    assert {reason for _, reason, _ in town.ends.seen} == {"power failure"}
    assert len(town.ends.seen) == 3, "its workers too"


def test_one_worker_crashes_among_those_that_may(town):
    faults.crash_worker(town, 0, lambda worker: worker.node is town.nodes[0])
    town.world.run_for(0.01)
    assert town.ends.seen == []
    faults.crash_worker(town, 0)
    town.world.run_for(0.01)
    [(name, reason, _)] = town.ends.seen
    assert name.startswith("node2/w")
    assert reason == "killed by signal 9"


def test_a_slow_node_is_slow_for_a_while(town):
    fabric, rng = town.world.fabric, town.world.rng("test")

    def takes_s():
        now = town.world.now
        return fabric.route("node1", "node2", now, rng).at - now

    faults.slow_node(town, town.nodes[1], town.world.now + 1, duration_s=1, delay_s=0.25)
    before_s = takes_s()
    town.world.run_for(1.5)
    during_s = takes_s()
    town.world.run_for(1)
    assert before_s < 0.01
    assert during_s >= 0.25
    assert takes_s() < 0.01


def test_a_connection_breaks_but_not_one_that_is_spared(town):
    before = dict(town.world.channels)
    faults.break_connection(town, 0, spare=lambda *_pair: True)
    town.world.run_for(0)
    assert not any(channel.broken for channel in before.values())
    faults.break_connection(town, 0)
    town.world.run_for(0)
    assert [channel.broken for channel in before.values()].count(True) == 1


def test_a_driver_is_killed(town):
    faults.crash_driver(town, town.drivers[0], 0)
    town.world.run_for(3)
    assert not town.drivers[0].process.alive
    assert town.gcs_machine.statistics().jobs_finished == 1
