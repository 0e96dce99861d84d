"""How lost values are made again: tasks that made stored objects are kept, and run once more when they must (pure).

A value lies *inline* in its owner's memory, or in stores. Only the latter can be lost while the owner lives: the only
node that had it died, or the last copy was dropped. Then the task that made it runs again, as soon as somebody asks for
the value and not before; so do, first, the tasks that made those of its arguments that are gone too.

What is kept. The task of a stored object, with its pickled arguments, as long as one of its stored returns is known.
Its argument *refs* are held in a weaker sense (``ObjectRecord.lineage``): once nothing else holds them their values are
freed as ever, but their records stay, and with them the tasks that made them. So a chain of any depth can be made
again from its beginnings, and costs no more than the tasks' arguments. Beyond ``LINEAGE_BYTES_MAX`` the oldest half is
let go.

What cannot be made again says why: objects of ``put``, results of actors, items of streams, tasks with
``max_retries=0``, tasks whose retries are used up (each run takes one), tasks that were let go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from actorrt.kernel.ids import task_id_of
from actorrt.kernel.limits import LINEAGE_BYTES_MAX
from actorrt.owner.objects import ObjectTable
from actorrt.owner.tasks import ENDED, WAITING, ObjectRecord, Task
from actorrt.wire.records import Buffer, Failure, RefInfo, Result, Stored

ENTRY_BYTES = 1000
"""What a kept task weighs, besides its arguments."""


class Kept:
    """A task that can run again."""

    __slots__ = ("arguments", "buffers", "objects", "size_bytes", "task")

    def __init__(self, task: Task, objects: Iterable[bytes]) -> None:
        self.task = task
        self.arguments = task.arguments
        self.buffers: tuple[Buffer, ...] = task.buffers
        self.objects = dict.fromkeys(objects)
        """Its stored returns that somebody knows."""
        self.size_bytes = ENTRY_BYTES + len(task.arguments) + sum(len(buffer) for buffer in task.buffers)


class Lineage:
    """The kept tasks of one owner.

    Args:
        objects: the table whose values they made.
        restart: lets a task run again; its returns are pending, its arguments are held.
    """

    def __init__(self, objects: ObjectTable, restart: Callable[[Task], None]) -> None:
        self.tasks: dict[bytes, Kept] = {}
        """By task id, oldest first."""
        self.size_bytes = 0
        self.restarted_count = 0
        self._objects = objects
        self._restart = restart
        self._ended: deque[Kept] = deque()
        self._ending = False

    # ------------------------------------------------------------------ keeping
    def ended(self, task: Task, results: tuple[Result, ...]) -> None:
        """The task ended, and its returns are resolved. To be called while its arguments are still held."""
        stored = [oid for oid, result in zip(task.returns, results, strict=False) if type(result) is Stored]
        stored = [oid for oid in stored if oid in self._objects.holdings]
        kept = self.tasks.get(task.task_id)
        if kept is not None:
            kept.objects = dict.fromkeys(stored)
            if not stored:
                self._drop(kept)
        elif stored and task.template.max_retries and not task.actor_id:
            self._keep(task, stored)

    def _keep(self, task: Task, stored: list[bytes]) -> None:
        kept = Kept(task, stored)
        self.tasks[task.task_id] = kept
        self.size_bytes += kept.size_bytes
        for ref in _refs_of(task):
            self._objects.record_of(ref).lineage += 1
        if self.size_bytes > LINEAGE_BYTES_MAX:
            self._let_go()

    def _let_go(self) -> None:
        for kept in list(self.tasks.values()):
            if self.size_bytes <= LINEAGE_BYTES_MAX // 2:
                return
            if kept.task.state == ENDED:
                self._drop(kept)

    def dropped(self, object_id: bytes) -> None:
        """Nobody knows this stored object any more (or it can never be made again)."""
        kept = self.tasks.get(task_id_of(object_id))
        if kept is None or kept.objects.pop(object_id, 0) is not None:
            return
        if not kept.objects and kept.task.state == ENDED:
            self._drop(kept)

    def _drop(self, kept: Kept) -> None:
        if self.tasks.pop(kept.task.task_id, None) is None:
            return
        self.size_bytes -= kept.size_bytes
        self._ended.append(kept)
        if self._ending:
            return  # by what follows from another: chains are worked off from a queue, never by recursion
        self._ending = True
        while self._ended:
            for ref in _refs_of(self._ended.popleft().task):
                record = self._objects.records.get(ref.object_id)
                if record is not None:
                    record.lineage -= 1
                    if record.local <= 0 and not record.pins:
                        self._objects.free_if_unheld(ref.object_id, record)
        self._ending = False

    # ------------------------------------------------------------------ making again
    def can_remake(self, object_id: bytes) -> bool:
        """Whether running its task again is possible (or under way)."""
        kept = self.tasks.get(task_id_of(object_id))
        return kept is not None and (kept.task.state != ENDED or kept.task.retries_left != 0)

    def remake(self, object_id: bytes) -> None:
        """Somebody wants this value, which no store has: make it again, with all that is needed for it.

        What cannot be made again has its failure afterwards.
        """
        tasks = self._tasks_for(object_id)
        for kept in tasks:
            task = kept.task
            task.arguments, task.buffers = kept.arguments, kept.buffers
            task.state = WAITING
            task.attempt += 1
            task.retries_left -= task.retries_left > 0
            for oid in task.returns:
                record = self._objects.records.get(oid)
                if record is not None and self._objects.is_gone(oid, record):
                    del self._objects.holdings.gone[oid]
                    record.result = None
                    record.task = task
        self.restarted_count += len(tasks)
        for kept in tasks:
            self._restart(kept.task)

    def _tasks_for(self, object_id: bytes) -> list[Kept]:
        """The tasks to run for one object, those for its arguments first; objects without one fail here."""
        found: dict[bytes, Kept] = {}
        wanted = [object_id]
        while wanted:
            oid = wanted.pop()
            record = self._objects.records.get(oid)
            if record is None or not self._objects.is_gone(oid, record) or task_id_of(oid) in found:
                continue
            kept = self.tasks.get(task_id_of(oid))
            if kept is None or (kept.task.state == ENDED and not kept.task.retries_left):
                self._fail(oid, record)
            elif kept.task.state == ENDED:
                found[kept.task.task_id] = kept
                wanted.extend(ref.object_id for ref in kept.task.dependency_ids)
        return list(reversed(found.values()))

    def _fail(self, object_id: bytes, record: ObjectRecord) -> None:
        why = self.why_not(object_id, self._objects.holdings.gone.pop(object_id))
        text = f"object {object_id.hex()} is lost, or was freed; it cannot be computed again: {why}"
        record.result = Failure("ObjectReconstructionFailedError", text, subject_id=object_id)
        self.dropped(object_id)

    def why_not(self, object_id: bytes, origin: str) -> str:
        """Why an object of this origin cannot be made again."""
        kept = self.tasks.get(task_id_of(object_id))
        if kept is not None:
            return f"the task that made it, {kept.task.template.spec.name}, has used up its max_retries"
        return REASONS.get(origin, REASONS["task"])

    def check(self) -> None:
        """Assert the invariants."""
        held: dict[bytes, int] = {}
        for task_id, kept in self.tasks.items():
            assert task_id == kept.task.task_id
            assert kept.objects or kept.task.state != ENDED, f"{kept.task!r} is kept for nothing"
            for ref in _refs_of(kept.task):
                held[ref.object_id] = held.get(ref.object_id, 0) + 1
        for object_id, record in self._objects.records.items():
            assert record.lineage == held.get(object_id, 0), f"lineage of {object_id.hex()}: {record.lineage}"
        assert self.size_bytes == sum(kept.size_bytes for kept in self.tasks.values())


REASONS = {
    "put": "it was made by put(), and only its owner's program could do that again",
    "actor": "it is a result of an actor, whose state has moved on",
    "stream": "it is an item of a stream",
    "once": "its task must not run twice (max_retries=0)",
    "task": "the task that made it is not kept any more (its arguments were too much to keep)",
}


def _refs_of(task: Task) -> tuple[RefInfo, ...]:
    return task.dependency_ids + task.refs
