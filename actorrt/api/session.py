"""``session(...)``: a cluster for the length of a block, in both faces."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from actorrt.api.connection import Context, init, shutdown


class session:  # noqa: N801 - used like a function
    """``with session(...):`` or ``async with session(...):``; arguments as for ``init``.

    The asynchronous form starts and ends the cluster on a helper thread, so the caller's event loop keeps turning.
    """

    def __init__(self, address: str | None = None, **arguments: Any) -> None:
        self._address = address
        self._arguments = arguments

    def __enter__(self) -> Context:
        return init(self._address, **self._arguments)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutdown()

    async def __aenter__(self) -> Context:
        return await asyncio.to_thread(init, self._address, **self._arguments)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(shutdown)
