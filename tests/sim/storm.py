"""The storm: a smaller town, everything at once. For sweeps over many seeds, and for failing seeds.

What happens is drawn from the seed: workers crash or fail to start, a node crashes or is slow, connections break, a
driver is killed; tasks are cancelled, actors are killed or leave, handles and refs travel.
"""

from actorrt.sim import faults
from actorrt.sim.checkers import Watch
from actorrt.sim.executor import ActorExit, Crash
from actorrt.sim.pool import Pace
from actorrt.sim.runtime import Book, Get, Put, Sleep, Wait
from actorrt.sim.storage import StoragePace
from actorrt.sim.town import Town
from actorrt.sim.values import TaskFailed
from actorrt.sim.world import World
from tests.sim.story import FUNCTIONS, Counter, large

TASKS = 150
QUIET_S = 40.0
"""A driver that was killed is noticed, its workers end, and whoever owned objects is asked about them twice."""
KNOWN_FAILURES = {
    "TaskError",
    "TaskCancelledError",
    "WorkerCrashedError",
    "NodeDiedError",
    "OwnerDiedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ActorDiedError",
    "ActorUnavailableError",
}


def crashing(context, number):
    yield Sleep(0.002 * context.rng.random())
    if context.rng.random() < 0.5:
        raise Crash
    return number + 1


def uses_actor(context, actor, amount):
    """A handle came as an argument: call it from here."""
    [value] = yield Get((context.call(actor, "add", amount),))
    return value


def makes_actor(context, number):
    """An actor of a worker, which dies with its task's scope."""
    actor = context.create("Counter", number)
    [value] = yield Get((context.call(actor, "add", 1),))
    return value


def reads(_context, value):
    """Takes whatever it is as an argument, and makes it large."""
    return [value, "x" * 500]


def slow(context, number):
    yield Sleep(0.2 + 0.2 * context.rng.random())
    return number + 1


class Keeper(Counter):
    def remember(self, context, refs):
        """Keep a borrowed ref in the actor's state."""
        for ref in refs:
            context.keep(ref)
        self.refs = getattr(self, "refs", []) + refs
        return len(self.refs)

    def recall(self, context):
        if not getattr(self, "refs", []):
            return None
        ref = self.refs.pop()
        try:
            [value] = yield Get((ref,))
        finally:
            context.release(ref)
        return value


class Moody(Keeper):
    def add(self, context, amount):
        if context.rng.random() < 0.1:
            raise ActorExit
        if context.rng.random() < 0.1:
            raise Crash
        return (yield from super().add(context, amount))


MORE = {
    "crashing": crashing,
    "uses_actor": uses_actor,
    "makes_actor": makes_actor,
    "reads": reads,
    "slow": slow,
}


def _one(context, rng, actors, refs):
    """Submit something."""
    number = rng.randrange(1000)
    kind = rng.randrange(20)
    if kind < 5:
        return context.submit(rng.choice(["work", "quick", "failing", "nested", "lends"]), number)
    if kind == 5:
        return context.submit("crashing", number, max_retries=rng.randrange(3))
    if kind == 6 and refs:
        return context.submit("work", rng.choice(refs))
    if kind == 7:
        return context.submit("uses_actor", rng.choice(actors), 1)
    if kind == 8:
        return context.submit("makes_actor", number)
    if kind == 9:
        return context.call(rng.choice(actors), "remember", [context.put(number)])
    if kind == 10:
        return context.call(rng.choice(actors), "recall")
    if kind == 11:
        return context.submit("work", number, max_calls=3)
    if kind == 12:
        return context.submit("work", number, cpus=2)
    if kind == 13:
        return context.submit("quick", number, max_retries=0)
    if kind == 14:
        return context.submit(rng.choice(["quick", "work"]), number, cpus=0.5, max_retries=0)
    if kind in {15, 16}:
        return context.submit(rng.choice(["grow", "bundle"]), number, max_retries=rng.randrange(3))
    if kind == 17 and refs:
        return context.submit("reads", rng.choice(refs))
    if kind == 18:
        return context.call(rng.choice(actors), "remember", [context.submit("grow", number)])
    return context.call(rng.choice(actors), "add", 1)


def main(context):
    rng = context.runtime.world.rng("storm")
    actors = [
        context.create(
            rng.choice(["Keeper", "Moody"]), 0, max_restarts=rng.randrange(3), max_task_retries=rng.randrange(2)
        )
        for _ in range(6)
    ]
    actors.append(context.create("Keeper", context.submit("work", 1), cpus=1))
    refs, kinds = [], []
    for _ in range(TASKS):
        refs.append(_one(context, rng, actors, refs))
        if rng.random() < 0.1:
            yield Sleep(0.02 * rng.random())
        if rng.random() < 0.06:
            context.cancel(rng.choice(refs), force=rng.random() < 0.3)
        if rng.random() < 0.02:
            context.kill(rng.choice(actors[:6]), no_restart=rng.random() < 0.5)
        if rng.random() < 0.05 and len(refs) > 10:
            context.release(refs.pop(rng.randrange(len(refs))))
        if rng.random() < 0.05:
            refs.append((yield Put(large(len(refs)))))
        if rng.random() < 0.03:
            yield Wait(tuple(refs), max(1, len(refs) // 3))
    for ref in refs:
        try:
            yield Get((ref,))
        except TaskFailed as failed:
            kinds.append(failed.failure.kind)
    return kinds


def second(context):
    """Another job, which competes for the same nodes."""
    refs = tuple(context.submit("work" if number % 3 else "slow", number) for number in range(40))
    yield Wait(refs, len(refs))


def _ends_a_driver(one, other):
    """A driver without its node or the head is lost: that is another story."""
    return any(name in {"node1", "node2"} for name in (one, other))


def run(seed, *, connections_broken=0, time_max_s=400.0):
    """One storm; returns the town, its watch and the kinds of failures the first driver saw."""
    world = World(seed)
    rng = world.rng("plan")
    pace = Pace(start_fails=rng.choice([0.0, 0.0, 0.02]))
    book = Book({**FUNCTIONS, **MORE}, {"Counter": Counter, "Keeper": Keeper, "Moody": Moody})
    storage = StoragePace(
        answer_s_max=rng.choice([0.0005, 0.01]),
        transfer_s_max=rng.choice([0.003, 0.1]),
        death_s_max=rng.choice([0.003, 0.3]),
        capacity_bytes=rng.choice([1 << 30, 5000]),
    )
    town = Town(world, book, pace=pace, storage_pace=storage)
    for _ in range(4):
        town.add_node(2)
    town.join_all()
    watch = Watch(town)
    drivers = [town.add_driver(main), town.add_driver(second, town.nodes[1])]
    for _ in range(rng.randrange(6)):
        faults.crash_worker(town, world.now + rng.random())
    for _ in range(rng.randrange(3)):
        faults.slow_node(town, rng.choice(town.nodes), world.now + rng.random(), 0.5, 0.05 * rng.random())
    if rng.random() < 0.6:
        faults.crash_node(town, rng.choice(town.nodes[2:]), world.now + 0.1 + 0.6 * rng.random())
    for _ in range(connections_broken):
        faults.break_connection(
            town, world.now + rng.random(), lambda *pair: any(name in {"node1", "node2"} for name in pair)
        )
    if rng.random() < 0.3:
        faults.crash_driver(town, drivers[1], world.now + 0.1 + rng.random())
    world.run(lambda: all(driver.done or not driver.process.alive for driver in drivers), time_max_s)
    for driver in drivers:
        if driver.error is not None:
            raise driver.error
    world.run_for(QUIET_S)
    watch.check_quiet()
    kinds = dict.fromkeys(drivers[0].value)
    unknown = [kind for kind in kinds if kind not in KNOWN_FAILURES]
    assert not unknown, unknown
    for driver in drivers:
        if driver.process.alive:
            driver.leave()
    world.run(lambda: not any(driver.process.alive for driver in drivers), world.now + 10)
    world.run_for(QUIET_S)
    for node in town.nodes:
        if node.alive:
            assert not node.living_workers(), f"{node!r} outlived its jobs"
    return town, watch, kinds
