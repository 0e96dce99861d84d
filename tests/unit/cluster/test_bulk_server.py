"""The accepter's side, with real sockets."""

import asyncio
import socket
import threading

import msgspec
import pytest

from actorrt.cluster.bulk import BulkError, dial, read_object
from actorrt.cluster.bulk_server import BulkServer
from tests.unit.cluster.bulk_rig import SMALL, Shelf, bulk_threads, identity, serving, some_bytes


async def until(predicate):
    """Let the loop and other threads go on until it is true."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + 10
    while not predicate():
        assert loop.time() < deadline_s
        await asyncio.to_thread(threading.Event().wait, 0.005)


def limits(**changes):
    return msgspec.structs.replace(SMALL, **changes)


def raw(server):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(server.endpoint.removeprefix("unix://"))
    return sock


def said_to(sock):
    try:
        return sock.recv(100)
    except ConnectionResetError:  # it did not even read all
        return b""


@pytest.mark.asyncio
async def test_nothing_runs_until_somebody_comes():
    before = bulk_threads()
    async with serving(Shelf()) as server:
        assert bulk_threads() == before
        assert server.connections == 0
        assert "connections=0" in repr(server)


@pytest.mark.asyncio
@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x05\0\0\0hello", b"\xff" * 100])
async def test_a_stranger_gets_nothing(garbage):
    shelf = Shelf(a=b"xyz")
    async with serving(shelf) as server:
        with raw(server) as sock:
            sock.sendall(garbage)
            assert await asyncio.to_thread(said_to, sock) == b""
        await until(lambda: server.connections == 0)
        assert await asyncio.to_thread(read_object, server.endpoint, b"a", 3, identity()) == b"xyz"
    assert shelf.opened == 1


@pytest.mark.asyncio
async def test_a_silent_stranger_is_ended():
    async with serving(Shelf(), limits=limits(handshake_timeout_s=0.05)) as server:
        with raw(server) as sock:
            assert await asyncio.to_thread(sock.recv, 100) == b""
        await until(lambda: server.connections == 0)


@pytest.mark.asyncio
async def test_an_object_is_pinned_while_it_is_read():
    shelf = Shelf(a=some_bytes(1000), b=b"b")
    async with serving(shelf, limits=limits(hold_timeout_s=20)) as server:
        connection = await asyncio.to_thread(dial, server.endpoint, identity(), SMALL)
        target = memoryview(bytearray(500))
        for offset in (0, 500):
            connection.request(b"a", offset, 500)
            await asyncio.to_thread(connection.receive_into, target)
        assert (shelf.pins, shelf.opened) == (1, 1)
        connection.request(b"b", 0, 1)
        await asyncio.to_thread(connection.receive_into, target[:1])
        assert (shelf.pins, shelf.opened) == (1, 2)
        connection.rest()
        await until(lambda: shelf.pins == 0)
        connection.request(b"a", 0, 500)
        await asyncio.to_thread(connection.receive_into, target)
        assert shelf.pins == 1
        connection.close()
        await until(lambda: shelf.pins == 0 and server.connections == 0)


@pytest.mark.asyncio
async def test_who_asks_for_nothing_holds_nothing_and_is_ended_later():
    shelf = Shelf(a=b"a")
    async with serving(shelf, limits=limits(hold_timeout_s=0.01, idle_timeout_s=0.05)) as server:
        connection = await asyncio.to_thread(dial, server.endpoint, identity(), SMALL)
        connection.request(b"a", 0, 1)
        target = memoryview(bytearray(1))
        await asyncio.to_thread(connection.receive_into, target)
        await until(lambda: shelf.pins == 0)
        await until(lambda: server.connections == 0)
        connection.close()


@pytest.mark.asyncio
async def test_a_key_that_is_too_long():
    async with serving(Shelf()) as server:
        connection = await asyncio.to_thread(dial, server.endpoint, identity(), SMALL)
        connection.request(b"k" * 2000, 0, 1)
        with pytest.raises((BulkError, ConnectionError)):
            await asyncio.to_thread(connection.receive_into, memoryview(bytearray(1)))
        connection.close()


@pytest.mark.asyncio
async def test_it_says_so_when_the_object_takes_time():
    said = []

    def wait(still_waiting):
        for _ in range(3):
            still_waiting()
            said.append(True)

    shelf = Shelf(a=b"abc")
    shelf.wait = wait
    async with serving(shelf) as server:
        assert await asyncio.to_thread(read_object, server.endpoint, b"a", 3, identity()) == b"abc"
    assert len(said) == 3


@pytest.mark.asyncio
async def test_connections_are_bounded_and_idle_ones_make_room():
    shelf = Shelf(a=b"abc")
    async with serving(shelf, limits=limits(connections_max=2, hold_timeout_s=0.01, idle_timeout_s=60)) as server:
        idle = [await asyncio.to_thread(dial, server.endpoint, identity(), SMALL) for _ in range(2)]
        await until(lambda: all(each.idle_since_s for each in server._connections.values()))
        for _ in range(3):
            assert await asyncio.to_thread(read_object, server.endpoint, b"a", 3, identity()) == b"abc"
            assert server.connections <= 2
        for connection in idle:
            connection.close()


@pytest.mark.asyncio
async def test_others_wait_while_all_are_busy():
    gate = threading.Event()
    shelf = Shelf(a=b"abc")
    shelf.wait = lambda _still_waiting: gate.wait(10)
    async with serving(shelf, limits=limits(connections_max=1)) as server:
        first, second = (
            asyncio.create_task(asyncio.to_thread(read_object, server.endpoint, b"a", 3, identity())) for _ in range(2)
        )
        await until(lambda: not server._accepting)
        assert server.connections == 1
        gate.set()
        assert await first == await second == b"abc"


@pytest.mark.asyncio
async def test_the_end_wakes_everybody():
    before = bulk_threads()
    shelf = Shelf(a=bytes(64 << 20))
    async with serving(shelf) as server:
        sending = await asyncio.to_thread(dial, server.endpoint, identity(), SMALL)
        sending.request(b"a", 0, 64 << 20)  # and nobody receives
        idle = await asyncio.to_thread(dial, server.endpoint, identity(), SMALL)
        with raw(server):
            await until(lambda: server.connections == 3 and shelf.pins == 1)
            server.stop()
            server.stop()
            await asyncio.to_thread(server.join)
        sending.close()
        idle.close()
    assert shelf.pins == 0
    assert bulk_threads() == before


@pytest.mark.asyncio
async def test_bad_addresses(short_path):
    loop = asyncio.get_running_loop()
    good = f"unix://{short_path}/bulk.sock"
    with pytest.raises(ValueError, match="not 'ipc://x'"):
        BulkServer(loop, identity(), Shelf().open_object, [good, "ipc://x"])
    with pytest.raises(OSError, match="No such file"):
        BulkServer(loop, identity(), Shelf().open_object, ["unix:///no/such/folder/x.sock"])
