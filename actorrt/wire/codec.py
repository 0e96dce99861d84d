"""Bytes from messages and back: msgpack arrays for what is small, frames of their own for what is large.

The first frame is the envelope ``[dst_actor, src_actor, request_id, reply_to, body]``; each ``Buffer`` met inside the
body adds one frame, named in the envelope by its index. Buffers are never copied here.

A codec may be used by several threads at once: msgspec keeps a call's state on the stack, and the frames beside it
are kept per thread. Messages without buffers, nearly all of them, never look at that.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from threading import get_ident
from typing import Any

import msgspec

from actorrt.kernel.message import Message
from actorrt.wire.records import Buffer

Frame = bytes | bytearray | memoryview


class BadMessage(Exception):
    """The frames are not a message of this protocol."""


class WireEnvelope(msgspec.Struct, frozen=True, array_like=True):
    """What travels. ``body`` is decoded by the union the codec was made for."""

    dst: str
    src: str
    request_id: int
    reply_to: int
    body: Any


@functools.lru_cache(maxsize=16)
def _envelope_type(union: Any) -> type[msgspec.Struct]:
    """Making the type and its decoder takes milliseconds for the whole protocol; once per union is enough."""
    return msgspec.defstruct(
        "TypedWireEnvelope",
        [("dst", str), ("src", str), ("request_id", int), ("reply_to", int), ("body", union)],
        array_like=True,
        frozen=True,
    )


class Codec:
    """Encoder and decoder of one message union."""

    def __init__(self, union: Any) -> None:
        self._outgoing: dict[int, list[Frame]] = {}
        self._incoming: dict[int, Sequence[Frame]] = {}
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._encode_buffer).encode
        self._decode = msgspec.msgpack.Decoder(_envelope_type(union), dec_hook=self._decode_buffer).decode

    def _encode_buffer(self, value: Any) -> int:
        if type(value) is not Buffer:
            raise TypeError(f"{type(value).__name__} cannot travel in a message")
        frames = self._outgoing.setdefault(get_ident(), [])
        frames.append(value.data)
        return len(frames)

    def _decode_buffer(self, kind: type, value: Any) -> Buffer:
        frames = self._incoming.get(get_ident(), ())
        if kind is not Buffer or type(value) is not int or not 1 <= value < len(frames):
            raise BadMessage("a buffer names a frame that is not there")
        return Buffer(frames[value])

    def encode(self, dst: str, src: str, body: Message, request_id: int = 0, reply_to: int = 0) -> list[Frame]:
        """Return the frames of one message. Raises ``TypeError`` when something in it cannot travel."""
        try:
            head = self._encode(WireEnvelope(dst, src, request_id, reply_to, body))
        except BaseException:
            self._outgoing.pop(get_ident(), None)
            raise
        if self._outgoing:
            buffers = self._outgoing.pop(get_ident(), None)
            if buffers is not None:
                return [head, *buffers]
        return [head]

    def decode(self, frames: Sequence[Frame]) -> WireEnvelope:
        """Return the envelope. Raises ``BadMessage`` for anything that is not a message of the union."""
        if not frames:
            raise BadMessage("a message without frames")
        try:
            if len(frames) == 1:
                return self._decode(frames[0])  # type: ignore[return-value]
            self._incoming[get_ident()] = frames
            try:
                return self._decode(frames[0])  # type: ignore[return-value]
            finally:
                del self._incoming[get_ident()]
        # ValidationError is a DecodeError is a MsgspecError; text that is not UTF-8 is a ValueError.
        except (msgspec.MsgspecError, ValueError, RecursionError, BadMessage) as error:
            raise BadMessage(str(error)) from error
