"""A store port on a loop, what it says, and memory that is gone with it."""

import asyncio
import contextlib
import threading
import uuid
from pathlib import Path

from actorrt.cluster.bulk import BulkError
from actorrt.cluster.config import SHARED_MEMORY, SpillTarget, StoreConfig
from actorrt.cluster.storage import NodeStorage
from actorrt.objects.messages import StoreAnswered
from actorrt.objects.operations import Create, Open, Pin, Seal

MIB = 1 << 20


class Port:
    """A NodeStorage and all it posted."""

    def __init__(self, folder, *, connect=None, directory=SHARED_MEMORY, **config):
        self.opened_with = []
        self.posted = []
        self._news = threading.Condition()
        self._tickets = iter(range(1, 1_000_000))
        config = {"capacity_bytes": 16 * MIB, "directory": directory, **config}
        self.storage = NodeStorage(
            StoreConfig(**config),
            f"actorrt-{uuid.uuid4().hex[:16]}",
            loop=asyncio.get_running_loop(),
            connect=connect or _nobody,
            spill_folder=lambda: str(folder / "spill"),
            before_open=self.opened_with.append,
        )
        self.storage.bind(self._heard)

    def _heard(self, envelope):
        with self._news:
            self.posted.append(envelope.body)
            self._news.notify_all()

    def of(self, kind):
        return [message for message in self.posted if type(message) is kind]

    async def heard(self, predicate, timeout_s=10):
        """The first message for which it is true, once there is one."""

        def wait():
            with self._news:
                assert self._news.wait_for(lambda: any(predicate(m) for m in self.posted), timeout_s), self.posted
                return next(message for message in self.posted if predicate(message))

        return await asyncio.to_thread(wait)

    async def ask(self, kind, *arguments, **keywords):
        """Perform an operation with a ticket and return its answer."""
        ticket = next(self._tickets)
        self.storage.perform(kind(ticket, *arguments, **keywords))
        return await self.heard(lambda m: getattr(m, "ticket", None) == ticket)

    async def open(self):
        answer = await self.ask(Open)
        assert answer == StoreAnswered(answer.ticket)

    async def put(self, key, data, client=b"writer", **keywords):
        """A sealed object; its place."""
        place = await self.create(key, len(data), client, **keywords)
        self.storage._room.buffer(place)[:] = data
        self.storage.perform(Seal(client, created=(place.number,)))
        return place

    async def create(self, key, size_bytes, client=b"writer", **keywords):
        answer = await self.ask(Create, key, size_bytes, client, **keywords)
        assert answer.failure is None, answer
        return answer.place

    async def pin(self, key, client=b"reader"):
        return await self.ask(Pin, key, client)

    def segments(self):
        return sorted(path.name for path in Path(self.storage.config.directory).glob(f"{self.storage.prefix}*"))


def _nobody(_endpoint, _wanted):
    raise BulkError("there is nobody")


@contextlib.asynccontextmanager
async def port(folder, **config):
    made = Port(folder, **config)
    try:
        yield made
    finally:
        made.storage.stop()
        await asyncio.to_thread(made.storage.join)
        assert made.segments() == []


def spill(*paths, quota_bytes=None):
    return tuple(SpillTarget(str(path), quota_bytes) for path in paths)
