"""Ids: fixed-size byte strings, made from an injected source of randomness.

On the wire and inside machines an id is plain ``bytes`` (hashing and comparing those is the cheapest thing Python can
do); the aliases below say which kind is meant. The API wraps them in the public classes of ``actorrt.api.ids``.

An *owner* draws one random 8-byte prefix and counts upwards, so a task id costs one ``int.to_bytes`` and never collides
within a cluster (2**-64 per pair of owners). An object id is its task's id plus a 4-byte return index.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

JobId: TypeAlias = bytes
NodeId: TypeAlias = bytes
WorkerId: TypeAlias = bytes
TaskId: TypeAlias = bytes
ObjectId: TypeAlias = bytes
ActorId: TypeAlias = bytes
LeaseId: TypeAlias = int

JOB_ID_BYTES = 4
NODE_ID_BYTES = 16
WORKER_ID_BYTES = 16
TASK_ID_BYTES = 16
OBJECT_ID_BYTES = 20
ACTOR_ID_BYTES = 16
CLUSTER_ID_BYTES = 16
PREFIX_BYTES = 8

RandomBytes: TypeAlias = Callable[[int], bytes]
"""``os.urandom`` in production, a seeded generator's ``randbytes`` in simulation."""


class TaskIdSource:
    """Ids for the tasks of one owner: a random prefix and a counter (also used for ``put`` objects and actors).

    Any number of threads may draw from one source: the counter is advanced by one C call.
    """

    __slots__ = ("_numbers", "_prefix")

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._prefix = random_bytes(PREFIX_BYTES)
        self._numbers = itertools.count(1)

    def next(self) -> TaskId:
        """Return a fresh task id."""
        return self._prefix + next(self._numbers).to_bytes(8, "big")

    @property
    def prefix(self) -> bytes:
        """The owner's random part."""
        return self._prefix


def object_id(task_id: TaskId, index: int) -> ObjectId:
    """Id of return value number ``index`` (from 0) of a task."""
    return task_id + index.to_bytes(4, "big")


def task_id_of(oid: ObjectId) -> TaskId:
    """Task that creates this object."""
    return oid[:TASK_ID_BYTES]


def return_index_of(oid: ObjectId) -> int:
    """Which return value of its task this object is."""
    return int.from_bytes(oid[TASK_ID_BYTES:], "big")
