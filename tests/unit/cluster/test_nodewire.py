import os

import pytest

from actorrt.cluster import nodewire
from actorrt.cluster.config import NodeReady
from tests.unit.cluster.test_config import NODE


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            continue


def test_configuration(pipe):
    os.write(pipe[1], nodewire.pack_config(NODE))
    assert nodewire.read_config(pipe[0]) == NODE


def test_readiness(pipe):
    ready = NodeReady(pid=7, address="unix:///x", error="")
    assert nodewire.send_ready(pipe[1], ready)
    assert nodewire.read_ready(pipe[0]) == ready


def test_nobody_listens(pipe):
    os.close(pipe[0])
    assert not nodewire.send_ready(pipe[1], NodeReady())


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x05\x00\x00\x00abc"])
def test_the_other_side_died(pipe, data):
    os.write(pipe[1], data)
    os.close(pipe[1])
    assert nodewire.read_ready(pipe[0]) is None


def test_bounded(pipe, monkeypatch):
    monkeypatch.setattr(nodewire, "FRAME_BYTES_MAX", 10)
    with pytest.raises(ValueError, match="at most 10"):
        nodewire.pack_config(NODE)
    os.write(pipe[1], (11).to_bytes(4, "little"))
    with pytest.raises(ValueError, match="at most 10"):
        nodewire.read_config(pipe[0])
