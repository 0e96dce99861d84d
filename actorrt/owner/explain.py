"""Why an object is not there yet, for people who wait (read from any thread while the machine goes on; pure)."""

from __future__ import annotations

from actorrt.owner.calls import ActorCaller
from actorrt.owner.objects import ObjectTable
from actorrt.owner.submission import TaskSubmitter
from actorrt.owner.tasks import PUSHED, QUEUED, WAITING, ObjectRecord, Task
from actorrt.scheduling.resources import describe

DEPTH_MAX = 5
"""Arguments of arguments that are named."""


class Explainer:
    """Looks into the tables of one owner, and changes nothing."""

    def __init__(self, objects: ObjectTable, submitter: TaskSubmitter, caller: ActorCaller) -> None:
        self._objects = objects
        self._submitter = submitter
        self._caller = caller

    def why_not_ready(self, object_id: bytes) -> str:
        """One line; the first missing argument of a task is looked into as well."""
        parts = []
        for _ in range(DEPTH_MAX):
            record = self._objects.records.get(object_id)
            text, missing = self._look(object_id, record)
            parts.append(text)
            if not missing:
                break
            object_id = missing
        return "; ".join(parts)

    def _look(self, object_id: bytes, record: ObjectRecord | None) -> tuple[str, bytes]:
        """What is known of one object, and the argument its task waits for."""
        name = f"ObjectRef({object_id.hex()})"
        if record is None:
            return f"{name} is not known here yet", b""
        if record.result is not None:
            return f"{name} is ready", b""
        task = record.task
        if task is None:
            shared = record.shared
            whose = shared.owner if shared is not None else ""
            return f"{name} is owned by {whose or 'nobody we know'}, which has not sent its value yet", b""
        what = f"{name} is made by {task.template.spec.name}"
        if task.attempt:
            what += f" (attempt {task.attempt + 1})"
        if task.state == WAITING:
            missing = self._missing(task)
            count = f"{task.missing} argument{'s' if task.missing != 1 else ''}"
            return f"{what}, which waits for {count}", missing
        if task.actor_id:
            return f"{what}, {self._call(task)}", b""
        if task.state == PUSHED and task.worker is not None:
            worker = task.worker
            return f"{what}, {self._pushed(task)} (pid {worker.pid}, node {worker.node_id.hex()[:8]})", b""
        if task.state == QUEUED:
            return f"{what}, {self._queued(task)}", b""
        return f"{what}, which is ending", b""

    def _missing(self, task: Task) -> bytes:
        for ref in task.dependency_ids:
            record = self._objects.records.get(ref.object_id)
            if record is not None and record.result is None:
                return ref.object_id
        return b""

    def _pushed(self, task: Task) -> str:
        assert task.worker is not None
        ahead = 0
        for other in list(task.worker.in_flight.values()):
            if other is task:
                break
            ahead += 1
        return "which runs in a worker" if not ahead else f"which waits behind {ahead} others in a worker"

    def _queued(self, task: Task) -> str:
        needs = describe(task.template.spec.resources)
        key = task.template.lease_key
        asked: dict[str, int] = {}
        workers = 0
        for known in list(self._submitter.classes.values()):
            if known.key.startswith(key):
                workers += len(known.workers)
                for raylet, count in list(known.requested.items()):
                    asked[raylet.process] = asked.get(raylet.process, 0) + count
        where = ", ".join(f"{count} asked of {process}" for process, count in asked.items()) or "none asked for"
        return (
            f"which waits for a worker with {needs}: {workers} at work, {where} (`actorrt status` says why they wait)"
        )

    def _call(self, task: Task) -> str:
        client = self._caller.clients.get(task.actor_id)
        info = client.info if client is not None else None
        if info is None:
            return f"a call to actor {task.actor_id.hex()[:8]}, of which nothing was heard yet"
        reason = f" ({info.pending_reason})" if info.pending_reason else ""
        if info.state != "ALIVE":
            return f"a call to actor {info.class_name}, which is {info.state}{reason}"
        if task.state == PUSHED:
            return f"a call in the hands of actor {info.class_name} (pid {info.pid})"
        return f"a call that waits to be sent to actor {info.class_name} (pid {info.pid})"
