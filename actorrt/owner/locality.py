"""Tasks go to their data, and data to where tasks will run (pure).

A task whose stored arguments lie mostly on another node asks that node's raylet first; it may still be sent on from
there. What is missing on the node that is asked is announced to its object manager, which pulls it when it has nothing
better to do: often before a worker is free.
"""

from __future__ import annotations

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.limits import LOCALITY_BYTES_MIN
from actorrt.kernel.message import Address
from actorrt.objects.messages import ObjectWanted, PrefetchObjects
from actorrt.owner.holdings import OBJECTS
from actorrt.owner.objects import ObjectTable
from actorrt.owner.tasks import Task
from actorrt.wire.records import LeaseSpec, Stored


class Locality:
    """Looks at the stored arguments of tasks; ``here`` is the process of the local node."""

    def __init__(self, objects: ObjectTable, here: str) -> None:
        self._objects = objects
        self._here = here
        self._hints: dict[str, dict[bytes, ObjectWanted]] = {}

    def stored_arguments(self, task: Task) -> list[Stored]:
        """Arguments that lie in stores, with the holders we know."""
        found = []
        for ref in task.dependency_ids:
            result = self._objects.records[ref.object_id].result
            if type(result) is Stored:
                found.append(self._objects.holdings.current(result))
        return found

    def choose(self, task: Task, spec: LeaseSpec, raylet: Address) -> tuple[bytes, Address]:
        """The key of the task's class, and who is asked first: ``raylet``, unless the data is clearly elsewhere."""
        key = task.template.lease_key
        arguments = self.stored_arguments(task)
        if arguments:
            if spec.strategy.kind == "DEFAULT" and (best := self.best(arguments)) != raylet.process:
                raylet = Address(best, raylet.actor)
                key += best.encode()
            self.hint(task, raylet.process)
        return key, raylet

    def best(self, arguments: list[Stored]) -> str:
        """The node that has clearly more of these than ours, or ours."""
        there: dict[str, int] = {}
        for stored in arguments:
            for holder in stored.holders:
                there[holder] = there.get(holder, 0) + stored.size_bytes
        best = max(there, key=there.__getitem__, default=self._here)
        return best if there.get(best, 0) - there.get(self._here, 0) >= LOCALITY_BYTES_MIN else self._here

    def hint(self, task: Task, node: str) -> None:
        """The task may soon run on this node."""
        for stored in self.stored_arguments(task):
            if node not in stored.holders:
                wanted = ObjectWanted(stored.key, stored.size_bytes, stored.owner, stored.holders)
                self._hints.setdefault(node, {})[stored.key] = wanted

    def flush(self, effects: list[Effect]) -> None:
        """Send the hints, one message per node."""
        if self._hints:
            hints, self._hints = self._hints, {}
            for node, wanted in hints.items():
                effects.append(Send(Address(node, OBJECTS), PrefetchObjects(tuple(wanted.values()))))
