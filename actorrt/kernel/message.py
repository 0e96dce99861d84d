"""Messages: frozen msgspec structs, encoded as tagged arrays.

Commands are imperative (``RequestLeases``), facts are past tense (``LeaseGranted``). A message is defined by its
*receiver*. Fields are only ever appended, each with a default, so that an older peer's message still decodes.
"""

from __future__ import annotations

from typing import ClassVar, dataclass_transform

import msgspec

LANE_CONTROL = 0
LANE_SUPERVISION = 1
LANE_NORMAL = 2


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of plain records carried inside messages."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of every message that may travel between processes; the tag is the class name."""

    LANE: ClassVar[int] = LANE_NORMAL


class Address(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where an actor lives.

    ``process`` is the endpoint string of its process (one or more dialable addresses joined by commas, best first),
    ``actor`` the name of the component inside it: ``gcs``, ``raylet``, ``owner``, ``worker``.
    """

    process: str
    actor: str

    def __str__(self) -> str:
        return f"{self.actor}@{self.process}"


NOWHERE = Address("", "")


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One message on its way into a machine.

    ``request_id`` is non-zero when the sender waits for ``Reply``/``Fail`` with that number.
    """

    src: Address
    body: Message
    request_id: int = 0


class PeerGone(Message):
    """Told to every actor of a process when the connection to another process ended (never travels)."""

    LANE: ClassVar[int] = LANE_SUPERVISION

    process: str
    reason: str


class RequestFailed(Message):
    """The answer to a request that could not be fulfilled. ``kind`` names an error class of ``kernel.errors``."""

    kind: str
    text: str


class Done(Message):
    """The answer to a request that has nothing else to say."""
