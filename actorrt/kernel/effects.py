"""Effects: everything a machine may ask of the world, as values.

They are a closed union: printable, comparable, replayable. The shell carries them out in order; the simulator
interprets them with virtual time.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from actorrt.kernel.message import Address, Message


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send ``body`` to ``dst``: one ordered path per (sender, receiver), at most once."""

    dst: Address
    body: Message


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Answer the request ``request_id`` of ``dst`` (taken from its envelope)."""

    dst: Address
    request_id: int
    body: Message


class Fail(msgspec.Struct, frozen=True, gc=False):
    """Refuse the request ``request_id`` of ``dst``. ``kind`` is the name of a class in ``kernel.errors``."""

    dst: Address
    request_id: int
    kind: str
    text: str


class SetTimer(msgspec.Struct, frozen=True, gc=False):
    """Hand ``body`` to this machine at time ``at_s`` (the clock of ``now``). A timer of the same key is replaced."""

    key: str
    at_s: float
    body: Message


class CancelTimer(msgspec.Struct, frozen=True, gc=False):
    """Forget the timer of this key; unknown keys are fine (it may just have fired)."""

    key: str


class Do(msgspec.Struct, frozen=True, gc=False):
    """Perform an operation outside the machine (run user code, start a process, wake a waiter).

    ``operation`` is one of the component's own operation structs; the shell hands it to the performer it was given.
    What comes of it arrives as a message.
    """

    operation: Any


Effect: TypeAlias = Send | Reply | Fail | SetTimer | CancelTimer | Do
