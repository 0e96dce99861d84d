"""A large array made on one node and read on another, beside a plain TCP connection; and a holder that is killed.

    .venv/bin/python bench/macro/store_transfer.py [--mb 1000] [--rounds 3] [--killed-mb 1000] [--strict]

The nodes are processes of this machine, so the bytes go through the loopback device. Meanwhile two actors keep asking,
one the GCS in the head's node process, one for tiny tasks on the node that sends: the longest answer tells how long a
heartbeat might have waited. Then, with three nodes, an array with two holders is read, and the one that made it is
killed half-way: the read must succeed (the maker is an actor, so nothing can be computed again).
"""

from __future__ import annotations

import argparse
import gc
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from common import (
    LEAST_STORE_BYTES,
    MB,
    Report,
    Session,
    add_common_arguments,
    check_all_freed,
    limited,
    median,
    run,
    timed,
)

import actorrt as ray
from actorrt.testing import Cluster

GET_TIMEOUT_S = 120
ATTEMPTS = 4
CHUNK_BYTES = 4 << 20

SENDER = f"""
import socket, sys
data = memoryview(bytearray(b"x" * int(sys.argv[2])))
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    while connection.recv(1):
        for start in range(0, len(data), {CHUNK_BYTES}):
            connection.sendall(data[start : start + {CHUNK_BYTES}])
"""


class Probe:
    """Another process that sends so many bytes through a plain TCP connection whenever it is asked."""

    def __init__(self, size_bytes):
        self.buffer = memoryview(bytearray(b"y" * size_bytes))  # touched
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        self.process = subprocess.Popen([sys.executable, "-c", SENDER, str(port), str(size_bytes)])
        listener.settimeout(30)
        self.connection = listener.accept()[0]
        listener.close()
        self.connection.settimeout(60)

    def seconds(self):
        return timed(self._receive)[0]

    def _receive(self):
        self.connection.sendall(b"?")
        done = 0
        while done < len(self.buffer):
            count = self.connection.recv_into(self.buffer[done : done + CHUNK_BYTES])
            if not count:
                raise ConnectionError("the probe's sender is gone")
            done += count

    def close(self):
        self.connection.close()
        self.process.wait(30)


class Maker:
    def make(self, seed, count):
        return np.random.default_rng(seed).random(count)

    def read(self, array):
        """Brings a copy to this node."""
        return float(array[-1])


@ray.remote(num_cpus=0)
def tiny():
    return 1


class Pinger:
    """Asks one question over and over until the file is there; seconds of each answer."""

    def ready(self):
        return True

    def ask(self, what, stop):
        ask = {"gcs": ray.nodes, "far": lambda: ray.get(tiny.options(resources={"far": 0.001}).remote(), timeout=60)}[
            what
        ]
        ask()
        took = []
        while not Path(stop).exists():
            start_s = time.perf_counter()
            ask()
            took.append(time.perf_counter() - start_s)
            time.sleep(0.002)
        return took


class Pings:
    """The longest answers while something else goes on."""

    def __init__(self, folder):
        self.folder = folder
        self.number = 0
        self.pingers = {what: ray.remote(Pinger).options(num_cpus=0).remote() for what in ("gcs", "far")}
        ray.get([pinger.ready.remote() for pinger in self.pingers.values()], timeout=60)

    def during(self, function):
        """{what: longest answer in ms}, and what the function gave."""
        self.number += 1
        stop = self.folder / f"stop-{self.number}"
        asked = {what: pinger.ask.remote(what, str(stop)) for what, pinger in self.pingers.items()}
        time.sleep(0.05)
        try:
            value = function()
        finally:
            stop.touch()
        found = {what: ray.get(answer, timeout=60) for what, answer in asked.items()}
        return {what: max(took, default=0.0) * 1e3 for what, took in found.items()}, value


def start(size_bytes, holders):
    """A cluster whose driver is on the head, and nodes with the resource "far", "other", ..."""
    store_bytes = max(LEAST_STORE_BYTES, 3 * size_bytes)
    cluster = Cluster(
        initialize_head=True,
        connect=True,
        head_node_args={"num_cpus": 2, "object_store_memory": store_bytes},
    )
    nodes = [cluster.add_node(num_cpus=2, object_store_memory=store_bytes, resources={name: 1}) for name in holders]
    cluster.wait_for_nodes()
    return cluster, nodes


def new_maker(name):
    return ray.remote(Maker).options(num_cpus=0, resources={name: 0.01}).remote()


def is_right(array, seed):
    return bool((array == np.random.default_rng(seed).random(len(array))).all())


def throughput(options, report, session):
    count = options.mb * MB // 8
    cluster, _ = start(count * 8, ("far",))
    with cluster:
        maker = new_maker("far")
        pings = Pings(session.folder)
        idle, _ = pings.during(lambda: time.sleep(0.5))
        for what, longest_ms in idle.items():
            report.figure(f"longest answer when idle: {what}", longest_ms, "ms")
        probe = Probe(count * 8)
        rates, plain, longest = [], [], {}
        right = True
        for number in range(options.rounds + 1):
            ref = maker.make.remote(number, count)
            ray.wait([ref], timeout=GET_TIMEOUT_S, fetch_local=False)
            plain_s = probe.seconds()
            found_ms, (took_s, array) = pings.during(lambda ref=ref: timed(lambda: ray.get(ref, timeout=GET_TIMEOUT_S)))
            right = right and is_right(array, number)
            del array, ref
            gc.collect()
            if number == 0:  # warms up
                report.figure("first transfer", options.mb / took_s, "MB/s")
                continue
            plain.append(options.mb / plain_s)
            rates.append(options.mb / took_s)
            longest = {what: max(found_ms[what], longest.get(what, 0.0)) for what in found_ms}
        probe.close()
        report.check("what arrives is right", right)
        report.figure("plain TCP", median(plain), "MB/s")
        report.figure("between nodes", median(rates), "MB/s")
        ratio = median([rate / other for rate, other in zip(rates, plain, strict=True)])
        report.target("between nodes, times plain TCP", ratio, 0.5, "x")
        for what, longest_ms in longest.items():
            report.target(f"longest answer meanwhile: {what}", longest_ms, 100.0, "ms", at_most=True)
        ray.kill(maker)
        session.note_segments()
        check_all_freed(report)


def holder_killed(options, report, session):
    count = options.killed_mb * MB // 8
    for attempt in range(ATTEMPTS):
        if killed_half_way(count, attempt, report, session):
            return
    report.check("a holder was killed while it sent", fine=False, detail=f"{ATTEMPTS} transfers were done before")


def killed_half_way(count, attempt, report, session):
    """False if the transfer was done before the kill."""
    cluster, nodes = start(count * 8, ("far", "other"))
    with cluster:
        maker, second = new_maker("far"), new_maker("other")
        ref = maker.make.remote(attempt, count)
        took_s, last = timed(lambda: ray.get(second.read.remote(ref), timeout=GET_TIMEOUT_S))
        result = []

        def read():
            try:
                result.append(ray.get(ref, timeout=GET_TIMEOUT_S))
            except Exception as error:  # noqa: BLE001 - reported below
                result.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(took_s / (2 + attempt))  # less each time
        half_way = not result
        cluster.remove_node(nodes[0], allow_graceful=False)
        killed_s, _ = timed(lambda: reader.join(GET_TIMEOUT_S + 30))
        session.note_segments()
        found = result[0] if result else TimeoutError("get did not return")
        if isinstance(found, Exception):
            report.check("a holder killed half-way: the read succeeds", fine=False, detail=repr(found)[:400])
            return True
        if not half_way:
            return False
        right = found[-1] == last and is_right(found, attempt)
        report.check("a holder killed half-way: the read succeeds", right, f"{killed_s:.2f} s after the kill")
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--killed-mb", type=int, default=1000, help="size of the array whose holder is killed")
    parser.add_argument("--only", choices=("throughput", "killed"))
    add_common_arguments(parser, 400)
    options = parser.parse_args()
    report = Report("store transfer", strict=options.strict)
    with limited(options.limit), Session(report) as session:
        if options.only != "killed":
            throughput(options, report, session)
        if options.only != "throughput":
            holder_killed(options, report, session)
    return report.status()


if __name__ == "__main__":
    run(main)
