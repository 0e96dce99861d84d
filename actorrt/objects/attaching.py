"""Processes that attach to the store, which is made for the first of them (pure)."""

from __future__ import annotations

from actorrt.kernel.effects import Do, Effect, Fail, Reply
from actorrt.kernel.limits import STORE_CLIENTS_MAX
from actorrt.kernel.message import Address, Envelope
from actorrt.objects.clients import Clients, StoreFacts
from actorrt.objects.leftovers import Leftovers
from actorrt.objects.messages import Attach, Attached, StoreAnswered
from actorrt.objects.operations import Open, Watch
from actorrt.objects.tickets import OpenAsked, Tickets


class Attaching:
    """Answers ``Attach``. A node whose processes never use the store has none."""

    def __init__(
        self,
        effects: list[Effect],
        clients: Clients,
        leftovers: Leftovers,
        tickets: Tickets,
        facts: StoreFacts,
        bulk_endpoint: str,
    ) -> None:
        self._effects = effects
        self._clients = clients
        self._leftovers = leftovers
        self._tickets = tickets
        self._attached = Attached(*facts, bulk_endpoint)
        self.is_open = False
        """The store has been made."""
        self._opening = False
        self._waiting: dict[tuple[Address, int], int] = {}
        """(Source, request) -> pid of those who wait for it."""

    def attach(self, envelope: Envelope, message: Attach) -> None:
        """A process wants to use the store."""
        count = len(self._clients) + len(self._waiting) + len(self._leftovers)
        if count >= STORE_CLIENTS_MAX and self._clients.of(envelope.src) is None:
            text = f"{count} processes use the object store of this node already (or left pinned objects behind)"
            self._effects.append(Fail(envelope.src, envelope.request_id, "Overloaded", text))
            return
        self._waiting[envelope.src, envelope.request_id] = message.pid
        self.open()
        self._admit()

    def open(self) -> None:
        """Have the store made, unless it is there or under way."""
        if not self.is_open and not self._opening:
            self._opening = True
            self._effects.append(Do(Open(self._tickets.take(OpenAsked()))))

    def opened(self, answer: StoreAnswered) -> None:
        """The store is made, or cannot be; the next one to attach makes it try again."""
        self._opening = False
        if answer.failure is None:
            self.is_open = True
            self._admit()
            return
        waiting, self._waiting = self._waiting, {}
        for src, request_id in waiting:
            self._effects.append(Fail(src, request_id, answer.failure.kind, answer.failure.text))

    def _admit(self) -> None:
        if not self.is_open:
            return
        waiting, self._waiting = self._waiting, {}
        for (src, request_id), pid in waiting.items():
            if self._clients.attach(src.process, pid) and self._clients.table[src.process].is_watched:
                self._effects.append(Do(Watch(src.process, pid)))
            self._effects.append(Reply(src, request_id, self._attached))

    def peer_gone(self, process: str) -> list[tuple[Address, int]]:
        """Whoever asked from there does not wait any more. Returns what was asked: (source, request)."""
        gone = [key for key in self._waiting if key[0].process == process]
        for key in gone:
            del self._waiting[key]
        return gone

    def check(self) -> None:
        """Assert that nobody waits for a store that is there, or that nobody makes."""
        assert not (self.is_open and self._opening)
        assert self._opening or not self._waiting
        making = [ticket for ticket in self._tickets.table.values() if type(ticket) is OpenAsked]
        assert len(making) == self._opening
