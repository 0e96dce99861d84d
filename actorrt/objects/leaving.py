"""How clients and owners end: in order, or by death; and the pins that outlive a client (pure)."""

from __future__ import annotations

from collections import Counter

from actorrt.kernel.effects import Do, Effect, Fail
from actorrt.kernel.message import Address
from actorrt.objects.attaching import Attaching
from actorrt.objects.catalog import Catalog
from actorrt.objects.clients import Client, Clients
from actorrt.objects.leftovers import Leftovers
from actorrt.objects.notices import Notices
from actorrt.objects.operations import Delete, DropClient, Release, Unwatch
from actorrt.objects.puller import Puller
from actorrt.objects.reading import WITHDRAWN, Reading
from actorrt.objects.suspects import Suspects
from actorrt.objects.tickets import Tickets
from actorrt.objects.writing import Writing


class Leaving:
    """Carries out ends on its machine's tables.

    Who leaves in order (``detach``) says which views it still has; everything else of it goes at once. Who dies
    (``bury``) has no views. The port watches a process as long as it is a client or has left pins behind.
    """

    def __init__(
        self,
        effects: list[Effect],
        clients: Clients,
        leftovers: Leftovers,
        catalog: Catalog,
        tickets: Tickets,
        suspects: Suspects,
        notices: Notices,
        attaching: Attaching,
        puller: Puller,
        writing: Writing,
        reading: Reading,
    ) -> None:
        self._effects = effects
        self._clients = clients
        self._leftovers = leftovers
        self._catalog = catalog
        self._tickets = tickets
        self._suspects = suspects
        self._notices = notices
        self._attaching = attaching
        self._puller = puller
        self._writing = writing
        self._reading = reading

    # ------------------------------------------------------------------ in order
    def detach(self, process: str, pinned: tuple[int, ...]) -> None:
        """The client leaves, and perhaps its process goes on. What it wrote for others they have heard of."""
        for src, request_id in self._attaching.peer_gone(process):
            self._effects.append(Fail(src, request_id, *WITHDRAWN))
        client = self._clients.table.get(process)
        if client is None or self._clients.is_dying(process):
            return
        self._reading.leave(client)
        for asked in self._tickets.withdraw(client):
            self._effects.append(Fail(asked.src, asked.request_id, *WITHDRAWN))
        self._writing.leave(client)
        self._clients.remove(client)
        self._leave_pins(client, Counter(pinned))
        self.owner_died(process)
        self._catalog.forget_writer(process)

    def _leave_pins(self, client: Client, wanted: Counter[int]) -> None:
        """Of a client nobody sees end none stay (it cannot map our memory either: it has read copies)."""
        kept = {number: min(count, wanted[number]) for number, count in client.pins.items() if wanted[number]}
        if not client.is_watched:
            kept = {}
        surplus = [n for n, count in client.pins.items() for _ in range(count - kept.get(n, 0))]
        self._reading.release(client, surplus)
        if kept:
            self._leftovers.keep(client.process, client.pid, kept)
        else:
            self._unwatch(client.process, is_watched=client.is_watched)

    def _unwatch(self, process: str, *, is_watched: bool = True) -> None:
        if is_watched and process not in self._clients.table and process not in self._leftovers:
            self._effects.append(Do(Unwatch(process)))

    def released(self, src: Address, numbers: tuple[int, ...]) -> None:
        """Views are gone: of this client, or of one before it in the same process."""
        process = src.process
        client = self._clients.table.get(process)
        pid = 0
        if client is not None:
            pid = client.pid if client.is_watched else 0
            numbers = self._reading.release(client, numbers)
        for number in numbers:
            name = self._leftovers.release(process, pid, number)
            if name is not None:
                self._effects.append(Do(Release((number,), name.encode())))
                self._unwatch(name)

    # ------------------------------------------------------------------ deaths
    def process_ended(self, process: str, now: float) -> None:
        """The port has seen it end. What a client said before may still come."""
        if process in self._clients.table:
            self._clients.died(process, now)
            return
        if self._leftovers.drop(process):
            self._drop(process.encode())
        self.owner_died(process)

    def bury(self, client: Client, now: float) -> None:
        """The client is dead."""
        process = client.process
        self._reading.cancel(client)
        self._clients.remove(client)
        self._leftovers.drop(process)
        self._drop(client.name)
        self.owner_died(process)
        # Whatever else it made is of use only if the word of it has reached the owner.
        for owner, keys in self._catalog.forget_writer(process).items():
            self._catalog.asked(owner, keys, now)
            self._notices.verify(owner, keys)

    def _drop(self, name: bytes) -> None:
        self._tickets.drop(name)
        self._effects.append(Do(DropClient(name)))

    def owner_died(self, process: str) -> None:
        """What it owned goes, wherever it is."""
        self._suspects.forget(process)
        keys = tuple(self._catalog.owned_by(process))
        for key in keys:
            self._catalog.remove(key)
        if keys:
            self._effects.append(Do(Delete(keys)))
        self._puller.owner_died(process)

    def lost(self, process: str, now: float) -> None:
        """A connection ended. A client that is watched tells its end by its end; others are dialled once more."""
        client = self._clients.table.get(process)
        if client is not None and client.is_watched:
            return
        if (client is not None or self._catalog.owned_by(process)) and self._suspects.is_dead(process, now):
            if client is not None:
                self.bury(client, now)
            else:
                self.owner_died(process)
