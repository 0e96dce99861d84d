"""Operations an object manager asks its port to carry out (``Do``): the store of the node, pulls, watched processes.

The port never raises for what the outside can cause; operations with a ticket are answered by exactly one
``StoreAnswered`` (``Pull``: ``PullEnded``, ``Report``: ``StoreReported``), unless their client is dropped:
``DropClient`` takes back all that was asked for in its name before, answered or not. ``client`` is a process address
in bytes.
"""

from __future__ import annotations

import msgspec

from actorrt.objects.messages import CarvedObject, Place


class Open(msgspec.Struct, frozen=True):
    """Make the store if it is not there yet; answered with a failure if it cannot be made, else with neither."""

    ticket: int


class Create(msgspec.Struct, frozen=True):
    """Find room; answered with the place. ``secondary``: a copy, which may be dropped under pressure."""

    ticket: int
    key: bytes
    size_bytes: int
    client: bytes
    secondary: bool = False


class Lease(msgspec.Struct, frozen=True):
    """A slab; answered with it."""

    ticket: int
    length_bytes: int
    client: bytes


class Pin(msgspec.Struct, frozen=True):
    """Pin for a client; answered with the place."""

    ticket: int
    key: bytes
    client: bytes


class Seal(msgspec.Struct, frozen=True):
    """Seal created objects, adopt carved ones, take slabs back, in this order."""

    client: bytes
    created: tuple[int, ...] = ()
    carved: tuple[CarvedObject, ...] = ()
    done_slabs: tuple[int, ...] = ()


class Abort(msgspec.Struct, frozen=True):
    """Give up an object that is being created. A ``Pull`` that fills it ends soon (its ``PullEnded`` still comes)."""

    number: int


class Release(msgspec.Struct, frozen=True):
    """Release pins of a client."""

    numbers: tuple[int, ...]
    client: bytes


class Delete(msgspec.Struct, frozen=True):
    """Forget these objects."""

    keys: tuple[bytes, ...]


class DropClient(msgspec.Struct, frozen=True):
    """The client is dead."""

    client: bytes


class Pull(msgspec.Struct, frozen=True):
    """Fill the place with the object's bytes from these sources, (process, endpoint) each; ends in ``PullEnded``."""

    ticket: int
    key: bytes
    place: Place
    sources: tuple[tuple[str, str], ...]


class AddSource(msgspec.Struct, frozen=True):
    """One more source for a pull under way (nothing happens if it has ended)."""

    ticket: int
    source: tuple[str, str]


class Watch(msgspec.Struct, frozen=True):
    """Tell with ``ClientDied`` when this process has ended (at once, if it has)."""

    process: str
    pid: int


class Unwatch(msgspec.Struct, frozen=True):
    """The end of this process is of no interest any more (its ``ClientDied`` may still come)."""

    process: str


class Report(msgspec.Struct, frozen=True):
    """Figures of the store and its ``objects_max`` largest objects; answered with ``StoreReported``."""

    ticket: int
    objects_max: int


Operation = (
    Open
    | Create
    | Lease
    | Pin
    | Seal
    | Abort
    | Release
    | Delete
    | DropClient
    | Pull
    | AddSource
    | Watch
    | Unwatch
    | Report
)
