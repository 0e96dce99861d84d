import pytest

from actorrt.gcs.messages import DrainNode, FinishJob, GetStatus, ListNodes
from actorrt.kernel.message import Done, RequestFailed
from actorrt.sim.runtime import Ask, Book, Get, Put, Sleep
from actorrt.sim.town import Town
from actorrt.sim.values import TaskFailed
from actorrt.sim.world import SimulationError, World


def where(context):
    return context.runtime.process.name


@pytest.fixture
def town():
    town = Town(World(1), Book({"where": where}))
    for _ in range(3):
        town.add_node(2)
    town.join_all()
    return town


def finish(town, driver):
    town.world.run(lambda: driver.done, 60)
    if driver.error is not None:
        raise driver.error
    return driver.value


def test_the_first_node_is_the_head_and_all_join(town):
    assert [node.info.is_head for node in town.nodes] == [True, False, False]
    assert "gcs" in town.nodes[0].process.cells
    assert town.gcs_machine.statistics().nodes_alive == 3


def test_a_driver_runs_tasks_in_worker_processes_and_takes_them_along(town):
    def main(context):
        return (yield Get(tuple(context.submit("where") for _ in range(4))))

    driver = town.add_driver(main, town.nodes[1])
    names = finish(town, driver)
    assert all(name.startswith("node") and "/w" in name for name in names)
    assert len(town.executions) == 4
    assert town.runtimes()[0].process.name == "driver1"
    driver.leave()
    town.world.run(lambda: driver.left, 60)
    town.world.run_for(5)
    assert not driver.process.alive
    assert not [worker for node in town.nodes for worker in node.living_workers()]
    assert town.gcs_machine.statistics().jobs_finished == 1


def test_a_crashed_node_takes_its_workers_along_and_is_buried(town):
    driver = town.add_driver(lambda _context: None, town.nodes[1])
    finish(town, driver)
    town.world.run_for(1)
    node = town.nodes[1]
    workers = node.living_workers()
    assert workers
    node.crash()
    assert not node.alive
    assert not node.living_workers()
    town.world.run_for(1)
    assert town.gcs_machine.statistics().nodes_dead == 1


def test_a_drained_node_stops_in_order(town):
    def main(context):
        answer = yield Ask(context.runtime.gcs, DrainNode(town.nodes[2].info.node_id))
        yield Sleep(1)
        return answer

    assert finish(town, town.add_driver(main)) == Done()
    assert not town.nodes[2].alive


def test_programs_may_ask_components(town):
    def main(context):
        nodes = yield Ask(context.runtime.gcs, ListNodes())
        status = yield Ask(context.runtime.gcs, GetStatus())
        refused = yield Ask(context.runtime.raylet, FinishJob(b""))
        return len(nodes.nodes), len(status.jobs), refused

    nodes, jobs, refused = finish(town, town.add_driver(main))
    assert (nodes, jobs) == (3, 1)
    assert isinstance(refused, RequestFailed)


def test_what_a_driver_raises_is_kept(town):
    def main(_context):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        finish(town, town.add_driver(main))


def test_a_driver_that_cannot_join_is_an_error(town):
    town.nodes[2].crash()
    town.world.run_for(1)
    town.add_driver(where, town.nodes[2])
    with pytest.raises(SimulationError, match="could not join"):
        town.world.run_for(1)


def test_large_values_lie_in_the_stores_of_nodes(town):
    town.book.functions |= {"double": lambda _context, text: text * 2, "length": lambda _context, text: len(text)}
    town.book.classes["Box"] = Box

    def main(context):
        ref = yield Put("x" * 300)
        twice = tuple(context.submit("double", ref) for _ in range(6))
        lengths = yield Get(tuple(context.submit("length", text) for text in twice))
        box = context.create("Box", ref)
        [held] = yield Get((context.call(box, "length"),))
        [value] = yield Get((twice[0],))
        assert value == "x" * 600
        assert sum(len(node.objects.catalog) for node in town.nodes) >= 7
        context.release(ref, *twice)
        return [*lengths, held]

    driver = town.add_driver(main, town.nodes[1])
    assert finish(town, driver) == [600] * 6 + [300]
    town.world.run_for(1)
    assert [len(node.objects.catalog) for node in town.nodes] == [0, 0, 0]
    assert [node.storage.objects for node in town.nodes] == [{}, {}, {}]
    assert sum(node.objects.statistics().pulled_total for node in town.nodes) > 0


def test_an_argument_that_is_lost(town):
    town.book.functions |= {"length": lambda _context, text: len(text)}

    def main(context):
        ref = yield Put("x" * 300)
        yield Sleep(0.1)
        node = context.runtime.raylet.process
        town.storages[node].current.clear()  # and the manager has not heard
        try:
            yield Get((context.submit("length", ref),))
        except TaskFailed as failed:
            return failed.failure.text

    driver = town.add_driver(main)
    assert "is lost" in finish(town, driver)


class Box:
    def begin(self, _context, text):
        self.text = text

    def length(self, _context):
        return len(self.text)


def test_who_leaves_takes_its_objects_along(town):
    def main(context):
        ref = yield Put("x" * 500)
        context.keep(ref)

    driver = town.add_driver(main)
    finish(town, driver)
    town.world.run_for(0.5)
    [item] = town.storages["node1"].current.values()
    assert item.is_sealed
    driver.leave()
    town.world.run(lambda: not town.storages["node1"].objects, 1)
    assert len(town.nodes[0].objects.clients) == 0
    town.world.run_for(5)
