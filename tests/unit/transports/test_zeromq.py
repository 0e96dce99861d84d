import asyncio
import os
import socket
import stat

import pytest
import zmq

from actorrt.transports.base import Limits
from actorrt.transports.conformance_tools import Recorder
from actorrt.transports.errors import BadAddress, PeerGone
from actorrt.transports.zeromq import HELLO, ZeromqTransport, check_address
from actorrt.transports.zeromq_channel import CHUNK_BYTES_MAX


def new_transport(context=None, **limits):
    return ZeromqTransport(asyncio.get_running_loop(), Limits(**limits), context)


def raw_dealer(context, address):
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(address)
    return dealer


async def answer(dealer):
    """What comes back, awaited on another thread: the loop under test goes on turning."""
    assert await asyncio.to_thread(dealer.poll, 10_000)
    return dealer.recv_multipart()


def exists(path):
    return os.path.lexists(path)


def test_addresses():
    assert check_address("ipc:///a/b", listen=True) == "/a/b"
    for good in ("tcp://127.0.0.1:0", "tcp://*:*", "tcp://[::1]:80", "tcp://host.name-1:65535"):
        assert check_address(good, listen=True) is None
    for bad in ("tcp://", "tcp://host", "tcp://host:65536", "tcp://a;b:1", "tcp://host:x", "ipc://", "ipc://@x", "x"):
        with pytest.raises(BadAddress):
            check_address(bad, listen=True)
    for only_to_listen in ("tcp://127.0.0.1:0", "tcp://*:80", "tcp://127.0.0.1:*"):
        with pytest.raises(BadAddress, match="not dialled"):
            check_address(only_to_listen, listen=False)


@pytest.mark.asyncio
async def test_wildcard_ports_are_resolved_and_a_taken_one_is_refused():
    transport = new_transport()
    one, other = (transport.listen(address, Recorder("x").adopt) for address in ("tcp://127.0.0.1:0", "tcp://*:*"))
    assert int(one.address.rpartition(":")[2]) > 0
    assert int(other.address.rpartition(":")[2]) > 0
    with pytest.raises(BadAddress, match="cannot listen"):
        transport.listen(one.address, Recorder("x").adopt)
    transport.close()


@pytest.mark.asyncio
async def test_ipc_files(tmp_path):
    path = tmp_path / "socket"
    transport = new_transport()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = transport.listen(f"ipc://{path}", Recorder("x").adopt)
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    with pytest.raises(BadAddress, match="taken"):
        transport.listen(f"ipc://{path}", Recorder("x").adopt)
    listener.close()
    assert not exists(path)
    transport.close()


@pytest.mark.asyncio
async def test_a_transport_that_is_not_used_starts_nothing():
    transport = new_transport()
    assert transport._context is None
    transport.close()


@pytest.mark.asyncio
async def test_a_context_that_was_given_is_not_terminated():
    with zmq.Context() as context:
        transport = new_transport(context)
        transport.listen("tcp://127.0.0.1:0", Recorder("x").adopt)
        transport.close()
        assert not context.closed


@pytest.mark.asyncio
async def test_strangers_are_told_to_go_and_rule_breakers_end_their_channel():
    transport = new_transport()
    accepted = []
    fifth = asyncio.Event()

    def accept(channel):
        accepted.append(Recorder(f"accepted {len(accepted)}"))
        if len(accepted) == 5:
            fifth.set()
        return accepted[-1].adopt(channel)

    listener = transport.listen("tcp://127.0.0.1:0", accept)
    with zmq.Context() as context:
        for greeting in ([b"who am I"], [HELLO, b"more"], [b""]):
            with raw_dealer(context, listener.address) as stranger:
                stranger.send_multipart(greeting)
                assert await answer(stranger) == [b""]
        assert accepted == []
        for nonsense in ([b"", b"an odd ack"], [b"a", b"b"], [b""], [b"", b"x" * 8, b"y"]):
            with raw_dealer(context, listener.address) as dealer:
                dealer.send(HELLO)
                dealer.send_multipart(nonsense)
                assert await answer(dealer) == [b""]
                await accepted[-1].until_closed(PeerGone)
        # libzmq itself cuts a chunk over the limit, before it takes memory for it.
        with raw_dealer(context, listener.address) as dealer:
            dealer.send(HELLO)
            dealer.send(bytes(CHUNK_BYTES_MAX + 1))
            await asyncio.wait_for(fifth.wait(), 10)
            await accepted[-1].until_closed(PeerGone)
            assert accepted[-1].messages == []
    transport.close()


@pytest.mark.asyncio
async def test_a_port_where_something_else_listens_times_out():
    transport = new_transport(connect_timeout_s=0.1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        ours = Recorder("ours")
        transport.connect(f"tcp://127.0.0.1:{deaf.getsockname()[1]}", ours)
        await ours.until_closed(PeerGone)
    transport.close()


@pytest.mark.asyncio
async def test_out_of_sockets_is_the_channels_end_not_an_exception():
    with zmq.Context() as context:
        context.set(zmq.MAX_SOCKETS, 4)
        transport = new_transport(context)
        transport.listen("tcp://127.0.0.1:0", Recorder("x").adopt)
        ours = Recorder("ours")
        channel = transport.connect("tcp://127.0.0.1:1", ours)
        channel.send([b"lost"])
        reason = await ours.until_closed(PeerGone)
        assert "Too many" in str(reason)
        with pytest.raises(BadAddress, match="Too many"):
            transport.listen("tcp://127.0.0.1:0", Recorder("x").adopt)
        transport.close()


@pytest.mark.asyncio
async def test_a_closed_listener_keeps_its_port_only_while_channels_live():
    transport = new_transport()
    accepted = Recorder("accepted")
    listener = transport.listen("tcp://127.0.0.1:0", accepted.adopt)
    ours = Recorder("ours")
    transport.connect(listener.address, ours).send([b"hello"])
    await accepted.until_messages(1)
    listener.close()
    assert not listener.closed
    accepted.channel.close()
    await ours.until_closed(PeerGone)
    assert listener.closed
    transport.close()


@pytest.mark.asyncio
async def test_representations_tell_what_matters():
    transport = new_transport()
    listener = transport.listen("tcp://127.0.0.1:0", Recorder("x").adopt)
    channel = transport.connect(listener.address, Recorder("ours"))
    assert listener.address in repr(listener)
    assert "open" in repr(channel)
    assert "1 listeners, 1 channels" in repr(transport)
    transport.close()
    assert "closed" in repr(channel)
