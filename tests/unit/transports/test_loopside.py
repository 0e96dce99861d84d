import asyncio
import threading

import pytest

from actorrt.transports.loopside import LoopSide


def test_is_here_only_inside_its_own_loop():
    async def main():
        side = LoopSide(asyncio.get_running_loop())
        assert side.is_here()
        assert not await asyncio.to_thread(side.is_here)
        return side

    side = asyncio.run(main())
    assert not side.is_here()


def test_soon_from_any_thread_and_on_a_closed_loop():
    async def main():
        side = LoopSide(asyncio.get_running_loop())
        seen = []
        done = asyncio.Event()

        def note():
            seen.append(threading.get_ident())
            if len(seen) == 2:
                done.set()

        assert side.soon(note)
        assert seen == [], "not from within"
        assert await asyncio.to_thread(side.soon, note)
        await done.wait()
        assert seen == [threading.get_ident()] * 2
        return side

    side = asyncio.run(main())
    assert side.soon(pytest.fail) is False
