"""The object store beside plain copies in the same run: large puts, gets, small puts.

    .venv/bin/python bench/micro/store.py [--mb 800] [--rounds 7] [--json FILE]

The store runs in this process (``local.LocalStore``); the client side is what a worker has, ``writer.Writer`` and
``reader.Reader`` with mappings of their own. The machine is shared and its speed changes from minute to minute, so the
contenders take turns within every round; a row shows the median of the rounds and the best.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import pathlib
import statistics
import time

import numpy as np

from actorrt.store import copying, segment, values
from actorrt.store.base import Limits
from actorrt.store.local import LocalStore
from actorrt.store.reader import Reader
from actorrt.store.writer import Writer

CLIENT = b"bench"
MB = 1_000_000


class Client:
    """What a worker does, without the messages in between."""

    def __init__(self, store, prefix):
        self.store = store
        self.writer = Writer(segment.SHARED_MEMORY, prefix)
        self.reader = Reader(segment.SHARED_MEMORY, prefix, lambda number: store.release(number, CLIENT))

    def put_large(self, key, array):
        planned = values.plan(b"stream", [array])
        location = self.store.create(key, planned.size_bytes, CLIENT)
        view = self.writer.buffer(location)
        values.write(view, planned)
        view.release()
        self.store.seal(location.number)

    def get(self, key):
        value = values.read(self.reader.view(self.store.pin(key, CLIENT)))
        return np.frombuffer(value.buffers[0], dtype=np.float64)

    def put_small(self, key, stream, buffers):
        planned = values.plan(stream, buffers)
        reservation = self.writer.carve(key, planned.size_bytes)
        if reservation is None:
            self.flush()
            self.writer.add_slab(self.store.lease_slab(8 << 20, CLIENT))
            reservation = self.writer.carve(key, planned.size_bytes)
        values.write(reservation.view, planned)
        self.writer.seal(reservation)

    def flush(self):
        batch = self.writer.take_batch()
        refused = self.store.adopt(batch.reports, CLIENT)
        assert not refused, refused[:3]
        for number in batch.done_slabs:
            self.store.give_back_slab(number, CLIENT)
        return batch.reports


def timed(function):
    start_s = time.perf_counter()
    function()
    return time.perf_counter() - start_s


def untouched(array):
    """Copy into shared memory nobody has touched; NumPy's own copy."""
    path = pathlib.Path(segment.SHARED_MEMORY) / f"actorrt-bench-{os.getpid()}-plain"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    path.unlink()
    os.ftruncate(descriptor, array.nbytes)
    memory = mmap.mmap(descriptor, array.nbytes)
    os.close(descriptor)
    target = np.frombuffer(memory, dtype=np.float64)
    return memory, target


def large(client, array, rounds, rows):
    size_gb = array.nbytes / 1e9

    memory, target = untouched(array)
    first_copy = size_gb / timed(lambda: np.copyto(target, array))
    first_put = size_gb / timed(lambda: client.put_large(b"first", array))
    rows["first copy into untouched shared memory"] = [first_copy], "GB/s"
    rows["first put"] = [first_put], "GB/s"
    client.store.delete(b"first")

    names = ("copy into touched memory", "put", "copying.copy, 1 thread", "copying.copy", "memoryview slice", "get")
    figures = {name: [] for name in names}
    flat = memoryview(array).cast("B")
    plain = memoryview(memory)
    client.put_large(b"warm", array)
    client.store.delete(b"warm")
    for _ in range(rounds):
        figures[names[0]].append(size_gb / timed(lambda: np.copyto(target, array)))
        figures[names[1]].append(size_gb / timed(lambda: client.put_large(b"key", array)))
        figures[names[5]].append(timed(lambda: client.get(b"key")) * 1e3)
        assert client.get(b"key")[-1] == array[-1]
        client.store.delete(b"key")
        figures[names[2]].append(size_gb / timed(lambda: copying.copy(plain, flat, threads=1)))
        figures[names[3]].append(size_gb / timed(lambda: copying.copy(plain, flat)))
        figures[names[4]].append(size_gb / timed(lambda: plain.__setitem__(slice(None), flat)))
    for name in names:
        rows[name] = figures[name], "ms" if name == "get" else "GB/s"
    rows["put / copy into touched memory"] = (
        [a / b for a, b in zip(figures[names[1]], figures[names[0]], strict=True)],
        "x",
    )


def first_put_ahead(array, rows):
    """As the first put, into a store that had the time to reserve its memory."""
    prefix = f"actorrt-bench-{os.getpid()}-ahead"
    capacity_bytes = array.nbytes * 5 // 4
    limits = Limits(capacity_bytes=capacity_bytes, reserve_ahead_bytes=capacity_bytes)
    store = LocalStore(segment.SHARED_MEMORY, prefix, limits)
    try:
        while store.statistics().reserved_bytes < capacity_bytes:
            time.sleep(0.01)
        client = Client(store, prefix)
        took_s = timed(lambda: client.put_large(b"first", array))
    finally:
        store.close()
    rows["first put, memory reserved ahead"] = [array.nbytes / 1e9 / took_s], "GB/s"


def small(client, rounds, rows):
    for size_bytes, count in ((100, 20_000), (1_000, 20_000), (10_000, 10_000), (50_000, 5_000), (200_000, 2_000)):
        payload = os.urandom(size_bytes)
        figures = []
        for number in range(rounds + 1):
            keys = [b"%d-%d-%d" % (size_bytes, number, index) for index in range(count)]

            def put_all(keys=keys, payload=payload):
                for key in keys:
                    client.put_small(key, b"", [payload])
                client.flush()

            took_s = timed(put_all)
            if number:  # the first warms up
                figures.append(count / took_s)
            for key in keys:
                client.store.delete(key)
        rows[f"puts of {size_bytes} bytes"] = figures, "/s"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    array = np.random.default_rng(0).random(arguments.mb * MB // 8)
    prefix = f"actorrt-bench-{os.getpid()}"
    capacity_bytes = max(1 << 30, arguments.mb * MB * 3 // 2)
    segment.check_capacity(capacity_bytes + array.nbytes)
    rows = {}
    first_put_ahead(array, rows)
    store = LocalStore(segment.SHARED_MEMORY, prefix, Limits(capacity_bytes=capacity_bytes))
    try:
        client = Client(store, prefix)
        large(client, array, arguments.rounds, rows)
        small(client, arguments.rounds, rows)
    finally:
        store.close()
    for name, (figures, unit) in rows.items():
        best = min(figures) if unit == "ms" else max(figures)
        print(f"{name:42}{statistics.median(figures):12,.2f} {unit:5} best {best:,.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: figures for name, (figures, _) in rows.items()}, indent=1))


if __name__ == "__main__":
    main()
