"""What an owner tells people of its objects: how large each is, where it lies, and why it is still there (pure).

A record counts its holds, but not by kind: *pins* are taken by pending tasks, by constructors of living actors, by
streams nobody has read yet, and by values that contain the ref. The first three are known one by one, and counted here
when somebody asks; the rest are refs captured in values. So asking costs a pass over all that is pending, and keeping
count costs nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from actorrt.kernel.ids import object_id as make_object_id
from actorrt.owner.calls import ActorClient
from actorrt.owner.messages import ObjectReference
from actorrt.owner.objects import ACTOR_HANDLE_SUFFIX, ObjectTable
from actorrt.owner.submission import TaskSubmitter
from actorrt.owner.tasks import ObjectRecord
from actorrt.wire.records import Failure, Stored

REFERENCES_REPORTED_MAX: Final = 10_000
"""Objects listed in one answer."""
BORROWERS_NAMED_MAX: Final = 16
"""Borrowers named with one object; all are counted."""

LOCAL_REFERENCE: Final = "LOCAL_REFERENCE"
"""ObjectRefs in the process itself."""
USED_BY_PENDING_TASK: Final = "USED_BY_PENDING_TASK"
ACTOR_ARGUMENT: Final = "ACTOR_ARGUMENT"
"""An argument of the constructor of an actor that is not dead: a restart needs it again."""
STREAM_ITEM: Final = "STREAM_ITEM"
"""An item of a generator that has not been taken yet."""
CAPTURED_IN_OBJECT: Final = "CAPTURED_IN_OBJECT"
BORROWED_BY: Final = "BORROWED_BY"
"""Other processes that hold it (how many)."""
ACTOR_HANDLE: Final = "ACTOR_HANDLE"
"""Handles of an actor in the process itself."""

PENDING: Final = "PENDING"
INLINE: Final = "INLINE"
STORED: Final = "STORED"
FAILED: Final = "FAILED"
BORROWED: Final = "BORROWED"


def largest_references(
    objects: ObjectTable, submitter: TaskSubmitter, clients: Iterable[ActorClient], references_max: int
) -> tuple[ObjectReference, ...]:
    """Describe at most so many objects this process knows (and ``REFERENCES_REPORTED_MAX``), the largest first."""
    count = min(max(0, references_max), REFERENCES_REPORTED_MAX)
    largest = heapq.nlargest(count, objects.records.items(), key=lambda item: _size_bytes(item[1]))
    if not largest:
        return ()
    pins = _PinCounts(submitter, clients)
    return tuple(_described(objects, key, record, pins.kinds(key, record)) for key, record in largest)


class _PinCounts:
    """How many pins each kind of holder has, by object."""

    def __init__(self, submitter: TaskSubmitter, clients: Iterable[ActorClient]) -> None:
        self._of_tasks: dict[bytes, int] = {}
        self._of_actors: dict[bytes, int] = {}
        self._of_streams: dict[bytes, int] = {}
        for task in submitter.tasks.values():
            for ref in (*task.dependency_ids, *task.refs):
                self._of_tasks[ref.object_id] = self._of_tasks.get(ref.object_id, 0) + 1
        for client in clients:
            for ref in client.pinned:
                self._of_actors[ref.object_id] = self._of_actors.get(ref.object_id, 0) + 1
        for task_id, stream in submitter.streams.streams.items():
            for index in stream.held:
                self._of_streams[make_object_id(task_id, index)] = 1

    def kinds(self, object_id: bytes, record: ObjectRecord) -> dict[str, int]:
        """Holds by kind; kinds without any are left out."""
        of_tasks = self._of_tasks.get(object_id, 0)
        of_actors = self._of_actors.get(object_id, 0)
        of_streams = self._of_streams.get(object_id, 0)
        kinds = {
            ACTOR_HANDLE if object_id.endswith(ACTOR_HANDLE_SUFFIX) else LOCAL_REFERENCE: record.local,
            USED_BY_PENDING_TASK: of_tasks,
            ACTOR_ARGUMENT: of_actors,
            STREAM_ITEM: of_streams,
            CAPTURED_IN_OBJECT: record.pins - of_tasks - of_actors - of_streams,
            BORROWED_BY: len(_borrowers(record)),
        }
        return {kind: count for kind, count in kinds.items() if count > 0}


def _size_bytes(record: ObjectRecord) -> int:
    result = record.result
    if result is None or type(result) is Failure:
        return 0
    return result.size_bytes if isinstance(result, Stored) else result.size_bytes()


def _borrowers(record: ObjectRecord) -> list[str]:
    # Counts are signed, and may be negative for a moment.
    return [] if record.shared is None else [process for process, n in record.shared.borrowers.items() if n > 0]


def _described(objects: ObjectTable, object_id: bytes, record: ObjectRecord, kinds: dict[str, int]) -> ObjectReference:
    result, task = record.result, record.task
    is_borrowed = record.shared is not None and record.shared.owner != ""
    detail = ""
    holders: tuple[str, ...] = ()
    if result is None:
        state = PENDING
        detail = task.template.spec.name if task is not None else ""
    elif type(result) is Failure:
        state, detail = FAILED, result.kind
    elif type(result) is Stored:
        state, holders = STORED, objects.holdings.current(result).holders
    else:
        state = INLINE
    return ObjectReference(
        object_id=object_id,
        size_bytes=_size_bytes(record),
        state=BORROWED if is_borrowed else state,
        kinds=kinds,
        owner=record.shared.owner if is_borrowed and record.shared is not None else objects.me,
        detail=detail,
        holders=holders,
        borrowers=tuple(_borrowers(record)[:BORROWERS_NAMED_MAX]),
    )
