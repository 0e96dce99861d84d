"""Four times as much as the store holds: written by two actors, read back twice by two others, all through the disk.

    .venv/bin/python bench/macro/store_spill.py [--store-mb 512] [--total-mb 2048] [--object-mb 8] [--kill] [--seed 1]
    .venv/bin/python bench/macro/store_spill.py --quota [--store-mb 512] [--quota-mb 1024]

Half of the objects are results of the writers' methods, so the driver owns them; the other half the writers ``put``
themselves. What is read must have the checksum the writer took before; the spill files must be gone when the refs are.

``--kill``: a writer and a reader are killed (kill -9) in the middle. What a process owns ends with it (its readers get
``OwnerDiedError``), so here every object is a result and the driver owns them all; calls under way are repeated.

``--quota``: the disk has a quota, and the driver puts until that is full. It must end in a clear ``OutOfDiskError``,
and the cluster must work afterwards: what is there can be read, and room that is made can be used.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import time
import zlib

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

GET_TIMEOUT_S = 120
IN_FLIGHT_PER_ACTOR = 4


def content(seed, size_bytes):
    return np.random.default_rng(seed).integers(0, 256, size_bytes, dtype=np.uint8)


class Writer:
    def pid(self):
        return os.getpid()

    def make(self, seed, size_bytes):
        """The value is owned by the caller."""
        array = content(seed, size_bytes)
        return array, zlib.crc32(array)

    def put(self, seed, size_bytes):
        """The value is owned by this process."""
        array = content(seed, size_bytes)
        checksum = zlib.crc32(array)
        return [ray.put(array)], checksum


class Reader:
    def pid(self):
        return os.getpid()

    def check(self, value):
        return zlib.crc32(value)

    def check_inside(self, refs):
        return zlib.crc32(ray.get(refs[0], timeout=GET_TIMEOUT_S))


class Killer:
    """Ends the process of an actor at a given step of a phase, while it works."""

    def __init__(self, actor, at_step):
        self.pid = ray.get(actor.pid.remote(), timeout=GET_TIMEOUT_S)
        self.at_step = at_step
        self.killed = []

    def step(self, number):
        if number == self.at_step:
            kill(self.pid)
            self.killed.append(self.pid)


def spread(calls, actors, killer=None):
    """Run ``calls`` (functions that take an actor and return the ref to wait for), a few at a time on each actor."""
    pending = {}
    room = list(actors) * IN_FLIGHT_PER_ACTOR
    for number, call in enumerate(calls):
        if not room:
            room.append(pending.pop(one_ready(pending)))
        actor = room.pop(0)
        pending[call(actor)] = actor
        if killer is not None:
            killer.step(number)
    while pending:
        del pending[one_ready(pending)]


def one_ready(pending):
    ready, _ = ray.wait(list(pending), num_returns=1, timeout=GET_TIMEOUT_S, fetch_local=False)
    if not ready:
        raise TimeoutError(f"nothing of {len(pending)} calls was done within {GET_TIMEOUT_S} s")
    return ready[0]


def write_all(writers, count, size_bytes, all_returned, killer):
    """[(ref to the value, or to the list with its ref; its checksum)], in order."""
    found = [None] * count

    def call_for(index):
        def call(writer):
            returned = all_returned or index % 2 == 0
            method = writer.make if returned else writer.put
            value, checksum = method.options(num_returns=2).remote(index, size_bytes)
            found[index] = value, checksum, returned
            return checksum

        return call

    spread([call_for(index) for index in range(count)], writers, killer)
    objects = []
    for value, checksum, returned in found:
        ref = value if returned else ray.get(value, timeout=GET_TIMEOUT_S)[0]
        objects.append((ref, ray.get(checksum, timeout=GET_TIMEOUT_S)))
    return objects


def read_all(readers, objects, order, inside, killer=None):
    """How many were wrong."""
    answers = {}

    def call_for(index):
        def call(reader):
            ref = objects[index][0]
            answers[index] = reader.check_inside.remote([ref]) if inside else reader.check.remote(ref)
            return answers[index]

        return call

    spread([call_for(index) for index in order], readers, killer)
    return sum(ray.get(answers[index], timeout=GET_TIMEOUT_S) != objects[index][1] for index in order)


def round_trip(options, report, session):
    size_bytes = options.object_mb * MB
    count = options.total_mb // options.object_mb
    ray.init(
        "local",
        num_cpus=4,
        object_store_memory=max(LEAST_STORE_BYTES, options.store_mb * MB),
        object_spilling_directory=str(session.spill),
        log_to_driver=False,
    )
    retrying = {"max_restarts": -1, "max_task_retries": -1} if options.kill else {}
    writers = [ray.remote(Writer).options(num_cpus=0, **retrying).remote() for _ in range(2)]
    readers = [ray.remote(Reader).options(num_cpus=0, **retrying).remote() for _ in range(2)]
    writer_killer = Killer(writers[0], count // 2) if options.kill else None
    reader_killer = Killer(readers[0], count // 2) if options.kill else None

    start_s = time.perf_counter()
    objects = write_all(writers, count, size_bytes, options.kill, writer_killer)
    report.figure(f"written: {count} objects", count * size_bytes / MB / (time.perf_counter() - start_s), "MB/s")
    spilled_bytes = bytes_below(session.spill)
    least_bytes = count * size_bytes - options.store_mb * MB
    spilled = spilled_bytes >= 0.8 * least_bytes
    report.check("what does not fit is on the disk", spilled, f"{spilled_bytes / MB:,.0f} MB")
    rng = random.Random(options.seed)
    for number in range(2):
        order = rng.sample(range(count), count)
        start_s = time.perf_counter()
        killer = reader_killer if number == 0 else None
        wrong = read_all(readers, objects, order, inside=number == 1, killer=killer)
        rate = count * size_bytes / MB / (time.perf_counter() - start_s)
        report.check(f"read back, {('as arguments', 'by get')[number]}: checksums", wrong == 0, f"{wrong} wrong")
        report.figure("read back", rate, "MB/s")
    if options.kill:
        killed = [*writer_killer.killed, *reader_killer.killed]
        report.check("a writer and a reader were killed", len(killed) == 2, f"pids {killed}")
    session.note_segments()
    objects.clear()
    gc.collect()
    gone = wait_until(lambda: not session.spill_files(), FREED_WITHIN_S)
    report.check("spill files are gone with the last refs", gone, f"{bytes_below(session.spill) / MB:,.0f} MB left")
    check_all_freed(report)


@ray.remote(num_cpus=1, max_retries=0)
def make_one(seed, size_bytes):
    return content(seed, size_bytes)


def fill(size_bytes, count_max):
    """Put until it is refused: (refs, the error or None)."""
    refs = []
    for index in range(count_max):
        try:
            refs.append(ray.put(content(index, size_bytes)))
        except ray.exceptions.ActorrtError as error:
            return refs, error
    return refs, None


def is_right(ref, index, size_bytes):
    return bool((ray.get(ref, timeout=GET_TIMEOUT_S) == content(index, size_bytes)).all())


def quota(options, report, session):
    size_bytes = options.object_mb * MB
    store_bytes = max(LEAST_STORE_BYTES, options.store_mb * MB)
    quota_bytes = options.quota_mb * MB
    fits = (store_bytes + quota_bytes) // size_bytes
    params = {"directory_path": str(session.spill), "spill_quota_bytes": quota_bytes}
    ray.init(
        "local",
        num_cpus=2,
        object_store_memory=store_bytes,
        log_to_driver=False,
        _system_config={
            "object_spilling_config": json.dumps({"type": "filesystem", "params": params}),
            "min_spilling_size": quota_bytes // 10,
        },
    )
    start_s = time.perf_counter()
    refs, error = fill(size_bytes, fits * 2)
    took_s = time.perf_counter() - start_s
    report.figure("objects until it was full", len(refs), "", f"of {fits} that fit, {took_s:.1f} s")
    report.check("it ends in OutOfDiskError", isinstance(error, ray.exceptions.OutOfDiskError), repr(error)[:300])
    report.check("most of store and quota was used", len(refs) > 0.7 * fits, f"{len(refs)} of {fits}")
    used_bytes = bytes_below(session.spill)
    report.check("the quota was kept", used_bytes <= quota_bytes, f"{used_bytes:,} of {quota_bytes:,} bytes")
    rng = random.Random(options.seed)
    sample = rng.sample(range(len(refs)), min(10, len(refs)))
    report.check("full: what is there can be read", all(is_right(refs[i], i, size_bytes) for i in sample))
    try:
        ray.get(make_one.remote(0, size_bytes), timeout=GET_TIMEOUT_S)
    except ray.exceptions.OutOfDiskError as refused:
        report.check("full: a task's result is refused clearly", fine=True, detail=type(refused).__name__)
    except ray.exceptions.ActorrtError as refused:
        report.check("full: a task's result is refused clearly", fine=False, detail=repr(refused)[:300])
    else:
        # Reading may have made room: a copy that is on the disk as well can leave the memory.
        report.check("full: a task's result finds room or is refused", fine=True, detail="it found room")
    doubled = ray.get([double.remote(number) for number in range(50)], timeout=GET_TIMEOUT_S)
    report.check("full: small tasks run", doubled == list(range(0, 100, 2)))
    # The last ones: a file goes when all in it are gone, and the first to be written were the oldest.
    kept = {index: refs[index] for index in range(len(refs) * 2 // 3, len(refs))}
    refs.clear()
    gc.collect()
    freed = wait_until(lambda: bytes_below(session.spill) < used_bytes // 2, FREED_WITHIN_S)
    report.check("room was made on the disk by dropping refs", freed, f"{bytes_below(session.spill):,} bytes left")
    more, error = fill(size_bytes, fits // 3)
    report.check("and it can be used", error is None, repr(error)[:300])
    right = all(is_right(ref, index, size_bytes) for index, ref in kept.items())
    report.check("what was kept is right", right and all(is_right(ref, i, size_bytes) for i, ref in enumerate(more)))
    session.note_segments()
    kept.clear()
    more.clear()
    gc.collect()
    gone = wait_until(lambda: not session.spill_files(), FREED_WITHIN_S)
    report.check("spill files are gone with the last refs", gone, f"{bytes_below(session.spill) / MB:,.0f} MB left")
    check_all_freed(report)


@ray.remote
def double(number):
    return 2 * number


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store-mb", type=int, default=512)
    parser.add_argument("--total-mb", type=int, default=2048)
    parser.add_argument("--object-mb", type=int, default=8)
    parser.add_argument("--quota-mb", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill", action="store_true", help="kill a writer and a reader in the middle")
    parser.add_argument("--quota", action="store_true", help="fill a disk with a quota instead")
    add_common_arguments(parser, 600)
    options = parser.parse_args()
    report = Report(f"store spill, seed {options.seed}", strict=options.strict)
    with limited(options.limit), Session(report) as session:
        (quota if options.quota else round_trip)(options, report, session)
    return report.status()


if __name__ == "__main__":
    run(main)
