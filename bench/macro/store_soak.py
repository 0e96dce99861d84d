"""Random work on a small store for a long time, with processes killed in between, and every view checked all the while.

    .venv/bin/python bench/macro/store_soak.py [--minutes 10] [--store-mb 256] [--kill-every 5] [--seed 1]

The driver and four actors make, put, get, hold, pass on and drop arrays, more than the store holds. Every word of an
array is the array's serial number. Actors and driver keep *views* whose refs are gone and look at them again and again:
a view that changes means that its memory was given to another object. Every few seconds one actor is killed (kill -9)
and replaced; what it owned is lost with it, and only that. In the end all refs and views are dropped: the store's
account must come back to zero, and no process, shared memory or spill file may be left.
"""

from __future__ import annotations

import argparse
import collections
import gc
import os
import random
import time

import numpy as np
from common import (
    FREED_WITHIN_S,
    LEAST_STORE_BYTES,
    MB,
    Report,
    Session,
    add_common_arguments,
    bytes_below,
    check_all_freed,
    kill,
    limited,
    run,
    wait_until,
)

import actorrt as ray

ACTORS = 4
IN_FLIGHT = 8
VIEWS_PER_PROCESS = 6
STALLED_S = 60
# (weight, bytes from, to): with the owner; carved from slabs; extents of their own.
SIZES = ((5, 1_000, 50_000), (80, 150_000, 1_000_000), (15, 1_000_000, 4_000_000))
# Live objects, as a multiple of the store: some of it is always on the disk.
LIVE_RATIO = 2.0
OPERATIONS = {"make": 20, "put": 10, "driver_put": 10, "read": 25, "hold": 15, "pass_on": 5, "check": 5, "drop": 10}
# The actor that was to do it is dead; what it owned is lost (a value, or an answer that another actor asked for).
KILLED = ray.exceptions.ActorError
LOST = (ray.exceptions.OwnerDiedError, ray.exceptions.ObjectLostError)


def pattern(serial, size_bytes):
    return np.full(size_bytes // 8, serial, dtype=np.uint64)


def wrong_words(array, serial):
    return int((array != serial).sum())


class Player:
    """Keeps views without refs. A method returns how many words it found wrong, unless it says otherwise."""

    def __init__(self):
        self.views = []

    def pid(self):
        return os.getpid()

    def make(self, serial, size_bytes):
        return pattern(serial, size_bytes)

    def put(self, serial, size_bytes):
        """A list with a ref that this process owns."""
        return [ray.put(pattern(serial, size_bytes))]

    def read(self, serial, array):
        return wrong_words(array, serial)

    def hold(self, serial, refs, keep):
        """Of all views, the oldest of which is dropped."""
        wrong = self.check()
        self.views.append((serial, ray.get(refs[0], timeout=STALLED_S)))
        del self.views[:-keep]
        return wrong + self.check()

    def pass_on(self, serial, refs, other):
        """A list with the ref of the answer of another actor (two that wait for each other's would hang)."""
        return [other.read.remote(serial, refs[0])]

    def check(self):
        return sum(wrong_words(view, serial) for serial, view in self.views)

    def clear(self):
        wrong = self.check()
        self.views.clear()
        return wrong


class Soak:
    """The driver's side: what lives, what is under way, and what was found."""

    def __init__(self, options, report):
        self.rng = random.Random(options.seed)
        self.report = report
        self.live_bytes_max = int(options.store_mb * MB * LIVE_RATIO)
        self.players = [self.new_player() for _ in range(ACTORS)]
        self.live = {}  # serial -> (ref, bytes)
        self.of_actors = set()  # serials of what actors own
        self.live_bytes = 0
        self.serial = 0
        self.views = collections.deque(maxlen=VIEWS_PER_PROCESS)
        self.pending = {}  # ref of the answer -> (operation, serial, bytes)
        self.done = collections.Counter()
        self.lost = collections.Counter()
        self.wrong = 0
        self.unexpected = []
        self.killed = 0

    @staticmethod
    def new_player():
        actor = ray.remote(Player).options(num_cpus=0).remote()
        return actor, ray.get(actor.pid.remote(), timeout=STALLED_S)

    def kill_one(self):
        index = self.rng.randrange(ACTORS)
        kill(self.players[index][1])
        self.players[index] = self.new_player()
        self.killed += 1

    # ---- one operation
    def size(self):
        _, least, most = self.rng.choices(SIZES, [weight for weight, *_ in SIZES])[0]
        return self.rng.randint(least, most) // 8 * 8

    def begin(self):
        operation = self.rng.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
        actor = self.rng.choice(self.players)[0]
        if operation in {"make", "put", "driver_put"}:
            self.serial += 1
            size_bytes = self.size()
            if operation == "driver_put":
                self.keep(self.serial, ray.put(pattern(self.serial, size_bytes)), size_bytes)
                self.done[operation] += 1
                return
            if operation == "put":
                self.of_actors.add(self.serial)
            ref = getattr(actor, operation).remote(self.serial, size_bytes)
            self.pending[ref] = operation, self.serial, size_bytes
        elif operation == "check":
            self.pending[actor.check.remote()] = operation, 0, 0
            self.check_own_views()
        elif self.live:
            self.begin_with(operation, actor, self.rng.choice(list(self.live)))

    def begin_with(self, operation, actor, serial):
        ref, size_bytes = self.live[serial]
        if operation == "drop":
            self.forget(serial)
            self.done[operation] += 1
            return
        if operation == "read":
            answer = actor.read.remote(serial, ref)
        elif operation == "hold":
            if self.rng.random() < 0.2:
                self.hold_here(serial, ref)
                return
            answer = actor.hold.remote(serial, [ref], VIEWS_PER_PROCESS)
        else:
            answer = actor.pass_on.remote(serial, [ref], self.rng.choice(self.players)[0])
        self.pending[answer] = operation, serial, size_bytes

    def finish(self, answer):
        operation, serial, size_bytes = self.pending.pop(answer)
        try:
            if operation == "make":
                self.keep(serial, answer, size_bytes)
                if self.rng.random() < 0.1:
                    self.hold_here(serial, answer)
            elif operation == "put":
                self.keep(serial, ray.get(answer, timeout=STALLED_S)[0], size_bytes)
            elif operation == "pass_on":
                there = ray.get(answer, timeout=STALLED_S)[0]
                self.pending[there] = "passed_on", serial, size_bytes
            else:
                self.note_wrong(ray.get(answer, timeout=STALLED_S), operation)
        except Exception as error:  # noqa: BLE001 - what is allowed is decided there
            self.failed(operation, serial, error)
        else:
            self.done[operation] += 1

    def failed(self, operation, serial, error):
        self.forget(serial)
        mortal = serial in self.of_actors or operation == "passed_on"
        if self.killed and (isinstance(error, KILLED) or (mortal and isinstance(error, LOST))):
            self.lost[type(error).__name__] += 1
        else:
            owner = "an actor" if serial in self.of_actors else "the driver"
            self.unexpected.append(f"{operation} of {serial}, owned by {owner}: {error!r}"[:1000])

    def hold_here(self, serial, ref):
        try:
            self.views.append((serial, ray.get(ref, timeout=STALLED_S)))
        except Exception as error:  # noqa: BLE001 - what is allowed is decided there
            self.failed("hold_here", serial, error)
        else:
            self.check_own_views()
            self.done["hold_here"] += 1

    def check_own_views(self):
        self.note_wrong(sum(wrong_words(view, serial) for serial, view in self.views), "a view of the driver")

    def note_wrong(self, count, where):
        if count:
            self.wrong += count
            self.unexpected.append(f"{count} wrong words: {where}")

    def keep(self, serial, ref, size_bytes):
        self.live[serial] = ref, size_bytes
        self.live_bytes += size_bytes
        while self.live_bytes > self.live_bytes_max:
            self.forget(self.rng.choice(list(self.live)))

    def forget(self, serial):
        _, size_bytes = self.live.pop(serial, (None, 0))
        self.live_bytes -= size_bytes

    # ---- the whole
    def play(self, until_s, kill_every_s):
        next_kill_s = time.monotonic() + kill_every_s
        while time.monotonic() < until_s and len(self.unexpected) < 10:
            if time.monotonic() >= next_kill_s:
                self.kill_one()
                next_kill_s += kill_every_s
            while len(self.pending) < IN_FLIGHT:
                self.begin()
            self.finish_some()

    def finish_some(self):
        ready, _ = ray.wait(list(self.pending), num_returns=1, timeout=STALLED_S, fetch_local=False)
        if not ready:
            waiting = collections.Counter(operation for operation, *_ in self.pending.values())
            self.unexpected.append(f"nothing of {dict(waiting)} was done within {STALLED_S} s")
            self.pending.clear()
        for answer in ready:
            self.finish(answer)

    def end(self):
        """Drop everything; actors that live say once more whether their views are right."""
        while self.pending:
            self.finish_some()
        self.check_own_views()
        for actor, _ in self.players:
            self.note_wrong(ray.get(actor.clear.remote(), timeout=STALLED_S), "the last look")
        self.views.clear()
        self.live.clear()
        gc.collect()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--store-mb", type=int, default=256)
    parser.add_argument("--kill-every", type=float, default=5, help="seconds")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    add_common_arguments(parser, None)
    options = parser.parse_args()
    report = Report(f"store soak, seed {options.seed}", strict=options.strict)
    with limited(options.limit or options.minutes * 60 + 180), Session(report) as session:
        ray.init(
            "local",
            num_cpus=2,
            object_store_memory=max(LEAST_STORE_BYTES, options.store_mb * MB),
            object_spilling_directory=str(session.spill),
            log_to_driver=False,
        )
        soak = Soak(options, report)
        soak.play(time.monotonic() + options.minutes * 60, options.kill_every)
        session.note_segments()
        report.figure("largest spill folder seen at the end", bytes_below(session.spill) / MB, "MB")
        soak.end()
        report.figure("operations", sum(soak.done.values()), "", str(dict(sorted(soak.done.items()))))
        report.figure("killed", soak.killed, "", f"lost with their owners: {dict(soak.lost)}")
        missing = [name for name in OPERATIONS if not soak.done[name]]
        report.check("every kind of operation was done", not missing, " ".join(missing))
        report.check("no view and no value was ever wrong", soak.wrong == 0, f"{soak.wrong} wrong words")
        report.check("nothing failed but what its owner took along", not soak.unexpected)
        for text in soak.unexpected:
            print(f"    {text}")
        gone = wait_until(lambda: not session.spill_files(), FREED_WITHIN_S)
        report.check("spill files are gone with the last refs", gone, f"{bytes_below(session.spill) / MB:,.0f} MB left")
        check_all_freed(report)
    return report.status()


if __name__ == "__main__":
    run(main)
