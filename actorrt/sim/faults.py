"""What goes wrong, and when. Faults are scheduled in a town and drawn from the seed where they have a choice."""

from __future__ import annotations

from collections.abc import Callable

from actorrt.sim.town import Driver, Node, Town, Worker


def crash_node(town: Town, node: Node, at_s: float) -> None:
    """The node loses power at this time."""
    _at(town, at_s, node.crash)


def crash_worker(town: Town, at_s: float, choose: Callable[[Worker], bool] = lambda _worker: True) -> None:
    """Some worker (of those ``choose`` accepts) dies at this time; nothing happens when there is none."""
    rng = town.world.rng(f"crash worker {at_s}")

    def crash() -> None:
        workers = [worker for node in town.nodes if node.alive for worker in node.living_workers() if choose(worker)]
        if workers:
            town.world.end(rng.choice(workers).process, "killed by signal 9", orderly=True)

    _at(town, at_s, crash)


def slow_node(town: Town, node: Node, at_s: float, duration_s: float, delay_s: float) -> None:
    """For a while everything to and from the node's process takes this long."""
    fabric = town.world.fabric

    def begin() -> None:
        token = fabric.slow([node.process.name], delay_s)
        town.world.after(duration_s, lambda: fabric.remove(token))

    _at(town, at_s, begin)


def break_connection(town: Town, at_s: float, spare: Callable[[str, str], bool] = lambda _one, _other: False) -> None:
    """Some connection of two living processes breaks at this time, unless ``spare`` says no; both may dial again."""
    rng = town.world.rng(f"break connection {at_s}")

    def cut() -> None:
        pairs = [pair for pair, channel in town.world.channels.items() if not channel.broken and not spare(*pair)]
        if pairs:
            town.world.disconnect(*rng.choice(pairs), "connection reset by peer")

    _at(town, at_s, cut)


def crash_driver(town: Town, driver: Driver, at_s: float) -> None:
    """The driver is killed at this time, wherever its program is."""
    _at(town, at_s, lambda: town.world.end(driver.process, "killed by signal 9", orderly=True))


def _at(town: Town, at_s: float, call: Callable[[], None]) -> None:
    town.world.after(max(0.0, at_s - town.world.now), call)
