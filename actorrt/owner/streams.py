"""Streams: the items of generator tasks, from the moment they are yielded until their consumer takes them (pure).

Item number i of a task is the object ``task id + i``. The stream holds every item that is not taken yet; taking one
turns that hold into an ObjectRef of the consumer. After the last item comes one record more that holds the failure the
stream ended with, if any, and then the end mark. A consumer that is ahead of its producer waits on a record that is
made for it.

A task that runs again (its worker died) yields its items again: what is known already is ignored, whether it was taken
or not. Items of one attempt arrive in order. With a lost connection some may get lost while their worker lives on: what
it sends after the gap is ignored too, and its outcome counts only once nothing is missing (``lacks_items``).

When the generator is dropped, the items that were not taken are released, and those to come are not kept. The record
of ``COMPLETED_INDEX`` stays until the end: somebody may hold a ref of it.
"""

from __future__ import annotations

from actorrt.kernel.ids import object_id, return_index_of, task_id_of
from actorrt.owner.objects import ObjectTable
from actorrt.owner.tasks import ObjectRecord, Task
from actorrt.wire.records import Failure, Result
from actorrt.wire.values import NONE_VALUE

END_OF_STREAM = "ObjectRefStreamEndOfStreamError"
COMPLETED_INDEX = 0xFFFF_FFFE
"""Return index of the object that is ready when the task has ended."""


class Stream:
    """One generator task whose generator lives, or which has not ended."""

    __slots__ = ("count", "ended", "held", "is_dropped", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.count = 0
        """Items received: the index of the next one."""
        self.held: dict[int, None] = {}
        """Records the stream holds, by index."""
        self.ended = False
        self.is_dropped = False


class StreamTable:
    """See the module's text."""

    def __init__(self, objects: ObjectTable) -> None:
        self.objects = objects
        self.streams: dict[bytes, Stream] = {}

    def open(self, task: Task) -> None:
        """A streaming task was submitted."""
        stream = Stream(task)
        self.streams[task.task_id] = stream
        self._record(stream, COMPLETED_INDEX)

    def record_ahead(self, oid: bytes) -> ObjectRecord | None:
        """Record of an item that is waited for before it is there; None when this is no such item."""
        stream = self.streams.get(task_id_of(oid))
        if stream is None or stream.is_dropped or stream.ended or return_index_of(oid) < stream.count:
            return None
        return self._record(stream, return_index_of(oid))

    def _record(self, stream: Stream, index: int) -> ObjectRecord:
        oid = object_id(stream.task.task_id, index)
        record = self.objects.records.get(oid)
        if record is None:
            record = ObjectRecord(stream.task)
            self.objects.records[oid] = record
        if index not in stream.held:
            stream.held[index] = None
            record.pins += 1
        return record

    def received(self, task_id: bytes, items: tuple[tuple[int, Result], ...]) -> None:
        """Items arrived."""
        stream = self.streams.get(task_id)
        for index, result in items:
            if stream is None or stream.is_dropped or stream.ended or index != stream.count:
                self.objects.give_back((result,), ours=True)
                continue
            stream.count = index + 1
            self._resolve(stream, index, result, received=True)

    def lacks_items(self, task_id: bytes, item_count: int) -> bool:
        """Whether some of so many items have not come, and somebody may want them."""
        stream = self.streams.get(task_id)
        return stream is not None and not stream.is_dropped and stream.count < item_count

    def _resolve(self, stream: Stream, index: int, result: Result, *, received: bool) -> None:
        record = self._record(stream, index)
        self.objects.resolve(object_id(stream.task.task_id, index), record, result, received=received)

    def ended(self, task: Task, results: tuple[Result, ...]) -> None:
        """The task ended: all its items are here."""
        stream = self.streams[task.task_id]
        assert not stream.ended, f"{task!r} ended twice"
        stream.ended = True
        if stream.is_dropped:
            self._resolve(stream, COMPLETED_INDEX, results[0] if results else NONE_VALUE, received=False)
            self._forget(stream)
            return
        end = stream.count
        if results:
            self._resolve(stream, end, results[0], received=False)
            end += 1
        self._resolve(stream, end, Failure(END_OF_STREAM, "the stream has ended"), received=False)
        self._resolve(stream, COMPLETED_INDEX, results[0] if results else NONE_VALUE, received=False)
        # Records that were asked for beyond the end (a consumer that looked ahead) end as well.
        for index in [index for index in stream.held if end < index != COMPLETED_INDEX]:
            self._resolve(stream, index, Failure(END_OF_STREAM, "the stream has ended"), received=False)

    def take(self, oid: bytes) -> None:
        """The consumer has this item now (the object of ``COMPLETED_INDEX`` may be taken any number of times)."""
        record = self.objects.records.get(oid)
        if record is None:
            return
        record.local += 1
        stream = self.streams.get(task_id_of(oid))
        index = return_index_of(oid)
        if stream is None or index == COMPLETED_INDEX:
            return
        if stream.held.pop(index, 0) is None:
            record.pins -= 1

    def drop(self, task_id: bytes) -> None:
        """The generator is gone."""
        stream = self.streams.get(task_id)
        if stream is None or stream.is_dropped:
            return
        stream.is_dropped = True
        if stream.ended:
            self._forget(stream)
        else:
            self._let_go(stream, [index for index in stream.held if index != COMPLETED_INDEX])

    def _let_go(self, stream: Stream, indices: list[int]) -> None:
        for index in indices:
            del stream.held[index]
            oid = object_id(stream.task.task_id, index)
            record = self.objects.records.get(oid)
            if record is not None:
                record.pins -= 1
                if record.result is None:
                    record.task = None  # nobody will ever ask for it
                self.objects.free_if_unheld(oid, record)

    def _forget(self, stream: Stream) -> None:
        self._let_go(stream, list(stream.held))
        del self.streams[stream.task.task_id]

    def check(self) -> None:
        """Assert the invariants."""
        for task_id, stream in self.streams.items():
            assert not (stream.ended and stream.is_dropped), f"stream {task_id.hex()} is over and still known"
            for index in stream.held:
                record = self.objects.records.get(object_id(task_id, index))
                assert record is not None, f"stream {task_id.hex()} holds item {index}, which is gone"
                assert record.pins > 0, f"stream {task_id.hex()} holds item {index}, which is not pinned"
