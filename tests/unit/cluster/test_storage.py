"""The port of an object manager: opening, waiting, pulls, processes, and the end."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from actorrt.cluster import storage
from actorrt.cluster.bulk import BulkError, dial
from actorrt.cluster.bulk_server import BulkServer
from actorrt.kernel.clock import MonotonicClock
from actorrt.kernel.message import Address, Envelope
from actorrt.objects.messages import (
    Attach,
    Attached,
    ClientDied,
    CopiesDropped,
    PullEnded,
    UsageChanged,
)
from actorrt.objects.operations import (
    Abort,
    AddSource,
    Create,
    Delete,
    DropClient,
    Lease,
    Open,
    Pin,
    Pull,
    Release,
    Report,
    Seal,
    Unwatch,
    Watch,
)
from actorrt.store.base import Limits
from tests.unit.cluster.bulk_rig import SMALL, Scripted, identity, some_bytes
from tests.unit.cluster.storage_rig import MIB, Port, port, spill


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as made:
        yield made


@pytest.mark.parametrize("capacity_bytes", [MIB, 3 * MIB + 1, 64 * MIB, 1 << 40])
def test_slabs_are_as_large_as_the_store_leases(capacity_bytes):
    assert storage.slab_bytes(capacity_bytes) == Limits(capacity_bytes=capacity_bytes).slab_bytes_max


def test_nothing_heavy_is_loaded_before_it_is_needed():
    code = "import sys, actorrt.cluster.node; print([m for m in sys.modules if m.startswith('actorrt.store')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.asyncio
async def test_opening(tmp_path):
    async with port(tmp_path) as made:
        assert made.segments() == []
        assert made.opened_with == []
        assert not made.storage.is_used
        assert "not open" in repr(made.storage)
        answers = await asyncio.gather(made.ask(Open), made.ask(Open))
        assert [answer.failure for answer in answers] == [None, None]
        await made.open()
        assert len(made.segments()) == 1
        assert [target.uri for target in made.opened_with[0].spill] == [str(tmp_path / "spill")]
        assert len(made.opened_with) == 1
        assert made.storage.is_used
        assert ", open)" in repr(made.storage)


@pytest.mark.asyncio
async def test_opening_fails_and_is_tried_again(tmp_path):
    folder = tmp_path / "segments"
    async with port(tmp_path, directory=str(folder)) as made:
        failure = (await made.ask(Open)).failure
        assert failure.kind == "InternalError"
        assert "cannot be opened" in failure.text
        folder.mkdir()
        await made.open()


@pytest.mark.asyncio
async def test_before_the_store_is_open(tmp_path):
    async with port(tmp_path) as made:
        for operation in (Seal(b"c"), Release((1,), b"c"), Delete((b"k",)), DropClient(b"c"), Abort(1)):
            made.storage.perform(operation)
        assert made.posted == []
        assert (await made.ask(Create, b"k", 5, b"c")).failure.kind == "InternalError"
        assert (await made.ask(Lease, 5, b"c")).failure.kind == "InternalError"
        assert (await made.pin(b"k")).failure.kind == "ObjectLostError"
        assert (await made.ask(Report, 5)).figures == {"capacity_bytes": 16 * MIB}
        with pytest.raises(TypeError, match="unknown operation"):
            made.storage.perform(object())
        await made.open()
        with pytest.raises(TypeError, match="unknown operation"):
            made.storage.perform(object())


@pytest.mark.asyncio
async def test_usage_is_told_now_and_then_and_at_zero(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        places = [await made.put(b"%d" % number, bytes(1000)) for number in range(20)]
        del places
        full = await made.heard(lambda m: type(m) is UsageChanged and m.used_bytes == 20 * 1088)
        assert len(made.of(UsageChanged)) < 10
        made.posted.remove(full)
        made.storage.perform(Delete(tuple(b"%d" % number for number in range(20))))
        await made.heard(lambda m: m == UsageChanged(0))
        # Slabs are not counted.
        await made.ask(Lease, 10_000, b"c")
        await made.put(b"x", bytes(1000))
        await made.heard(lambda m: m == UsageChanged(1088))


@pytest.mark.asyncio
async def test_requests_without_hope_expire(tmp_path):
    async with port(tmp_path, spill=spill(tmp_path / "d", quota_bytes=1)) as made:
        await made.open()
        await made.put(b"k", bytes(12 * MIB))
        failure = (await made.ask(Create, b"l", 12 * MIB, b"c")).failure
        assert failure.kind == "OutOfDiskError"
        await made.pin(b"k")
        failure = (await made.ask(Create, b"l", 12 * MIB, b"c")).failure
        assert failure.kind == "ObjectStoreFullError"
        assert "pinned by readers" in failure.text


@pytest.mark.asyncio
async def test_dropped_copies_are_told_together(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        for number in range(3):
            await made.put(b"%d" % number, bytes(4 * MIB), secondary=True)
        await made.put(b"big", bytes(12 * MIB))
        await made.heard(lambda m: type(m) is CopiesDropped)
        await made.heard(lambda _m: sum(len(each.keys) for each in made.of(CopiesDropped)) >= 2)
        assert {key for each in made.of(CopiesDropped) for key in each.keys} <= {b"0", b"1", b"2"}


@pytest.mark.asyncio
async def test_a_watched_process(tmp_path, process):
    async with port(tmp_path) as made:
        made.storage.perform(Watch("unix:///w", process.pid))
        made.storage.perform(Watch("unix:///me", os.getpid()))
        made.storage.perform(Watch("unix:///left", process.pid))
        made.storage.perform(Unwatch("unix:///left"))
        made.storage.perform(Unwatch("unix:///unknown"))
        await made.ask(Report, 5)
        await asyncio.sleep(0)  # by now they are watched, or not
        process.communicate()
        await made.heard(lambda m: m == ClientDied("unix:///w"))
        assert len(made.of(ClientDied)) == 1


# -------------------------------------------------------------------------------------------------------------- pulls
async def pull(made, key, size_bytes, *sources, ticket=77):
    place = await made.create(key, size_bytes, secondary=True)
    made.storage.perform(Pull(ticket, key, place, sources))
    return place


@pytest.mark.asyncio
async def test_a_pull(tmp_path):
    data = some_bytes(100_000)
    source = Scripted(data)
    async with port(tmp_path, connect=lambda _endpoint, _wanted: source) as made:
        await made.open()
        place = await pull(made, b"k", len(data), ("node", "there"))
        assert await made.heard(lambda m: type(m) is PullEnded) == PullEnded(77)
        made.storage.perform(Seal(b"writer", created=(place.number,)))
        opened = made.storage.open_object(b"k", lambda: None)
        assert opened.view == data
        opened.release()
        made.storage.perform(AddSource(77, ("late", "there")))
        assert made.storage._fillings == {}


@pytest.mark.asyncio
async def test_a_pull_that_fails_and_one_more_source(tmp_path):
    data = some_bytes(100_000)
    gate = threading.Event()
    sources = {"bad": Scripted(data, stop_after=0, gate=gate), "good": Scripted(data)}
    async with port(tmp_path, connect=lambda endpoint, _wanted: sources[endpoint]) as made:
        await made.open()
        await pull(made, b"k", len(data), ("n1", "bad"))
        made.storage.perform(AddSource(77, ("n2", "good")))
        gate.set()
        assert await made.heard(lambda m: type(m) is PullEnded) == PullEnded(77, ("n1",))
        await pull(made, b"l", 5, ticket=78)
        ended = await made.heard(lambda m: type(m) is PullEnded and m.ticket == 78)
        assert (ended.failure.kind, ended.failure.text) == ("ObjectLostError", "there is no source")


@pytest.mark.asyncio
async def test_an_object_given_up_is_freed_when_nobody_writes_any_more(tmp_path):
    gate = threading.Event()
    source = Scripted(bytes(100_000), gate=gate)
    async with port(tmp_path, connect=lambda _endpoint, _wanted: source) as made:
        await made.open()
        place = await pull(made, b"k", 100_000, ("node", "there"))
        await asyncio.to_thread(source.reached.wait, 10)
        made.storage.perform(Abort(place.number))
        assert (await made.ask(Report, 0)).figures["creating"] == 1
        gate.set()
        ended = await made.heard(lambda m: type(m) is PullEnded)
        assert ended.failure is None or "given up" in ended.failure.text
        assert (await made.ask(Report, 0)).figures["creating"] == 0
        other = await made.create(b"l", 5)
        made.storage.perform(Abort(other.number))
        assert (await made.ask(Report, 0)).figures["creating"] == 0


@pytest.mark.asyncio
async def test_given_up_before_it_began(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        place = await made.create(b"k", 5)
        begin = made.storage.puller.pull

        def late(*arguments):
            made.storage.perform(Abort(place.number))  # by a message that another thread handled meanwhile
            return begin(*arguments)

        made.storage.puller.pull = late
        made.storage.perform(Pull(77, b"k", place, (("n", "e"),)))
        assert (await made.heard(lambda m: type(m) is PullEnded)).failure is not None
        assert (await made.ask(Report, 0)).figures["creating"] == 0


@pytest.mark.asyncio
async def test_a_pull_into_a_closed_store(tmp_path):
    async with port(tmp_path) as made:
        await made.open()
        place = await made.create(b"k", 5)
        made.storage._room.close()
        made.storage.perform(Pull(1, b"k", place, ()))
        assert made.of(PullEnded)[0].failure.kind == "InternalError"


@pytest.mark.asyncio
async def test_between_two_stores_over_sockets(tmp_path, short_path):
    data = some_bytes(3_000_000)

    def connect(endpoint, wanted):
        return dial(endpoint, identity(), SMALL, wanted)

    async with port(tmp_path) as there, port(tmp_path, connect=connect) as here:
        await there.open()
        await here.open()
        loop = asyncio.get_running_loop()
        server = BulkServer(loop, identity(), there.storage.open_object, [f"unix://{short_path}/bulk.sock"])
        there.storage.serve(server)
        assert there.storage.endpoint == server.endpoint
        await there.put(b"k", data)
        place = await pull(here, b"k", len(data), ("there", there.storage.endpoint))
        assert await here.heard(lambda m: type(m) is PullEnded) == PullEnded(77)
        assert here.storage._room.buffer(place) == data
        assert there.storage.is_used


@pytest.mark.asyncio
async def test_between_two_stores_of_one_process(tmp_path):
    data = some_bytes(3_000_000)
    async with port(tmp_path) as there:
        with pytest.raises(BulkError, match="has no objects"):
            there.storage.direct_source()
        with pytest.raises(BulkError, match="no object"):
            there.storage.open_object(b"k", lambda: None)
        await there.open()
        async with port(tmp_path, connect=lambda _endpoint, _wanted: there.storage.direct_source()) as here:
            await here.open()
            await there.put(b"k", data)
            place = await pull(here, b"k", len(data), ("there", "direct"))
            assert await here.heard(lambda m: type(m) is PullEnded) == PullEnded(77)
            assert here.storage._room.buffer(place) == data
            there.storage.stop()
            await pull(here, b"l", 5, ("there", "direct"), ticket=78)
            await asyncio.to_thread(there.storage.join)
            await pull(here, b"m", 5, ("there", "direct"), ticket=79)
            ended = await here.heard(lambda m: type(m) is PullEnded and m.ticket == 79)
            assert ended.failed == ("there",)


# ------------------------------------------------------------------------------------------------------------ the end
@pytest.mark.asyncio
async def test_the_end_during_everything(tmp_path):
    before = {thread for thread in threading.enumerate() if thread.name.startswith("actorrt")}
    source = Scripted(bytes(100_000), gate=threading.Event())
    made = Port(tmp_path, connect=lambda _endpoint, _wanted: source, spill=spill(tmp_path / "d", quota_bytes=1))
    await made.open()
    await pull(made, b"k", 100_000, ("node", "there"))
    await asyncio.to_thread(source.reached.wait, 10)
    await made.put(b"full", bytes(15 * MIB))
    made.storage.perform(Create(5, b"waits", 12 * MIB, b"c"))
    count = len(made.posted)
    made.storage.stop()
    made.storage.stop()
    await asyncio.to_thread(made.storage.join)
    await asyncio.to_thread(made.storage.join)
    assert made.segments() == []
    assert len(made.posted) == count
    for operation in (Create(6, b"k", 5, b"c"), Open(7), Pin(8, b"k", b"c"), Seal(b"c", (1,)), Watch("w", 1), Abort(1)):
        made.storage.perform(operation)
    await asyncio.to_thread(threading.Event().wait, 0.02)
    assert len(made.posted) == count
    assert {thread for thread in threading.enumerate() if thread.name.startswith("actorrt")} <= before
    assert "stopped" in repr(made.storage)


@pytest.mark.asyncio
async def test_the_end_while_it_opens(tmp_path):
    gate = threading.Event()
    made = Port(tmp_path)
    made.storage._before_open = lambda _config: gate.wait(10)
    made.storage.perform(Open(1))
    assert made.storage.is_used
    made.storage.stop()
    gate.set()
    await asyncio.to_thread(made.storage.join)
    assert made.segments() == []
    assert made.posted == []


@pytest.mark.asyncio
async def test_in_its_shell(tmp_path):
    class Outbox:
        def __init__(self):
            self.sent = []

        def send(self, dst, src_actor, body, request_id=0, reply_to=0):
            self.sent.append((dst, body, reply_to))

    outbox = Outbox()
    made = Port(tmp_path)
    shell = storage.make_objects(
        made.storage,
        Address("unix:///node", "raylet"),
        clock=MonotonicClock(),
        loop=asyncio.get_running_loop(),
        outbox=outbox,
        on_failure=pytest.fail,
    )
    client = Address("unix:///w", "shelf")
    shell.post(Envelope(client, Attach(os.getpid()), request_id=9))
    while not outbox.sent:
        await asyncio.to_thread(threading.Event().wait, 0.005)
    assert outbox.sent == [(client, Attached("/dev/shm", made.storage.prefix, MIB, 16 * MIB), 9)]
    shell.stop()
    made.storage.stop()
    await asyncio.to_thread(made.storage.join)


@pytest.mark.asyncio
async def test_late_answers_of_a_store_whose_loop_is_gone(tmp_path):
    made = Port(tmp_path)
    await made.open()
    made.storage._loop = asyncio.new_event_loop()
    made.storage._loop.close()
    made.storage._soon(lambda: None)
    made.storage._loop = asyncio.get_running_loop()
    made.storage.stop()
    await asyncio.to_thread(made.storage.join)
    assert made.segments() == []
