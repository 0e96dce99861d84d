"""The one list of all messages that travel, as the tagged union the codec encodes and decodes.

A duplicate tag fails at import: msgspec refuses the union.
"""

from __future__ import annotations

import types
from typing import Any, Union

import actorrt.gcs.messages
import actorrt.objects.messages
import actorrt.owner.messages
import actorrt.raylet.messages
import actorrt.worker.messages
from actorrt.kernel.message import Done, Message, RequestFailed
from actorrt.wire.codec import Codec

PROTOCOL_VERSION = 1
"""Raised whenever an older peer would misunderstand a message."""


def _messages_of(module: types.ModuleType) -> list[type[Message]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Message) and value.__module__ == module.__name__
    ]


MESSAGES: tuple[type[Message], ...] = (
    Done,
    RequestFailed,
    *_messages_of(actorrt.gcs.messages),
    *_messages_of(actorrt.raylet.messages),
    *_messages_of(actorrt.owner.messages),
    *_messages_of(actorrt.worker.messages),
    *_messages_of(actorrt.objects.messages),
)

Body: Any = Union[MESSAGES]  # noqa: UP007 - built at run time


def make_codec() -> Codec:
    """Return a codec of the whole protocol (cheap after the first; the decoder is built lazily by msgspec)."""
    return Codec(Body)
