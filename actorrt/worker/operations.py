"""Operations a worker asks its executor to carry out (``Do``), and the unit of work."""

from __future__ import annotations

import msgspec

from actorrt.kernel.message import Address
from actorrt.wire.records import ActorSpec, DeathCause, TaskCall, TaskTemplate


class Work:
    """One task or call in the executor's hands."""

    __slots__ = ("call", "src", "template")

    def __init__(self, call: TaskCall, template: TaskTemplate, src: Address) -> None:
        self.call = call
        self.template = template
        self.src = src

    def __repr__(self) -> str:
        return f"Work({self.call.task_id.hex()}, {self.template.name}, from {self.src})"


class Run(msgspec.Struct, frozen=True):
    """Run these, in order, after what was given before; each ends in a ``TasksFinished``."""

    works: list[Work]


class Create(msgspec.Struct, frozen=True):
    """Construct the actor; ends in ``ActorCreated``."""

    spec: ActorSpec
    incarnation: int


class UseAccelerators(msgspec.Struct, frozen=True):
    """User code that runs from now on may see these devices (by resource name)."""

    ids: dict[str, tuple[str, ...]]


class Return(msgspec.Struct, frozen=True):
    """Take back up to ``count`` works of ``src`` (None: of anyone) that have not started, last first.

    Always answered with ``WorksReturned``.
    """

    count: int
    src: Address | None = None


class Interrupt(msgspec.Struct, frozen=True):
    """Cancel this task: drop it if it has not started, interrupt it if it runs."""

    task_id: bytes
    force: bool
    recursive: bool


class Exit(msgspec.Struct, frozen=True):
    """End the process (the thread, in-process): at once, or after the works already here."""

    graceful: bool
    cause: DeathCause | None
    exit_code: int = 0


Operation = Run | UseAccelerators | Create | Return | Interrupt | Exit
