"""ObjectRefGenerator: the refs of a stream's items, as they come."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

from actorrt.api.options import MethodOptions, TaskOptions
from actorrt.api.refs import ObjectRef
from actorrt.api.runtime import Runtime
from actorrt.kernel.ids import object_id
from actorrt.owner.requests import TakeItem
from actorrt.owner.state import local
from actorrt.owner.streams import COMPLETED_INDEX, END_OF_STREAM
from actorrt.owner.tasks import Task
from actorrt.wire.records import Failure, RefInfo


class ObjectRefGenerator:
    """Iterate it (``for`` or ``async for``) for an ``ObjectRef`` per item; each is ready when it is handed out.

    A stream that fails hands out one ref more, which raises the failure, and then ends. Dropping the generator releases
    what it has not handed out. It cannot be pickled or passed to tasks.
    """

    def __init__(self, task: Task, runtime: Runtime) -> None:
        """Made by ``.remote()``."""
        self._task_id = task.task_id
        self._runtime = runtime
        self._index = 0
        self._is_finished = False
        self._lock = threading.Lock()
        """Held while an item is handed out: each goes to one thread, or coroutine."""

    # What wait() looks at: the item to come.
    @property
    def _id(self) -> bytes:
        return object_id(self._task_id, self._index)

    @property
    def _owner(self) -> str:
        return self._runtime.me.process

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        return self

    def __aiter__(self) -> AsyncIterator[ObjectRef[Any]]:
        return self

    def __next__(self) -> ObjectRef[Any]:
        while (ref := self._take(StopIteration)) is None:
            self._runtime.block(RefInfo(self._id, self._owner))
        return ref

    async def __anext__(self) -> ObjectRef[Any]:
        while (ref := self._take(StopAsyncIteration)) is None:
            await self._runtime.suspend(RefInfo(self._id, self._owner))
        return ref

    def _ready(self) -> bool:
        return self._runtime.result_of(self._id) is not None

    def _take(self, stop: type[Exception]) -> ObjectRef[Any] | None:
        """The next ref, None while it is not there."""
        with self._lock:
            if self._is_finished:
                raise stop
            oid = self._id
            result = self._runtime.result_of(oid)
            if result is None:
                self._runtime.check_alive()
                return None
            if isinstance(result, Failure) and result.kind == END_OF_STREAM:
                self._is_finished = True
                raise stop
            self._index += 1
            return self._ref(oid)

    def _ref(self, oid: bytes) -> ObjectRef[Any]:
        self._runtime.shell.post(local(TakeItem(oid)))
        return ObjectRef(oid, self._owner, self._runtime)

    def completed(self) -> ObjectRef[Any]:
        """A ref that is ready (with None, or the failure) when the task has ended."""
        self._runtime.flush()  # the task may not have been handed over yet
        return self._ref(object_id(self._task_id, COMPLETED_INDEX))

    def next_ready(self) -> bool:
        """Whether the next item (or the end) is there."""
        return self._is_finished or self._ready()

    def is_finished(self) -> bool:
        """Whether everything was handed out."""
        if not self._is_finished:
            result = self._runtime.result_of(self._id)
            return isinstance(result, Failure) and result.kind == END_OF_STREAM
        return True

    def task_id(self) -> Any:
        """Return the id of the task."""
        return ObjectRef(self._id, self._owner, None).task_id()

    def _refuse(self, *_args: Any) -> NoReturn:
        raise NotImplementedError("a stream of refs takes nothing back: send, throw and close are not supported")

    send = throw = close = asend = athrow = aclose = _refuse

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ObjectRefGenerator cannot be pickled or passed on: pass the refs it hands out")

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._task_id.hex()}, next={self._index})"

    def __del__(self) -> None:
        self._runtime.stream_dropped(self._task_id)


def returns_of(options: TaskOptions | MethodOptions, name: str) -> tuple[int, bool]:
    """Number of returns, and whether they stream.

    Raises:
        NotImplementedError: ``num_returns="dynamic"``, or a back-pressure limit; both come with a later stage.
    """
    if options.generator_backpressure > 0:
        raise NotImplementedError(
            f"{name}: _generator_backpressure_num_objects is not built yet; -1 (no limit) is what there is"
        )
    if options.num_returns == "streaming":
        return 0, True
    if isinstance(options.num_returns, str):
        raise NotImplementedError(f'{name}: num_returns={options.num_returns!r} is not built yet; "streaming" is')
    return options.num_returns, False
