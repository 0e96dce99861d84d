"""How long users wait: import, first result, shutdown, 100 actors, an in-process cluster of three nodes.

    .venv/bin/python bench/micro/startup.py [--rounds 5] [--json FILE]

Every figure but the import alone is taken in a fresh interpreter; medians of the rounds, and the best.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core import conditions, write

ACTORS = 100
TARGETS_S = {
    "import actorrt": 0.15,
    "import actorrt, everything a driver uses": 0.15,
    "script to first result": 0.8,
    "shutdown": 0.5,
    "100 actors created and answering": 3.0,
    "in-process cluster, first": 0.3,
    "in-process cluster, again": 0.3,
}

BARE = "pass"
IMPORT = """
import time
start_s, start_cpu_s = time.perf_counter(), time.process_time()
import actorrt
print("import actorrt", time.perf_counter() - start_s)
from actorrt import ActorHandle, get, init, put, remote, shutdown, wait
import actorrt.cluster.network, actorrt.cluster.bootstrap
print("import actorrt, everything a driver uses", time.perf_counter() - start_s)
print("  of which CPU time", time.process_time() - start_cpu_s)
"""
FIRST_RESULT = """
import time
import actorrt
actorrt.init("local", num_cpus=2)

@actorrt.remote
def square(number):
    return number * number

print(actorrt.get(square.remote(7)), flush=True)
start_s = time.perf_counter()
actorrt.shutdown()
print("shutdown", time.perf_counter() - start_s)
"""
MANY_ACTORS = f"""
import time
import actorrt
actorrt.init("local", num_cpus=2)

@actorrt.remote
class Cell:
    def __init__(self, number):
        self.number = number

    def read(self):
        return self.number

start_s = time.perf_counter()
cells = [Cell.remote(number) for number in range({ACTORS})]
assert actorrt.get([cell.read.remote() for cell in cells]) == list(range({ACTORS}))
print("{ACTORS} actors created and answering", time.perf_counter() - start_s)
start_s = time.perf_counter()
actorrt.shutdown()
print("shutdown with {ACTORS} actors", time.perf_counter() - start_s)
"""
IN_PROCESS = """
import time
import actorrt
from actorrt.testing import Cluster

@actorrt.remote
def where():
    return actorrt.get_runtime_context().get_node_id()

def once(name):
    start_s = time.perf_counter()
    cluster = Cluster(initialize_head=True, head_node_args={"resources": {"n0": 1}}, in_process=True)
    nodes = [cluster.head_node, *(cluster.add_node(resources={f"n{n}": 1}) for n in (1, 2))]
    cluster.connect()
    found = actorrt.get([where.options(resources={f"n{n}": 1}).remote() for n in range(3)], timeout=60)
    assert found == [node.node_id for node in nodes], found
    cluster.shutdown()
    print(name, time.perf_counter() - start_s)

once("in-process cluster, first")
for _ in range(5):
    once("in-process cluster, again")
"""


def run(script):
    """Seconds to the first line of output (None: there was none) and to the end, and the figures it printed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "script.py")
        path.write_text(script, "utf-8")
        start_s = time.perf_counter()
        with subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True) as process:
            first_line = process.stdout.readline()
            first_s = time.perf_counter() - start_s if first_line else None
            lines = [first_line, *process.stdout]
        end_s = time.perf_counter() - start_s
        if process.returncode:
            raise SystemExit(f"a script ended with status {process.returncode}; see above")
    figures = {}
    for line in lines:
        name, _, figure = line.rpartition(" ")
        if name:
            figures.setdefault(name, []).append(float(figure))
    return first_s, end_s, figures


def measure(rounds):
    found = {}

    def note(name, *figures):
        found.setdefault(name, []).extend(figures)

    for _ in range(rounds):
        note("python itself", run(BARE)[1])
        for name, figures in run(IMPORT)[2].items():
            note(name, *figures)
        first_s, end_s, figures = run(FIRST_RESULT)
        note("script to first result", first_s)
        note("script to its end", end_s)
        note("shutdown", *figures["shutdown"])
        for script in (MANY_ACTORS, IN_PROCESS):
            for name, more in run(script)[2].items():
                note(name, *more)
    return found


def main():
    parser = argparse.ArgumentParser(description="Import, start, shutdown, many actors, an in-process cluster.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the results there; a bare name goes to bench/baselines")
    options = parser.parse_args()
    facts = {**conditions(), "rounds": options.rounds}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    results = {
        name: {"median_s": round(statistics.median(figures), 4), "best_s": round(min(figures), 4)}
        for name, figures in measure(options.rounds).items()
    }
    print(f"{'':<44}{'median ms':>10}{'best ms':>10}  target")
    for name, row in results.items():
        line = f"{name:<44}{row['median_s'] * 1e3:>10.1f}{row['best_s'] * 1e3:>10.1f}"
        if name in TARGETS_S:
            line += f"  {TARGETS_S[name] * 1e3:.0f} {'ok' if row['median_s'] <= TARGETS_S[name] else 'MISSED'}"
        print(line)
    if options.json:
        write(options.json, facts, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
