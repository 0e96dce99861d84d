"""Large values at the edges: interrupts, shutdowns, forks, crashes, counting, odd values."""

import asyncio
import gc
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import actorrt
from actorrt import exceptions
from actorrt.api import runtime as runtime_module
from actorrt.kernel.context import find_runtime
from actorrt.kernel.errors import ActorrtError
from actorrt.kernel.limits import INLINE_VALUE_BYTES_MAX
from actorrt.kernel.message import Address
from actorrt.objects.messages import GetStoreReport
from actorrt.store import copying, reader
from actorrt.testing import Cluster

MIB = 1 << 20
STORE_BYTES = 100 * MIB


def report():
    runtime = find_runtime()
    runtime.flush()
    return runtime.ask(Address(runtime.raylet.process, "objects"), GetStoreReport(100))


def figure(name):
    return report().figures.get(name) or 0


def pins():
    gc.collect()
    return sorted(item.pins for item in report().objects)


def filled(value, mib=1.0):
    return np.full(int(mib * MIB), value, np.uint8)


def content(view):
    return set(view[::500].tolist())


@pytest.fixture(params=["processes", "in_process"])
def small(sessions, request):
    """A cluster of one node with a small store, of its own; this process is a driver."""
    arguments = {"num_cpus": 2, "object_store_memory": STORE_BYTES}
    is_inside = request.param == "in_process"
    with Cluster(initialize_head=True, head_node_args=arguments, in_process=is_inside) as cluster:
        cluster.connect()
        yield cluster


@pytest.fixture
def rt(small):
    """The package, connected (no cluster is shared here: several tests end theirs)."""
    return actorrt


@pytest.fixture
def pair(sessions):
    """Two nodes that are processes; tasks with resource ``far`` run on the second."""
    arguments = {"num_cpus": 2, "object_store_memory": 3 * STORE_BYTES}
    with Cluster(initialize_head=True, head_node_args=arguments) as cluster:
        cluster.add_node(num_cpus=1, resources={"far": 1}, object_store_memory=3 * STORE_BYTES)
        cluster.connect()
        yield cluster


@pytest.fixture
def stopped(pair):
    """Stops the second node (it neither answers nor is gone) until the test ends."""
    pid = pair.worker_nodes[0].pid
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


def make_far(value, mib=1.0):
    return actorrt.remote(filled).options(resources={"far": 1}).remote(value, mib)


# ------------------------------------------------------------------------------------ values
VALUES = {
    "empty parts": lambda: [np.zeros((0, 3)), b"", memoryview(b""), np.ones(MIB, np.uint8), np.zeros(0)],
    "objects": lambda: np.array([{"a": np.ones(MIB // 4)}, None, "text"] * 3, dtype=object),
    "not contiguous": lambda: np.arange(3 * MIB, dtype=np.uint8).reshape(3, -1)[:, ::2].T,
    "many buffers": lambda: [np.full(64 * 1024, n % 250, np.uint8) for n in range(300)],
    "read-only": lambda: np.broadcast_to(np.arange(10.0), (20_000, 10)),
    "records": lambda: np.zeros(100_000, dtype=[("a", "i4"), ("b", "S3")]),
}


def same(left, right):
    if isinstance(left, np.ndarray):
        if left.dtype == object:
            return all(map(same, left.tolist(), right.tolist()))
        return left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def test_odd_values_come_back(rt):
    echo = rt.remote(lambda x: x)
    for name, make in VALUES.items():
        value = make()
        assert same(rt.get(rt.put(value)), value), name
        assert same(rt.get(echo.remote(value)), value), name


def test_sizes_at_the_thresholds(rt):
    make = rt.remote(lambda size: bytes([7]) * size)
    for edge in (64 * 1024, INLINE_VALUE_BYTES_MAX):
        for size in range(edge - 3, edge + 4):
            assert rt.get(rt.put(bytes(size))) == bytes(size)
            assert rt.get(make.remote(size)) == bytes([7]) * size
        for size in range(edge - 300, edge + 20, 37):
            assert rt.get(rt.put(np.full(size, 3, np.uint8))).sum() == 3 * size


# ------------------------------------------------------------------------------------ counting
def test_refs_inside_stored_values_are_released_once(pair, until):
    def is_empty():
        gc.collect()
        return not figure("objects") and not figure("used_bytes") and not find_runtime().machine.objects.records

    @actorrt.remote(resources={"far": 1})
    def box():
        return [actorrt.put(filled(5)), filled(6)]

    @actorrt.remote
    def read(value):
        inner = actorrt.get(value[0]) if isinstance(value[0], actorrt.ObjectRef) else value[0]
        return actorrt.get(inner[0]).nbytes if isinstance(inner, list) else inner.nbytes

    for make in (lambda: actorrt.put([actorrt.put(filled(5)), filled(6)]), box.remote):
        ref = make()
        actorrt.wait([ref], fetch_local=False)
        del ref  # never read
        until(is_empty)
        ref = make()
        inner = actorrt.get(ref)[0]
        del ref
        assert content(actorrt.get(inner)) == {5}  # it outlives its container
        del inner
        until(is_empty)
        ref = make()
        assert actorrt.get([read.remote(ref), read.remote([ref]), read.remote([ref, filled(1)])]) == [MIB] * 3
        del ref
        until(is_empty)


def test_what_nobody_takes_is_released(pair, until, tally):
    """Items of a dropped stream, results of an attempt that crashed, of a cancelled task."""

    @actorrt.remote(num_returns="streaming", resources={"far": 1})
    def items():
        for number in range(10):
            yield filled(number)

    @actorrt.remote(max_retries=1)
    def crashes_first():
        kept = actorrt.put(filled(1))
        if tally.hit() == 1:
            os._exit(1)
        return [kept, filled(2)]

    stream = items.remote()
    first = next(stream)
    del stream
    assert content(actorrt.get(first)) == {0}
    result = crashes_first.remote()
    assert content(actorrt.get(result)[1]) == {2}
    del first, result
    until(lambda: gc.collect() is not None and not figure("objects") and not figure("used_bytes"))


# ------------------------------------------------------------------------------------ odd moments
def test_shutdown_while_others_put_and_get(small):
    runtime, ended = find_runtime(), []
    ref = actorrt.put(filled(5))
    view = actorrt.get(ref)

    def work(act):
        try:
            while True:
                act()
        except ActorrtError as error:
            ended.append(error)

    held = []
    acts = (
        lambda: runtime.put(filled(1, 5)),
        lambda: held.append(runtime.put(filled(2, 9))) or held[:-30].clear(),
        lambda: runtime.put(filled(3, 0.2)),
        lambda: runtime.get([ref] * 10, None),
    )
    threads = [threading.Thread(target=work, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    actorrt.shutdown()
    for thread in threads:
        thread.join(5)
    assert len(ended) == len(acts), "a thread hangs, or met something else"
    assert content(view) == {5}


def test_a_forked_child_leaves_the_pins_of_its_parent_alone(drivers):
    ran = drivers.run(
        """
        import gc
        import numpy as np
        rt.init(num_cpus=1, object_store_memory=100 << 20, log_to_driver=False)
        ref = rt.put(np.full(1 << 20, 5, np.uint8))
        view = rt.get(ref)
        open_slab = [rt.put(np.full(200_000, 6, np.uint8)) for _ in range(3)]
        pid = os.fork()
        if pid == 0:
            part = view[10:]
            del view, part, ref, open_slab
            gc.collect()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        del ref
        time.sleep(0.3)
        others = [rt.put(np.full(1 << 20, 9, np.uint8)) for _ in range(20)]
        assert set(view.tolist()) == {5}
        assert all(set(value.tolist()) == {6} for value in rt.get(open_slab))
        rt.shutdown()
        say("fine")
        """
    )
    assert "fine" in ran.out


def test_a_reader_outlives_a_driver_that_crashes(small, until):
    @actorrt.remote
    class Keeper:
        def take(self, box):
            self.box, self.view = box, actorrt.get(box[0])

        def look(self):
            return content(self.view)

        def again(self):
            return actorrt.get(self.box[0], timeout=5)

        def drop(self):
            del self.view

    if small.in_process:
        pytest.skip("another process cannot join")
    keeper = Keeper.options(name="keeper", namespace="shared", lifetime="detached").remote()
    program = f"""
import os, actorrt, numpy as np
actorrt.init(address={small.address!r}, namespace="shared", log_to_driver=False)
keeper = actorrt.get_actor("keeper")
actorrt.get(keeper.take.remote([actorrt.put(np.full(10 << 20, 5, np.uint8))]))
unread = actorrt.put(np.full(10 << 20, 6, np.uint8))
os._exit(3)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 3
    until(lambda: figure("objects") == 0)
    others = [actorrt.put(filled(9, 10)) for _ in range(3)]
    assert actorrt.get(keeper.look.remote()) == {5}
    with pytest.raises(exceptions.OwnerDiedError):
        actorrt.get(keeper.again.remote())
    actorrt.get(keeper.drop.remote())
    until(lambda: figure("lingering") == 0)
    del others


def test_a_spill_directory_that_is_deleted(sessions, tmp_path, until):
    folder = tmp_path / "spilled"
    arguments = {"object_store_memory": STORE_BYTES, "object_spilling_directory": str(folder)}
    with Cluster(initialize_head=True, head_node_args=arguments) as cluster:
        cluster.connect()
        refs = [actorrt.put(filled(number, 5)) for number in range(40)]
        assert [content(view) for view in actorrt.get(refs)] == [{number} for number in range(40)]
        until(lambda: shutil.rmtree(folder, ignore_errors=True) or not folder.exists())
        lost = 0
        for number, ref in enumerate(refs):
            try:
                assert content(actorrt.get(ref, timeout=5)) == {number}
            except exceptions.ObjectLostError:
                lost += 1
        assert 0 < lost < 40
        del refs, ref
        until(lambda: figure("used_bytes") == 0)
        assert content(actorrt.get(actorrt.put(filled(3, 50)))) == {3}


def test_a_coroutine_that_does_not_wait_any_longer_leaves_no_pin(pair, until):
    ref = make_far(5, 60)
    actorrt.wait([ref], fetch_local=False)

    async def look():
        return content(await ref)

    async def impatient():
        for milliseconds in range(0, 40, 4):
            try:
                assert await asyncio.wait_for(look(), milliseconds / 1000) == {5}
            except TimeoutError:
                pass
        assert await look() == {5}

    asyncio.run(impatient())
    until(lambda: set(pins()) == {0} and not figure("wishes"))


# ------------------------------------------------------------------------------------ interrupts
def test_an_interrupted_copy_writes_no_more(monkeypatch):
    """Else memory that was given back by then is overwritten under the next object, or read after it was freed."""
    real = copying._memcpy

    def slow(target, source, length):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.1)
        return real(target, source, length)

    monkeypatch.setattr(copying, "_memcpy", slow)
    target, source = bytearray(4 * copying.PART_BYTES), bytes([7]) * (4 * copying.PART_BYTES)
    with pytest.raises(KeyboardInterrupt):
        copying.copy(memoryview(target), source, threads=2)
    before = target.count(7)
    time.sleep(0.6)
    assert target.count(7) == before


def test_an_interrupted_get_releases_its_own_pin_only(rt, monkeypatch, until):
    ref = rt.put(filled(5))
    view = rt.get(ref)

    class Interrupting:
        def __init__(self, exporter):
            raise KeyboardInterrupt  # where a signal may arrive: between two calls of Exports.export

    monkeypatch.setattr(reader.pickle, "PickleBuffer", Interrupting)
    with pytest.raises(KeyboardInterrupt):
        rt.get(ref)
    monkeypatch.undo()
    for _ in range(5):
        time.sleep(0.05)
        assert pins() == [1]
    assert content(view) == {5}


def test_cancelling_a_task_that_waits_for_room_loses_no_room(sessions, until):
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE_BYTES}) as cluster:
        cluster.connect()
        views = actorrt.get([actorrt.put(filled(1, 7.3)) for _ in range(13)] + [actorrt.put(filled(1, 4.5))])
        put = actorrt.remote(lambda: len(actorrt.get(actorrt.put(filled(2, 0.2)))))
        waiting = put.remote()
        until(lambda: figure("waiting"))
        actorrt.cancel(waiting)
        with pytest.raises(exceptions.TaskCancelledError):
            actorrt.get(waiting)
        del views
        assert actorrt.get(put.remote()) > 0  # the worker lives, and writes again
        until(lambda: gc.collect() is not None and figure("used_bytes") == 0, timeout_s=5)


# ------------------------------------------------------------------------------------ whose turn it is
def test_an_object_is_known_before_the_task_that_needs_it(small, gate, monkeypatch):
    """``put`` and a call by one thread, while another one hands over what is gathered."""
    runtime = find_runtime()
    blocker = actorrt.remote(gate.wait).remote()  # something is unfinished: calls are gathered
    echo = actorrt.remote(lambda value: value)
    runtime.flush()
    real, results = runtime_module._drain, []

    def put_and_call():
        results.append(echo.remote(actorrt.put(5)))

    def drain(items):
        drained = real(items)
        if items is runtime._puts and not results:
            thread = threading.Thread(target=put_and_call)
            thread.start()
            thread.join()
        return drained

    monkeypatch.setattr(runtime_module, "_drain", drain)
    first = actorrt.put(1)
    runtime.flush()
    monkeypatch.undo()
    gate.open()
    assert actorrt.get([*results, first, blocker], timeout=10) == [5, 1, True]


def test_a_future_holds_its_object_until_the_value_is_here(pair):
    for number in range(3):
        found = content(make_far(number, 100).future().result(30))
        assert found == {number}


def test_get_without_waiting_takes_what_is_here(rt):
    ref = rt.put(filled(5))
    rt.get(ref)
    assert content(rt.get(ref, timeout=0)) == {5}


def test_wait_prefers_what_is_here(pair, stopped):
    slow = make_far(5)
    actorrt.wait([slow], fetch_local=False)
    stopped()
    here = actorrt.put(filled(6))
    assert actorrt.wait([slow, here], num_returns=1, timeout=3) == ([here], [slow])


def test_polling_does_not_pile_up(pair, stopped):
    slow = make_far(5)
    actorrt.wait([slow], fetch_local=False)
    stopped()
    for _ in range(100):
        with pytest.raises(exceptions.GetTimeoutError):
            actorrt.get(slow, timeout=0.001)
        actorrt.wait([slow], timeout=0.001)
    assert figure("wishes") <= 10


# ------------------------------------------------------------------------------------ who has gone
def test_the_objects_of_a_driver_go_with_its_shutdown(small, until):
    ref = actorrt.put(filled(5, 20))
    view = actorrt.get(ref)
    actorrt.shutdown()
    assert content(view) == {5}
    small.connect()
    until(lambda: figure("objects") == 0, timeout_s=5)
    del view
    until(lambda: gc.collect() is not None and figure("used_bytes") == 0, timeout_s=3)


def test_the_objects_of_a_killed_actor_go(small, until):
    @actorrt.remote
    class Maker:
        def make(self):
            self.ref = actorrt.put(filled(5, 20))

    maker = Maker.remote()
    actorrt.get(maker.make.remote())
    assert figure("objects") == 1
    actorrt.kill(maker)
    until(lambda: figure("objects") == 0, timeout_s=5)


def test_memory_that_was_short_for_a_while_is_used_again(drivers):
    """``/dev/shm`` is filled by others, then they leave: the store has its capacity back."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    source = """
        import numpy as np
        rt.init(num_cpus=1, object_store_memory=150 << 20, log_to_driver=False)
        hog = open("/dev/shm/hog", "wb")
        os.posix_fallocate(hog.fileno(), 0, 130 << 20)
        refs = [rt.put(np.full(5 << 20, number, np.uint8)) for number in range(20)]  # more than there is: spilled
        assert all(set(rt.get(ref)[::999].tolist()) == {number} for number, ref in enumerate(refs))
        hog.close()
        os.unlink("/dev/shm/hog")
        assert rt.get(rt.put(np.ones(90 << 20, np.uint8))).nbytes == 90 << 20
        rt.shutdown()
        say("fine")
        """
    path = Path(drivers.folder) / "short_of_memory.py"
    path.write_text("import os\nimport actorrt as rt\nsay = print\n" + textwrap.dedent(source))
    mount = f"mount -t tmpfs -o size=200m tmpfs /dev/shm && exec {sys.executable} {path}"
    ran = drivers.run("", command=["unshare", "-rm", "bash", "-c", mount], check=False)
    assert "fine" in ran.out, ran.err[-2000:]
