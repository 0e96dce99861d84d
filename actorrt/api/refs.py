"""ObjectRef: a handle of a value that is, or will be, somewhere in the cluster."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from collections.abc import Generator
from typing import Any, Generic, TypeVar

from actorrt.api.ids import JobID, TaskID
from actorrt.kernel.context import find_runtime
from actorrt.kernel.errors import InternalError
from actorrt.wire.records import RefInfo
from actorrt.wire.values import note_ref

T = TypeVar("T")


class ObjectRef(Generic[T]):
    """A reference to an object: awaitable, hashable, picklable.

    Every instance counts as one hold of the object until it is garbage-collected. Dropping it only queues a note; it
    never blocks and decides nothing.
    """

    __slots__ = ("__weakref__", "_id", "_owner", "_runtime")

    _id: bytes
    _owner: str
    _runtime: Any

    def __init__(self, object_id: bytes, owner: str, runtime: Any) -> None:
        """Made by the runtime only; use ``from_hex`` or ``from_binary`` to name an object you do not hold."""
        self._id = object_id
        self._owner = owner
        self._runtime = runtime

    # ------------------------------------------------------------------ identity
    def hex(self) -> str:
        """Return the id as 40 hexadecimal digits."""
        return self._id.hex()

    def binary(self) -> bytes:
        """Return the id as 20 bytes."""
        return self._id

    def is_nil(self) -> bool:
        """Return whether this names no object."""
        return self._id == b"\xff" * len(self._id)

    def task_id(self) -> Any:
        """Return the id of the task that makes (or made) the object."""
        return TaskID(self._id[:16])

    def job_id(self) -> Any:
        """Return the id of the job this ref is used in."""
        return JobID(self._runtime.job.job_id if self._runtime is not None else b"\xff" * 4)

    def owner_address(self) -> str:
        """Return the process address of the object's owner."""
        return self._owner

    def call_site(self) -> str:
        """Return where the ref was made (not recorded: empty)."""
        return ""

    @classmethod
    def size(cls) -> int:
        """Bytes of an object id."""
        return 20

    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """Return a ref that names no object."""
        return cls(b"\xff" * 20, "", None)

    @classmethod
    def from_binary(cls, object_id: bytes) -> ObjectRef[Any]:
        """Name an object by its id, without holding it."""
        if len(object_id) != 20:
            raise ValueError(f"an object id has 20 bytes, not {len(object_id)}")
        return cls(object_id, "", None)

    @classmethod
    def from_hex(cls, text: str) -> ObjectRef[Any]:
        """Name an object by its id, without holding it."""
        return cls.from_binary(bytes.fromhex(text))

    @classmethod
    def from_random(cls) -> ObjectRef[Any]:
        """Return a ref with a random id (for tests)."""
        return cls.from_binary(os.urandom(20))

    def __eq__(self, other: object) -> bool:
        return type(other) is ObjectRef and self._id == other._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"ObjectRef({self._id.hex()})"

    # ------------------------------------------------------------------ waiting
    def __await__(self) -> Generator[Any, None, T]:
        ref, runtime = self._here()
        return runtime.await_ref(ref)  # type: ignore[no-any-return]

    def future(self) -> concurrent.futures.Future[T]:
        """Return a ``concurrent.futures.Future`` of the value (or its error)."""
        ref, runtime = self._here()
        return runtime.future_of(ref)  # type: ignore[no-any-return]

    def _here(self) -> tuple[ObjectRef[T], Any]:
        """This ref as the present runtime knows it: one from before a shutdown (or from outside) is adopted first."""
        runtime = self._runtime
        if runtime is not None and not runtime.closed:
            return self, runtime
        runtime = find_runtime()
        if runtime is None:
            raise InternalError("not connected to a cluster (any more): the value of this ref cannot be had")
        return runtime.adopt_ref(self._id, self._owner), runtime

    def as_future(self) -> asyncio.Future[T]:
        """Return an ``asyncio.Future`` of the value, in the running loop."""
        return asyncio.wrap_future(self.future())

    def _on_completed(self, callback: Any) -> None:
        """Call ``callback(value or exception)`` when ready."""
        self.future().add_done_callback(lambda f: callback(f.exception() or f.result()))

    # ------------------------------------------------------------------ life
    def __reduce__(self) -> Any:
        if not note_ref(RefInfo(self._id, self._owner)) and self._runtime is not None:
            self._runtime.flush_puts()  # who knows where these bytes go, and how soon somebody asks for the object
        return _rebuild, (self._id, self._owner)

    def __copy__(self) -> ObjectRef[T]:
        return self

    def __deepcopy__(self, _memo: Any) -> ObjectRef[T]:
        return self

    def __del__(self) -> None:
        runtime = self._runtime
        if runtime is not None:
            runtime.released(self._id)


def _rebuild(object_id: bytes, owner: str) -> ObjectRef[Any]:
    runtime = find_runtime()
    if runtime is None:
        return ObjectRef(object_id, owner, None)
    return runtime.adopt_ref(object_id, owner)  # type: ignore[no-any-return]
