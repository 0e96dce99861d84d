"""What a task waits for before it can run, and what travels with it (pure)."""

from __future__ import annotations

from typing import cast

from actorrt.owner.objects import ObjectTable
from actorrt.owner.tasks import WAITING, Task
from actorrt.wire.records import Failure, Result, Stored, TaskCall


class Arguments:
    """Top-level refs of tasks, and the objects they name."""

    def __init__(self, objects: ObjectTable) -> None:
        self._objects = objects

    def admit(self, task: Task) -> None:
        """Hold the task's refs' values, ask for those that are not here, and count what is missing."""
        objects = self._objects
        objects.pin(task.dependency_ids)
        for ref in task.dependency_ids:
            record = objects.records[ref.object_id]
            if type(record.result) is Stored and objects.is_gone(ref.object_id, record):
                objects.remake(ref.object_id)
            if record.result is None:
                task.missing += 1
                if record.dependents is None:
                    record.dependents = [task]
                else:
                    record.dependents.append(task)
                objects.fetch(ref, record)

    def failure(self, task: Task) -> Failure | None:
        """The failure of an argument that is known to have failed."""
        for ref in task.dependency_ids:
            result = self._objects.records[ref.object_id].result
            if type(result) is Failure:
                return result
        return None

    def are_there(self, task: Task) -> bool:
        """Whether all values are known still; if one is being made again, the task waits for it once more."""
        records = self._objects.records
        for ref in task.dependency_ids:
            if records[ref.object_id].result is None:
                self._wait_again(task)
                return False
        return True

    def _wait_again(self, task: Task) -> None:
        task.state = WAITING
        for ref in task.dependency_ids:
            record = self._objects.records[ref.object_id]
            if record.result is None:
                task.missing += 1
                if record.dependents is None:
                    record.dependents = [task]
                else:
                    record.dependents.append(task)

    def any_stored(self, task: Task) -> bool:
        """Whether one of the values lies in a store."""
        records = self._objects.records
        for ref in task.dependency_ids:  # noqa: SIM110 - a generator costs more than what it asks
            if type(records[ref.object_id].result) is Stored:
                return True
        return False

    def call_of(self, task: Task) -> TaskCall:
        """What travels for a task: arguments with the values of its refs."""
        dependencies: tuple[Result, ...] = ()
        if task.dependency_ids:
            records = self._objects.records
            dependencies = tuple([cast("Result", records[ref.object_id].result) for ref in task.dependency_ids])
            if self._objects.holdings:
                current = self._objects.holdings.current
                dependencies = tuple(current(r) if type(r) is Stored else r for r in dependencies)
        return TaskCall(
            task.task_id,
            task.template.spec.number,
            task.arguments,
            task.buffers,
            dependencies,
            task.attempt,
            task.parent_task_id,
            task.refs,
        )

    def forget(self, task: Task) -> None:
        """The task waits for its arguments no longer."""
        self._objects.forget_dependent(task, [ref.object_id for ref in task.dependency_ids])
