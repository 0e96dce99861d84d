"""Wiring: a GCS machine in its shell."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from actorrt.gcs.state import GcsMachine
from actorrt.kernel.clock import Clock
from actorrt.kernel.shell import Outbox, Shell
from actorrt.kernel.trace import Trace

GCS = "gcs"
"""The actor's name inside the head process."""


def make_gcs(
    cluster_id: bytes,
    *,
    rng: random.Random,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    outbox: Outbox,
    on_failure: Callable[[BaseException], None],
    trace: Trace | None = None,
) -> Shell:
    """Return the shell of a new GCS; the caller attaches its ``post`` to the router under the name ``GCS``."""
    machine = GcsMachine(cluster_id, rng)
    return Shell(
        GCS, machine, clock=clock, loop=loop, outbox=outbox, perform=_perform, on_failure=on_failure, trace=trace
    )


def _perform(operation: Any) -> None:
    raise TypeError(f"the GCS asks for no operations, got {operation!r}")
