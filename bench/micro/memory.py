"""Many tasks at once: do they complete, how long does it take, and what does each one cost the driver's memory.

    .venv/bin/python bench/micro/memory.py [--tasks 200000] [--json FILE]

Two ways to be pending: *queued* (both CPUs are taken by tasks that wait for a file) and *waiting* (the argument of
every task is the result of such a task). Resident memory of the driver is read before and after submitting, after
completion with the refs still held, and after they are dropped. Each way has a process of its own, so that neither
inherits the other's memory. The exit status is 1 when a result is wrong.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core import conditions, write

import actorrt

NUM_CPUS = 2
WARM_UP = 1000
PENDING_BYTES_MAX = 1000


@actorrt.remote
def add(number, amount):
    return number + amount


@actorrt.remote
def hold(path, started):
    """Keep a CPU until the file is there."""
    Path(started).touch()
    while not os.path.exists(path):  # noqa: PTH110 - as cheap as can be
        time.sleep(0.01)
    return 1


def resident_bytes():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


def settled_bytes():
    """Resident memory once it has stopped to shrink for a second."""
    least_bytes = resident_bytes()
    least_s = time.monotonic()
    while time.monotonic() < least_s + 1:
        time.sleep(0.1)
        now_bytes = resident_bytes()
        if now_bytes < least_bytes:
            least_bytes, least_s = now_bytes, time.monotonic()
    return least_bytes


def wait_for(paths):
    deadline_s = time.monotonic() + 30
    while not all(path.exists() for path in paths):
        if time.monotonic() > deadline_s:
            raise TimeoutError("the holding tasks did not start within 30 s")
        time.sleep(0.01)


def measure(way, count):
    """Figures of one way, in this process."""
    with actorrt.init("local", num_cpus=NUM_CPUS), tempfile.TemporaryDirectory() as folder:
        actorrt.get([add.remote(number, 1) for number in range(WARM_UP)])
        gate = Path(folder, "gate")
        started = [Path(folder, f"started-{number}") for number in range(NUM_CPUS)]
        holds = [hold.remote(str(gate), str(path)) for path in started]
        wait_for(started)
        amount = holds[0] if way == "waiting" else 1
        refs = [None] * count  # so that the list itself is not counted
        before_bytes = resident_bytes()
        start_s = time.perf_counter()
        for number in range(count):
            refs[number] = add.remote(number, amount)
        submit_s = time.perf_counter() - start_s
        # Once the owner has answered this, it has seen all of them, and none has run.
        ready_count = len(actorrt.wait(refs, num_returns=1, timeout=0.5)[0])
        assert not ready_count, "a task ran although the gate is shut"
        pending_bytes = resident_bytes()
        gate.touch()
        start_s = time.perf_counter()
        values = actorrt.get(refs)
        complete_s = time.perf_counter() - start_s
        wrong = sum(value != number + 1 for number, value in enumerate(values))
        del values
        done_bytes = resident_bytes()
        refs = None
        dropped_bytes = settled_bytes()  # dropped refs are handed over a little later
        return {
            "tasks": count,
            "wrong_results": wrong,
            "submit_s": round(submit_s, 3),
            "complete_s": round(complete_s, 3),
            "tasks_per_s": round(count / (submit_s + complete_s)),
            "bytes_per_pending_task": round((pending_bytes - before_bytes) / count),
            "bytes_per_ref_when_done": round((done_bytes - before_bytes) / count),
            "bytes_per_ref_when_dropped": round((dropped_bytes - before_bytes) / count),
        }


def main():
    parser = argparse.ArgumentParser(description="Time and driver memory of many tasks at once.")
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--way", choices=("queued", "waiting"), action="append", help="only this one (repeatable)")
    parser.add_argument("--json", help="write the results there; a bare name goes to bench/baselines")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    ways = options.way or ["queued", "waiting"]
    if options.child:
        print(json.dumps(measure(ways[0], options.tasks)))
        return 0
    facts = conditions()
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    results = {}
    for way in ways:
        command = [sys.executable, __file__, "--child", "--way", way, "--tasks", str(options.tasks)]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[way] = json.loads(answer.stdout.splitlines()[-1])
    names = list(results[ways[0]])
    print(f"{'':<28}" + "".join(f"{way:>12}" for way in ways))
    for name in names:
        print(f"{name.replace('_', ' '):<28}" + "".join(f"{results[way][name]:>12,}" for way in ways))
    print(f"wanted: less than {PENDING_BYTES_MAX:,} bytes per pending task")
    if options.json:
        write(options.json, facts, results)
    return 1 if any(row["wrong_results"] for row in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
