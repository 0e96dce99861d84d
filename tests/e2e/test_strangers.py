"""Who is no member of the cluster, and what is no message, is refused with a log line and disturbs nobody."""

import contextlib
import os
import random
import socket
import stat
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq

import actorrt
from actorrt.api.loop_thread import LoopThread
from actorrt.cluster.bootstrap import start_node
from actorrt.cluster.network import make_transports
from actorrt.exceptions import AuthenticationError
from actorrt.gcs.messages import ListNodes
from actorrt.kernel.errors import ProtocolMismatchError
from actorrt.kernel.message import Address
from actorrt.protocol import PROTOCOL_VERSION, make_codec
from actorrt.transports import zeromq
from actorrt.transports.framing import HEADER
from actorrt.wire.handshake import Handshake, Identity, Role, State
from actorrt.wire.router import Router

PYTHON = (sys.version_info.major, sys.version_info.minor)
FRAMES = 1000
SLACK = 8
"""Descriptors that a worker started meanwhile may add; the strangers of a test that counts are many more."""
GREETING = zeromq.HELLO


class House:
    """A cluster with a tcp port, and this process as a driver at work on it."""

    def __init__(self):
        self.node = start_node(num_cpus=2, port=0)
        self.context = actorrt.init(address=self.node.cluster.address, log_to_driver=False)

        @actorrt.remote(num_cpus=0)
        class Counter:
            def __init__(self):
                self.n = 0

            def inc(self):
                self.n += 1
                return self.n, os.getpid()

        self.counter = Counter.remote()
        self.counted, self.pid = actorrt.get(self.counter.inc.remote())
        self.pid_of = actorrt.remote(os.getpid)
        self.double = actorrt.remote(lambda x: 2 * x)
        endpoints = self.node.address.split(",")
        self.unix = next(each for each in endpoints if each.startswith("unix://"))
        self.tcp = next(each for each in endpoints if each.startswith("tcp://"))

    def log(self) -> str:
        return "".join(path.read_text() for path in Path(self.node.session_dir, "logs").glob("node-*.log"))

    def fds(self) -> int:
        return len(list(Path(f"/proc/{self.node.pid}/fd").iterdir()))

    @contextlib.contextmanager
    def at_work(self):
        """Tasks and actor calls go on meanwhile, in the same processes; no connection stays behind."""
        fds = steady(self.fds)
        stop = threading.Event()
        failed: list[BaseException] = []
        rounds = [0]

        def work():
            try:
                while not stop.is_set():
                    assert actorrt.get([self.double.remote(i) for i in range(10)], timeout=20) == list(range(0, 20, 2))
                    self.counted += 1
                    assert actorrt.get(self.counter.inc.remote(), timeout=20) == (self.counted, self.pid)
                    rounds[0] += 1
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
            began = rounds[0]
            deadline_s = time.monotonic() + 20
            while rounds[0] < began + 3 and not failed:
                assert time.monotonic() < deadline_s, "no work is done any more"
                time.sleep(0.01)
        finally:
            stop.set()
            thread.join(30)
        assert not failed
        assert self.node.alive()
        deadline_s = time.monotonic() + 20
        while self.fds() > fds + SLACK:
            assert time.monotonic() < deadline_s, f"{self.fds()} descriptors instead of {fds}"
            time.sleep(0.05)

    def expect_log(self, *texts: str, since: int) -> None:
        deadline_s = time.monotonic() + 10
        while not all(text in self.log()[since:] for text in texts):
            assert time.monotonic() < deadline_s, f"{texts} not in the log:\n{self.log()[since:][-3000:]}"
            time.sleep(0.02)


def steady(figure):
    """Its value once it has stood still for a moment (workers are still being started, say)."""
    last, since_s = figure(), time.monotonic()
    deadline_s = since_s + 10
    while time.monotonic() - since_s < 0.5:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
        if (value := figure()) != last:
            last, since_s = value, time.monotonic()
    return last


@pytest.fixture(scope="module")
def house(sessions):
    made = House()
    yield made
    actorrt.shutdown()
    made.node.stop()


@pytest.fixture
def identity(house):
    def make(**changes):
        known = {
            "description": "stranger",
            "cluster_id": house.node.cluster_id,
            "token": house.node.token,
            "protocol_version": PROTOCOL_VERSION,
            "python_version": PYTHON,
            "random_bytes": os.urandom,
        }
        return Identity(**{**known, **changes})

    return make


def ask(identity, endpoint):
    """Dial as this identity and put one question."""
    thread = LoopThread("stranger")
    thread.start()
    transports = thread.call(lambda: make_transports(thread.loop, [endpoint]))
    router = thread.call(lambda: Router(thread.loop, transports, make_codec, identity))
    try:
        return router.request(Address(endpoint, "gcs"), ListNodes(), 10.0).result(15)
    finally:
        thread.call(router.close)
        thread.stop()


class Wire:
    """A raw connection that speaks the framing, and whatever else it likes."""

    def __init__(self, endpoint):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(15)
        self.socket.connect(endpoint.removeprefix("unix://"))

    def send(self, *messages):
        for message in messages:
            self.socket.sendall(HEADER.pack(len(message), 1) + message)

    def receive(self):
        """The next message; None at the end."""
        header = self._exactly(HEADER.size)
        return None if header is None else self._exactly(HEADER.unpack(header)[0])

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionError:
                return None
            if not more:
                return None
            data += more
        return data

    def until_closed(self):
        messages = []
        while (message := self.receive()) is not None:
            messages.append(message)
        self.socket.close()
        return messages

    def close(self):
        self.socket.close()


# ------------------------------------------------------------------ the wrong people
STRANGERS = {
    "protocol": ({"protocol_version": PROTOCOL_VERSION + 1}, ProtocolMismatchError, f"protocol {PROTOCOL_VERSION + 1}"),
    "older protocol": ({"protocol_version": 0}, ProtocolMismatchError, "protocol 0"),
    "python": ({"python_version": (PYTHON[0], PYTHON[1] + 1)}, ProtocolMismatchError, f"Python 3.{PYTHON[1] + 1}"),
    "cluster": ({"cluster_id": b"\x07" * 16}, ProtocolMismatchError, "another cluster"),
    "wrong token": ({"token": b"not the token"}, AuthenticationError, "could not prove"),
    "no token": ({"token": b"\0"}, AuthenticationError, "could not prove"),
}


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_are_refused_with_an_error_on_both_sides(house, identity, who, scheme):
    changes, kind, text = STRANGERS[who]
    before = len(house.log())
    with house.at_work():
        with pytest.raises(kind) as caught:
            ask(identity(**changes), getattr(house, scheme))
        words = "token" if kind is AuthenticationError else {"cluster": "another cluster"}.get(who, text.split()[0])
        assert words in str(caught.value)
        if kind is AuthenticationError:
            house.expect_log("dropped before it proved itself", "stranger", since=before)
        else:
            house.expect_log("dropped before it proved itself", text, "stranger", since=before)
    assert house.node.token.decode() not in house.log() + str(caught.value)


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_a_friend_is_let_in(house, identity, scheme):
    """The refusals above are about who it is."""
    answer = ask(identity(), getattr(house, scheme))
    assert [node.node_id for node in answer.nodes] == [house.node.node_id]


def test_an_empty_token_is_no_token(identity, monkeypatch, sessions):
    with pytest.raises(ValueError, match="token is empty"):
        identity(token=b"")
    path = sessions / "empty-token"
    path.write_text(" \n")
    monkeypatch.setenv("ACTORRT_AUTH_TOKEN_PATH", str(path))
    with pytest.raises(AuthenticationError, match="is empty"):
        start_node(num_cpus=1)


def test_a_driver_with_a_wrong_token(house, drivers):
    before = len(house.log())
    with house.at_work():
        ran = drivers.run(
            """
            try:
                rt.init(address=$ADDRESS)
            except rt.exceptions.AuthenticationError as error:
                say("refused:", error)
            """,
            ADDRESS=house.node.cluster.address,
            env={"ACTORRT_AUTH_TOKEN": "wrong"},
        )
        assert "refused:" in ran.out
        assert "token" in ran.out
        house.expect_log("dropped before it proved itself", "driver", since=before)


def test_a_driver_without_a_token(house, drivers, tmp_path):
    """From another session root (as from another machine) the token is not found."""
    ran = drivers.run(
        """
        try:
            rt.init(address=$ADDRESS)
        except rt.exceptions.AuthenticationError as error:
            say("refused:", error)
        """,
        ADDRESS=house.tcp,
        env={"ACTORRT_TMPDIR": str(house_apart(house)), "HOME": str(tmp_path)},
    )
    assert "wants a token" in ran.out


def house_apart(house):
    folder = Path(house.node.session_dir).parent.parent / "apart"
    folder.mkdir(exist_ok=True)
    return folder


# ------------------------------------------------------------------ proofs
def open_honestly(endpoint, identity):
    """A whole opening by hand; returns the wire, and what both sides said."""
    wire, shake, said, heard = Wire(endpoint), None, [], []
    shake = Handshake(Role.DIALER, identity, "none://recorder")
    out = shake.start()
    while shake.state not in {State.PROVED, State.FAILED}:
        wire.send(*out)
        said += out
        heard.append(wire.receive())
        out = shake.receive([heard[-1]])
    wire.send(*out)
    return wire, said + out, heard


def test_a_replayed_opening_is_refused(house, identity):
    before = len(house.log())
    with house.at_work():
        wire, said, _ = open_honestly(house.unix, identity(description="recorder"))
        wire.close()
        again = Wire(house.unix)
        again.send(*said)
        heard = again.until_closed()
        assert b"could not prove" in heard[-1]
        house.expect_log("recorder", "could not prove the cluster's token", since=before)


def test_a_reflected_proof_is_refused(house, identity):
    before = len(house.log())
    with house.at_work():
        wire = Wire(house.unix)
        wire.send(*Handshake(Role.DIALER, identity(token=b"x", description="mirror"), "none://mirror").start())
        _their_hello, their_proof = wire.receive(), wire.receive()
        wire.send(their_proof)
        assert b"could not prove" in wire.until_closed()[-1]
        house.expect_log("mirror", "could not prove the cluster's token", since=before)


def test_a_reflected_hello_is_refused(house, identity):
    """Two connections played against each other: the accepter's own words do not open it."""
    before = len(house.log())
    with house.at_work():
        first, second = Wire(house.unix), Wire(house.unix)
        first.send(*Handshake(Role.DIALER, identity(token=b"x"), "none://mirror").start())
        their_hello, their_proof = first.receive(), first.receive()
        second.send(their_hello)
        heard = second.until_closed()
        assert any(b"own address" in message for message in heard)
        first.send(their_proof)
        first.until_closed()
        house.expect_log("own address", since=before)


def test_a_message_before_the_proof_is_not_decoded(house, identity):
    frames = make_codec().encode("gcs", "request", ListNodes(), 1, 0)
    before = len(house.log())
    with house.at_work():
        wire = Wire(house.unix)
        wire.send(*Handshake(Role.DIALER, identity(), "none://eager").start())
        wire.receive(), wire.receive()
        wire.send(b"".join(bytes(frame) for frame in frames))
        assert wire.until_closed() == []
        house.expect_log("something else than a handshake", since=before)


def test_a_member_that_talks_nonsense_is_dropped(house, identity):
    before = len(house.log())
    with house.at_work():
        wire, _, _ = open_honestly(house.unix, identity(description="babbler"))
        wire.send(b"\xc1nonsense")
        wire.until_closed()
        house.expect_log("not a message", since=before)


# ------------------------------------------------------------------ the wrong bytes
def bad_frames(rng, identity, count):
    """Random bytes, truncated and damaged openings, wrong lengths."""
    hello = Handshake(Role.DIALER, identity, "none://fuzz").start()[0]
    whole = HEADER.pack(len(hello), 1) + hello
    for number in range(count):
        kind = number % 8
        if kind == 0:
            yield rng.randbytes(rng.randrange(1, 200))
        elif kind == 1:
            yield whole[: rng.randrange(1, len(whole))]
        elif kind == 2:
            body = rng.randbytes(rng.randrange(0, 300))
            yield HEADER.pack(len(body), 1) + body
        elif kind == 3:
            place = rng.randrange(HEADER.size, len(whole))
            yield whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :]
        elif kind == 4:
            yield HEADER.pack(rng.randrange(5000, 1 << 63), 1) + hello
        elif kind == 5:
            yield HEADER.pack(len(hello), rng.randrange(2, 1 << 31)) + hello
        elif kind == 6:
            yield whole + whole + rng.randbytes(20)
        else:
            lengths = struct.pack("<3Q", *[rng.randrange(1 << 40) for _ in range(3)])
            yield HEADER.pack(30, 3) + lengths + rng.randbytes(30)


def fire(connect, frames):
    """Each on a connection of its own; a few linger half open."""
    lingering = []
    for number, data in enumerate(frames):
        sock = connect()
        with contextlib.suppress(OSError):  # the other side was quicker to close
            sock.sendall(data)
            if number % 3 == 0:
                sock.shutdown(socket.SHUT_WR)
        if number % 10 == 0:
            lingering.append(sock)
        else:
            sock.close()
    for sock in lingering:
        sock.close()


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_a_thousand_bad_frames(house, identity, scheme):
    before = len(house.log())
    workers = set(actorrt.get([house.pid_of.remote() for _ in range(20)]))

    def connect():
        if scheme == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(15)
            sock.connect(house.unix.removeprefix("unix://"))
            return sock
        host, _, port = house.tcp.removeprefix("tcp://").rpartition(":")
        return socket.create_connection((host, int(port)), timeout=15)

    with house.at_work():
        fire(connect, bad_frames(random.Random(7), identity(description="fuzzer"), FRAMES))
        # libzmq drops what is not its own protocol before we see it; there the transport says that it refused somebody
        refused = "dropped before it proved itself" if scheme == "unix" else "refused or left before it had greeted"
        house.expect_log(refused, since=before)
    assert set(actorrt.get([house.pid_of.remote() for _ in range(20)])) & workers
    assert "Traceback" not in house.log()[before:]


def test_bad_frames_inside_zeromq(house, identity):
    """Peers that speak ZeroMQ, some even our greeting on top of it, and beyond that nonsense."""
    before = len(house.log())
    rng = random.Random(8)
    hello = Handshake(Role.DIALER, identity(description="fuzzer"), "none://fuzz").start()[0]
    with house.at_work(), zmq.Context() as context:
        for kind in (zmq.DEALER, zmq.REQ, zmq.ROUTER, zmq.PUSH):
            for number in range(10):
                with context.socket(kind) as sock:
                    sock.linger = 100
                    sock.sndtimeo = 500
                    sock.connect(house.tcp)
                    with contextlib.suppress(zmq.ZMQError):
                        if kind == zmq.DEALER:
                            sock.send(GREETING)
                        for _ in range(5):
                            parts = [rng.randbytes(rng.randrange(0, 200)) for _ in range(1 + number % 3)]
                            sock.send_multipart([hello[: rng.randrange(len(hello))], *parts] if number % 2 else parts)
        house.expect_log("dropped before it proved itself", since=before)
    assert "Traceback" not in house.log()[before:]


def test_a_silent_connection_is_closed_in_time(house):
    with house.at_work():
        wires = [Wire(house.unix) for _ in range(20)]
        for wire in wires:
            assert wire.receive() is None
            wire.close()


# ------------------------------------------------------------------ files and ports
def test_the_session_folder_and_token_are_private(house):
    session = Path(house.node.session_dir)
    sockets = Path(house.unix.removeprefix("unix://")).parent
    for folder in (session, session.parent, sockets):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert stat.S_IMODE((session / "token").stat().st_mode) == 0o600
    assert (session / "token").read_bytes().strip() == house.node.token
    for path in (session / "logs").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert house.node.token.decode() not in house.log()


def test_the_token_stands_in_no_environment_or_command_line(house):
    token = house.node.token
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(entry.name) != os.getpid():
                assert token not in (entry / "cmdline").read_bytes()
                assert token not in (entry / "environ").read_bytes()
    assert "ACTORRT_AUTH_TOKEN" not in actorrt.get(actorrt.remote(lambda: dict(os.environ)).remote())


def listening(pid):
    """Local addresses (hexadecimal) of the tcp sockets a process listens at."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(fd.readlink()))
    found = []
    for name in ("tcp", "tcp6"):
        table = Path("/proc/net", name)
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1].split(":")[0])
    return found


def test_tcp_is_bound_to_loopback(house):
    """Node, workers and this driver (a cluster without a port has none at all: see the next test)."""
    assert listening(house.node.pid) == ["0100007F"] * 2  # messages, and bytes of objects
    assert set(listening(house.pid)) <= {"0100007F"}
    assert set(listening(os.getpid())) <= {"0100007F"}


def test_a_local_cluster_listens_nowhere_on_tcp(drivers):
    process = drivers.start(
        """
        rt.init(num_cpus=1, log_to_driver=False)
        @rt.remote
        def find():
            return os.getppid(), os.getpid()
        zygote, worker = rt.get(find.remote())
        say("pids", os.getpid(), worker, zygote, int(open(f"/proc/{zygote}/stat").read().rsplit(")", 1)[1].split()[1]))
        sys.stdin.readline()
        """
    )
    pids = [int(pid) for pid in drivers.read_line(process, "pids").split()]
    assert [listening(pid) for pid in pids] == [[]] * 4
    process.communicate(b"\n", timeout=20)
