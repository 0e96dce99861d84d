"""Large values of all kinds, from everywhere to everywhere; on processes and inside one process alike."""

import asyncio
import gc
import threading
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from actorrt import exceptions

LARGE = 1 << 20


def in_use(rt):
    name = "object_store_memory"
    return rt.cluster_resources()[name] - rt.available_resources().get(name, 0)


def address_of(view):
    return np.frombuffer(view, np.uint8).__array_interface__["data"][0]


VALUES = {
    "array": lambda: np.arange(LARGE),
    "fortran": lambda: np.asfortranarray(np.arange(LARGE).reshape(1024, 1024)),
    "strided": lambda: np.arange(2 * LARGE)[::2],
    "nested": lambda: {"a": [np.ones(LARGE), "text"], "b": (np.zeros(3), b"x" * LARGE)},
    "bytes": lambda: b"ab" * LARGE,
    "bytearray": lambda: bytearray(b"ab" * LARGE),
    "text": lambda: "é" * LARGE,
    "many objects": lambda: [str(number) for number in range(100_000)],
    "memoryview": lambda: memoryview(np.arange(LARGE)).cast("B"),
    "table": lambda: pa.table({"a": np.arange(LARGE), "s": [str(i) for i in range(LARGE)]}),
    "slice": lambda: pa.table({"a": np.arange(LARGE)}).slice(100, LARGE // 2),
    "batch": lambda: pa.record_batch({"a": np.arange(LARGE)}),
    "frame": lambda: pd.DataFrame({"f": np.linspace(0, 1, LARGE), "s": ["x", "yz"] * (LARGE // 2)}),
    "just small": lambda: np.zeros(100 * 1024 - 300, np.uint8),
    "just large": lambda: np.zeros(100 * 1024 + 1, np.uint8),
}


def same(left, right):
    if isinstance(left, pd.DataFrame):
        return left.equals(right) and list(left.dtypes) == list(right.dtypes)
    if isinstance(left, (pa.Table, pa.RecordBatch)):
        return left.equals(right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and left and isinstance(left[0], np.ndarray):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.mark.parametrize("kind", VALUES)
def test_values_come_back(rt, kind):
    value = VALUES[kind]()

    @rt.remote
    def back(given):
        return given

    ref = rt.put(value)
    assert same(value, rt.get(ref, timeout=30))
    assert same(value, rt.get(back.remote(ref), timeout=30))
    assert same(value, rt.get(back.remote(value), timeout=30))
    assert same(value, rt.get(rt.put([ref]), timeout=30)[0] and rt.get(ref, timeout=30))


def test_reads_share_memory_and_are_read_only(rt):
    ref = rt.put(
        {"array": np.arange(LARGE), "table": pa.table({"a": np.arange(LARGE)}), "view": memoryview(b"x" * LARGE)}
    )
    one, two = rt.get([ref, ref], timeout=30)
    assert np.shares_memory(one["array"], two["array"])
    with pytest.raises(ValueError, match="read-only"):
        one["array"][0] = 1
    buffers = [each["table"].column("a").chunk(0).buffers()[1] for each in (one, two)]
    assert buffers[0].address == buffers[1].address
    assert not buffers[0].is_mutable
    frame = rt.get(rt.put(pd.DataFrame({"f": np.arange(float(LARGE))})), timeout=30)
    assert not frame["f"].to_numpy().flags.writeable


def test_a_view_outlives_its_refs(rt, until):
    until(lambda: in_use(rt) == 0)
    ref = rt.put(np.full(LARGE, 7))
    array = rt.get(ref, timeout=30)
    part = array[100:200]
    del ref, array
    others = [rt.put(np.zeros(LARGE)) for _ in range(8)]
    assert (part == 7).all()
    until(lambda: in_use(rt) > 0)
    del part, others
    gc.collect()
    until(lambda: in_use(rt) == 0)


def test_what_tasks_and_actors_made_is_released_with_its_refs(rt, until):
    until(lambda: in_use(rt) == 0)

    @rt.remote(num_returns=3)
    def three(given):
        return given, given + 1, "small"

    @rt.remote
    class Holder:
        def keep(self, box):
            self.box = box
            self.array = rt.get(box[0])
            return rt.put(self.array + 1)

        def read(self):
            return int(self.array[-1]) + int(rt.get(self.box[0])[0])

    first, second, _ = refs = three.remote(np.zeros(LARGE))
    rt.get(refs, timeout=30)
    holder = Holder.remote()
    theirs = rt.get(holder.keep.remote([second]), timeout=30)
    assert rt.get(theirs, timeout=30)[0] == 2
    del first, second, _, refs
    assert rt.get(holder.read.remote(), timeout=30) == 2
    until(lambda: in_use(rt) > 0)
    del theirs, holder
    until(lambda: in_use(rt) == 0)


def test_streams_of_large_items(rt, until):
    until(lambda: in_use(rt) == 0)

    @rt.remote(num_returns="streaming")
    def items(count):
        for number in range(count):
            yield np.full(LARGE, number)

    assert [int(rt.get(ref, timeout=30)[5]) for ref in items.remote(5)] == list(range(5))
    stream = items.remote(5)
    next(stream)
    del stream
    until(lambda: in_use(rt) == 0)


def test_in_coroutines_and_futures(rt):
    @rt.remote
    class Async:
        async def total(self, array, box):
            return int(array.sum()) + int((await box[0]).sum()), np.ones(LARGE)

    async def main():
        ref = rt.put(np.ones(LARGE))
        arrays = await asyncio.gather(ref, ref, rt.put(np.zeros(LARGE)))
        assert [int(array.sum()) for array in arrays] == [LARGE, LARGE, 0]
        actor = Async.remote()
        total, ones = await actor.total.remote(ref, [ref])
        assert total == 2 * LARGE
        assert ones.sum() == LARGE
        assert ref.future().result(30).sum() == LARGE
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rt.remote(lambda: time.sleep(30)).remote(), 0.01)

    asyncio.run(main())


def test_many_threads_read_and_write_at_once(rt):
    wrong = []

    def work(number):
        for turn in range(10):
            ref = rt.put(np.full(50_000, number * 100 + turn))
            if not (rt.get(ref, timeout=30) == number * 100 + turn).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_an_object_larger_than_the_store_is_refused_where_it_is_put(rt):
    capacity = int(rt.cluster_resources()["object_store_memory"])
    try:
        too_large = np.empty(capacity + LARGE, np.uint8)  # never touched
    except MemoryError:
        pytest.skip("no room for the array itself")
    with pytest.raises(exceptions.ObjectStoreFullError, match="do not fit"):
        rt.put(too_large)
    assert rt.get(rt.put(1)) == 1


def test_errors_with_large_causes(rt):
    @rt.remote
    def fail():
        raise ValueError(np.arange(LARGE))

    with pytest.raises(ValueError) as caught:
        rt.get(fail.remote(), timeout=30)
    assert caught.value.args[0][-1] == LARGE - 1
