"""Protocol stories, told by the machines themselves. `python -m tests.transcripts.stories` writes the golden files."""

import pathlib

import pytest

from actorrt.sim.checkers import Watch
from actorrt.sim.runtime import Book, Get, Sleep
from actorrt.sim.town import Town
from actorrt.sim.transcript import Transcript
from actorrt.sim.values import TaskFailed
from actorrt.sim.world import World
from actorrt.transports.fabric import Link

FOLDER = pathlib.Path(__file__).parent
SETTLED_S = 0.2


def double(_context, number):
    return 2 * number


class Counter:
    def begin(self, _context, start):
        self.value = start

    def add(self, _context, amount):
        self.value += amount
        return self.value


class Keeper:
    def keep(self, context, refs):
        [self.ref] = refs
        context.keep(self.ref)

    def give_back(self, context):
        [value] = yield Get((self.ref,))
        context.release(self.ref)
        return value


def tell(program, nodes=1):
    """Run one driver's program in a settled town, and return what was said until everything was quiet again."""
    world = World(1, link=Link(latency_s=0.001))
    town = Town(world, Book({"double": double}, {"Counter": Counter, "Keeper": Keeper}))
    for _ in range(nodes):
        town.add_node(1)
    town.join_all()
    watch = Watch(town)
    transcript = None

    def main(context):
        nonlocal transcript
        yield Sleep(SETTLED_S)
        transcript = Transcript(world)
        yield from program(context, transcript)

    driver = town.add_driver(main)
    world.run(lambda: driver.done, 30)
    if driver.error is not None:
        raise driver.error
    world.run_for(3)
    watch.check_quiet()
    return transcript.text


def lease_life(context, transcript):
    transcript.note("One task: a lease, a push, an outcome; the lease lingers and goes back.")
    [value] = yield Get((context.submit("double", 21),))
    assert value == 42


def actor_life(context, transcript):
    transcript.note("An actor is created, called, killed, and called once more.")
    actor = context.create("Counter", 1)
    [value] = yield Get((context.call(actor, "add", 1),))
    assert value == 2
    transcript.note("the driver kills it")
    context.kill(actor)
    yield Sleep(SETTLED_S)
    transcript.note("a late call")
    with pytest.raises(TaskFailed, match="ActorDiedError"):
        yield Get((context.call(actor, "add", 1),))
    transcript.note("the driver drops its handle")


def borrowed_ref(context, transcript):
    transcript.note("A ref travels inside a value; the actor that got it keeps it.")
    actor = context.create("Keeper")
    treasure = context.put("treasure")
    yield Get((context.call(actor, "keep", [treasure]),))
    transcript.note("the driver drops its own ref: the actor's hold keeps the object alive")
    context.release(treasure)
    yield Sleep(SETTLED_S)
    transcript.note("the actor reads it and lets go")
    [value] = yield Get((context.call(actor, "give_back"),))
    assert value == "treasure"
    yield Sleep(SETTLED_S)
    transcript.note("the driver drops its handle")


STORIES = {"lease_life": lease_life, "actor_life": actor_life, "borrowed_ref": borrowed_ref}


def golden(name):
    return FOLDER / f"{name}.txt"


if __name__ == "__main__":
    for story, code in STORIES.items():
        golden(story).write_text(tell(code), encoding="utf-8")
        print(f"wrote {golden(story).name}")
