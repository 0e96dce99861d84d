"""Routers and actors to test with, over real transports."""

import asyncio
import contextlib
import logging
import os
import threading

from actorrt.kernel.message import Address, Done, Message, PeerGone, RequestFailed
from actorrt.transports.base import Limits
from actorrt.transports.inproc import Hub, InprocTransport
from actorrt.transports.unix import UnixTransport
from actorrt.transports.zeromq import ZeromqTransport
from actorrt.wire.codec import Codec
from actorrt.wire.handshake import Identity
from actorrt.wire.records import Buffer
from actorrt.wire.router import Router, RouterLimits

CLUSTER = b"c" * 16
WAIT_S = 20


class Numbered(Message):
    sender: int
    number: int


class Loaded(Message):
    data: Buffer


class Echo(Message):
    text: str


CODEC = Codec(Done | RequestFailed | Numbered | Loaded | Echo)


def identity(description, **changes):
    fields = {
        "description": description,
        "cluster_id": CLUSTER,
        "token": b"the cluster's token",
        "protocol_version": 1,
        "python_version": (3, 11),
        "random_bytes": os.urandom,
    }
    return Identity(**{**fields, **changes})


class Inbox:
    """An actor that keeps what it is sent, and lets coroutines wait for it."""

    def __init__(self):
        self.envelopes = []
        self.threads = set()
        self._changed = asyncio.Event()
        self.reply = None

    def post(self, envelope):
        self.threads.add(threading.get_ident())
        self.envelopes.append(envelope)
        if self.reply is not None and envelope.request_id:
            self.reply(envelope)
        self._changed.set()

    @property
    def bodies(self):
        return [envelope.body for envelope in self.envelopes]

    async def until(self, condition):
        async with asyncio.timeout(WAIT_S):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def until_count(self, count):
        await self.until(lambda inbox: len(inbox.envelopes) >= count)

    async def until_gone(self):
        await self.until(lambda inbox: any(type(body) is PeerGone for body in inbox.bodies))
        return next(body for body in self.bodies if type(body) is PeerGone)


def make_transport(kind, loop, hub):
    if kind == "inproc":
        return InprocTransport(loop, Limits(), hub)
    return ZeromqTransport(loop, Limits()) if kind == "ipc" else UnixTransport(loop, Limits())


class World:
    """Routers of one test, over one kind of transport."""

    def __init__(self, kind, folder):
        self.kind = kind
        self.folder = folder
        self.hub = Hub()
        self.routers = []
        self.count = 0

    def transport(self):
        return make_transport(self.kind, asyncio.get_running_loop(), self.hub)

    def address(self):
        self.count += 1
        return f"inproc://{self.count}" if self.kind == "inproc" else f"{self.kind}://{self.folder}/{self.count}"

    def router(self, description="test", *, limits=None, listen=True, transports=None, **changes):
        loop = asyncio.get_running_loop()
        router = Router(
            loop, transports or [self.transport()], lambda: CODEC, identity(description, **changes), limits or LIMITS
        )
        self.routers.append(router)
        if listen:
            router.listen(self.address())
        inbox = Inbox()
        router.attach("actor", inbox.post)
        return router, inbox

    def close(self):
        for router in self.routers:
            router.close()


LIMITS = RouterLimits(handshake_timeout_s=WAIT_S, connect_timeout_s=WAIT_S)


@contextlib.asynccontextmanager
async def world(kind, folder):
    made = World(kind, folder)
    try:
        yield made
    finally:
        made.close()
        for _ in range(5):  # the transports tell their handlers
            await asyncio.sleep(0)


def at(router, actor="actor"):
    return Address(router.process, actor)


class Logged(logging.Handler):
    """Lets a coroutine wait for a line of the wire's log."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.texts = []
        self._changed = asyncio.Event()

    def emit(self, record):
        self.texts.append(record.getMessage())
        self._changed.set()

    async def until(self, part):
        async with asyncio.timeout(WAIT_S):
            while not any(part in text for text in self.texts):
                self._changed.clear()
                await self._changed.wait()


@contextlib.contextmanager
def logged():
    handler = Logged()
    logger = logging.getLogger("actorrt.wire")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
