"""Processes that use the store of the node, what they asked for, and what they still wait for (pure).

A request of a client for objects consists of *wishes*, one per entry. Each unfinished wish is in exactly one place:
at the pull that brings its object, or under the ticket of its pin.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from actorrt.kernel.limits import CLIENT_LAST_WORDS_S
from actorrt.kernel.message import Address
from actorrt.objects.messages import Found, ObjectWanted, Place

ARGUMENTS: Final = 0
READS: Final = 1
HINTS: Final = 2
URGENCIES: Final = (ARGUMENTS, READS, HINTS)
"""What is served first: arguments of tasks about to run, then ``get`` and ``wait``, then hints."""


class StoreFacts(NamedTuple):
    """What clients must know of the node's store; fixed before it is made."""

    directory: str
    prefix: str
    slab_bytes: int
    capacity_bytes: int


class NewObject(NamedTuple):
    """Granted to a client, who is writing it."""

    key: bytes
    size_bytes: int
    owner: str


class Request:
    """``PinObjects`` or ``FetchObjects`` without its answer."""

    __slots__ = ("found", "is_open", "pins", "request_id", "src", "ticket", "urgency", "wishes")

    def __init__(self, src: Address, request_id: int, count: int, urgency: int, *, pins: bool, ticket: int = 0) -> None:
        self.src = src
        self.request_id = request_id
        self.urgency = urgency
        self.pins = pins
        self.ticket = ticket
        """By which the client may withdraw it; 0: it will not."""
        self.found: list[Found | None] = [None] * count
        """By position; of a fetch only the failures."""
        self.wishes: dict[int, Wish] = {}
        """The unfinished ones, by position."""
        self.is_open = True
        """Somebody still waits for the answer."""

    def __repr__(self) -> str:
        return f"Request({self.request_id} of {self.src}, {len(self.wishes)} of {len(self.found)} open)"


class Wish:
    """One entry of a request."""

    __slots__ = ("attempts", "position", "request", "ticket", "wanted", "why")

    def __init__(self, request: Request, position: int, wanted: ObjectWanted) -> None:
        self.request = request
        self.position = position
        self.wanted = wanted
        self.attempts = 0
        """Pins that found nothing."""
        self.ticket = 0
        """Of its pin, while that is asked for; otherwise it waits at the pull of its key."""
        self.why = ""
        """What the store said when it did not have what it should have."""

    def __repr__(self) -> str:
        return f"Wish({self.wanted.key.hex()} of {self.request!r})"


class Client:
    """One attached process."""

    __slots__ = ("creating", "pid", "pins", "process", "requests", "slabs", "withdrawable")

    def __init__(self, process: str, pid: int) -> None:
        self.process = process
        self.pid = pid
        self.requests: dict[Request, None] = {}
        """In the order they came."""
        self.withdrawable: dict[int, Request] = {}
        """Those with a ticket."""
        self.creating: dict[int, NewObject] = {}
        """By number: granted, neither sealed nor aborted."""
        self.slabs: dict[int, None] = {}
        """Leased, not given back."""
        self.pins: dict[int, int] = {}
        """Number -> how often it has been told that it is pinned, less what it has released."""

    @property
    def name(self) -> bytes:
        """What the store calls it."""
        return self.process.encode()

    @property
    def is_watched(self) -> bool:
        """Whether the port can see it end. A driver on another machine listens by tcp only; its pid is none of ours."""
        return self.pid > 0 and any(not endpoint.startswith("tcp://") for endpoint in self.process.split(","))

    def pinned(self, places: Iterable[Place]) -> None:
        """It is told of these pins."""
        for place in places:
            self.pins[place.number] = self.pins.get(place.number, 0) + 1

    def unpin(self, number: int) -> bool:
        """One pin less; False: it has none."""
        count = self.pins.pop(number, 0)
        if count > 1:
            self.pins[number] = count - 1
        return count > 0

    def __repr__(self) -> str:
        return f"Client({self.process}, pid={self.pid})"


class Clients:
    """All attached processes; the dying are kept until their last words have come."""

    def __init__(self) -> None:
        self.table: dict[str, Client] = {}
        self.wishes_count = 0
        """Unfinished wishes of them all."""
        self._dying: OrderedDict[str, float] = OrderedDict()
        """Process -> when it is buried, in this order."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def due_s(self) -> float:
        """When the next of the dying is buried."""
        return next(iter(self._dying.values()), float("inf"))

    def attach(self, process: str, pid: int) -> bool:
        """A process attaches; whether that is news."""
        known = self.table.get(process)
        if known is not None:
            is_news = known.pid != pid
            known.pid = pid
            return is_news
        self.table[process] = Client(process, pid)
        return True

    def of(self, src: Address) -> Client | None:
        """The client this message comes from."""
        return self.table.get(src.process)

    # ------------------------------------------------------------------ ends
    def remove(self, client: Client) -> None:
        """It is none any more; its requests are cancelled."""
        assert not client.requests
        del self.table[client.process]
        self._dying.pop(client.process, None)

    def is_dying(self, process: str) -> bool:
        """Whether its last words are waited for."""
        return process in self._dying

    def died(self, process: str, now: float) -> None:
        """The process has ended; what it said before may not have come yet."""
        self._dying.setdefault(process, now + CLIENT_LAST_WORDS_S)

    def the_dead(self, now: float) -> list[Client]:
        """Those whose last words have come: to be removed."""
        return [self.table[process] for process, due_s in self._dying.items() if due_s <= now]

    # ------------------------------------------------------------------ requests
    def open(self, client: Client, request: Request, wanted: tuple[ObjectWanted, ...]) -> list[Wish]:
        """A new request with its wishes."""
        client.requests[request] = None
        if request.ticket:
            client.withdrawable[request.ticket] = request
        request.wishes = {position: Wish(request, position, item) for position, item in enumerate(wanted)}
        self.wishes_count += len(wanted)
        return list(request.wishes.values())

    def settle(self, wish: Wish, found: Found | None) -> bool:
        """One wish is done. Returns whether its request is."""
        request = wish.request
        del request.wishes[wish.position]
        request.found[wish.position] = found
        self.wishes_count -= 1
        if request.wishes:
            return False
        self._close(self.table[request.src.process], request)
        return True

    def cancel(self, client: Client, requests: Iterable[Request]) -> None:
        """Nobody waits for the answers of these any more."""
        for request in requests:
            request.is_open = False
            self.wishes_count -= len(request.wishes)
            self._close(client, request)

    def _close(self, client: Client, request: Request) -> None:
        del client.requests[request]
        if client.withdrawable.get(request.ticket) is request:
            del client.withdrawable[request.ticket]

    def check(self) -> None:
        """Assert that the tables agree."""
        for process, client in self.table.items():
            assert client.process == process
            for request in client.requests:
                assert request.src.process == process
                assert request.is_open
                assert request.wishes, f"{request!r} is done and was not answered"
            for ticket, request in client.withdrawable.items():
                assert request.ticket == ticket
                assert request in client.requests, f"{request!r} is over"
            assert all(count > 0 for count in client.pins.values())
        assert self.wishes_count == sum(len(r.wishes) for client in self.table.values() for r in client.requests)
        assert not [process for process in self._dying if process not in self.table]
        times = list(self._dying.values())
        assert times == sorted(times)
