"""Who said what to whom, as text that people read and tests compare.

Messages are shown as they arrive, one per line, without times: sender, receiver, class, and the few fields that carry
the story. Ids become names in the order of their appearance (``task 1``, ``object 1``), so a transcript does not
change with the seed's ids. Heartbeats and load reports are left out.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from actorrt.kernel.ids import task_id_of
from actorrt.kernel.message import Address, Message
from actorrt.owner.objects import ACTOR_HANDLE_SUFFIX
from actorrt.sim.world import Process, Watcher, World
from actorrt.wire.records import (
    ActorInfo,
    ActorSpec,
    DeathCause,
    Failure,
    RefInfo,
    TaskCall,
    TaskOutcome,
    TaskTemplate,
    Value,
)

HIDDEN: Final = ("LoadReported", "ClusterChanged", "ReportDue", "SweepDue", "NodeRegistered", "RegisterNode")
LEFT_OUT: Final = ("worker_id", "node_id", "pid", "lease_id", "spec", "templates", "job_id", "pickled", "entrypoint")
"""Fields that only repeat what others say, or say nothing to a reader."""


class Transcript(Watcher):
    """Records what arrives from its making until ``stop``."""

    def __init__(self, world: World) -> None:
        self.lines: list[str] = []
        self._names: dict[bytes, str] = {}
        self._counts: dict[str, int] = {}
        self._recording = True
        world.observers.append(self)

    def stop(self) -> None:
        """Record no more."""
        self._recording = False

    @property
    def text(self) -> str:
        """All lines."""
        return "".join(f"{line}\n" for line in self.lines)

    def note(self, text: str) -> None:
        """Add a remark of one's own."""
        self.lines.append(f"# {text}")

    def arrived(self, src: Address, dst: Address, body: Message, now: float) -> None:  # noqa: ARG002
        """See ``Observer``."""
        if self._recording and type(body).__name__ not in HIDDEN:
            self.lines.append(f"{_who(src):<16} -> {_who(dst):<16} {self._summary(body)}")

    def ended(self, process: Process, reason: str, now: float) -> None:  # noqa: ARG002
        """See ``Observer``."""
        if self._recording:
            self.lines.append(f"{process.name} ends: {reason}")

    # ------------------------------------------------------------------ summaries
    def _summary(self, body: Message) -> str:
        parts = []
        for field in msgspec.structs.fields(type(body)):
            value = getattr(body, field.name)
            if field.name not in LEFT_OUT and value != field.default and value not in ((), {}, b"", ""):
                parts.append(f"{field.name}={self._shown(value, field.name)}")
            elif field.name == "spec" and isinstance(value, ActorSpec):
                parts.append(f"{self._name(value.actor_id, 'actor')} {value.class_name}")
        return f"{type(body).__name__}({', '.join(parts)})"

    def _shown(self, value: Any, field: str) -> str:
        match value:
            case TaskCall():
                told = [self._name(value.task_id, "task")]
                told += [f"with {self._shown(result, '')}" for result in value.dependencies]
                told += [f"holding {self._shown(ref, '')}" for ref in value.refs]
                told += [f"attempt {value.attempt + 1}"] if value.attempt else []
                return " ".join(told)
            case TaskOutcome():
                results = ", ".join(self._shown(result, "") for result in value.results)
                kept = f", keeps {self._shown(value.borrowed, '')}" if value.borrowed else ""
                return f"{self._name(value.task_id, 'task')}: {results}{kept}"
            case Value():
                return f"value with {self._shown(value.refs, '')}" if value.refs else "value"
            case Failure() | DeathCause():
                return value.kind
            case RefInfo():
                return f"{self._object(value.object_id)} of {value.owner}"
            case ActorInfo():
                death = f", {value.death.kind}" if value.death is not None else ""
                number = f" #{value.incarnation}" if value.incarnation else ""
                return f"{self._name(value.actor_id, 'actor')}{number} {value.state}{death}"
            case TaskTemplate():
                return value.name
            case Address():
                return _who(value)
            case tuple():
                return f"[{', '.join(self._shown(item, field) for item in value)}]"
            case bytes():
                return self._of_id(value, field)
            case _:
                return repr(value) if isinstance(value, str) else str(value)

    def _of_id(self, value: bytes, field: str) -> str:
        if field.startswith("actor"):
            return self._name(value, "actor")
        if field.startswith("task"):
            return self._name(value, "task")
        if field.startswith("object"):
            return self._object(value)
        return value.rstrip(b".").decode("ascii", "replace") if value.isascii() else f"{len(value)} bytes"

    def _object(self, object_id: bytes) -> str:
        if object_id.endswith(ACTOR_HANDLE_SUFFIX):
            return f"handle of {self._name(task_id_of(object_id), 'actor')}"
        task_id = task_id_of(object_id)
        return f"result of {self._names[task_id]}" if task_id in self._names else self._name(object_id, "object")

    def _name(self, key: bytes, kind: str) -> str:
        name = self._names.get(key)
        if name is None:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            name = self._names[key] = f"{kind} {self._counts[kind]}"
        return name


def _who(address: Address) -> str:
    return f"{address.process}.{address.actor}" if address.actor else address.process
