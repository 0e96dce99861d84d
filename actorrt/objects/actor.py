"""Wiring: an object manager machine in its shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from actorrt.kernel.clock import Clock
from actorrt.kernel.message import Address
from actorrt.kernel.shell import Outbox, Shell
from actorrt.kernel.trace import Trace
from actorrt.objects import pulls
from actorrt.objects.clients import StoreFacts
from actorrt.objects.state import ObjectManagerMachine

OBJECTS: Final = pulls.OBJECTS
"""The actor's name inside the node process."""


def make_object_manager(
    me: Address,
    raylet: Address,
    facts: StoreFacts,
    *,
    bulk_endpoint: str,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    outbox: Outbox,
    perform: Callable[[Any], None],
    on_failure: Callable[[BaseException], None],
    trace: Trace | None = None,
) -> Shell:
    """Return the shell of a new object manager; the caller attaches its ``post`` to the router under ``OBJECTS``.

    ``perform`` is the port: it has the store, carries out ``objects.operations`` and posts their completions to the
    shell. The process of ``me`` is the node's address: what owners list as a holder.
    """
    machine = ObjectManagerMachine(me, raylet, facts, bulk_endpoint)
    return Shell(
        OBJECTS, machine, clock=clock, loop=loop, outbox=outbox, perform=perform, on_failure=on_failure, trace=trace
    )
