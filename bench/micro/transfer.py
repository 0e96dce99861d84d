"""One large object between the stores of two processes, and what a heartbeat notices of it.

    .venv/bin/python bench/micro/transfer.py [--size-gb 1.0] [--rounds 3] [--json FILE]

"plain": ``sendall`` and ``recv_into`` over one TCP connection of this machine, between the same two stores' memory.
"pull": what an object manager does: ask, 4 MiB at a time, over the bulk connection, handshake included in the first
round. All memory is reserved before, as the store does it when it makes room. The best round counts. "heartbeat": the
longest round trip of a small message through the routers of the two processes while the transfer runs, of all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import uvloop

from actorrt.cluster.bulk import BulkLimits, bulk_identity, dial
from actorrt.cluster.bulk_server import BulkServer
from actorrt.cluster.config import StoreConfig
from actorrt.cluster.network import make_router
from actorrt.cluster.storage import NodeStorage
from actorrt.kernel.message import Address, Done
from actorrt.objects.operations import Create, Open, Pull, Seal

CLUSTER_ID, TOKEN = b"c" * 16, b"benchmark"
KEY = b"object"
BEAT_INTERVAL_S = 0.01


class Side:
    """A store port whose answers can be awaited, and a router."""

    def __init__(self, folder, name, size_bytes):
        self.loop = asyncio.get_running_loop()
        self.folder = folder
        self.tickets = {}
        self.identity = bulk_identity(name, CLUSTER_ID, TOKEN)
        self.storage = NodeStorage(
            StoreConfig(capacity_bytes=size_bytes * 2 + (64 << 20)),
            f"actorrt-{uuid.uuid4().hex[:16]}",
            loop=self.loop,
            connect=lambda endpoint, wanted: dial(endpoint, self.identity, BulkLimits(), wanted),
            spill_folder=lambda: str(folder / "spill"),
        )
        self.storage.bind(lambda envelope: self.loop.call_soon_threadsafe(self.heard, envelope.body))
        self.router = make_router(
            self.loop,
            description=name,
            cluster_id=CLUSTER_ID,
            token=TOKEN,
            listen=[f"unix://{folder}/{name}.sock"],
        )

    def heard(self, body):
        waiting = self.tickets.pop(getattr(body, "ticket", 0), None)
        if waiting is not None:
            waiting.set_result(body)

    async def ask(self, operation):
        self.tickets[operation.ticket] = self.loop.create_future()
        waiting = self.tickets[operation.ticket]
        self.storage.perform(operation)
        answer = await waiting
        assert answer.failure is None, answer
        return answer

    async def room(self, key, size_bytes, ticket):
        place = (await self.ask(Create(ticket, key, size_bytes, b"bench"))).place
        return place, self.storage._room.buffer(place)

    async def close(self):
        self.router.close()
        self.storage.stop()
        await asyncio.to_thread(self.storage.join)


async def serve(folder, size_bytes):
    """The child: has the object; sends it plainly to whoever connects, or through its bulk server."""
    side = Side(folder, "child", size_bytes)
    await side.ask(Open(1))
    place, view = await side.room(KEY, size_bytes, 2)
    for start in range(0, size_bytes, 1 << 20):
        view[start : start + (1 << 20)] = bytes([start >> 20 & 255]) * min(1 << 20, size_bytes - start)
    side.storage.perform(Seal(b"bench", created=(place.number,)))
    server = BulkServer(side.loop, side.identity, side.storage.open_object, ["tcp://127.0.0.1:0"])
    side.storage.serve(server)
    side.router.attach("echo", lambda e: side.router.send(e.src, "echo", Done(), reply_to=e.request_id))
    listener = socket.create_server(("127.0.0.1", 0))

    def plain():
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(view)

    threading.Thread(target=plain, daemon=True).start()
    print(json.dumps([side.router.process, server.endpoint, listener.getsockname()[1]]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await side.close()


async def beating(side, echo, until):
    """The longest round trip of a small message until the future is done."""
    longest_s = 0.0
    while not until.done():
        began_s = time.perf_counter()
        await asyncio.wrap_future(side.router.request(echo, Done(), 60.0))
        longest_s = max(longest_s, time.perf_counter() - began_s)
        await asyncio.wait([until], timeout=BEAT_INTERVAL_S)
    return longest_s


def receive(port, view):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        done = 0
        while done < view.nbytes:
            done += sock.recv_into(view[done:])


def start_child(folder, size_bytes):
    command = [sys.executable, __file__, "--child", str(folder), str(size_bytes)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def measure(folder, size_bytes, rounds):
    child = start_child(folder, size_bytes)
    process, endpoint, port = json.loads(await asyncio.to_thread(child.stdout.readline))
    side = Side(folder, "parent", size_bytes)
    await side.ask(Open(1))
    _, plain_view = await side.room(b"plain", size_bytes, 2)
    place, view = await side.room(KEY, size_bytes, 3)
    echo = Address(process, "echo")
    await asyncio.wrap_future(side.router.request(echo, Done(), 10.0))
    idle = asyncio.ensure_future(asyncio.sleep(0.5))
    result = {"plain_s": 1e9, "pull_s": 1e9, "heartbeat_idle_ms": await beating(side, echo, idle) * 1e3}
    longest_s = 0.0
    for number in range(rounds):
        began_s = time.perf_counter()
        await asyncio.to_thread(receive, port, plain_view)
        result["plain_s"] = min(result["plain_s"], time.perf_counter() - began_s)
        began_s = time.perf_counter()
        pulled = asyncio.ensure_future(side.ask(Pull(10 + number, KEY, place, (("child", endpoint),))))
        longest_s = max(longest_s, await beating(side, echo, pulled))
        await pulled
        # beating looks at the end with its next beat: up to 10 ms late, which is part of the figure.
        result["pull_s"] = min(result["pull_s"], time.perf_counter() - began_s)
        assert view[:: 1 << 20] == plain_view[:: 1 << 20], "not what was sent"
    result["heartbeat_ms"] = longest_s * 1e3
    child.stdin.close()
    await side.close()
    await asyncio.to_thread(child.wait)
    return result


def main():
    if sys.argv[1:2] == ["--child"]:
        uvloop.run(serve(Path(sys.argv[2]), int(sys.argv[3])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-gb", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    size_bytes = int(options.size_gb * 1e9)
    with tempfile.TemporaryDirectory(prefix="ac-") as folder:
        result = uvloop.run(measure(Path(folder), size_bytes, options.rounds))
    plain, pull = (size_bytes / result[f"{name}_s"] / 1e9 for name in ("plain", "pull"))
    print(f"plain TCP            {plain:6.2f} GB/s")
    print(f"pull                 {pull:6.2f} GB/s   ratio {pull / plain:.2f} (target 0.5)")
    print(f"heartbeat, idle      {result['heartbeat_idle_ms']:6.1f} ms at most")
    print(f"heartbeat, transfer  {result['heartbeat_ms']:6.1f} ms at most (target 100)")
    if options.json:
        options.json.write_text(json.dumps({**result, "ratio": pull / plain}, indent=1))


if __name__ == "__main__":
    main()
