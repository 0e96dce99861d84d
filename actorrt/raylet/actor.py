"""Wiring: a raylet machine in its shell."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from actorrt.kernel.clock import Clock
from actorrt.kernel.ids import RandomBytes
from actorrt.kernel.message import NOWHERE, Address, Envelope
from actorrt.kernel.shell import Outbox, Shell
from actorrt.kernel.trace import Trace
from actorrt.raylet.messages import ReportDue
from actorrt.raylet.state import RayletMachine
from actorrt.wire.records import NodeInfo

RAYLET = "raylet"
"""The actor's name inside the node process."""


def make_raylet(
    node: NodeInfo,
    gcs: Address,
    *,
    rng: random.Random,
    random_bytes: RandomBytes,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    outbox: Outbox,
    perform: Callable[[Any], None],
    on_failure: Callable[[BaseException], None],
    device_ids: dict[str, tuple[str, ...]] | None = None,
    trace: Trace | None = None,
) -> Shell:
    """Return the shell of a new raylet; the caller attaches its ``post`` to the router under the name ``RAYLET``.

    ``perform`` is the pool adapter: it carries out ``raylet.operations`` and posts their completions to the shell.
    """
    machine = RayletMachine(node, gcs, rng, random_bytes, device_ids=device_ids)
    return Shell(
        RAYLET, machine, clock=clock, loop=loop, outbox=outbox, perform=perform, on_failure=on_failure, trace=trace
    )


def begin(shell: Shell) -> None:
    """Start the heartbeat, once the node is registered with the GCS (whose ``NodeRegistered`` is posted as well)."""
    shell.post(Envelope(NOWHERE, ReportDue()))
