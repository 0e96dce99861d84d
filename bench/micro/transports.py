"""Two processes, one channel: round trip of 100 bytes, and throughput of 100-byte and 1 MiB messages.

    .venv/bin/python bench/micro/transports.py [--scale 1.0] [--loop uvloop|asyncio] [--json FILE] [kind ...]

"loop": sent from the event loop's thread (answers from within ``received``). "thread": sent by another thread, which
writes to the socket itself; for the round trip it then sleeps until the loop's thread wakes it with the answer.
The best of three rounds counts; the machine is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvloop

from actorrt.transports.base import Limits
from actorrt.transports.errors import Overflow
from actorrt.transports.unix import UnixTransport
from actorrt.transports.zeromq import ZeromqTransport

KINDS = ("unix", "ipc", "tcp")
ROUNDS = 3
BATCH = 200
COLUMNS = (
    "round trip, loop, us",
    "round trip, thread, us",
    "100 B, loop, thousand/s",
    "100 B, thread, thousand/s",
    "1 MiB, loop, MiB/s",
    "1 MiB, thread, MiB/s",
)


def new_transport(kind, limits=None):
    loop = asyncio.get_running_loop()
    return (UnixTransport if kind == "unix" else ZeromqTransport)(loop, limits or Limits())


class Peer:
    """The child: echoes what starts with ``e``, counts the rest, and answers ``?`` with ``done``."""

    def __init__(self, done):
        self.done = done

    def received(self, channel, messages):
        for message in messages:
            first = message[0]
            if first[0] == 101:  # e
                channel.send(message)
            elif first[0] == 63:  # ?
                channel.send([b"done"])

    def closed(self, _channel, _reason):
        self.done.set()


async def child(kind, address):
    done = asyncio.Event()
    transport = new_transport(kind)
    listener = transport.listen(address, lambda _channel: Peer(done))
    print(listener.address, flush=True)
    await done.wait()
    transport.close()


class Client:
    def __init__(self):
        self.arrived = asyncio.Event()
        self.on_message = None

    def received(self, channel, messages):
        for _ in messages:
            self.on_message(channel)

    def closed(self, _channel, reason):
        if self.on_message is not None and not isinstance(reason, Exception):
            raise reason


async def round_trips_loop(client, channel, count):
    message = [b"e" * 100]
    finished = asyncio.Event()
    left = count

    def on_message(channel):
        nonlocal left
        left -= 1
        if left:
            channel.send(message)
        else:
            finished.set()

    client.on_message = on_message
    start = time.perf_counter()
    channel.send(message)
    await finished.wait()
    return (time.perf_counter() - start) / count


async def round_trips_thread(client, channel, count):
    message = [b"e" * 100]
    awake = threading.Lock()
    awake.acquire()
    client.on_message = lambda _channel: awake.release()

    def work():
        start = time.perf_counter()
        for _ in range(count):
            channel.send(message)
            awake.acquire()
        return (time.perf_counter() - start) / count

    return await asyncio.to_thread(work)


async def throughput_loop(client, channel, count, message):
    """Batches of sends per turn of the loop, never more than some 32 MiB waiting."""
    finished = asyncio.Event()
    client.on_message = lambda _channel: finished.set()
    start = time.perf_counter()
    sent = 0
    while sent < count:
        if channel.pending_bytes > 32 << 20:
            await asyncio.sleep(0)
            continue
        for _ in range(min(BATCH, count - sent, max(1, (4 << 20) // len(message[0])))):
            channel.send(message)
            sent += 1
        await asyncio.sleep(0)
    channel.send([b"?"])
    await finished.wait()
    return count / (time.perf_counter() - start)


async def throughput_thread(client, channel, count, message):
    finished = asyncio.Event()
    client.on_message = lambda _channel: finished.set()

    def work():
        for _ in range(count):
            while True:
                try:
                    channel.send(message)
                    break
                except Overflow:
                    time.sleep(0.0005)
        channel.send([b"?"])

    start = time.perf_counter()
    await asyncio.to_thread(work)
    await finished.wait()
    return count / (time.perf_counter() - start)


async def measure(kind, folder, scale, loop_name):
    address = "tcp://127.0.0.1:0" if kind == "tcp" else f"{kind}://{folder}/peer"
    arguments = [sys.executable, __file__, "--child", address, "--loop", loop_name, kind]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - nothing else to do
    try:
        address = process.stdout.readline().strip()
        transport = new_transport(kind, Limits(queue_bytes_max=64 << 20))
        client = Client()
        channel = transport.connect(address, client)
        await round_trips_loop(client, channel, 500)
        small, large = [b"c" * 100], [b"c" * (1 << 20)]
        trips, many, few = int(4000 * scale), int(100_000 * scale), int(600 * scale)
        results = []
        for run, best in (
            (lambda: round_trips_loop(client, channel, trips), min),
            (lambda: round_trips_thread(client, channel, trips), min),
            (lambda: throughput_loop(client, channel, many, small), max),
            (lambda: throughput_thread(client, channel, many, small), max),
            (lambda: throughput_loop(client, channel, few, large), max),
            (lambda: throughput_thread(client, channel, few, large), max),
        ):
            results.append(best([await run() for _ in range(ROUNDS)]))
        transport.close()
        process.wait(10)
        return results
    finally:
        process.kill()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=KINDS)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--child", default="")
    options = parser.parse_args()
    factory = uvloop.new_event_loop if options.loop == "uvloop" else asyncio.new_event_loop
    if options.child:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(child(options.kinds[0], options.child))
        return
    print(f"{'':6}{'round trip 100 B, us':>24}{'100 B, thousand/s':>24}{'1 MiB, MiB/s':>24}")
    print(f"{options.loop:8}" + f"{'loop':>11}{'thread':>11}  " * 3)
    figures = {}
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=factory) as runner:
            r = runner.run(measure(kind, Path(folder), options.scale, options.loop))
        cells = (r[0] * 1e6, r[1] * 1e6, r[2] / 1e3, r[3] / 1e3, r[4], r[5])
        print(f"{kind:8}" + "".join(f"{cell:11.1f}" + "  " * (n % 2) for n, cell in enumerate(cells)), flush=True)
        figures.update({f"{kind} {column}": cell for column, cell in zip(COLUMNS, cells, strict=True)})
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
