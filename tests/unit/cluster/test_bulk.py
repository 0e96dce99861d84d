"""Connections to a bulk server, with real sockets."""

import asyncio
import socket
import threading
import time

import pytest

from actorrt.cluster import bulk
from actorrt.cluster.bulk import BulkError, BulkLimits, ConnectionLost, dial, read_object
from actorrt.wire.handshake import Role
from tests.unit.cluster.bulk_rig import CLUSTER_ID, SMALL, Shelf, identity, serving, some_bytes


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("tcp", [False, True])
async def test_an_object_as_a_whole(tcp):
    data = some_bytes(1_000_003)
    async with serving(Shelf(a=data), tcp=tcp) as server:
        assert await asyncio.to_thread(read_object, server.endpoint, b"a", len(data), identity(), SMALL) == data
        assert await asyncio.to_thread(read_object, server.endpoint, b"a", 0, identity()) == b""


@pytest.mark.asyncio
async def test_addresses_that_lead_nowhere_are_passed_over():
    async with serving(Shelf(a=b"xyz"), tcp=True) as server:
        endpoint = f"unix:///nowhere/bulk.sock,gopher://x:1,tcp://127.0.0.1:1,{server.endpoint}"
        assert await asyncio.to_thread(read_object, endpoint, b"a", 3, identity()) == b"xyz"


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        ("", "no address"),
        ("unix:///nowhere/bulk.sock", "no address"),
        ("gopher://x:1", "unknown scheme"),
        ("tcp://127.0.0.1:1", "refused"),
        ("tcp://127.0.0.1:x", "invalid literal"),
    ],
)
def test_nobody_there(endpoint, text):
    with pytest.raises(BulkError, match=text):
        dial(endpoint, identity(), SMALL)


@pytest.mark.asyncio
async def test_an_object_that_is_not_there():
    async with serving(Shelf(a=b"xyz")) as server:
        with pytest.raises(BulkError, match="there is no b'b'"):
            await asyncio.to_thread(read_object, server.endpoint, b"b", 3, identity())
        with pytest.raises(BulkError, match="of an object of 3 bytes"):
            await asyncio.to_thread(read_object, server.endpoint, b"a", 4, identity())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changes", "text"), [({"token": b"other"}, "token"), ({"cluster_id": b"d" * 16}, "another cluster")]
)
async def test_who_does_not_belong_gets_nothing(changes, text):
    shelf = Shelf(a=b"xyz")
    async with serving(shelf) as server:
        with pytest.raises(BulkError, match=text):
            await asyncio.to_thread(read_object, server.endpoint, b"a", 3, identity(**changes))
    assert shelf.opened == 0


def test_a_listener_that_says_nothing(short_path):
    path = short_path / "bulk.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        began_s = time.monotonic()
        with pytest.raises(BulkError, match="took too long"):
            dial(f"unix://{path}", identity(), BulkLimits(handshake_timeout_s=0.1))
        assert time.monotonic() - began_s < 5


def test_a_full_queue_and_nobody_who_wants_it_any_more(short_path):
    path = short_path / "bulk.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(BulkError, match="not wanted"):
            dial(f"unix://{path}", identity(), SMALL, lambda: False)
        with pytest.raises(BulkError, match="no connection within"):
            dial(f"unix://{path}", identity(), BulkLimits(connect_timeout_s=0.05))


def test_first_messages_are_bounded(pair):
    ours, theirs = pair
    theirs.sendall((1 << 20).to_bytes(4, "little"))
    with pytest.raises(BulkError, match="first message of 1048576 bytes"):
        bulk.receive_frame(ours, time.monotonic() + 5)
    theirs.close()
    with pytest.raises(ConnectionLost):
        bulk.receive_frame(ours, time.monotonic() + 5)


def test_a_refused_proof(pair):
    ours, theirs = pair

    def accept():
        handshake = bulk.Handshake(Role.ACCEPTER, identity(), "x")
        deadline_s = time.monotonic() + 5
        while handshake.peer is None:
            for message in handshake.receive([bulk.receive_frame(theirs, deadline_s)]):
                bulk.send_frame(theirs, message)
        bulk.send_frame(theirs, b"no")

    thread = threading.Thread(target=accept)
    thread.start()
    with pytest.raises(BulkError, match="did not accept"):
        bulk.shake_hands(ours, Role.DIALER, identity(), "y", time.monotonic() + 5)
    thread.join()


def test_much_at_once_and_timeouts(pair):
    ours, theirs = pair
    for sock in pair:
        bulk.set_timeouts(sock, 0.1)
    parts = [some_bytes(size) for size in (0, 1, 300_000, 7)]
    sender = threading.Thread(target=bulk.send_parts, args=(theirs, [memoryview(part) for part in parts]))
    sender.start()
    target = bytearray(300_008)
    bulk.receive_exactly(ours, memoryview(target))
    sender.join()
    assert target == b"".join(parts)
    with pytest.raises(BulkError, match="nothing was received"):
        bulk.receive_exactly(ours, memoryview(bytearray(1)))
    with pytest.raises(BulkError, match="nothing could be sent"):
        bulk.send_parts(ours, [bytes(16 << 20)])
    ours.close()
    with pytest.raises((ConnectionLost, ConnectionResetError)):
        bulk.receive_exactly(theirs, memoryview(bytearray(32 << 20)))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (bulk.ANSWER.pack(bulk.DATA, 4), "makes no sense: 0, 4 bytes"),
        (bulk.ANSWER.pack(9, 0), "makes no sense: 9"),
        (bulk.ANSWER.pack(bulk.REFUSED, 1 << 40), "makes no sense: 2"),
        (bulk.ANSWER.pack(bulk.WAITING, 0) + bulk.ANSWER.pack(bulk.REFUSED, 2) + b"no", "no"),
    ],
)
def test_answers(pair, answer, text):
    ours, theirs = pair
    connection = bulk.BulkConnection(ours)
    connection.request(b"key", 5, 3)
    assert theirs.recv(100) == bulk.REQUEST.pack(3, 5, 3) + b"key"
    theirs.sendall(answer)
    with pytest.raises(BulkError, match=text):
        connection.receive_into(memoryview(bytearray(3)))


def test_rest_abort_close(pair):
    ours, theirs = pair
    connection = bulk.BulkConnection(ours)
    connection.rest()
    assert theirs.recv(100) == bulk.REQUEST.pack(0, 0, 0)
    theirs.sendall(bulk.ANSWER.pack(bulk.DATA, 2) + b"ab")
    target = bytearray(2)
    connection.receive_into(memoryview(target))
    assert target == b"ab"
    connection.abort()
    with pytest.raises(ConnectionLost):
        connection.receive_into(memoryview(target))
    connection.abort()
    connection.close()
    assert bulk.is_wanted()


def test_the_token_is_not_shown():
    made = bulk.bulk_identity("node 1", CLUSTER_ID, b"secret")
    assert "secret" not in repr(made)
    assert "node 1 pid=" in made.description
