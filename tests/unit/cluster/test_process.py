"""What can be said of a node process without a node; the rest is in tests/e2e."""

import os
import signal
import subprocess

import pytest

from actorrt.cluster import process
from actorrt.cluster.interpreter import python_command
from actorrt.cluster.nodewire import pack_config
from tests.unit.cluster.test_config import NODE


def run(data: bytes) -> subprocess.CompletedProcess:
    command = python_command(process.__name__, "test")
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=30)


@pytest.mark.parametrize("data", [b"", b"\x05\x00\x00\x00abc"])
def test_a_parent_that_dies_over_the_configuration(data):
    ended = run(data)
    assert ended.returncode == 1
    assert b"EOFError" in ended.stderr


def test_nonsense():
    ended = run(b"\x01\x00\x00\x00\xc1")
    assert ended.returncode == 1
    assert b"DecodeError" in ended.stderr


def test_a_configuration_for_nowhere():
    """It comes as far as its descriptors, which this parent has not opened."""
    ended = run(pack_config(NODE))
    assert ended.returncode == 1
    assert b"Bad file descriptor" in ended.stderr


def test_nothing_of_that_is_left():
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
