"""Refs as futures and in coroutines, of many threads and event loops; on processes and inside one process alike."""

import asyncio
import concurrent.futures
import threading

import pytest

from actorrt import exceptions


def test_await_gather_as_completed_and_wait_for(rt, gate):
    inc = rt.remote(lambda x: x + 1)
    slow = rt.remote(gate.wait).remote()

    async def main():
        assert await inc.remote(1) == 2
        assert await asyncio.gather(*[inc.remote(i) for i in range(50)]) == list(range(1, 51))
        futures = [inc.remote(i).as_future() for i in range(10)]
        assert sorted([await f for f in asyncio.as_completed(futures)]) == list(range(1, 11))
        done, pending = await asyncio.wait([slow.as_future(), inc.remote(1).as_future()], return_when="FIRST_COMPLETED")
        assert (len(done), len(pending)) == (1, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow, 0.05)
        task = asyncio.ensure_future(slow)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            many = [group.create_task(inc_of(i)) for i in range(20)]
        assert [t.result() for t in many] == list(range(1, 21))
        gate.open()
        return await asyncio.wait_for(slow, 20)

    async def inc_of(i):
        return await inc.remote(i)

    assert asyncio.run(main()) is True


def test_await_one_ref_twice_and_a_failed_one(rt):
    @rt.remote
    def fail():
        raise KeyError("k")

    async def main():
        ref, failed = rt.remote(lambda: 5).remote(), fail.remote()
        both = await asyncio.gather(ref, ref, failed, failed, return_exceptions=True)
        return both, await ref

    both, again = asyncio.run(main())
    assert both[:2] == [5, 5]
    assert again == 5
    assert all(isinstance(e, KeyError) and isinstance(e, exceptions.TaskError) for e in both[2:])


def test_concurrent_futures(rt, gate):
    @rt.remote
    def fail():
        raise KeyError("k")

    slow = rt.remote(gate.wait).remote().future()
    quick, failed = rt.put(1).future(), fail.remote().future()
    done, pending = concurrent.futures.wait([slow, quick, failed], timeout=20, return_when="FIRST_EXCEPTION")
    assert failed in done
    assert slow in pending
    called = []
    quick.add_done_callback(lambda f: called.append(f.result()))
    assert called == [1]
    assert quick.result(timeout=20) == 1
    assert isinstance(failed.exception(timeout=20), KeyError)
    gate.open()
    assert slow.result(timeout=20) is True
    assert {f.exception() is None for f in concurrent.futures.as_completed([slow, quick])} == {True}


def test_a_callback_may_submit_and_get(rt):
    answers = []
    finished = threading.Event()

    def chain(future):
        try:
            ref = rt.remote(lambda x: x * 2).remote(future.result())
            ref.future().add_done_callback(lambda f: (answers.append(f.result()), finished.set()))
        except BaseException as error:
            answers.append(error)
            finished.set()

    rt.remote(lambda: 21).remote().future().add_done_callback(chain)
    assert finished.wait(20)
    assert answers == [42]


def test_many_threads_and_loops_at_once(rt):
    inc = rt.remote(lambda x: x + 1)
    answers = {}

    async def gather(base):
        return await asyncio.gather(*[inc.remote(base + i) for i in range(30)])

    def work(thread):
        if thread % 2:
            answers[thread] = asyncio.run(gather(thread * 100))
        else:
            answers[thread] = rt.get([inc.remote(thread * 100 + i) for i in range(30)])

    threads = [threading.Thread(target=work, args=(t,)) for t in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {t: [t * 100 + i + 1 for i in range(30)] for t in range(6)}


def test_a_coroutine_function_is_no_task(rt):
    async def f():
        return 5

    with pytest.raises(ValueError, match="async def"):
        rt.remote(f)
    with pytest.raises(ValueError, match="async def"):
        rt.remote(num_cpus=1)(f)
