"""The small world: 5 nodes, 1,000 tasks, 20 actors, large values in stores, one node lost in the middle."""

from typing import NamedTuple

from actorrt.sim import faults
from actorrt.sim.checkers import Watch
from actorrt.sim.runtime import Book, Get, Put, Sleep, Wait
from actorrt.sim.storage import StoragePace
from actorrt.sim.town import Town
from actorrt.sim.values import TaskFailed
from actorrt.sim.world import World

TASKS = 1000
ACTORS = 20
CALLS_PER_ACTOR = 10
CHECK_STEPS = 8
"""An owner of 1,000 tasks has long tables to check; the storm checks after every step."""
QUIET_S = 25.0
"""Leases linger, idle workers end, loads are reported, owners are asked about their objects twice: after this all
must be at rest."""
STORAGE = StoragePace(capacity_bytes=40_000)
"""So little that copies are dropped."""


def quick(_context, number):
    return number + 1


def work(context, number):
    yield Sleep(0.001 + 0.02 * context.rng.random())
    return number + 1


def failing(context, number):
    yield Sleep(0.002 * context.rng.random())
    raise ValueError(f"no {number}")


def flaky(context, number):
    yield Sleep(0.001)
    if context.attempt == 0:
        raise ValueError("not at first")
    return number + 1


def nested(context, number):
    """Children of its own, waited for in the middle; one level deeper half of the time."""
    name = "nested" if number % 2 else "work"
    refs = tuple(context.submit(name, number // 2) for _ in range(2))
    found = yield Get(refs)
    yield Sleep(0.001)
    return number + 1 if found[0] == found[1] else -1


def lends(context, number):
    """Returns refs of its own, which the caller then borrows."""
    return [context.submit("work", number), context.put(number + 1)]


def borrows(_context, refs):
    """Takes refs inside a value and waits for them itself."""
    found = yield Get(tuple(refs))
    return found[0]


def large(number):
    """A value that does not stay inline: most fit into a slab, some do not."""
    return {"number": number, "filler": "x" * (200 + 37 * number % 900)}


def grow(context, number):
    """Returns a large value."""
    yield Sleep(0.005 * context.rng.random())
    return large(number + 1)


def relay(context, value):
    """Takes a large value and returns another."""
    assert value == large(value["number"])
    yield Sleep(0.005 * context.rng.random())
    return large(value["number"])


def bundle(context, number):
    """Returns a large value with refs of its own to large values inside."""
    ref = yield Put(large(number + 1))
    return {**large(number + 1), "refs": [ref, context.submit("grow", number)]}


def compare(_context, refs):
    """Takes refs to large values inside a value and reads them."""
    one, other = yield Get(tuple(refs))
    assert one == other == large(one["number"])
    return one["number"]


class Counter:
    def begin(self, context, start):
        yield Sleep(0.003 * context.rng.random())
        self.value = start

    def add(self, context, amount):
        yield Sleep(0.002 * context.rng.random())
        self.value += amount
        return self.value


FUNCTIONS = {
    "quick": quick,
    "work": work,
    "failing": failing,
    "flaky": flaky,
    "nested": nested,
    "lends": lends,
    "borrows": borrows,
    "grow": grow,
    "relay": relay,
    "bundle": bundle,
    "compare": compare,
}
MIX = (
    "work", "quick", "grow", "flaky", "nested", "relay", "chain", "failing", "work", "lends",
    "grow", "quick", "relay", "bundle", "grow", "relay", "chain", "failing", "put", "lends",
)  # fmt: skip
LARGE = ("grow", "relay", "bundle", "put")
LOSSES = (
    "ActorDiedError",
    "ActorUnavailableError",
    "NodeDiedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "OwnerDiedError",
    "WorkerCrashedError",
)


class Tally(NamedTuple):
    """What became of everything the driver submitted."""

    values: int
    failures: dict


def main(context, tasks):
    """Submits in waves, keeps everything, then looks at each and every result."""
    actors = [
        context.create("Counter", number, max_restarts=number % 3, max_task_retries=number % 2)
        for number in range(ACTORS)
    ]
    refs, last, grown = [], None, None
    wrong = []
    for number in range(tasks):
        kind = MIX[number % len(MIX)]
        expected = number
        if kind == "chain":
            ref = context.submit("work", last) if last is not None else context.submit("work", number)
        elif kind == "relay":
            expected, ref = grown[0], context.submit("relay", grown[1])
        elif kind == "put":
            ref = yield Put(large(number + 1))
            grown = (number, ref)
        else:
            ref = context.submit(kind, number, retry_exceptions=kind == "flaky")
        refs.append((kind, expected, ref))
        if kind == "work":
            last = ref
        elif kind == "grow":
            grown = (number, ref)
        if number % 50 == 0:
            yield Sleep(0.002)
        if number % 5 == 0 and number // 5 < ACTORS * CALLS_PER_ACTOR:
            actor = actors[number // 5 % ACTORS]
            refs.append(("call", number, context.call(actor, "add", 1)))
    yield Wait(tuple(ref for _, _, ref in refs), len(refs) // 2)
    values, failures = 0, {}
    for kind, number, ref in refs:
        try:
            [value] = yield Get((ref,))
            if kind == "lends":
                [value] = yield Get((context.submit("borrows", value),))
                assert value == number + 1, (kind, number, value)
            elif kind == "bundle":
                [value] = yield Get((context.submit("compare", value["refs"]),))
            elif kind in LARGE:
                assert value == large(value["number"])
                value = value["number"]
        except TaskFailed as failed:
            failures[kind, failed.failure.kind] = failures.get((kind, failed.failure.kind), 0) + 1
        else:
            values += 1
            if kind not in {"call", "chain"} and value != number + 1:
                wrong.append((kind, number, value))
        context.release(ref)
    assert not wrong, wrong
    return Tally(values, failures)


def run(seed, *, tasks=TASKS, crash_at_s=0.3, time_max_s=120.0):
    """Play the story to its end; returns the town, its watch and what the driver found."""
    world = World(seed, check_steps=CHECK_STEPS)
    town = Town(world, Book(FUNCTIONS, {"Counter": Counter}), storage_pace=STORAGE)
    for _ in range(5):
        town.add_node(2)
    town.join_all()
    watch = Watch(town)
    driver = town.add_driver(lambda context: main(context, tasks))
    if crash_at_s is not None:
        victim = world.rng("victim").choice(town.nodes[1:])
        faults.crash_node(town, victim, world.now + crash_at_s)
    world.run(lambda: driver.done, time_max_s)
    if driver.error is not None:
        raise driver.error
    world.run_for(QUIET_S)
    watch.check_quiet()
    return town, watch, driver.value


if __name__ == "__main__":  # for the test that compares hashes between processes
    import sys

    print(run(int(sys.argv[1]), tasks=int(sys.argv[2]))[0].world.trace.digest)
