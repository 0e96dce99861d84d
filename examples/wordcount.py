"""Map-reduce: count the words of Python's own standard library, then check the result against a single process.

    python examples/wordcount.py [--num-cpus N] [--limit-mb MB] [--no-check]

*Map* tasks count the words of a batch of files each. *Reduce* tasks add up the counts of a few others: they get
references as arguments, so this program only ever handles references and the final count.
"""

import argparse
import heapq
import os
import re
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import actorrt

WORD = re.compile(r"[a-z]+")
BATCH_BYTES = 1 << 20
BATCHES_PER_CPU_MIN = 4  # so that every worker gets some, and none is left alone with a long last one
FAN_IN = 4  # counts that one reduce task adds up


def count_files(paths):
    """Count the words of some files. Used by the map tasks, and by the single process to compare with."""
    words = Counter()
    size_bytes = 0
    for path in paths:
        data = path.read_bytes()
        size_bytes += len(data)
        words.update(WORD.findall(data.decode("utf-8", errors="replace").lower()))
    return words, size_bytes


# num_returns=2: two references. The counts stay where they are needed next; the small report comes to the driver.
@actorrt.remote(num_returns=2)
def count_batch(paths):
    words, size_bytes = count_files(paths)
    return words, (os.getpid(), len(paths), size_bytes)


@actorrt.remote(num_returns=2)
def merge(*counts):
    total = Counter()
    for words in counts:
        total.update(words)
    return total, (os.getpid(), 0, 0)


def find_files(limit_bytes):
    """All Python files of the standard library with their sizes (packages that were installed later do not count)."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    left_bytes = limit_bytes
    for path in sorted(root.rglob("*.py")):
        if {"site-packages", "dist-packages"} & set(path.parts) or not os.access(path, os.R_OK) or not path.is_file():
            continue
        size_bytes = path.stat().st_size
        if size_bytes > left_bytes:
            break
        left_bytes -= size_bytes
        found.append((size_bytes, path))
    return found


def balanced_batches(files, num_cpus):
    """Deal files out so that batches are about equally large: the largest first, each to the smallest batch."""
    size_bytes = sum(size for size, _path in files)
    count = min(len(files), max(num_cpus * BATCHES_PER_CPU_MIN, size_bytes // BATCH_BYTES))
    batches = [(0, number, []) for number in range(count)]
    for size, path in sorted(files, reverse=True):
        filled, number, paths = heapq.heappop(batches)
        paths.append(path)
        heapq.heappush(batches, (filled + size, number, paths))
    return [paths for _filled, _number, paths in sorted(batches, reverse=True)]


def count_on_cluster(batches, progress):
    """Return the counts, and the reports of all tasks."""
    counts, pending = [], []
    for paths in batches:
        words, report = count_batch.remote(paths)
        counts.append(words)
        pending.append(report)
    # The whole tree is submitted at once; each merge starts as soon as its inputs are there.
    while len(counts) > 1:
        level = []
        for start in range(0, len(counts), FAN_IN):
            words, report = merge.remote(*counts[start : start + FAN_IN])
            level.append(words)
            pending.append(report)
        counts = level

    # wait() returns as soon as one more report is there.
    reports = []
    bar = progress.add_task("counting", total=len(pending))
    while pending:
        ready, pending = actorrt.wait(pending, num_returns=1)
        reports += actorrt.get(ready)
        progress.update(bar, advance=len(ready))
    return actorrt.get(counts[0]), reports


def show(words, reports, duration_s, num_cpus):
    console = Console()
    table = Table("word", "count", title="The 20 most frequent words")
    table.columns[1].justify = "right"
    for word, count in words.most_common(20):
        table.add_row(word, f"{count:,}")
    console.print(table)
    tasks_by_pid = Counter(pid for pid, _files, _bytes in reports)
    size_bytes = sum(report[2] for report in reports)
    print(f"files: {sum(report[1] for report in reports)}")
    print(f"bytes: {size_bytes} ({size_bytes / 1e6:.1f} MB)")
    print(f"words: {words.total()} ({len(words)} different ones)")
    print(f"worker processes: {len(tasks_by_pid)} (num_cpus={num_cpus})")
    for pid, count in sorted(tasks_by_pid.items()):
        print(f"  pid {pid}: {count} tasks")
    print(f"wall time: {duration_s:.2f} s on the cluster")


def matches_single_process(words, files, duration_s):
    """Count again without a cluster and compare."""
    start_s = time.perf_counter()
    expected, _size_bytes = count_files([path for _size, path in files])
    alone_s = time.perf_counter() - start_s
    print(f"wall time: {alone_s:.2f} s in a single process ({alone_s / duration_s:.2f} times that of the cluster)")
    if words == expected:
        print("check: both counts are equal")
        return True
    # Counter subtraction would drop what is negative, so every word is looked at.
    wrong = sorted(word for word in words.keys() | expected.keys() if words[word] != expected[word])
    print(f"check: MISMATCH in {len(wrong)} words, for example:", file=sys.stderr)
    for word in wrong[:5]:
        print(f"  {word!r}: {words[word]} on the cluster, {expected[word]} in a single process", file=sys.stderr)
    return False


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Count the words of Python's standard library on a cluster.")
    parser.add_argument("--num-cpus", type=int, default=max(2, os.cpu_count() or 1), help="worker processes at a time")
    parser.add_argument("--limit-mb", type=float, default=float("inf"), help="stop reading files after so many MB")
    parser.add_argument("--no-check", action="store_true", help="do not compare with a single process")
    options = parser.parse_args(arguments)

    files = find_files(options.limit_mb * 1e6)
    if not files:
        print("no file of the standard library fits the limit, or none could be read", file=sys.stderr)
        return 1
    # The bar goes to stderr, so that the output can be piped; where that is no terminal, it is not animated.
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tasks"),
        TimeElapsedColumn(),
    )
    with actorrt.init("local", num_cpus=options.num_cpus), Progress(*columns, console=Console(stderr=True)) as progress:
        start_s = time.perf_counter()
        words, reports = count_on_cluster(balanced_batches(files, options.num_cpus), progress)
        duration_s = time.perf_counter() - start_s
    show(words, reports, duration_s, options.num_cpus)
    if options.no_check:
        return 0
    return 0 if matches_single_process(words, files, duration_s) else 1


if __name__ == "__main__":
    sys.exit(main())
