"""Which runtime, and which task, does the running code belong to?

A driver or worker *process* has one runtime; in an in-process cluster many share the process, so the answer depends on
the thread or coroutine. Context variables carry it where they are set; the process-wide default serves everything else
(threads the user starts).
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

current_runtime: ContextVar[Any] = ContextVar("actorrt_runtime", default=None)
"""The api's runtime object, where it differs from the process's default."""

_process_runtime: Any = None


def find_runtime() -> Any:
    """The runtime the running code belongs to, or None."""
    return current_runtime.get() or _process_runtime


def set_process_runtime(runtime: Any) -> None:
    """Make this the process's default (None: there is none any more)."""
    global _process_runtime
    _process_runtime = runtime


current_task: ContextVar[TaskContext | None] = ContextVar("actorrt_task", default=None)


class TaskContext:
    """The task (or actor call) that runs here."""

    __slots__ = ("attempt", "cancelled", "function_name", "is_async", "name", "resources", "task_id")

    def __init__(
        self,
        task_id: bytes,
        name: str,
        function_name: str,
        resources: dict[str, int],
        attempt: int = 0,
        *,
        is_async: bool = False,
    ) -> None:
        self.task_id = task_id
        self.name = name
        self.function_name = function_name
        self.resources = resources
        self.attempt = attempt
        self.is_async = is_async
        self.cancelled = False
        """``cancel`` was called on it (``get_runtime_context().is_canceled()``)."""
