import asyncio

import pytest

from actorrt.cluster import network
from actorrt.transports.errors import BadAddress


def make(loop, **arguments):
    return network.make_router(loop, description="test", cluster_id=b"", token=b"t", **arguments)


def schemes(loop, *endpoints):
    transports = network.make_transports(loop, endpoints)
    found = {scheme for transport in transports for scheme in transport.schemes}
    for transport in transports:
        transport.close()
    return found


@pytest.mark.asyncio
async def test_zeromq_comes_when_it_is_needed():
    loop = asyncio.get_running_loop()
    assert schemes(loop) == schemes(loop, "", "unix:///x") == {"unix"}
    assert {"tcp", "ipc", "unix"} <= schemes(loop, "unix:///x,tcp://h:1")


@pytest.mark.asyncio
async def test_router_listens(short_path):
    address = network.local_endpoint("unix", str(short_path), "node")
    router = make(asyncio.get_running_loop(), listen=[address, "tcp://127.0.0.1:0"])
    assert router.process.startswith(f"{address},tcp://127.0.0.1:")
    router.close()
    assert list(short_path.iterdir()) == []


@pytest.mark.asyncio
async def test_nothing_is_left_of_a_router_that_cannot_listen(short_path):
    address = network.local_endpoint("unix", str(short_path), "node")
    with pytest.raises(BadAddress):
        make(asyncio.get_running_loop(), listen=[address, "unix://relative"])
    assert list(short_path.iterdir()) == []


def test_endpoints():
    assert network.local_endpoint("ipc", "/d", "node") == "ipc:///d/node.sock"
    assert network.tcp_endpoint("h", 1) == "tcp://h:1"
    assert network.tcp_endpoint("::1", 1) == "tcp://[::1]:1"
    with pytest.raises(ValueError, match="unix"):
        network.local_endpoint("carrier pigeon", "/d", "node")
