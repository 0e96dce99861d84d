"""Bulk servers over objects in a dict, and sources that do as they are told."""

import asyncio
import contextlib
import os
import tempfile
import threading
from pathlib import Path

from actorrt.cluster.bulk import BulkError, BulkLimits, bulk_identity, dial
from actorrt.cluster.bulk_pull import Puller
from actorrt.cluster.bulk_server import BulkServer, OpenedObject

CLUSTER_ID = b"c" * 16
TOKEN = b"secret"
SMALL = BulkLimits(
    chunk_bytes=64 << 10,
    progress_timeout_s=5.0,
    handshake_timeout_s=2.0,
    connect_timeout_s=2.0,
    hold_timeout_s=0.05,
    idle_timeout_s=5.0,
)


def identity(token=TOKEN, cluster_id=CLUSTER_ID):
    return bulk_identity("test", cluster_id, token)


def some_bytes(size_bytes):
    return os.urandom(size_bytes)


def bulk_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("actorrt-bulk")}


class Shelf:
    """Objects, and who has them pinned."""

    def __init__(self, **objects):
        self.objects = {key.encode(): data for key, data in objects.items()}
        self.pins = 0
        self.opened = 0
        self.wait = None

    def open_object(self, key, still_waiting):
        if self.wait is not None:
            self.wait(still_waiting)
        data = self.objects.get(key)
        if data is None:
            raise BulkError(f"there is no {key!r}")
        self.pins += 1
        self.opened += 1
        return OpenedObject(memoryview(data), self._release)

    def _release(self):
        self.pins -= 1


@contextlib.asynccontextmanager
async def serving(shelf, *, tcp=False, limits=SMALL, token=TOKEN):
    """A server; ends with the block, without a thread left."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="ac-") as folder:
        address = "tcp://127.0.0.1:0" if tcp else f"unix://{Path(folder)}/bulk.sock"
        server = BulkServer(loop, identity(token), shelf.open_object, [address], limits)
        try:
            yield server
        finally:
            server.stop()
            await asyncio.to_thread(server.join)


@contextlib.contextmanager
def pulling(connect=None, limits=SMALL):
    """A puller; ends with the block, without a thread left."""
    made = Puller(connect or (lambda endpoint, wanted: dial(endpoint, identity(), limits, wanted)), limits)
    try:
        yield made
    finally:
        made.stop()
        made.join()


class Pulled:
    """A pull into memory of its own, and how it ended."""

    def __init__(self, puller, key, size_bytes, sources):
        self.data = bytearray(size_bytes)
        self._ended = threading.Event()
        self.outcome = None
        self.calls = 0
        self.pull = puller.pull(key, memoryview(self.data), sources, self._done)

    def _done(self, outcome):
        self.outcome = outcome
        self.calls += 1
        self._ended.set()

    def wait(self, timeout_s=20):
        assert self._ended.wait(timeout_s), f"not ended: {self.pull!r}"
        return self.outcome

    @property
    def is_over(self):
        return self._ended.is_set()


class Scripted:
    """A source of bytes; ``stop_after`` chunks it fails, at a closed ``gate`` it waits."""

    def __init__(self, data, *, stop_after=None, gate=None, error=BulkError("it failed")):
        self.data = data
        self.stop_after = stop_after
        self.gate = gate
        self.error = error
        self.asked = []
        self.served = 0
        self.rested = 0
        self.closed = 0
        self.aborted = threading.Event()
        self.reached = threading.Event()

    def request(self, key, offset, length_bytes):
        self.asked.append((offset, length_bytes))

    def receive_into(self, target):
        offset, length = self.asked.pop(0)
        self.reached.set()
        if self.gate is not None:
            while not self.gate.wait(0.01):
                if self.aborted.is_set():
                    raise BulkError("aborted")
        if self.stop_after is not None and self.served >= self.stop_after:
            raise self.error
        self.served += 1
        target[:] = self.data[offset : offset + length]

    def rest(self):
        self.rested += 1

    def abort(self):
        self.aborted.set()

    def close(self):
        self.closed += 1
