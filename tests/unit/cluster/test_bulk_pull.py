"""Objects from several sources: scripted ones for the order of things, real sockets for the rest."""

import asyncio
import threading
import time

import msgspec
import pytest

from actorrt.cluster.bulk import BulkError, ConnectionLost, dial
from tests.unit.cluster.bulk_rig import (
    SMALL,
    Pulled,
    Scripted,
    Shelf,
    bulk_threads,
    identity,
    pulling,
    serving,
    some_bytes,
)

CHUNK = SMALL.chunk_bytes
SIZE = 10 * CHUNK + 17


def connecting(**sources):
    """Endpoints by name; an exception is raised, a list is served one after the other."""

    def connect(endpoint, _wanted):
        found = sources[endpoint]
        if isinstance(found, list):
            found = found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return connect


def named(*names):
    return [(f"node-{name}", name) for name in names]


def test_one_source():
    data = some_bytes(SIZE)
    source = Scripted(data)
    with pulling(connecting(a=source)) as puller:
        pulled = Pulled(puller, b"k", SIZE, named("a"))
        assert pulled.wait() == ((), "")
        assert pulled.data == data
        assert source.rested == 1
        assert source.closed == 0
        assert puller.idle == 1
        # The connection is used again, and no thread is made for good.
        again = Pulled(puller, b"k", SIZE, named("a"))
        again.wait()
        assert again.data == data
    assert source.closed == 1


def test_nothing_to_do():
    with pulling(connecting()) as puller:
        assert Pulled(puller, b"k", 0, named("a")).wait() == ((), "")
        assert Pulled(puller, b"k", 5, []).wait() == ((), "there is no source")


def test_several_sources_share_the_chunks():
    data = some_bytes(SIZE)
    gate = threading.Event()
    sources = {name: Scripted(data, gate=gate) for name in "abcdef"}
    with pulling(connecting(**sources)) as puller:
        pulled = Pulled(puller, b"k", SIZE, named(*sources))
        for name in "abcd":
            assert sources[name].reached.wait(10)
        gate.set()
        assert pulled.wait() == ((), "")
        assert pulled.data == data
        assert sources["e"].served == sources["f"].served == 0  # kept in reserve: 4 in parallel are enough
        assert sum(source.served for source in sources.values()) == 11


def test_a_small_object_takes_one_source():
    data = some_bytes(10)
    sources = {name: Scripted(data) for name in "ab"}
    with pulling(connecting(**sources)) as puller:
        assert Pulled(puller, b"k", 10, named("a", "b")).wait() == ((), "")
    assert sources["b"].served == 0


def test_a_source_that_fails_half_way():
    data = some_bytes(SIZE)
    sources = {"a": Scripted(data, stop_after=3), "b": Scripted(data)}
    limits = msgspec.structs.replace(SMALL, sources_per_pull_max=1)
    with pulling(connecting(**sources), limits) as puller:
        pulled = Pulled(puller, b"k", SIZE, named("a", "b"))
        assert pulled.wait() == (("node-a",), "")
        assert pulled.data == data
    assert sources["a"].served == 3
    assert sources["b"].served == 8
    assert sources["a"].closed == 1


def test_chunks_come_back_to_one_who_has_finished():
    """The last chunks are with a source that fails: the other one, which had nothing left to do, takes them."""
    data = some_bytes(2 * CHUNK)
    gate, start = threading.Event(), threading.Event()
    slow = Scripted(data, stop_after=0, gate=gate)
    quick = Scripted(data, gate=start)  # or it might take both before the other has begun
    limits = msgspec.structs.replace(SMALL, window_chunks=1)
    with pulling(connecting(a=slow, b=quick), limits) as puller:
        pulled = Pulled(puller, b"k", 2 * CHUNK, named("a", "b"))
        assert slow.reached.wait(10)
        assert quick.reached.wait(10)
        start.set()
        gate.set()
        assert pulled.wait() == (("node-a",), "")
        assert pulled.data == data
    assert quick.served == 2


def test_all_sources_fail():
    data = some_bytes(SIZE)
    sources = {"a": Scripted(data, stop_after=1), "b": BulkError("nobody there"), "c": OSError(5, "io")}
    with pulling(connecting(**sources)) as puller:
        outcome = Pulled(puller, b"k", SIZE, named(*sources)).wait()
    assert sorted(outcome.failed) == ["node-a", "node-b", "node-c"]
    for text in ("node-a: it failed", "node-b: nobody there", "node-c: [Errno 5] io"):
        assert text in outcome.error


def test_a_bug_in_a_source_is_a_failed_source(caplog):
    with pulling(connecting(a=RuntimeError("bug"))) as puller:
        assert Pulled(puller, b"k", 5, named("a")).wait() == (("node-a",), "node-a: RuntimeError('bug')")
    assert "RuntimeError" in caplog.text


def test_a_source_that_joins_later():
    data = some_bytes(SIZE)
    gate = threading.Event()
    first, second = Scripted(data, stop_after=0, gate=gate), Scripted(data)
    with pulling(connecting(a=first, b=second)) as puller:
        pulled = Pulled(puller, b"k", SIZE, named("a"))
        assert first.reached.wait(10)
        puller.add_source(pulled.pull, ("node-a", "a"))  # known already
        puller.add_source(pulled.pull, ("node-b", "b"))
        assert second.reached.wait(10)
        gate.set()
        assert pulled.wait() == (("node-a",), "")
        assert pulled.data == data
        puller.add_source(pulled.pull, ("node-c", "c"))  # it has ended
        assert pulled.calls == 1


def test_a_connection_that_was_kept_may_have_ended():
    data = some_bytes(SIZE)
    stale = Scripted(data)
    with pulling(connecting(a=[stale, Scripted(data)])) as puller:
        Pulled(puller, b"k", SIZE, named("a")).wait()
        stale.stop_after = 0
        stale.error = ConnectionLost("the connection ended")
        pulled = Pulled(puller, b"k", SIZE, named("a"))
        assert pulled.wait() == ((), "")
        assert pulled.data == data
        assert stale.closed == 1


def test_one_that_was_not_kept_has_failed():
    source = Scripted(b"", stop_after=0, error=ConnectionResetError("reset"))
    with pulling(connecting(a=source)) as puller:
        assert Pulled(puller, b"k", 5, named("a")).wait() == (("node-a",), "node-a: the connection ended")


def test_one_that_cannot_rest_is_not_kept():
    source = Scripted(b"12345")
    source.rest = lambda: (_ for _ in ()).throw(BrokenPipeError("gone"))
    with pulling(connecting(a=source)) as puller:
        assert Pulled(puller, b"k", 5, named("a")).wait() == ((), "")
    assert source.closed == 1


def test_kept_connections_are_bounded():
    data = some_bytes(10)
    sources = {name: Scripted(data) for name in "abc"}
    limits = msgspec.structs.replace(SMALL, idle_connections_max=2, idle_timeout_s=60.0)
    with pulling(connecting(**sources), limits) as puller:
        for name in "abc":
            Pulled(puller, b"k", 10, named(name)).wait()
            puller.purge()
        _until(lambda: puller.idle == 2)
        assert sources["a"].closed == 1
        puller.limits = msgspec.structs.replace(limits, idle_timeout_s=0.0)
        puller.purge()
        assert puller.idle == 0
    assert [source.closed for source in sources.values()] == [1, 1, 1]


def _until(predicate):
    deadline_s = time.monotonic() + 10
    while not predicate():
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.005)


def test_threads_are_bounded():
    data = some_bytes(10)
    gate = threading.Event()
    sources = {f"s{number}": Scripted(data, gate=gate) for number in range(5)}
    limits = msgspec.structs.replace(SMALL, pull_threads_max=2)
    before = bulk_threads()
    with pulling(connecting(**sources), limits) as puller:
        pulls = [Pulled(puller, b"k", 10, named(name)) for name in sources]
        _until(lambda: sum(source.reached.is_set() for source in sources.values()) == 2)
        assert len(bulk_threads() - before) == 2
        gate.set()
        assert [pulled.wait() for pulled in pulls] == [((), "")] * 5
        _until(lambda: bulk_threads() == before)


def test_cancelled():
    gate = threading.Event()
    source = Scripted(bytes(SIZE), gate=gate)
    with pulling(connecting(a=source)) as puller:
        pulled = Pulled(puller, b"k", SIZE, named("a"))
        assert source.reached.wait(10)
        pulled.pull.cancel("given up")
        assert not pulled.is_over  # a thread still writes
        gate.set()
        assert pulled.wait() == ((), "given up")
        pulled.pull.cancel("again")
    assert pulled.calls == 1


def test_the_end_of_the_puller():
    before = bulk_threads()
    source = Scripted(bytes(SIZE), gate=threading.Event())
    with pulling(connecting(a=source)) as puller:
        pulled = Pulled(puller, b"k", SIZE, named("a"))
        assert source.reached.wait(10)
        puller.stop()
        assert pulled.wait() == (("node-a",), "this node is ending")
        puller.join()
        assert bulk_threads() == before
        assert Pulled(puller, b"k", 5, named("a")).wait() == ((), "this node is ending")
        assert "pulls=0" in repr(puller)


# ------------------------------------------------------------------------------------------------------- real sockets
@pytest.mark.asyncio
@pytest.mark.parametrize("tcp", [False, True])
async def test_over_sockets(tcp):
    data = some_bytes(3_000_001)
    shelves = [Shelf(k=data) for _ in range(3)]
    async with serving(shelves[0], tcp=tcp) as one, serving(shelves[1], tcp=tcp) as two, serving(shelves[2]) as three:
        with pulling() as puller:
            sources = [(f"n{number}", server.endpoint) for number, server in enumerate((one, two, three))]
            pulled = Pulled(puller, b"k", len(data), sources)
            assert await asyncio.to_thread(pulled.wait) == ((), "")
            assert pulled.data == data
    assert [shelf.pins for shelf in shelves] == [0, 0, 0]


@pytest.mark.asyncio
async def test_a_server_that_ends_half_way():
    """Its object is a gated one: it has sent a part when it ends."""
    data = some_bytes(8_000_000)
    before = bulk_threads()
    async with serving(Shelf(k=data)) as lasting, serving(Shelf(k=data)) as dying:
        parts = []

        def connect(endpoint, wanted):
            made = dial(endpoint, identity(), SMALL, wanted)
            if endpoint == dying.endpoint:
                receive = made.receive_into

                def receive_into(target):
                    if len(parts) == 5:
                        dying.stop()  # from this thread: only sockets are touched
                    parts.append(target.nbytes)
                    receive(target)

                made.receive_into = receive_into
            return made

        limits = msgspec.structs.replace(SMALL, sources_per_pull_max=1)
        with pulling(connect, limits) as puller:
            pulled = Pulled(puller, b"k", len(data), [("dying", dying.endpoint), ("lasting", lasting.endpoint)])
            assert await asyncio.to_thread(pulled.wait) == (("dying",), "")
            assert pulled.data == data
            assert len(parts) >= 5
    assert bulk_threads() == before


@pytest.mark.asyncio
async def test_the_end_during_a_transfer():
    before = bulk_threads()
    shelf = Shelf(k=bytes(1 << 20))
    gate = threading.Event()
    shelf.wait = lambda _still_waiting: gate.wait(20)
    async with serving(shelf) as server:
        with pulling() as puller:
            pulled = Pulled(puller, b"k", 1 << 20, [("n", server.endpoint)])
            while not server.connections:
                await asyncio.to_thread(threading.Event().wait, 0.005)
            puller.stop()
            assert (await asyncio.to_thread(pulled.wait)).error == "this node is ending"
            puller.join()
        gate.set()
    assert bulk_threads() == before
