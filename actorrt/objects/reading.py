"""Requests for objects: each wish is served from here, or waits for a pull; one answer when all are done (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from actorrt.kernel.effects import Do, Effect, Fail, Reply
from actorrt.kernel.limits import OBJECT_WISHES_MAX, PIN_ATTEMPTS_MAX
from actorrt.kernel.message import Envelope
from actorrt.objects.catalog import Catalog, Entry
from actorrt.objects.clients import ARGUMENTS, READS, Client, Clients, Request, Wish
from actorrt.objects.messages import (
    FetchObjects,
    Found,
    ObjectsFetched,
    ObjectsPinned,
    PinObjects,
    Place,
    StoreAnswered,
)
from actorrt.objects.notices import Notices
from actorrt.objects.operations import Delete, Pin, Release
from actorrt.objects.puller import Puller
from actorrt.objects.pulls import object_id_of
from actorrt.objects.tickets import PinAsked, Tickets
from actorrt.wire.records import Failure

WITHDRAWN: Final = ("GetTimeoutError", "withdrawn")
"""Kind and text of the end of a request whose sender does not want it any more."""


class Reading:
    """Serves ``PinObjects`` and ``FetchObjects``."""

    def __init__(
        self,
        effects: list[Effect],
        clients: Clients,
        catalog: Catalog,
        tickets: Tickets,
        puller: Puller,
        notices: Notices,
        *,
        wishes_max: int = OBJECT_WISHES_MAX,
    ) -> None:
        self._effects = effects
        self._clients = clients
        self._catalog = catalog
        self._tickets = tickets
        self._puller = puller
        self._notices = notices
        self._wishes_max = wishes_max

    def request(self, client: Client, envelope: Envelope, message: PinObjects | FetchObjects, now: float) -> None:
        """A client wants objects."""
        wanted = message.wanted
        if self._clients.wishes_count + len(wanted) > self._wishes_max:
            text = f"processes of this node wait for {self._clients.wishes_count} objects already"
            self._effects.append(Fail(envelope.src, envelope.request_id, "Overloaded", text))
            return
        pins = type(message) is PinObjects
        urgency = ARGUMENTS if type(message) is PinObjects and message.for_arguments else READS
        request = Request(envelope.src, envelope.request_id, len(wanted), urgency, pins=pins, ticket=message.ticket)
        if not wanted:
            self._answer(request)
            return
        for wish in self._clients.open(client, request, wanted):
            self._look(wish, now)

    def _look(self, wish: Wish, now: float) -> None:
        entry = self._catalog.get(wish.wanted.key)
        if entry is None:
            self._puller.want(wish, now)
        else:
            self.serve(wish, entry)

    def serve(self, wish: Wish, entry: Entry) -> None:
        """The object is here."""
        request = wish.request
        if not request.pins:
            self.done(wish, None)
            return
        client = self._clients.table[request.src.process]
        wish.ticket = self._tickets.take(PinAsked(client, wish, entry))
        self._effects.append(Do(Pin(wish.ticket, entry.key, client.name)))

    def pinned(self, asked: PinAsked, answer: StoreAnswered, now: float) -> None:
        """The store's answer to a pin."""
        client, wish = asked.client, asked.wish
        wish.ticket = 0
        if not wish.request.is_open:
            if answer.place is not None:
                self._effects.append(Do(Release((answer.place.number,), client.name)))
            return
        if answer.place is not None:
            self.done(wish, answer.place)
            return
        failure = answer.failure or Failure("InternalError", "the store gave neither a place nor a reason")
        if failure.kind == "ObjectLostError":
            self._not_here(asked.entry)
            wish.why = failure.text
            wish.attempts += 1
            if wish.attempts < PIN_ATTEMPTS_MAX:
                self._look(wish, now)
                return
        self.done(wish, failure)

    def _not_here(self, entry: Entry) -> None:
        """The catalog believed in an object which the store does not have (or cannot read)."""
        if self._catalog.get(entry.key) is entry:
            self._catalog.remove(entry.key)
            self._effects.append(Do(Delete((entry.key,))))
            self._notices.removed(entry.owner, entry.key)

    def lost(self, wish: Wish, failure: Failure) -> None:
        """It cannot be brought here either. If it was believed to be here, that is where the reason lies."""
        if wish.why:
            text = f"{failure.text} (the store of node {self._puller.pulls.me} had it, but: {wish.why})"
            failure = msgspec.structs.replace(failure, text=text)
        self.done(wish, failure)

    def done(self, wish: Wish, found: Found | None) -> None:
        """That is what the wish gets; its request is answered if it was the last one."""
        if isinstance(found, Failure):
            found = msgspec.structs.replace(found, subject_id=object_id_of(wish.wanted.key))
        if self._clients.settle(wish, found):
            self._answer(wish.request)

    def _answer(self, request: Request) -> None:
        body: ObjectsPinned | ObjectsFetched
        if request.pins:
            body = ObjectsPinned(tuple(found for found in request.found if found is not None))
            assert len(body.found) == len(request.found)
            self._clients.table[request.src.process].pinned(found for found in body.found if isinstance(found, Place))
        else:
            failed = tuple((at, found) for at, found in enumerate(request.found) if isinstance(found, Failure))
            body = ObjectsFetched(failed)
        self._effects.append(Reply(request.src, request.request_id, body))

    def release(self, client: Client, numbers: Iterable[int]) -> tuple[int, ...]:
        """Pins of the client are not needed any more. Returns the numbers of which it has none."""
        known: list[int] = []
        unknown: list[int] = []
        for number in numbers:
            (known if client.unpin(number) else unknown).append(number)
        if known:
            self._effects.append(Do(Release(tuple(known), client.name)))
        return tuple(unknown)

    def withdraw(self, client: Client, ticket: int) -> None:
        """The client does not want the answer to this request any more (nothing happens if it has it)."""
        request = client.withdrawable.get(ticket)
        if request is not None:
            self._end(client, [request])
            self._effects.append(Fail(request.src, request.request_id, *WITHDRAWN))

    def leave(self, client: Client) -> None:
        """The client wants no answer any more."""
        requests = list(client.requests)
        self._end(client, requests)
        self._effects += [Fail(request.src, request.request_id, *WITHDRAWN) for request in requests]

    def cancel(self, client: Client) -> None:
        """The client cannot be answered any more."""
        self._end(client, list(client.requests))

    def _end(self, client: Client, requests: list[Request]) -> None:
        """Nobody waits for the answers to these: pins that were meant for them go."""
        self._clients.cancel(client, requests)
        numbers: list[int] = []  # never told: they are not in the client's own account
        for request in requests:
            numbers += [found.number for found in request.found if isinstance(found, Place)]
            for wish in request.wishes.values():
                if not wish.ticket:
                    self._puller.unwant(wish)
        if numbers:
            self._effects.append(Do(Release(tuple(numbers), client.name)))
