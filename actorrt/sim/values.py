"""User values of the simulation as bytes: msgpack, with refs and actor handles as extension types.

Pickle would do as well, but refs that are counted by ``__del__`` would not: in the simulation nothing may depend on
when the interpreter frees an object, so refs are plain values and who holds them is counted by their scope (see
``runtime``).
"""

from __future__ import annotations

from typing import Any

import msgspec

from actorrt.wire.records import RefInfo, Value
from actorrt.wire.values import NONE_VALUE

REF_EXTENSION = 1
ACTOR_EXTENSION = 2
SLOT_EXTENSION = 3


class Ref(msgspec.Struct, frozen=True, array_like=True):
    """An object ref in a program's hands."""

    object_id: bytes
    owner: str

    def __repr__(self) -> str:
        return f"Ref({self.object_id.hex()})"


class Actor(msgspec.Struct, frozen=True, array_like=True):
    """An actor handle in a program's hands; its holder counts like one of a ref (see ``owner.objects``)."""

    actor_id: bytes
    class_name: str
    owner: str
    max_task_retries: int = 0


class Slot(msgspec.Struct, frozen=True, array_like=True):
    """Stands for a top-level ref among arguments (cf. ``wire.values.Slot``)."""

    index: int


class TaskFailed(Exception):
    """A program waited for something that failed; ``failure`` says how."""

    def __init__(self, failure: Any) -> None:
        super().__init__(failure.kind, failure.text)
        self.failure = failure


def info_of(thing: Ref | Actor) -> RefInfo:
    """What the owner counts for a ref or a handle."""
    if isinstance(thing, Actor):
        return RefInfo(thing.actor_id + b"\xff\xff\xff\xff", thing.owner)
    return RefInfo(thing.object_id, thing.owner)


def dumps(value: Any) -> Value:
    """Serialise; the refs inside are listed in the value."""
    if value is None:
        return NONE_VALUE
    data, found = _encode(value)
    return Value(data, (), tuple(info_of(thing) for thing in found))


def loads(value: Value) -> tuple[Any, list[Ref | Actor]]:
    """Rebuild a value, and list the refs and handles in it, one entry each time they occur."""
    if value.data == NONE_VALUE.data:
        return None, []
    return _decode(value.data)


def pack(arguments: tuple[Any, ...]) -> tuple[bytes, tuple[RefInfo, ...], tuple[RefInfo, ...]]:
    """Arguments as bytes, top-level refs in slot order, refs nested in values (cf. ``api.arguments.pack``)."""
    if not arguments:
        return b"", (), ()
    slots: list[RefInfo] = []
    packed: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Ref):
            packed.append(Slot(len(slots)))
            slots.append(info_of(argument))
        else:
            packed.append(argument)
    data, found = _encode(packed)
    return data, tuple(slots), tuple(info_of(thing) for thing in found)


def unpack(data: bytes, slots: list[Any]) -> tuple[list[Any], list[Ref | Actor]]:
    """Arguments again, with the values of the slots in their places."""
    if not data:
        return [], []
    packed, found = _decode(data)
    return [slots[item.index] if isinstance(item, Slot) else item for item in packed], found


def _encode(value: Any) -> tuple[bytes, list[Ref | Actor]]:
    found: list[Ref | Actor] = []
    # In a list, so that no value's bytes are those of the one-byte constants of wire.values (78 would be b"N").
    return msgspec.msgpack.encode([_wrap(value, found)]), found


def _wrap(value: Any, found: list[Ref | Actor]) -> Any:
    if isinstance(value, (Ref, Actor)):
        found.append(value)
        code = REF_EXTENSION if isinstance(value, Ref) else ACTOR_EXTENSION
        return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(value))
    if isinstance(value, Slot):
        return msgspec.msgpack.Ext(SLOT_EXTENSION, msgspec.msgpack.encode(value))
    if isinstance(value, (list, tuple)):
        return [_wrap(item, found) for item in value]
    if isinstance(value, dict):
        return {key: _wrap(item, found) for key, item in value.items()}
    return value


def _decode(data: bytes) -> tuple[Any, list[Ref | Actor]]:
    found: list[Ref | Actor] = []

    def extension(code: int, content: memoryview) -> Any:
        if code == SLOT_EXTENSION:
            return msgspec.msgpack.decode(content, type=Slot)
        decode = msgspec.msgpack.decode
        thing = decode(content, type=Ref) if code == REF_EXTENSION else decode(content, type=Actor)
        found.append(thing)
        return thing

    return msgspec.msgpack.decode(data, ext_hook=extension)[0], found
