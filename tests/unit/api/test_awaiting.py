"""Coroutines that wait."""

import asyncio
import threading

import pytest

from actorrt.api.awaiting import Awaiter
from actorrt.wire.records import RefInfo

REF = RefInfo(b"a" * 20, "owner")


class Awaited:
    def __init__(self, awaiter):
        self.awaiter = awaiter

    def __await__(self):
        yield from self.awaiter.wait(REF)


def test_woken_from_another_thread():
    waiters, dropped = [], []
    awaiter = Awaiter(waiters.append, dropped.append)

    async def main():
        tasks = [asyncio.ensure_future(wait()) for _ in range(5)]
        while len(waiters) < 5:
            await asyncio.to_thread(lambda: None)
        thread = threading.Thread(target=lambda: [waiter.wake() for waiter in waiters])
        thread.start()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        thread.join()

    async def wait():
        await Awaited(awaiter)

    asyncio.run(main())
    assert dropped == []
    assert waiters[0].object_ids == (REF,)


def test_a_cancelled_wait_is_dropped_and_may_still_be_woken():
    waiters, dropped = [], []
    awaiter = Awaiter(waiters.append, dropped.append)

    async def main():
        async def wait():
            await Awaited(awaiter)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.01)
        waiters[0].wake()
        await asyncio.to_thread(lambda: None)

    asyncio.run(main())
    assert dropped == waiters


def test_a_closed_loop_is_nobody():
    waiters = []
    awaiter = Awaiter(waiters.append, lambda _: None)
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    awaiter.wake(loop, future)
    assert awaiter._ready == {}
