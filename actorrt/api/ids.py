"""The public id classes: fixed-length byte strings, immutable, hashable, and different from kind to kind.

Inside the runtime ids are plain ``bytes`` (see ``kernel.ids``). The id of an object is its ref (``ObjectRef``).
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, NoReturn, Self

from actorrt.kernel import ids


class UniqueID:
    """Base of all ids, and an id of nothing in particular. Made of ``size()`` bytes."""

    __slots__ = ("_binary",)

    SIZE_BYTES: ClassVar[int] = 16

    _binary: bytes

    def __init__(self, binary: bytes) -> None:
        """Raise TypeError unless given bytes, ValueError unless given ``size()`` of them."""
        if not isinstance(binary, bytes):
            raise TypeError(
                f"{type(self).__name__} is made of bytes, got {binary!r} of type {type(binary).__name__}; "
                f"use {type(self).__name__}.from_hex for text"
            )
        if len(binary) != self.SIZE_BYTES:
            raise ValueError(f"{type(self).__name__} has {self.SIZE_BYTES} bytes, got {len(binary)}: {binary.hex()!r}")
        object.__setattr__(self, "_binary", binary)

    @classmethod
    def size(cls) -> int:
        """Length in bytes."""
        return cls.SIZE_BYTES

    @classmethod
    def from_binary(cls, binary: bytes) -> Self:
        """Return the id of these bytes. Raises TypeError or ValueError."""
        return cls(binary)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Return the id of these ``2 * size()`` hexadecimal digits. Raises TypeError or ValueError."""
        if not isinstance(text, str):
            raise TypeError(f"{cls.__name__}.from_hex takes a string, got {text!r} of type {type(text).__name__}")
        try:
            binary = bytes.fromhex(text)
        except ValueError:
            binary = b""
        if len(binary) != cls.SIZE_BYTES or len(text) != 2 * cls.SIZE_BYTES:
            raise ValueError(f"{cls.__name__} is written as {2 * cls.SIZE_BYTES} hexadecimal digits, got {text!r}")
        return cls(binary)

    @classmethod
    def from_random(cls) -> Self:
        """Return a fresh id that nothing else has."""
        return cls(os.urandom(cls.SIZE_BYTES))

    @classmethod
    def nil(cls) -> Self:
        """Return the id that stands for none: all bits set."""
        return cls(b"\xff" * cls.SIZE_BYTES)

    def binary(self) -> bytes:
        """Return the bytes."""
        return self._binary

    def hex(self) -> str:
        """Return the bytes as hexadecimal digits."""
        return self._binary.hex()

    def is_nil(self) -> bool:
        """Whether it stands for none."""
        return self._binary == b"\xff" * self.SIZE_BYTES

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._binary == other._binary

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._binary))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._binary.hex()})"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable; {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable; {name} cannot be deleted")

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return type(self), (self._binary,)


class ActorID(UniqueID):
    """Id of an actor, the same through all its restarts."""

    __slots__ = ()

    SIZE_BYTES = ids.ACTOR_ID_BYTES


class TaskID(UniqueID):
    """Id of a task or actor call, the same through all its attempts."""

    __slots__ = ()

    SIZE_BYTES = ids.TASK_ID_BYTES


class JobID(UniqueID):
    """Id of a job: what one driver runs."""

    __slots__ = ()

    SIZE_BYTES = ids.JOB_ID_BYTES

    @classmethod
    def from_int(cls, number: int) -> Self:
        """Return the id of a job's number."""
        return cls(number.to_bytes(cls.SIZE_BYTES, "big"))


class NodeID(UniqueID):
    """Id of a node, drawn anew each time it starts."""

    __slots__ = ()

    SIZE_BYTES = ids.NODE_ID_BYTES


class WorkerID(UniqueID):
    """Id of a worker process or driver."""

    __slots__ = ()

    SIZE_BYTES = ids.WORKER_ID_BYTES


class ClusterID(UniqueID):
    """Id of a cluster, drawn anew each time its head starts."""

    __slots__ = ()

    SIZE_BYTES = ids.CLUSTER_ID_BYTES


class FunctionID(UniqueID):
    """Id of an exported function or class."""

    __slots__ = ()


class PlacementGroupID(UniqueID):
    """Id of a placement group."""

    __slots__ = ()


__all__ = [
    "ActorID",
    "ClusterID",
    "FunctionID",
    "JobID",
    "NodeID",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
]
