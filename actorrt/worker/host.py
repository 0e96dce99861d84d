"""What the executor needs from the process around it (made in ``api.worker_host``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from actorrt.kernel.message import Envelope
from actorrt.wire.records import ActorSpec, DeathCause, RefInfo, Result, Stored, TaskTemplate
from actorrt.wire.values import Pickled, Whose


class Host(Protocol):
    """What the executor needs from the process around it."""

    pid: int
    node_id: bytes

    def post(self, envelope: Envelope) -> None:
        """Hand a message to the worker machine."""

    def load_function(self, template: TaskTemplate) -> Any:
        """Return the function (or class) of a key, fetched from the GCS on first use."""

    def load_class(self, spec: ActorSpec) -> Any:
        """Return an actor's class."""

    def lend(self, refs: tuple[RefInfo, ...], borrower: str) -> None:
        """Register the receiver of these refs with their owners (see ``owner.objects``)."""

    def still_held(self, refs: tuple[RefInfo, ...]) -> tuple[RefInfo, ...]:
        """Which of these borrowed refs does this process still hold?"""

    def keep(self, pickled: Pickled, whose: Whose) -> Stored | None:
        """Put a large value into the node's store."""

    def load(self, results: Sequence[Result]) -> list[Any]:
        """Rebuild values, also those that lie in stores (waits for them)."""

    async def load_async(self, results: Sequence[Result]) -> list[Any]:
        """The same without blocking the running loop."""

    def use_accelerators(self, ids: dict[str, tuple[str, ...]]) -> None:
        """Make these devices, and no others, visible to user code."""

    def cancel_children(self, task_id: bytes) -> None:
        """Cancel what this task submitted."""

    def call_soon(self, callback: Callable[[], None], delay_s: float) -> None:
        """Run on the I/O loop after ``delay_s`` (any thread)."""

    def enter(self) -> None:
        """Called once in each thread that runs user code (sets the current runtime)."""

    def leave(self, cause: DeathCause, exit_code: int) -> None:
        """End the worker (process mode: does not return)."""
