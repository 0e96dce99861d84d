"""The object manager as a machine: every message it understands, and what follows (see the package's text)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from actorrt.kernel.effects import Do, Effect, Fail, Reply, Send, SetTimer
from actorrt.kernel.limits import AUDIT_INTERVAL_S, STORE_REPORT_OBJECTS_MAX, VERIFY_KEYS_MAX
from actorrt.kernel.message import Address, Envelope, PeerGone
from actorrt.objects import messages
from actorrt.objects.attaching import Attaching
from actorrt.objects.catalog import Catalog, Entry
from actorrt.objects.clients import Client, Clients, StoreFacts, Wish
from actorrt.objects.leaving import Leaving
from actorrt.objects.leftovers import Leftovers
from actorrt.objects.notices import Notices
from actorrt.objects.offers import Offers
from actorrt.objects.operations import Delete, Report, Seal
from actorrt.objects.puller import MANAGER, Puller
from actorrt.objects.pulls import STATES
from actorrt.objects.reading import Reading
from actorrt.objects.suspects import Suspects
from actorrt.objects.tickets import (
    Asked,
    CopyAsked,
    OpenAsked,
    PinAsked,
    PullAsked,
    ReportAsked,
    RoomAsked,
    SlabAsked,
    Tickets,
)
from actorrt.objects.writing import Writing
from actorrt.owner.messages import NodeChanged
from actorrt.raylet.messages import StoreUsed

AUDIT_TIMER: Final = "audit"
NEVER_S: Final = float("inf")


class ObjectManagerStatistics(msgspec.Struct, frozen=True):
    """Figures of one object manager; ``pulls`` by state."""

    clients: int
    sealed: int
    sealed_bytes: int
    copies: int
    wishes: int
    pulls: dict[str, int]
    pulls_waiting: int
    pulling_bytes: int
    pulled_total: int
    pulled_bytes_total: int
    pulls_failed_total: int
    asks_parked: int
    leftover_pins: int
    """Of processes that have left."""

    def figures(self) -> dict[str, int]:
        """All of it in one flat table: ``pulls`` in all and ``pulls_<state>``."""
        flat = {name: value for name, value in msgspec.structs.asdict(self).items() if isinstance(value, int)}
        flat["pulls"] = sum(self.pulls.values())
        return flat | {f"pulls_{state.lower()}": count for state, count in self.pulls.items()}


class ObjectManagerMachine:
    """Pure state of one object manager; see ``actorrt.objects``.

    Args:
        me: address of this manager; its process is what owners list as holder.
        raylet: who is told how full the store is.
        facts: of the node's store.
        bulk_endpoint: where other nodes can have the bytes of objects.
    """

    def __init__(self, me: Address, raylet: Address, facts: StoreFacts, bulk_endpoint: str = "") -> None:
        self.me = me
        self.raylet = raylet
        self._effects: list[Effect] = []
        effects = self._effects
        self.clients = Clients()
        self.leftovers = Leftovers()
        self.catalog = Catalog()
        self.tickets = Tickets()
        self.suspects = Suspects()
        self.notices = Notices(effects, me.process)
        self.offers = Offers(effects, self.catalog, bulk_endpoint)
        self.attaching = Attaching(effects, self.clients, self.leftovers, self.tickets, facts, bulk_endpoint)
        self.puller = Puller(effects, me.process, self.catalog, self.tickets)
        self.writing = Writing(effects, self.catalog, self.tickets, self.puller)
        self.reading = Reading(effects, self.clients, self.catalog, self.tickets, self.puller, self.notices)
        self.leaving = Leaving(
            effects,
            self.clients,
            self.leftovers,
            self.catalog,
            self.tickets,
            self.suspects,
            self.notices,
            self.attaching,
            self.puller,
            self.writing,
            self.reading,
        )
        self._audit_s = self._timer_s = NEVER_S
        self._of_clients: dict[type, Callable[[Client, Envelope, Any, float], None]] = {
            messages.LeaseSlab: lambda c, e, m, _now: self.writing.lease(c, e, m),
            messages.CreateObject: lambda c, e, m, _now: self.writing.create(c, e, m),
            messages.ObjectsSealed: lambda c, _e, m, now: self._objects_sealed(c, m, now),
            messages.CreateAborted: lambda c, _e, m, _now: self.writing.aborted(c, m),
            messages.PinObjects: self.reading.request,
            messages.FetchObjects: self.reading.request,
            messages.WithdrawRequest: lambda c, _e, m, _now: self.reading.withdraw(c, m.ticket),
        }
        self._handlers: dict[type, Callable[[Envelope, Any, float], None]] = {
            messages.Attach: lambda e, m, _now: self.attaching.attach(e, m),
            messages.PinsReleased: lambda e, m, _now: self.leaving.released(e.src, m.numbers),
            messages.Detach: lambda e, m, _now: self.leaving.detach(e.src.process, m.pinned),
            messages.PrefetchObjects: self._prefetch_objects,
            messages.FreeObjects: self._free_objects,
            messages.ObjectLocated: lambda e, m, now: self.puller.located(e.src, m, now),
            messages.AskForObject: lambda e, m, now: self.offers.asked(e.src, m.key, now),
            messages.ObjectOffered: lambda e, m, _now: self.puller.offered(e.src, m),
            messages.ObjectMissing: lambda e, m, _now: self.puller.missing(e.src, m.key),
            messages.StoreAnswered: self._store_answered,
            messages.PullEnded: self._pull_ended,
            messages.CopiesDropped: self._copies_dropped,
            messages.ClientDied: lambda _e, m, now: self.leaving.process_ended(m.process, now),
            messages.UsageChanged: self._usage_changed,
            messages.StoreReported: self._store_reported,
            messages.GetStoreReport: self._get_store_report,
            messages.AuditDue: self._audit_due,
            NodeChanged: self._node_changed,
            PeerGone: self._peer_gone,
        }

    # --------------------------------------------------------------------------------------------- the machine protocol
    def handle(self, envelope: Envelope, now: float) -> list[Effect]:
        """See ``kernel.machine.Machine``."""
        body = envelope.body
        handler = self._handlers.get(type(body))
        of_clients = self._of_clients.get(type(body))
        if handler is not None:
            handler(envelope, body, now)
        elif of_clients is not None:
            client = self.clients.of(envelope.src)
            if client is not None:
                of_clients(client, envelope, body, now)
            else:
                self._refuse(envelope, f"{envelope.src.process} is not attached to the object store of this node")
        else:
            self._refuse(envelope, f"an object manager does not answer {type(body).__name__}")
        self._settle(now)
        effects = self._effects.copy()
        self._effects.clear()
        return effects

    def _refuse(self, envelope: Envelope, text: str) -> None:
        if envelope.request_id:
            self._effects.append(Fail(envelope.src, envelope.request_id, "InternalError", text))

    def _settle(self, now: float) -> None:
        """What follows from every message: hand out what came, tell of what failed, begin pulls, wake up in time."""
        puller = self.puller
        if self.attaching.is_open and puller.admission:
            puller.pump()
        arrived, puller.arrived = puller.arrived, []
        for pull in arrived:
            assert pull.place is not None
            self._effects.append(Do(Seal(MANAGER, (pull.place.number,))))
            self.notices.added(pull.owner, pull.key)
            entry = Entry(pull.key, pull.size_bytes, pull.owner, "", now, is_copy=True)
            self._enter(entry, pull.waiters)
        failed, puller.failed = puller.failed, []
        for wish, failure in failed:
            self.reading.lost(wish, failure)
        self.notices.flush()
        puller.asks.date(now)
        if self.catalog and self._audit_s == NEVER_S:
            self._audit_s = now + AUDIT_INTERVAL_S
        due_s = self._next_due_s()
        if due_s < self._timer_s:
            self._timer_s = due_s
            self._effects.append(SetTimer(AUDIT_TIMER, due_s, messages.AuditDue()))

    def _next_due_s(self) -> float:
        puller = self.puller
        others = (puller.pulls.due_s, puller.asks.due_s, self.offers.due_s, self.clients.due_s, self.suspects.due_s)
        return min(self._audit_s, *others)

    def _enter(self, entry: Entry, waiters: Iterable[Wish]) -> None:
        """The object is here: give it to all who wait for it."""
        self.catalog.add(entry)
        for wish in waiters:
            self.reading.serve(wish, entry)
        self.offers.settle(entry.key)

    def check(self) -> None:
        """Assert the machine's invariants."""
        for part in (self.clients, self.leftovers, self.catalog, self.notices, self.offers, self.attaching):
            part.check()
        self.puller.check()
        self.suspects.check()
        pins = {ticket.wish: None for ticket in self.tickets.table.values() if type(ticket) is PinAsked}
        waiting = {wish: None for pull in self.puller.pulls.table.values() for wish in pull.waiters}
        wishes = [w for c in self.clients.table.values() for r in c.requests for w in r.wishes.values()]
        for wish in wishes:
            assert (wish in pins) != (wish in waiting), f"{wish!r} is nowhere, or twice"
            assert (wish in pins) == (wish.ticket != 0), f"{wish!r} has a wrong ticket"
        assert len(wishes) == len(waiting) + sum(wish.request.is_open for wish in pins)
        for asked in self.tickets.table.values():
            if isinstance(asked, (Asked, PinAsked)):
                is_open = asked.is_open if isinstance(asked, Asked) else asked.wish.request.is_open
                is_client = self.clients.table.get(asked.client.process) is asked.client
                assert is_client or not is_open, "the store was asked in the name of nobody"
        assert not (self.catalog and self._audit_s == NEVER_S), "nobody audits"
        assert self._timer_s <= self._next_due_s(), "nobody wakes up in time"

    def statistics(self) -> ObjectManagerStatistics:
        """See ``kernel.machine.Machine``."""
        puller = self.puller
        states = [pull.state for pull in puller.pulls.table.values()]
        return ObjectManagerStatistics(
            clients=len(self.clients),
            sealed=len(self.catalog),
            sealed_bytes=self.catalog.size_bytes,
            copies=sum(entry.is_copy for entry in self.catalog),
            wishes=self.clients.wishes_count,
            pulls={state: states.count(state) for state in STATES},
            pulls_waiting=len(puller.admission),
            pulling_bytes=puller.admission.inflight_bytes,
            pulled_total=puller.pulled_count,
            pulled_bytes_total=puller.pulled_bytes,
            pulls_failed_total=puller.failed_count,
            asks_parked=len(self.offers),
            leftover_pins=self.leftovers.pins_count,
        )

    # ---------------------------------------------------------------------------------------------- clients and owners
    def _objects_sealed(self, client: Client, message: messages.ObjectsSealed, now: float) -> None:
        for entry in self.writing.sealed(client, message, now):
            self._enter(entry, self.puller.take_over(entry.key))

    def _prefetch_objects(self, _envelope: Envelope, message: messages.PrefetchObjects, now: float) -> None:
        for wanted in message.wanted:
            if wanted.key not in self.catalog:
                self.puller.hint(wanted, now)
        if self.puller.pulls.hints:
            self.attaching.open()

    def _free_objects(self, _envelope: Envelope, message: messages.FreeObjects, _now: float) -> None:
        self._delete(message.keys)
        for key in message.keys:
            self.catalog.remember_gone(key)
            self.puller.freed(key)
            self.offers.settle(key)

    def _delete(self, keys: Iterable[bytes]) -> None:
        known = tuple(key for key in keys if self.catalog.remove(key) is not None)
        if known:
            self._effects.append(Do(Delete(known)))

    # ------------------------------------------------------------------------------------------------------- the store
    def _store_answered(self, _envelope: Envelope, answer: messages.StoreAnswered, now: float) -> None:
        asked = self.tickets.get(answer.ticket)
        if isinstance(asked, OpenAsked):
            self.tickets.answered(answer.ticket)
            self.attaching.opened(answer)
            if answer.failure is not None:
                self.puller.no_store(answer.failure)
        elif isinstance(asked, CopyAsked):
            self.tickets.answered(answer.ticket)
            self.puller.created(asked.key, answer)
        elif isinstance(asked, PinAsked):
            self.tickets.answered(answer.ticket)
            self.reading.pinned(asked, answer, now)
        elif isinstance(asked, (SlabAsked, RoomAsked)):
            self.tickets.answered(answer.ticket)
            self.writing.granted(asked, answer)

    def _pull_ended(self, _envelope: Envelope, message: messages.PullEnded, _now: float) -> None:
        asked = self.tickets.get(message.ticket)
        assert isinstance(asked, PullAsked), f"no pull has ticket {message.ticket}"
        self.tickets.answered(message.ticket)
        self.puller.ended(asked.key, message)

    def _copies_dropped(self, _envelope: Envelope, message: messages.CopiesDropped, _now: float) -> None:
        for key in message.keys:
            entry = self.catalog.remove(key)
            if entry is not None:
                self.notices.removed(entry.owner, key)

    def _usage_changed(self, _envelope: Envelope, message: messages.UsageChanged, _now: float) -> None:
        self._effects.append(Send(self.raylet, StoreUsed(message.used_bytes)))

    # ---------------------------------------------------------------------------------------------------------- deaths
    def _node_changed(self, _envelope: Envelope, message: NodeChanged, _now: float) -> None:
        """The cluster has given a node up, which may hang or be cut off: its connections need not have ended."""
        if not message.alive:
            self.offers.peer_gone(message.raylet.process)
            self.puller.peer_gone(message.raylet.process)

    def _peer_gone(self, _envelope: Envelope, message: PeerGone, now: float) -> None:
        """A connection ended. Of a client that means only that it does not wait for answers any more."""
        process = message.process
        client = self.clients.table.get(process)
        if client is not None:
            self.reading.cancel(client)  # first: what fails now does not concern it any more
        self.attaching.peer_gone(process)
        self.offers.peer_gone(process)
        self.tickets.peer_gone(process)
        self.puller.peer_gone(process)
        self.leaving.lost(process, now)

    # ------------------------------------------------------------------------------------------------- time and figures
    def _audit_due(self, _envelope: Envelope, _message: messages.AuditDue, now: float) -> None:
        self._timer_s = NEVER_S
        for client in self.clients.the_dead(now):
            self.leaving.bury(client, now)
        self.puller.expire(now)
        self.offers.expire(now)
        for process in self.suspects.take_due(now):
            keys = self.catalog.owned_by(process)[:VERIFY_KEYS_MAX]
            if keys:
                self.catalog.asked(process, keys, now)
                self.notices.verify(process, keys)
            elif process in self.clients.table:
                self.notices.dial(process)
        if self._audit_s <= now:
            self._audit_s = NEVER_S
            for owner, keys in self.catalog.audit(now):
                self.notices.verify(owner, keys)

    def _get_store_report(self, envelope: Envelope, message: messages.GetStoreReport, _now: float) -> None:
        if not envelope.request_id:
            return
        if not self.attaching.is_open:
            report = messages.StoreReport(self.statistics().figures())
            self._effects.append(Reply(envelope.src, envelope.request_id, report))
            return
        objects_max = min(max(0, message.objects_max), STORE_REPORT_OBJECTS_MAX)
        ticket = self.tickets.take(ReportAsked(envelope.src, envelope.request_id))
        self._effects.append(Do(Report(ticket, objects_max)))

    def _store_reported(self, _envelope: Envelope, message: messages.StoreReported, _now: float) -> None:
        asked = self.tickets.get(message.ticket)
        assert isinstance(asked, ReportAsked), f"no report has ticket {message.ticket}"
        self.tickets.answered(message.ticket)
        if not asked.is_open:
            return
        objects = tuple(self._described(item) for item in message.objects)
        figures = {**message.figures, **self.statistics().figures()}
        report = messages.StoreReport(figures, objects, message.omitted)
        self._effects.append(Reply(asked.src, asked.request_id, report))

    def _described(self, item: messages.StoredObject) -> messages.StoredObject:
        entry = self.catalog.get(item.key)
        if entry is None:
            return item
        return msgspec.structs.replace(item, owner=entry.owner, is_copy=entry.is_copy)
