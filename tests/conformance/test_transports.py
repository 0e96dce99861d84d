"""Every transport under the one suite, on uvloop and on asyncio's own loop; and sudden death in real processes."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import uvloop

from actorrt.transports.base import Limits
from actorrt.transports.conformance import CHECKS
from actorrt.transports.conformance_tools import Pair, Recorder
from actorrt.transports.errors import PeerGone
from actorrt.transports.inproc import Hub, InprocTransport
from actorrt.transports.unix import UnixTransport
from actorrt.transports.zeromq import ZeromqTransport

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pairs(kind, folder):
    """make_pair for one kind of transport; the folder must be empty when a pair is done."""
    numbers = itertools.count()
    hub = Hub()

    def clean():
        assert list(folder.iterdir()) == [], "a socket file was left behind"

    def make_pair(loop, limits):
        def new(prefix=""):
            return f"{prefix}{folder}/{next(numbers)}.sock"

        if kind == "inproc":
            server, client = InprocTransport(loop, limits, hub), InprocTransport(loop, limits, hub)
            return Pair(server=server, client=client, new_address=lambda: new("inproc://"), limits=limits)
        if kind == "unix":
            server, client = UnixTransport(loop, limits), UnixTransport(loop, limits)
            return Pair(server=server, client=client, new_address=lambda: new("unix://"), limits=limits, after=clean)
        server, client = ZeromqTransport(loop, limits), ZeromqTransport(loop, limits)
        address = (lambda: new("ipc://")) if kind == "ipc" else (lambda: "tcp://127.0.0.1:0")
        return Pair(server=server, client=client, new_address=address, limits=limits, after=clean)

    return make_pair


def run(loop_name, coroutine):
    errors = []
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: errors.append(context))
        runner.run(coroutine)
    assert errors == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("kind", ["inproc", "unix", "ipc", "tcp"])
@pytest.mark.parametrize("loop_name", LOOPS)
def test_conformance(loop_name, kind, check, tmp_path):
    run(loop_name, check(pairs(kind, tmp_path)))


# --------------------------------------------------------------------------------------------------- sudden death

ROOT = Path(__file__).parents[2]
CHILD = """
import asyncio, sys
import uvloop
from actorrt.transports.base import Limits
from actorrt.transports.unix import UnixTransport
from actorrt.transports.zeromq import ZeromqTransport

class Echo:
    def received(self, channel, messages):
        for message in messages:
            channel.send(message)

    def closed(self, channel, reason):
        pass

async def main():
    kind, listen_at, dial_at, interval, timeout = sys.argv[1:]
    limits = Limits(heartbeat_interval_s=float(interval), heartbeat_timeout_s=float(timeout))
    transport = (UnixTransport if kind == "unix" else ZeromqTransport)(asyncio.get_running_loop(), limits)
    listener = transport.listen(listen_at, lambda channel: Echo())
    transport.connect(dial_at, Echo()).send([listener.address.encode()])
    await asyncio.Event().wait()

uvloop.run(main())
"""


async def with_child(kind, folder, limits, act):
    """Connect to a child in both directions, then ``act`` on its pid; both channels must end with PeerGone."""
    transport = (UnixTransport if kind == "unix" else ZeromqTransport)(asyncio.get_running_loop(), limits)
    prefix = "tcp://127.0.0.1:0" if kind == "tcp" else f"{kind}://{folder}/"
    ours, theirs = (prefix, prefix) if kind == "tcp" else (f"{prefix}ours", f"{prefix}theirs")
    accepted = Recorder("accepted")
    listener = transport.listen(ours, accepted.adopt)
    arguments = [kind, theirs, listener.address, str(limits.heartbeat_interval_s), str(limits.heartbeat_timeout_s)]
    child = subprocess.Popen(  # noqa: ASYNC220 - a few milliseconds, nothing else to do
        [sys.executable, "-c", CHILD, *arguments], cwd=ROOT
    )
    try:
        await accepted.until_messages(1)
        dialled = Recorder("dialled")
        channel = transport.connect(accepted.messages[0][0].decode(), dialled)
        channel.send([b"echo", b"this"])
        await dialled.until_messages(1)
        assert dialled.messages == [[b"echo", b"this"]]
        await act(child.pid, transport, accepted, dialled)
    finally:
        child.kill()
        child.wait()
        transport.close()
    accepted.verify()
    dialled.verify()
    assert (len(accepted.reasons), len(dialled.reasons)) == (1, 1)


@pytest.mark.parametrize("loop_name", LOOPS)
@pytest.mark.parametrize("kind", ["unix", "ipc", "tcp"])
def test_a_killed_process_is_noticed_promptly_on_both_sides(kind, loop_name, tmp_path):
    async def kill(pid, _transport, accepted, dialled):
        start = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        await accepted.until_closed(PeerGone)
        await dialled.until_closed(PeerGone)
        assert time.monotonic() - start < 1.0, "that took longer than the kernel needs to tell"

    run(loop_name, with_child(kind, tmp_path, Limits(), kill))


@pytest.mark.parametrize("kind", ["unix", "ipc", "tcp"])
def test_a_process_killed_while_it_is_sent_to_is_noticed(kind, tmp_path):
    async def kill(pid, _transport, accepted, dialled):
        os.kill(pid, signal.SIGSTOP)
        for channel in (accepted.channel, dialled._channel):
            for _ in range(40):
                channel.send([b"bulk", bytes(1 << 20)])
        os.kill(pid, signal.SIGKILL)
        await accepted.until_closed(PeerGone)
        await dialled.until_closed(PeerGone)

    async def act(pid, transport, accepted, dialled):
        dialled._channel = list(transport._channels)[-1]
        await kill(pid, transport, accepted, dialled)

    run("uvloop", with_child(kind, tmp_path, Limits(), act))


def test_a_silent_host_is_noticed_by_heartbeats(tmp_path):
    limits = Limits(heartbeat_interval_s=0.1, heartbeat_timeout_s=0.5)

    async def stop(pid, _transport, accepted, dialled):
        start = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        await accepted.until_closed(PeerGone)
        await dialled.until_closed(PeerGone)
        assert time.monotonic() - start < 3.0

    run("uvloop", with_child("tcp", tmp_path, limits, stop))


def test_a_busy_loop_is_not_taken_for_a_dead_host():
    """With more waiting for it than the window, libzmq must not stop reading, or its heartbeats would time out."""
    limits = Limits(heartbeat_interval_s=0.05, heartbeat_timeout_s=0.2)

    async def check():
        make_pair = pairs("tcp", Path("/nonexistent"))
        pair = make_pair(asyncio.get_running_loop(), limits)
        theirs = Recorder("accepted")
        listener = pair.server.listen("tcp://127.0.0.1:0", theirs.adopt)
        ours = Recorder("dialled")
        channel = pair.client.connect(listener.address, ours)
        channel.send([b"hello"])
        await theirs.until_messages(1)
        for _ in range(30):
            channel.send([bytes(1 << 20)])
        for number in range(10_000):
            theirs.channel.send([str(number).encode()])
        threading.Event().wait(0.8)  # the subject of this test: a loop that does not turn for several timeouts
        await theirs.until_messages(31)
        await ours.until_messages(10_000)
        assert not ours.reasons
        assert not theirs.reasons
        pair.client.close()
        pair.server.close()

    run("uvloop", check())
