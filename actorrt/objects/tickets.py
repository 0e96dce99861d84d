"""What the store was asked and has not answered, by ticket (pure)."""

from __future__ import annotations

from typing import TypeAlias

from actorrt.kernel.message import Address
from actorrt.objects.catalog import Entry
from actorrt.objects.clients import Client, NewObject, Wish


class OpenAsked:
    """The store is being made."""

    __slots__ = ()


class Asked:
    """Something for a request of a client."""

    __slots__ = ("client", "is_open", "request_id", "src")

    def __init__(self, client: Client, src: Address, request_id: int) -> None:
        self.client = client
        """In whose name the store is asked; it may have left since."""
        self.src = src
        self.request_id = request_id
        self.is_open = True
        """The client still waits; otherwise what is granted is given back at once."""


class SlabAsked(Asked):
    """A slab."""

    __slots__ = ()


class RoomAsked(Asked):
    """Room for a large object."""

    __slots__ = ("made",)

    def __init__(self, client: Client, src: Address, request_id: int, made: NewObject) -> None:
        super().__init__(client, src, request_id)
        self.made = made


class PinAsked:
    """A pin for a wish."""

    __slots__ = ("client", "entry", "wish")

    def __init__(self, client: Client, wish: Wish, entry: Entry) -> None:
        self.client = client
        """As above."""
        self.wish = wish
        self.entry = entry
        """What the catalog knew when it was asked for."""


class CopyAsked:
    """Room for a copy."""

    __slots__ = ("key",)

    def __init__(self, key: bytes) -> None:
        self.key = key


class PullAsked:
    """The bytes of a copy."""

    __slots__ = ("key",)

    def __init__(self, key: bytes) -> None:
        self.key = key


class ReportAsked:
    """A report for an operator."""

    __slots__ = ("is_open", "request_id", "src")

    def __init__(self, src: Address, request_id: int) -> None:
        self.src = src
        self.request_id = request_id
        self.is_open = True


Ticket: TypeAlias = OpenAsked | SlabAsked | RoomAsked | PinAsked | CopyAsked | PullAsked | ReportAsked


class Tickets:
    """Numbers for what is asked. A ticket that is not in the table was dropped with its client: ignore its answer."""

    def __init__(self) -> None:
        self.table: dict[int, Ticket] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self.table)

    def take(self, ticket: Ticket) -> int:
        """Return a new number."""
        self._count += 1
        self.table[self._count] = ticket
        return self._count

    def get(self, number: int) -> Ticket | None:
        """What was asked under this number."""
        return self.table.get(number)

    def answered(self, number: int) -> None:
        """It has been answered."""
        del self.table[number]

    def drop(self, name: bytes) -> None:
        """The store drops this client, and everything that was asked in its name."""
        for number, ticket in list(self.table.items()):
            if isinstance(ticket, (Asked, PinAsked)) and ticket.client.name == name:
                del self.table[number]

    def withdraw(self, client: Client) -> list[Asked]:
        """The client leaves. Returns what it still waits for."""
        waiting: list[Asked] = [
            t for t in self.table.values() if isinstance(t, Asked) and t.client is client and t.is_open
        ]
        for asked in waiting:
            asked.is_open = False
        return waiting

    def peer_gone(self, process: str) -> None:
        """Nobody there waits for answers any more."""
        for ticket in self.table.values():
            if isinstance(ticket, (Asked, ReportAsked)) and ticket.src.process == process:
                ticket.is_open = False
