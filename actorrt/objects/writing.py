"""Room for those who write, and what they report when they have written (pure)."""

from __future__ import annotations

from actorrt.kernel.effects import Do, Effect, Fail, Reply
from actorrt.kernel.message import Envelope
from actorrt.objects.catalog import Catalog, Entry
from actorrt.objects.clients import Client, NewObject
from actorrt.objects.messages import CreateAborted, CreateObject, LeaseSlab, ObjectCreated, ObjectsSealed, StoreAnswered
from actorrt.objects.operations import Abort, Create, Delete, Lease, Seal
from actorrt.objects.puller import Puller
from actorrt.objects.tickets import RoomAsked, SlabAsked, Tickets
from actorrt.wire.records import Failure


class Writing:
    """Asks the store for its clients; what is granted to one that has stopped waiting is given back."""

    def __init__(self, effects: list[Effect], catalog: Catalog, tickets: Tickets, puller: Puller) -> None:
        self._effects = effects
        self._catalog = catalog
        self._tickets = tickets
        self._puller = puller

    def lease(self, client: Client, envelope: Envelope, message: LeaseSlab) -> None:
        """A slab for many small objects."""
        ticket = self._tickets.take(SlabAsked(client, envelope.src, envelope.request_id))
        self._effects.append(Do(Lease(ticket, message.length_bytes, client.name)))

    def create(self, client: Client, envelope: Envelope, message: CreateObject) -> None:
        """Room for a large one."""
        made = NewObject(message.key, message.size_bytes, message.owner)
        ticket = self._tickets.take(RoomAsked(client, envelope.src, envelope.request_id, made))
        self._effects.append(Do(Create(ticket, message.key, message.size_bytes, client.name)))

    def granted(self, asked: SlabAsked | RoomAsked, answer: StoreAnswered) -> None:
        """The store's answer to either."""
        client = asked.client
        if type(asked) is RoomAsked and answer.place is not None:
            if asked.is_open:
                client.creating[answer.place.number] = asked.made
                self._effects.append(Reply(asked.src, asked.request_id, ObjectCreated(answer.place)))
            else:
                self._effects.append(Do(Abort(answer.place.number)))
        elif type(asked) is SlabAsked and answer.slab is not None:
            if asked.is_open:
                client.slabs[answer.slab.number] = None
                self._effects.append(Reply(asked.src, asked.request_id, answer.slab))
            else:
                self._effects.append(Do(Seal(client.name, done_slabs=(answer.slab.number,))))
        elif asked.is_open:
            failure = answer.failure or Failure("InternalError", "the store gave neither room nor a reason")
            self._effects.append(Fail(asked.src, asked.request_id, failure.kind, failure.text))

    def sealed(self, client: Client, message: ObjectsSealed, now: float) -> list[Entry]:
        """These are complete. Returns those that are to be entered; what was freed already is deleted at once."""
        created = tuple(number for number in dict.fromkeys(message.created) if number in client.creating)
        made = [client.creating.pop(number) for number in created]
        reports = {carved.key: carved for carved in message.carved}  # a key is reported once
        carved = tuple(c for key, c in reports.items() if key not in self._catalog and self._puller.takes_report(key))
        made += [NewObject(item.key, item.size_bytes, item.owner) for item in carved]
        done_slabs = tuple(number for number in dict.fromkeys(message.done_slabs) if number in client.slabs)
        for number in done_slabs:
            del client.slabs[number]
        if created or carved or done_slabs:
            self._effects.append(Do(Seal(client.name, created, carved, done_slabs)))
        doomed = tuple(item.key for item in made if self._catalog.is_gone(item.key))
        if doomed:
            self._effects.append(Do(Delete(doomed)))
        return [
            Entry(key, size_bytes, owner, client.process, now, is_copy=False)
            for key, size_bytes, owner in made
            if key not in self._catalog and not self._catalog.is_gone(key) and self._puller.takes_report(key)
        ]

    def leave(self, client: Client) -> None:
        """It writes no more: what it has not completed goes, and its slabs come back."""
        self._effects += [Do(Abort(number)) for number in client.creating]
        client.creating.clear()
        if client.slabs:
            self._effects.append(Do(Seal(client.name, done_slabs=tuple(client.slabs))))
            client.slabs.clear()

    def aborted(self, client: Client, message: CreateAborted) -> None:
        """The client will not complete this."""
        if client.creating.pop(message.number, None) is not None:
            self._effects.append(Do(Abort(message.number)))
