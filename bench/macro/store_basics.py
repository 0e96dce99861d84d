"""The object store through the public API: one large array, and many small values.

    .venv/bin/python bench/macro/store_basics.py [--mb 800] [--rounds 5] [--small 100000] [--large 20000] [--strict]

Large: ``put`` beside NumPy's copy into memory that is touched already, the first ``put`` beside the first copy into
untouched shared memory, ``get``; two actors that read the array share its pages with everybody else; nobody can write
to it. Small: values of 100 bytes to 50 KB, which stay with their owner, and values of 200 KB in a warm store.
"""

from __future__ import annotations

import argparse
import gc
import mmap
import os
import random
import re
import time
from collections import deque
from pathlib import Path

import numpy as np
from common import MB, Report, Session, add_common_arguments, check_all_freed, limited, median, run, timed

import actorrt as ray

GET_TIMEOUT_S = 120
SMALL_BYTES = (100, 50_000)
LARGE_BYTES = 200_000
PIN_WINDOW = 2000
LARGE_WINDOW = 500


@ray.remote(num_cpus=0)
class Reader:
    """Keeps an array, and says what its process sees of it."""

    def keep(self, array):
        self.array = array
        return self.sum()

    def keep_from(self, refs):
        self.array = ray.get(refs[0])
        return self.sum()

    def sum(self):
        return int(self.array.view(np.uint64).sum())  # exact; of floats it would depend on where they lie

    def where(self):
        return os.getpid(), self.array.ctypes.data, self.array.nbytes, self.array.flags.writeable

    def write(self):
        self.array[0] = 1.0

    def time_get(self, refs):
        start_s = time.perf_counter()
        value = ray.get(refs[0])
        return time.perf_counter() - start_s, float(value[-1])


def mapping_of(pid, address):
    """(file, size, Rss, Pss) of the mapping that holds an address, in bytes; None if there is none."""
    found = None
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)", line)
        if head:
            if found is not None:
                break
            first, last = int(head[1], 16), int(head[2], 16)
            if first <= address < last:
                found = {"file": head[3], "size": last - first}
        elif found is not None and (entry := re.match(r"(Rss|Pss): +(\d+) kB", line)):
            found[entry[1]] = int(entry[2]) * 1024
    return found and (found["file"], found["size"], found["Rss"], found["Pss"])


def untouched(array):
    """An array of the same size in shared memory that nobody has touched."""
    path = Path("/dev/shm", f"actorrt-bench-{os.getpid()}-plain")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    path.unlink()
    os.ftruncate(descriptor, array.nbytes)
    memory = mmap.mmap(descriptor, array.nbytes)
    os.close(descriptor)
    return np.frombuffer(memory, dtype=array.dtype)


def settle():
    """Refs that were dropped are handed over a little later."""
    gc.collect()
    time.sleep(0.3)


def large_speed(report, array, rounds):
    size_gb = array.nbytes / 1e9
    target = untouched(array)
    copy_s, _ = timed(lambda: np.copyto(target, array))
    report.figure("first copy into untouched shared memory", size_gb / copy_s, "GB/s")
    put_s, ref = timed(lambda: ray.put(array))
    report.target("first put, times that copy", copy_s / put_s, 0.8, "x")
    refs = [ref]
    del ref
    first_get_s = timed(lambda: len(ray.get(refs[0], timeout=GET_TIMEOUT_S)))[0]
    report.figure("first get", first_get_s * 1e3, "ms")
    refs.clear()
    settle()
    copies, puts, gets = [], [], []
    for number in range(rounds + 1):
        settle()
        copies.append(timed(lambda: np.copyto(target, array))[0])
        put_s, ref = timed(lambda: ray.put(array))
        puts.append(put_s)
        get_s, found = timed(lambda ref=ref: ray.get(ref, timeout=GET_TIMEOUT_S))
        gets.append(get_s)
        if number == 0:
            report.check("what was put comes back", bool((found == array).all()))
        del ref, found
    copies, puts, gets = copies[1:], puts[1:], gets[1:]
    report.figure("copy into touched memory", size_gb / median(copies), "GB/s")
    report.figure("put", size_gb / median(puts), "GB/s")
    ratio = median([copy_s / put_s for copy_s, put_s in zip(copies, puts, strict=True)])
    report.target("put, times that copy", ratio, 0.8, "x")
    report.target("get", median(gets) * 1e3, 1.0, "ms", at_most=True)


def refuses_writes(report, who, write):
    try:
        write()
    except ValueError as error:  # also the error of a task, which is an instance of the user's class
        report.check(f"{who}: writing raises NumPy's ValueError", "read-only" in str(error))
    else:
        report.check(f"{who}: writing raises NumPy's ValueError", fine=False, detail="it was written")


def sharing(report, array):
    """Two actors, the driver and the node look at the same pages."""
    expected = int(array.view(np.uint64).sum())
    ref = ray.put(array)
    mine = ray.get(ref, timeout=GET_TIMEOUT_S)
    again = ray.get(ref, timeout=GET_TIMEOUT_S)
    report.check("two gets give the same memory", np.shares_memory(mine, again))
    report.check("the array is read-only", not mine.flags.writeable)
    refuses_writes(report, "driver", lambda: mine.__setitem__(0, 1.0))
    readers = [Reader.remote() for _ in range(2)]
    sums = ray.get([readers[0].keep.remote(ref), readers[1].keep_from.remote([ref])], timeout=GET_TIMEOUT_S)
    report.check("two actors read it (argument, and get)", sums == [expected, expected])
    places = ray.get([reader.where.remote() for reader in readers], timeout=GET_TIMEOUT_S)
    places.append((os.getpid(), mine.ctypes.data, mine.nbytes, mine.flags.writeable))
    files = set()
    for name, (pid, address, size_bytes, writeable) in zip(
        ("first actor", "second actor", "driver"), places, strict=True
    ):
        report.check(f"{name}: read-only", not writeable)
        found = mapping_of(pid, address)
        if found is None or not found[0].startswith("/dev/shm/"):
            report.check(f"{name}: the array lies in a segment", fine=False, detail=str(found))
            continue
        path, _size, resident_bytes, share_bytes = found
        files.add(path)
        detail = f"Rss {resident_bytes / MB:,.0f} MB, Pss {share_bytes / MB:,.0f} MB"
        report.check(f"{name}: all of it is resident", resident_bytes > 0.9 * size_bytes, detail)
        report.check(f"{name}: its pages are shared (Pss / Rss)", share_bytes < 0.6 * resident_bytes, detail)
    report.check("all have mapped the same file", len(files) == 1, " ".join(sorted(files)))
    for reader, name in zip(readers, ("first actor", "second actor"), strict=True):
        refuses_writes(report, name, lambda reader=reader: ray.get(reader.write.remote(), timeout=GET_TIMEOUT_S))
    figures = ray.get([readers[0].time_get.remote([ref]) for _ in range(20)], timeout=GET_TIMEOUT_S)
    report.check("gets in an actor are right", {last for _, last in figures} == {float(array[-1])})
    report.target("get in an actor", median([get_s for get_s, _ in figures]) * 1e3, 1.0, "ms", at_most=True)
    for reader in readers:
        ray.kill(reader)


def puts_per_second(payloads, window, count):
    """Put and drop; returns (per second, all refs that are still held with their values)."""
    held = deque(maxlen=window)
    put = ray.put
    choice = len(payloads)
    start_s = time.perf_counter()
    for number in range(count):
        held.append(put(payloads[number % choice]))
    took_s = time.perf_counter() - start_s
    first = count - len(held)
    return count / took_s, [(ref, payloads[(first + index) % choice]) for index, ref in enumerate(held)]


def come_back(pairs, rng):
    sample = rng.sample(pairs, min(200, len(pairs)))
    return all(bytes(ray.get(ref, timeout=GET_TIMEOUT_S)) == payload for ref, payload in sample)


def small(report, small_count, large_count, rng):
    noise = rng.randbytes(SMALL_BYTES[1] + 64)
    payloads = [noise[index % 64 : index % 64 + rng.randint(*SMALL_BYTES)] for index in range(997)]
    puts_per_second(payloads, PIN_WINDOW, small_count // 10)
    rate, held = puts_per_second(payloads, PIN_WINDOW, small_count)
    report.check(f"{small_count:,} small values come back", come_back(held, rng))
    report.target(f"puts of {SMALL_BYTES[0]} B to {SMALL_BYTES[1] // 1000} KB", rate, 100_000, "/s")
    del held
    settle()
    noise = rng.randbytes(LARGE_BYTES + 997)
    payloads = [noise[index : index + LARGE_BYTES] for index in range(0, 997, 16)]
    puts_per_second(payloads, LARGE_WINDOW, max(LARGE_WINDOW * 2, large_count // 4))
    settle()
    rate, held = puts_per_second(payloads, LARGE_WINDOW, large_count)
    report.check(f"{large_count:,} values of {LARGE_BYTES // 1000} KB come back", come_back(held, rng))
    report.target(f"puts of {LARGE_BYTES // 1000} KB", rate, 20_000, "/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=800, help="size of the array")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=100_000, help="how many small values")
    parser.add_argument("--large", type=int, default=20_000, help="how many values of 200 KB")
    parser.add_argument("--seed", type=int, default=1)
    add_common_arguments(parser, 300)
    options = parser.parse_args()
    report = Report(f"store basics, seed {options.seed}", strict=options.strict)
    array = np.random.default_rng(options.seed).random(options.mb * MB // 8)
    # Two of them, and as much again as small values may need until the dropped ones are freed.
    capacity_bytes = 2 * array.nbytes + max(500 * MB, 4 * LARGE_WINDOW * LARGE_BYTES)
    with limited(options.limit), Session(report) as session:
        ray.init("local", num_cpus=2, object_store_memory=capacity_bytes, log_to_driver=False)
        large_speed(report, array, options.rounds)
        sharing(report, array)
        small(report, options.small, options.large, random.Random(options.seed))
        session.note_segments()
        settle()
        check_all_freed(report)
    return report.status()


if __name__ == "__main__":
    run(main)
