import asyncio
import os
import socket
import stat
import struct
from pathlib import Path

import pytest

from actorrt.transports.base import Limits
from actorrt.transports.conformance_tools import Recorder
from actorrt.transports.errors import BadAddress, Closed, PeerGone, TooLarge
from actorrt.transports.unix import UnixTransport, parse_address


def exists(path):
    return os.path.lexists(path)


def rename(path, new_path):
    Path(path).rename(new_path)


class Side:
    """A listening transport in a fresh folder."""

    def __init__(self, folder, **limits):
        self.path = str(folder / "socket")
        self.address = f"unix://{self.path}"
        self.transport = UnixTransport(asyncio.get_running_loop(), Limits(**limits))
        self.accepted = Recorder("accepted")

    def listen(self):
        return self.transport.listen(self.address, self.accepted.adopt)


def test_addresses():
    assert parse_address("unix:///a/b") == "/a/b"
    for bad in ("unix://", "unix://relative", "unix:///a/", "unix:///a\0b", "/a/b", "tcp:///a", ""):
        with pytest.raises(BadAddress):
            parse_address(bad)
    with pytest.raises(BadAddress, match="200 bytes long, the operating system allows"):
        parse_address("unix://" + "/" + 199 * "x")


@pytest.mark.asyncio
async def test_the_socket_file_is_private_and_goes_with_the_listener(tmp_path):
    side = Side(tmp_path)
    listener = side.listen()
    mode = os.lstat(side.path).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    listener.close()
    assert not exists(side.path)
    side.transport.close()


@pytest.mark.asyncio
async def test_a_stale_file_is_replaced_a_living_one_and_a_plain_file_are_not(tmp_path):
    side = Side(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(side.path)
        dead.listen()
    assert exists(side.path)
    side.listen()
    with pytest.raises(BadAddress, match="taken"):
        side.listen()
    side.transport.close()
    (tmp_path / "socket").write_text("precious")
    other = Side(tmp_path)
    with pytest.raises(BadAddress, match="no socket"):
        other.listen()
    assert (tmp_path / "socket").read_text() == "precious"


@pytest.mark.asyncio
async def test_a_folder_that_does_not_exist(tmp_path):
    side = Side(tmp_path / "nowhere")
    with pytest.raises(BadAddress, match="cannot listen"):
        side.listen()


@pytest.mark.asyncio
async def test_a_successors_file_is_left_alone(tmp_path):
    side = Side(tmp_path)
    listener = side.listen()
    rename(side.path, tmp_path / "kept")  # so that its inode is not used again
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(side.path)
        listener.close()
        assert exists(side.path)


@pytest.mark.asyncio
async def test_send_writes_at_once_when_nothing_waits(tmp_path):
    side = Side(tmp_path)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(side.path)
        peer.listen()
        channel = side.transport.connect(side.address, Recorder("ours"))
        channel.send([b"now"])
        assert channel.pending_bytes == 0
        connection, _ = peer.accept()
        with connection:
            # No turn of the loop has passed.
            assert connection.recv(100) == struct.pack("<QI", 3, 1) + b"now"
        side.transport.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("junk", "kind"),
    [
        (struct.pack("<QI", 1 << 60, 1), TooLarge),
        (struct.pack("<QI", 10, 1 << 31), TooLarge),
        (struct.pack("<QI", 10, 0), PeerGone),
        (struct.pack("<QIQQ", 4, 2, 9, 9) + b"abcd", PeerGone),
        (struct.pack("<QI", 10, 1) + b"abc", PeerGone),  # and then the end
    ],
)
async def test_a_peer_that_is_none_of_ours(tmp_path, junk, kind):
    side = Side(tmp_path)
    side.listen()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(side.path)
        stranger.sendall(struct.pack("<QI", 5, 1) + b"hello" + junk)
        stranger.shutdown(socket.SHUT_WR)
        await side.accepted.until_closed(kind)
        assert side.accepted.messages == [[b"hello"]]
    side.transport.close()


@pytest.mark.asyncio
async def test_a_full_backlog_is_waited_for_and_then_given_up(tmp_path):
    side = Side(tmp_path, connect_timeout_s=0.05)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(side.path)
        deaf.listen(0)
        recorders = [Recorder(str(number)) for number in range(3)]
        channels = [side.transport.connect(side.address, recorder) for recorder in recorders]
        channels[2].send([b"queued"])
        assert channels[2].pending_bytes > 0
        reason = await recorders[2].until_closed(PeerGone)
        assert "does not accept" in str(reason)
        with pytest.raises(Closed):
            channels[2].send([b"late"])
        side.transport.close()


@pytest.mark.asyncio
async def test_what_the_peer_said_before_it_went_is_read_although_writing_fails_first(tmp_path):
    side = Side(tmp_path)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(side.path)
        peer.listen()
        ours = Recorder("ours")
        channel = side.transport.connect(side.address, ours)
        connection, _ = peer.accept()
        connection.sendall(struct.pack("<QI", 9, 1) + b"last word")
        connection.close()
        with pytest.raises(Closed):
            channel.send([b"anybody there?"])
        await ours.until_closed(PeerGone)
        assert ours.messages == [[b"last word"]]
        side.transport.close()


@pytest.mark.asyncio
async def test_a_raising_handler_is_reported_and_harms_nobody(tmp_path):
    reported = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.put_nowait(context["exception"]))
    side = Side(tmp_path)
    side.listen()

    def stumble(_channel, message):
        if message == [b"stone"]:
            raise LookupError("stumbled")

    side.accepted.on_message = stumble
    ours = Recorder("ours")
    channel = side.transport.connect(side.address, ours)
    channel.send([b"stone"])
    assert type(await reported.get()) is LookupError
    channel.send([b"smooth"])
    await side.accepted.until_messages(2)
    assert reported.empty()
    side.transport.close()


@pytest.mark.asyncio
async def test_accept_that_raises_ends_only_that_connection(tmp_path):
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    side = Side(tmp_path)
    moods = [LookupError("not today"), side.accepted]

    def accept(channel):
        mood = moods.pop(0)
        if isinstance(mood, Exception):
            raise mood
        return mood.adopt(channel)

    side.transport.listen(side.address, accept)
    refused, welcome = Recorder("refused"), Recorder("welcome")
    side.transport.connect(side.address, refused)
    await refused.until_closed(PeerGone)
    side.transport.connect(side.address, welcome).send([b"hello"])
    await side.accepted.until_messages(1)
    assert [type(error) for error in reported] == [LookupError]
    side.transport.close()


@pytest.mark.asyncio
async def test_a_closed_transport_does_nothing_more(tmp_path):
    side = Side(tmp_path)
    side.transport.close()
    with pytest.raises(Closed):
        side.listen()
    with pytest.raises(Closed):
        side.transport.connect(side.address, Recorder("ours"))


@pytest.mark.asyncio
async def test_representations_tell_what_matters(tmp_path):
    side = Side(tmp_path)
    listener = side.listen()
    channel = side.transport.connect(side.address, Recorder("ours"))
    assert "socket" in repr(listener)
    assert "open" in repr(channel)
    assert "1 listeners, 1 channels" in repr(side.transport)
    channel.close()
    assert "closing" in repr(channel)
    side.transport.close()
    assert "closed" in repr(listener)
    assert "closed" in repr(channel)
