"""Operations an owner asks its performer to carry out (``Do``)."""

from __future__ import annotations

import msgspec

from actorrt.owner.messages import LogLines, Published
from actorrt.owner.tasks import Waiter


class Wake(msgspec.Struct, frozen=True):
    """Call ``waiter.wake()``."""

    waiter: Waiter


class PrintLines(msgspec.Struct, frozen=True):
    """Show worker output to the user of this driver."""

    lines: LogLines


class Deliver(msgspec.Struct, frozen=True):
    """Hand a pub/sub message to local subscribers."""

    published: Published


class LosePeer(msgspec.Struct, frozen=True):
    """The raylet or GCS this process depends on is gone."""

    process: str
    reason: str


Operation = Wake | PrintLines | Deliver | LosePeer
