"""What the shell and the router cost: microseconds per posted message, and per round trip over a Unix socket.

    python bench/micro/shell.py [--json FILE]

Each figure is the best of several rounds: other work on the machine only ever adds to it.
"""

import argparse
import asyncio
import functools
import json
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path

from actorrt.kernel.clock import MonotonicClock
from actorrt.kernel.effects import Reply, Send
from actorrt.kernel.message import Address, Done, Envelope, Message
from actorrt.kernel.shell import Shell
from actorrt.transports.base import Limits
from actorrt.transports.unix import UnixTransport
from actorrt.wire.codec import Codec
from actorrt.wire.handshake import Identity
from actorrt.wire.router import Router

ROUNDS = 7
SHORT_ROUNDS = 60
PEER = Address("unix:///peer", "owner")
FIGURES_US = {}


class Ping(Message):
    number: int
    data: bytes = b"x" * 60


CODEC = functools.cache(lambda: Codec(Done | Ping))


class Machine:
    """Answers every message with the same effects."""

    def __init__(self, effects=()):
        self.effects = list(effects)
        self.count = 0

    def handle(self, _envelope, _now):
        self.count += 1
        return self.effects

    def check(self):
        pass

    def statistics(self):
        return Done()


class Nowhere:
    def send(self, dst, src_actor, body, request_id=0, reply_to=0):
        pass


def fail(error):
    raise error


def new_shell(machine, loop, outbox=None, name="owner"):
    return Shell(
        name, machine, clock=MonotonicClock(), loop=loop, outbox=outbox or Nowhere(), perform=fail, on_failure=fail
    )


def new_router(loop, address):
    identity = Identity(
        description="bench",
        cluster_id=b"",
        token=b"bench",
        protocol_version=1,
        python_version=(3, 11),
        random_bytes=os.urandom,
    )
    router = Router(loop, [UnixTransport(loop, Limits())], CODEC, identity)
    router.listen(address)
    return router


def best(measure, rounds=ROUNDS):
    return min(measure() for _ in range(rounds))


def report(what, seconds, count):
    FIGURES_US[what.strip()] = seconds / count * 1e6
    print(f"{what:<58} {seconds / count * 1e6:8.2f} us  {count / seconds:12,.0f} /s")


def bench_post():
    loop = asyncio.new_event_loop()
    count = 5000  # short, so that some rounds are not disturbed
    envelope = Envelope(PEER, Ping(1))
    for what, effects in (("no effects", []), ("one Send", [Send(PEER, Done())])):
        shell = new_shell(Machine(effects), loop)

        def measure(shell=shell):
            start = time.perf_counter()
            for _ in range(count):
                shell.post(envelope)
            return time.perf_counter() - start

        report(f"post, trivial machine, {what}", best(measure, SHORT_ROUNDS), count)
    shell = new_shell(Machine(), loop)

    def burst():
        start = time.perf_counter()
        for _ in range(count):
            shell.post_later(envelope)
        loop.call_soon(loop.stop)
        loop.run_forever()
        shell.drive()
        return time.perf_counter() - start

    report("post_later, and the loop handles the burst", best(burst, SHORT_ROUNDS), count)

    def contended():
        target = new_shell(Machine(), loop)
        start_line = threading.Barrier(3)

        def post():
            start_line.wait()
            for _ in range(count // 2):
                target.post(envelope)

        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()
        start_line.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join()
        assert target.machine.count == count // 2 * 2
        return time.perf_counter() - start

    report("post, two threads at once", best(contended), count)
    loop.close()


def serve(address, ready):
    """A process of one router and one shell that answers requests."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    router = new_router(loop, address)

    class Answering(Machine):
        def handle(self, envelope, _now):
            if envelope.request_id:
                return [Reply(envelope.src, envelope.request_id, Done())]
            return [Send(envelope.src, envelope.body)]

    router.attach("worker", new_shell(Answering(), loop, router, "worker").post)
    loop.call_soon(ready.set)
    loop.run_forever()


class LoopThread:
    def __init__(self, address):
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()

        def run():
            asyncio.set_event_loop(self.loop)
            self.router = new_router(self.loop, address)
            self.loop.call_soon(ready.set)
            self.loop.run_forever()
            self.router.close()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        ready.wait()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


def bench_router(where, folder, start_server):
    address = f"unix://{folder}/{where}"
    stop_server = start_server(address)
    here = LoopThread(f"unix://{folder}/{where}-client")
    router = here.router
    dst = Address(address, "worker")
    router.request(dst, Ping(0), 10).result()
    count = 3000

    def one_at_a_time():
        start = time.perf_counter()
        for number in range(count):
            router.request(dst, Ping(number), None).result()
        return time.perf_counter() - start

    report(f"{where}: request, one at a time, with a future", best(one_at_a_time), count)
    arrived = threading.Semaphore(0)
    router.attach("owner", lambda _: arrived.release())

    def ping_pong():
        start = time.perf_counter()
        for number in range(count):
            router.send(dst, "owner", Ping(number))
            arrived.acquire()
        return time.perf_counter() - start

    report(f"{where}: message and answer, one at a time", best(ping_pong), count)
    many = 20_000

    def stream():
        start = time.perf_counter()
        for number in range(many):
            router.send(dst, "owner", Ping(number))
        sent = time.perf_counter() - start
        for _ in range(many):
            arrived.acquire()
        sending.append(sent)
        return time.perf_counter() - start

    sending = []
    report(f"{where}: message and answer, {many} in flight", best(stream), many)
    report(f"{where}:   of which send() in the calling thread", min(sending), many)
    here.close()
    stop_server()


def in_process(address):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=serve, args=(address, ready))
    process.start()
    ready.wait()

    def stop():
        process.kill()
        process.join()

    return stop


def in_thread(address):
    server = LoopThread(address)

    class Answering(Machine):
        def handle(self, envelope, _now):
            if envelope.request_id:
                return [Reply(envelope.src, envelope.request_id, Done())]
            return [Send(envelope.src, envelope.body)]

    server.router.attach("worker", new_shell(Answering(), server.loop, server.router, "worker").post)
    return server.close


def bench_local():
    """The own process: encoded, decoded and posted in the calling thread."""
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as folder:
        router = new_router(loop, f"unix://{folder}/local")
        router.attach("worker", new_shell(Machine(), loop, router, "worker").post)
        dst = Address(router.process, "worker")
        count = 5000
        body = Ping(1)

        def measure():
            start = time.perf_counter()
            for _ in range(count):
                router.send(dst, "owner", body)
            return time.perf_counter() - start

        report("send to an actor of the own process, handled", best(measure, SHORT_ROUNDS), count)
        router.close()
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there, microseconds")
    options = parser.parse_args()
    bench_post()
    bench_local()
    with tempfile.TemporaryDirectory() as made:
        bench_router("thread", made, in_thread)
        bench_router("process", made, in_process)
    if options.json:
        options.json.write_text(json.dumps(FIGURES_US, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
