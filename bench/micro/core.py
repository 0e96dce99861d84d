"""Tasks, actors and small objects, beside ProcessPoolExecutor and multiprocessing.Pool in the same run.

    .venv/bin/python bench/micro/core.py [--rounds 7] [--only tasks] [--json FILE] [--against FILE]

The machine is shared and its speed changes from minute to minute, so the contenders take turns within every round. A
row shows calls per second (median of the rounds, and the best); the ratios to the references are ratios of medians.
References: ``ppe`` is ``ProcessPoolExecutor.submit(f, x).result()``, one at a time; ``pool`` is 1,000 times
``multiprocessing.Pool.apply_async``, then every ``get()``. Both have two processes, as the cluster has two CPUs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import actorrt

NUM_CPUS = 2
AT_ONCE = 1000
ONE_BY_ONE = 300
BASELINES = Path(__file__).resolve().parent.parent / "baselines"
# Wanted: (reference, ratio to its median). Orientation, not a test.
TARGETS = {
    "tasks sync": ("ppe", 0.7),
    "tasks async": ("pool", 0.6),
    "actor async": ("pool", 1.0),
    "actor calls awaited one by one": ("ppe", 0.7),
}


def increment(number):
    return number + 1


remote_increment = actorrt.remote(increment)


@actorrt.remote
class Adder:
    def increment(self, number):
        return number + 1


@actorrt.remote
class AsyncAdder:
    async def increment(self, number):
        return number + 1


def expect(values, count):
    """A benchmark of wrong results is none."""
    assert values == list(range(1, count + 1)), values[:5]


class Contenders:
    """What is measured: name -> (function, calls it makes)."""

    def __init__(self, executor, pool):
        self.executor = executor
        self.pool = pool
        self.adder = Adder.remote()
        self.async_adder = AsyncAdder.remote()
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.stored = [actorrt.put(number + 1) for number in range(AT_ONCE)]
        self.all = {
            "ppe": (self.ppe, ONE_BY_ONE),
            "pool": (self.pool_async, AT_ONCE),
            "tasks sync": (self.tasks_sync, ONE_BY_ONE),
            "tasks async": (self.tasks_async, AT_ONCE),
            "actor sync": (lambda: self.actor_sync(self.adder), ONE_BY_ONE),
            "actor async": (lambda: self.actor_async(self.adder), AT_ONCE),
            "async actor sync": (lambda: self.actor_sync(self.async_adder), ONE_BY_ONE),
            "async actor async": (lambda: self.actor_async(self.async_adder), AT_ONCE),
            "actor calls awaited one by one": (self.actor_awaited, AT_ONCE),
            "tasks awaited one by one": (self.tasks_awaited, ONE_BY_ONE),
            "put small": (self.put_small, AT_ONCE),
            "get small": (self.get_small, AT_ONCE),
            "put and get small": (self.put_get_small, AT_ONCE),
        }

    def ppe(self):
        submit = self.executor.submit
        expect([submit(increment, number).result() for number in range(ONE_BY_ONE)], ONE_BY_ONE)

    def pool_async(self):
        pending = [self.pool.apply_async(increment, (number,)) for number in range(AT_ONCE)]
        expect([result.get() for result in pending], AT_ONCE)

    def tasks_sync(self):
        get, submit = actorrt.get, remote_increment.remote
        expect([get(submit(number)) for number in range(ONE_BY_ONE)], ONE_BY_ONE)

    def tasks_async(self):
        expect(actorrt.get([remote_increment.remote(number) for number in range(AT_ONCE)]), AT_ONCE)

    def actor_sync(self, actor):
        get = actorrt.get
        expect([get(actor.increment.remote(number)) for number in range(ONE_BY_ONE)], ONE_BY_ONE)

    def actor_async(self, actor):
        expect(actorrt.get([actor.increment.remote(number) for number in range(AT_ONCE)]), AT_ONCE)

    def actor_awaited(self):
        async def calls():
            return [await self.adder.increment.remote(number) for number in range(AT_ONCE)]

        expect(self.loop.run_until_complete(calls()), AT_ONCE)

    def tasks_awaited(self):
        async def calls():
            return [await remote_increment.remote(number) for number in range(ONE_BY_ONE)]

        expect(self.loop.run_until_complete(calls()), ONE_BY_ONE)

    def put_small(self):
        put = actorrt.put
        assert len([put(number) for number in range(AT_ONCE)]) == AT_ONCE

    def get_small(self):
        get = actorrt.get
        expect([get(ref) for ref in self.stored], AT_ONCE)

    def put_get_small(self):
        get, put = actorrt.get, actorrt.put
        expect([get(put(number + 1)) for number in range(AT_ONCE)], AT_ONCE)


def measure(contenders, chosen, rounds):
    """Rates (calls per second) of every round, per contender."""
    rates = {name: [] for name in chosen}
    for name in chosen:  # warm up
        contenders[name][0]()
    for number in range(rounds):
        turn = number % len(chosen)  # another one begins each round
        for name in chosen[turn:] + chosen[:turn]:
            function, calls = contenders[name]
            gc.collect()
            start_s = time.perf_counter()
            function()
            rates[name].append(calls / (time.perf_counter() - start_s))
    return rates


def summarise(rates):
    return {
        name: {
            "median_per_s": round(statistics.median(found), 1),
            "best_per_s": round(max(found), 1),
            "worst_per_s": round(min(found), 1),
        }
        for name, found in rates.items()
    }


def commit():
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(command, cwd=BASELINES.parent, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def conditions():
    """What one must know of a run to judge it later; also for the other scripts beside this one."""
    return {
        "commit": commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average_1_min": round(os.getloadavg()[0], 2),
    }


def show(results, against):
    references = [name for name in ("ppe", "pool") if name in results]
    head = f"{'':<32}{'median/s':>10}{'best/s':>10}" + "".join(f"{'x ' + name:>9}" for name in references)
    print(head + ("  target       " if references else "") + ("   before   change" if against else ""))
    for name, row in results.items():
        line = f"{name:<32}{row['median_per_s']:>10,.0f}{row['best_per_s']:>10,.0f}"
        line += "".join(f"{row['median_per_s'] / results[r]['median_per_s']:>9.2f}" for r in references)
        if name in TARGETS and TARGETS[name][0] in references:
            reference, wanted = TARGETS[name]
            reached = row["median_per_s"] >= wanted * results[reference]["median_per_s"]
            line += f"  {wanted:.1f} {reference:<4} {'ok' if reached else 'MISSED':<6}"
        elif against:
            line += " " * 17
        if against and name in against["results"]:
            before = against["results"][name]["median_per_s"]
            line += f"{before:>9,.0f}{row['median_per_s'] / before:>8.2f}x"
        print(line)


def baseline_path(text):
    """A bare name lies in bench/baselines."""
    return Path(text) if os.sep in text else BASELINES / text


def write(text, facts, results):
    path = baseline_path(text)
    path.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n", "utf-8")
    print(f"written: {os.path.relpath(path)}")


def main():
    parser = argparse.ArgumentParser(description="Tasks, actors and small objects beside the standard library's pools.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", action="append", default=[], help="contenders whose name contains this (repeatable)")
    parser.add_argument("--json", help="write the results there; a bare name goes to bench/baselines")
    parser.add_argument("--against", help="compare with such a file; a bare name is looked for in bench/baselines")
    options = parser.parse_args()
    against = json.loads(baseline_path(options.against).read_text("utf-8")) if options.against else None
    facts = {**conditions(), "rounds": options.rounds}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    # The pools fork, so they come before our threads; their first calls start the processes.
    with ProcessPoolExecutor(NUM_CPUS) as executor, multiprocessing.Pool(NUM_CPUS) as pool:
        list(executor.map(increment, range(NUM_CPUS)))
        pool.map(increment, range(NUM_CPUS))
        with actorrt.init("local", num_cpus=NUM_CPUS):
            contenders = Contenders(executor, pool)
            chosen = [
                name
                for name in contenders.all
                if not options.only or name in {"ppe", "pool"} or any(part in name for part in options.only)
            ]
            results = summarise(measure(contenders.all, chosen, options.rounds))
            contenders.loop.close()
    show(results, against)
    if options.json:
        write(options.json, facts, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
