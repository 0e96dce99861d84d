"""What a node process and its parent say to each other over inherited pipes: a configuration, and one report."""

from __future__ import annotations

import os
import struct

import msgspec

from actorrt.cluster.config import NodeConfig, NodeReady

FRAME_BYTES_MAX = 16 << 20

_LENGTH = struct.Struct("<I")


def pack_config(config: NodeConfig) -> bytes:
    """Return what the parent writes to the node's stdin (which it then keeps open)."""
    return _pack(config)


def read_config(fd: int) -> NodeConfig:
    """Read a configuration from a pipe that stays open. Raises EOFError when the parent died over it."""
    return msgspec.msgpack.decode(_read(fd), type=NodeConfig)


def send_ready(fd: int, ready: NodeReady) -> bool:
    """Tell the parent; False when it is gone."""
    try:
        os.write(fd, _pack(ready))
    except BrokenPipeError:
        return False
    return True


def read_ready(fd: int) -> NodeReady | None:
    """Read the report of a node (blocks). None: the process ended without one."""
    try:
        return msgspec.msgpack.decode(_read(fd), type=NodeReady)
    except EOFError:
        return None


def _pack(record: NodeConfig | NodeReady) -> bytes:
    data = msgspec.msgpack.encode(record)
    if len(data) > FRAME_BYTES_MAX:
        raise ValueError(f"a {type(record).__name__} of {len(data)} bytes, at most {FRAME_BYTES_MAX} can be sent")
    return _LENGTH.pack(len(data)) + data


def _read(fd: int) -> bytes:
    (size,) = _LENGTH.unpack(_read_exactly(fd, _LENGTH.size))
    if size > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {size} bytes, at most {FRAME_BYTES_MAX} are expected")
    return _read_exactly(fd, size)


def _read_exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            raise EOFError("the pipe ended in the middle of a message")
        data += part
    return data
