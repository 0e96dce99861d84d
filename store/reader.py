"""Read objects of the node's store from any of its processes, without a copy.

``Reader.view`` turns a pinned place into a read-only memoryview. Each view has an *exporter* of its own at the bottom;
slices, NumPy arrays and Arrow buffers made from the view keep it alive. When the last of them is gone, the exporter
dies and ``released`` is called with the object's number (or with what the caller gave instead): once per view, so one
pin each. That happens wherever the garbage collector runs, in any thread, perhaps inside another call of yours:
``released`` may only note it.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import pathlib
import pickle
import weakref
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from actorrt.store import layout
from actorrt.store.base import Location, Place, SpilledAt
from actorrt.store.errors import ObjectDamaged
from actorrt.store.segment import Mappings

ReadSpilled = Callable[[SpilledAt], bytes | bytearray]


Held = list[Any]
"""A pin to be released exactly once, by whoever comes first: it is in the list until somebody takes it out (one step,
so no thread and no interrupt can come in between). A pin that is released twice is the pin of somebody else's view.
"""

_in_use: dict[int, Exports] = {}
"""Those with views alive. A weak reference that becomes garbage together with what it refers to never calls back: so
the books must outlive the views, even when nobody else knows them any more. (And what they call must lead to no view,
or none ever ends.)
"""


class Exports:
    """Read-only views on raw memory whose end is noticed."""

    def __init__(self, released: Callable[[Any], None]) -> None:
        self._released = released
        self._alive: dict[int, tuple[weakref.ref[Any], Held]] = {}
        self._types: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._alive)

    def pins(self) -> list[Any]:
        """The pins of all that are alive, one entry per view."""
        return [pin for _, held in list(self._alive.values()) for pin in tuple(held)]

    def export(self, memory: object, address: int, size_bytes: int, held: Held) -> memoryview:
        """``memory`` keeps the address mapped; it is held until the last view is gone.

        If this raises, whatever it is, the caller releases ``held``; it may be released already.
        """
        # ctypes makes a new class (50 us) for each length, so the exporter is rounded up and the view cut to size.
        bits = size_bytes.bit_length()
        kind = self._types.get(bits)
        if kind is None:
            kind = self._types[bits] = ctypes.c_ubyte * (1 << bits)
        exporter = kind.from_address(address)
        # All that ``_gone`` needs is there before the reference: an interrupt between two lines may end the exporter.
        alive = weakref.ref(exporter, functools.partial(self._gone, held, memory))
        self._alive[id(alive)] = alive, held
        _in_use[id(self)] = self
        # PickleBuffer.raw: ctypes says "<B", which memoryview cannot index; this makes it plain bytes.
        return pickle.PickleBuffer(exporter).raw()[:size_bytes].toreadonly()

    def _gone(self, held: Held, _memory: object, alive: weakref.ref[Any]) -> None:
        try:
            self.release(held)
        finally:
            self._alive.pop(id(alive), None)
            if not self._alive:
                _in_use.pop(id(self), None)
                if self._alive:  # another thread made a view in between
                    _in_use[id(self)] = self

    def release(self, held: Held) -> None:
        """Once; the next time it does nothing. (An interrupt in here may lose a pin, until the client ends.)"""
        try:
            pin = held.pop()
        except IndexError:
            return
        self._released(pin)


class Reader:
    """Attached read-only to the store whose segments are ``directory/prefix-*``."""

    def __init__(
        self,
        directory: str,
        prefix: str,
        released: Callable[[Any], None],
        *,
        read_spilled: ReadSpilled | None = None,
    ) -> None:
        """``read_spilled`` reads from spill directories that are not local (``disk.read_slice``)."""
        self._mappings = Mappings(directory, prefix, writable=False)
        self._exports = Exports(released)
        self._read_spilled = read_spilled

    @property
    def views(self) -> int:
        """How many are alive."""
        return len(self._exports)

    def pins(self) -> list[Any]:
        """What was given with each view that is alive."""
        return self._exports.pins()

    def view(self, place: Place, pin: object = None) -> memoryview:
        """The bytes of an object that was pinned for us; the pin is released when the view and all made from it is
        gone.

        Raises StaleLocation if it was not pinned, ObjectDamaged if a spill file is not what it should be; the pin is
        released then too, also when the caller is interrupted.
        """
        held = [place.number if pin is None else pin]  # calls nothing: an interrupt comes between calls
        try:
            if isinstance(place, SpilledAt):
                # A mapped file needs no pin (it stays mapped when removed), nor does a copy.
                view = self._spilled(place)
                self._exports.release(held)
                return view
            return self._in_memory(place, held)
        except BaseException:
            self._exports.release(held)
            raise

    def _in_memory(self, place: Location, held: Held) -> memoryview:
        mapping = self._mappings[place.segment]
        layout.check_sealed(mapping.view, place.offset, place.size_bytes, place.number)
        return self._exports.export(mapping.memory, mapping.address + place.offset, place.size_bytes, held)

    def _spilled(self, place: SpilledAt) -> memoryview:
        path = local_path(place.uri)
        if path is not None:
            view = map_slice(pathlib.Path(path) / place.name, place)
        elif self._read_spilled is not None:
            view = memoryview(self._read_spilled(place)).toreadonly()
        else:
            raise ObjectDamaged(f"nothing here can read from {place.uri}")
        if view.nbytes != place.size_bytes or zlib.crc32(view) != place.checksum:
            raise ObjectDamaged(f"{place.name} in {place.uri}: the bytes at {place.offset} are not what was written")
        return view

    def close(self) -> None:
        """No more views; those alive stay good."""
        self._mappings.clear()


def local_path(uri: str) -> str | None:
    """The directory behind a plain path or a file:// URI, None for anything else."""
    if "://" not in uri:
        return uri
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else None


def map_slice(path: pathlib.Path, place: SpilledAt) -> memoryview:
    """A read-only view of part of a file; stays good when the file is removed."""
    if not place.size_bytes:
        return memoryview(b"")
    start = place.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    skip = place.offset - start
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            memory = mmap.mmap(descriptor, skip + place.size_bytes, prot=mmap.PROT_READ, offset=start)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise ObjectDamaged(f"{path}: {error}") from error
    return memoryview(memory)[skip:].toreadonly()
