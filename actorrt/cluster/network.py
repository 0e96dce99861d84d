"""Which transports there are: the one place that names them."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from actorrt.protocol import PROTOCOL_VERSION, make_codec
from actorrt.transports.base import Limits, Transport
from actorrt.transports.inproc import Hub, InprocTransport
from actorrt.transports.unix import UnixTransport
from actorrt.wire.handshake import Identity
from actorrt.wire.router import Router


def make_transports(loop: asyncio.AbstractEventLoop, endpoints: Sequence[str] = ()) -> list[Transport]:
    """Return the transports for a process that uses these endpoints, and for peers at endpoints of such kinds.

    Processes of one machine talk over Unix sockets. ZeroMQ comes in with the first ``tcp://`` or ``ipc://`` endpoint:
    a cluster has them on all of its nodes or on none, and loading it costs every process some 15 ms and two threads.
    """
    limits = Limits()
    transports: list[Transport] = [UnixTransport(loop, limits)]
    if any(not endpoint.startswith("unix://") for each in endpoints for endpoint in each.split(",") if endpoint):
        zeromq = importlib.import_module("actorrt.transports.zeromq")
        transports.append(zeromq.ZeromqTransport(loop, limits))
    return transports


def _identity(description: str, cluster_id: bytes, token: bytes) -> Identity:
    return Identity(
        description=description,
        cluster_id=cluster_id,
        token=token,
        protocol_version=PROTOCOL_VERSION,
        python_version=(sys.version_info.major, sys.version_info.minor),
        random_bytes=os.urandom,
    )


def make_router(
    loop: asyncio.AbstractEventLoop,
    *,
    description: str,
    cluster_id: bytes,
    token: bytes,
    listen: Sequence[str] = (),
    dial: Sequence[str] = (),
) -> Router:
    """Return a router that listens at ``listen`` (to be called on the loop's thread).

    ``description`` is what others see of us in logs and errors: role and name. An empty ``cluster_id`` is learned from
    the first peer. ``dial`` are process addresses known to be dialled later (the head's): they and ``listen`` decide
    which transports there are.
    """
    identity = _identity(f"{description} pid={os.getpid()}", cluster_id, token)
    router = Router(loop, make_transports(loop, [*listen, *dial]), make_codec, identity)
    try:
        for address in listen:
            router.listen(address)
    except BaseException:
        router.close()
        raise
    return router


def make_hub() -> Hub:
    """Return the meeting place of one in-process cluster."""
    return Hub()


def make_inproc_router(
    loop: asyncio.AbstractEventLoop, hub: Hub, *, description: str, cluster_id: bytes, token: bytes, listen: str
) -> Router:
    """Return a router of an in-process cluster (call on the loop's thread); frames and handshake as everywhere."""
    identity = _identity(description, cluster_id, token)
    router = Router(loop, [InprocTransport(loop, Limits(), hub)], make_codec, identity)
    router.listen(listen)
    return router


def local_endpoint(scheme: str, sockets_dir: str, name: str) -> str:
    """Return the endpoint ``<sockets_dir>/<name>.sock`` on this machine."""
    if scheme not in {"unix", "ipc"}:
        raise ValueError(f"transport must be 'unix' or 'ipc', got {scheme!r}")
    return f"{scheme}://{Path(sockets_dir, name)}.sock"


def tcp_endpoint(host: str, port: int) -> str:
    """Return a tcp endpoint; IPv6 addresses are bracketed."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
