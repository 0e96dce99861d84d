"""Runs the pulls: asks holders and owners, keeps to the admission, and says what came of it (pure)."""

from __future__ import annotations

import msgspec

from actorrt.kernel.effects import Do, Effect, Send
from actorrt.kernel.limits import LOCATE_ROUNDS_MAX, PREFETCHES_MAX
from actorrt.kernel.message import Address
from actorrt.objects.admission import Admission
from actorrt.objects.asks import Asks
from actorrt.objects.catalog import Catalog
from actorrt.objects.clients import Wish
from actorrt.objects.messages import (
    AskForObject,
    ObjectLocated,
    ObjectOffered,
    ObjectWanted,
    Place,
    PullEnded,
    StoreAnswered,
)
from actorrt.objects.notices import OWNER
from actorrt.objects.operations import Abort, AddSource, Create
from actorrt.objects.operations import Pull as Fetch
from actorrt.objects.pulls import (
    ASKING,
    AT_WORK,
    CREATING,
    LOCATING,
    OBJECTS,
    PARKED,
    PULLING,
    QUEUED,
    Pull,
    PullTable,
    object_id_of,
)
from actorrt.objects.tickets import CopyAsked, PullAsked, Tickets
from actorrt.owner.messages import LocateObject
from actorrt.wire.records import Failure

MANAGER = b"manager"
"""The client in whose name copies are made."""


class Puller:
    """Carries pulls from wish to copy. What ended is left in ``arrived`` and ``failed`` for the machine."""

    def __init__(
        self,
        effects: list[Effect],
        me: str,
        catalog: Catalog,
        tickets: Tickets,
        *,
        admission: Admission | None = None,
        hints_max: int = PREFETCHES_MAX,
    ) -> None:
        self._effects = effects
        self._catalog = catalog
        self._tickets = tickets
        self.pulls = PullTable(me, hints_max=hints_max)
        self.admission = admission or Admission()
        self.asks = Asks()
        self.arrived: list[Pull] = []
        """Complete copies, not sealed yet; their waiters come with them."""
        self.failed: list[tuple[Wish, Failure]] = []
        self.pulled_count = 0
        self.pulled_bytes = 0
        self.failed_count = 0

    # ------------------------------------------------------------------ who wants what
    def want(self, wish: Wish, now: float) -> None:
        """A client waits for this object, which is not here."""
        wanted = wish.wanted
        pull = self.pulls.table.get(wanted.key)
        if pull is not None and pull.failure is not None:
            self.failed.append((wish, pull.failure))
            return
        is_new = pull is None
        if pull is None:
            pull = self.pulls.begin(wanted)
        pull.waiters[wish] = None
        self.pulls.hints.pop(wanted.key, None)
        if wish.request.urgency < pull.urgency:
            self._hurry(pull, wish.request.urgency)
        if is_new:
            self._begin(pull, wanted, now)
            return
        pull.consider(wanted.holders, self.pulls.me)
        if pull.state == LOCATING and pull.candidates:
            self._look(pull)
        elif pull.state != PARKED:
            self._ask(pull)

    def hint(self, wanted: ObjectWanted, now: float) -> None:
        """The object may be needed here soon. What should be here anyway needs no pull."""
        if wanted.key in self.pulls.table or self.pulls.me in wanted.holders or not self.pulls.takes_hints:
            return
        pull = self.pulls.begin(wanted)
        self.pulls.hints[wanted.key] = None
        self._begin(pull, wanted, now)

    def unwant(self, wish: Wish) -> None:
        """The client does not wait any more."""
        pull = self.pulls.table[wish.wanted.key]
        del pull.waiters[wish]
        if pull.waiters:
            self._hurry(pull, min(waiter.request.urgency for waiter in pull.waiters))
        else:
            self._abandon(pull)

    def _begin(self, pull: Pull, wanted: ObjectWanted, now: float) -> None:
        if self.pulls.me in wanted.holders and not self._catalog.is_gone(pull.key):
            self.pulls.park(pull, now)
        else:
            self._look(pull)

    def _hurry(self, pull: Pull, urgency: int) -> None:
        pull.urgency = urgency
        self.admission.hurry(pull.key, urgency)

    # ------------------------------------------------------------------ looking for sources
    def _look(self, pull: Pull) -> None:
        """Find (more) sources for a pull that has none and holds nothing."""
        self._ask(pull)
        if not pull.asked and pull.rounds >= LOCATE_ROUNDS_MAX:
            self._give_up(pull, pull.lost("none of the nodes its owner named had it"))
            return
        self._stop_waiting(pull)
        if pull.asked:
            pull.fire("ask")
        else:
            pull.rounds += 1
            pull.fire("locate")
            self._effects.append(Send(Address(pull.owner, OWNER), LocateObject(pull.key)))

    def _ask(self, pull: Pull) -> None:
        for holder in pull.take_candidates():
            self.asks.add(pull.key, holder)
            self._effects.append(Send(Address(holder, OBJECTS), AskForObject(pull.key)))

    def offered(self, src: Address, message: ObjectOffered) -> None:
        """A holder has it."""
        pull = self.pulls.table.get(message.key)
        if pull is None or src.process not in pull.asked:
            return
        if message.size_bytes != pull.size_bytes:
            self._holder_failed(pull, src.process)
            return
        del pull.asked[src.process]
        self.asks.drop(pull.key, src.process)
        pull.sources[src.process] = message.endpoint
        if pull.state == ASKING:
            pull.fire("offer")
            self.admission.wait(pull.key, pull.size_bytes, pull.urgency)
        elif pull.state == PULLING:
            self._effects.append(Do(AddSource(pull.ticket, (src.process, message.endpoint))))

    def missing(self, src: Address, key: bytes) -> None:
        """A holder does not have it."""
        pull = self.pulls.table.get(key)
        if pull is not None and src.process in pull.asked:
            self._holder_failed(pull, src.process)

    def _holder_failed(self, pull: Pull, holder: str) -> None:
        """Out with it; ask others, or look again if nothing is left."""
        pull.fail(holder)
        self.asks.drop(pull.key, holder)
        self._one_less(pull)

    def _one_less(self, pull: Pull) -> None:
        self._ask(pull)
        if (pull.state == ASKING and not pull.asked) or (pull.state == QUEUED and not pull.sources):
            self._look(pull)

    def located(self, src: Address, message: ObjectLocated, now: float) -> None:
        """The owner says where it is."""
        pull = self.pulls.table.get(message.key)
        if pull is None or pull.state != LOCATING or src.process != pull.owner:
            return
        if not message.holders:
            failure = message.failure or pull.lost("its owner knows nobody who has it")
            self._give_up(pull, failure)
            return
        pull.consider(message.holders, self.pulls.me)
        me = self.pulls.me
        if pull.candidates:
            self._look(pull)
        elif me in message.holders and me not in pull.failed and not self._catalog.is_gone(pull.key):
            pull.fire("park")
            self.pulls.park(pull, now)
        else:
            self._give_up(pull, message.failure or pull.lost("none of the nodes its owner named had it"))

    # ------------------------------------------------------------------ room and bytes
    def pump(self) -> None:
        """Begin what may begin."""
        while (key := self.admission.admit()) is not None:
            pull = self.pulls.table[key]
            pull.fire("admit")
            ticket = self._tickets.take(CopyAsked(key))
            self._effects.append(Do(Create(ticket, key, pull.size_bytes, MANAGER, secondary=True)))

    def created(self, key: bytes, answer: StoreAnswered) -> None:
        """The store has room for it, or has not."""
        pull = self.pulls.table[key]
        assert pull.state == CREATING, pull
        if answer.place is None:
            self.admission.end(key)
            failure = answer.failure or Failure("InternalError", "the store gave neither room nor a reason")
            self._give_up(pull, msgspec.structs.replace(failure, subject_id=object_id_of(key)))
            return
        if self.pulls.is_needed(pull) and pull.sources:
            self._fetch(pull, answer.place)
        else:
            self._give_room_back(pull, answer.place)

    def _fetch(self, pull: Pull, place: Place) -> None:
        pull.fire("room")
        pull.place = place
        pull.given = dict(pull.sources)
        pull.ticket = self._tickets.take(PullAsked(pull.key))
        self._effects.append(Do(Fetch(pull.ticket, pull.key, place, tuple(pull.given.items()))))

    def _give_room_back(self, pull: Pull, place: Place) -> None:
        """Its bytes did not come, or are not needed."""
        self._effects.append(Do(Abort(place.number)))
        pull.place = None
        self.admission.end(pull.key)
        self._go_on(pull)

    def _abandon(self, pull: Pull) -> None:
        """Nobody needs it any more. If the port works on it, it ends when the port has answered."""
        if pull.key not in self.admission.inflight:
            self._end(pull)
        elif pull.place is not None:
            self._effects.append(Do(Abort(pull.place.number)))
            pull.place = None

    def _abandoned(self, pull: Pull) -> None:
        """The port has stopped working on it; perhaps somebody wants it again."""
        self.admission.end(pull.key)
        for holder in pull.sources:
            pull.candidates[holder] = None
        pull.sources.clear()
        self._go_on(pull)

    def _go_on(self, pull: Pull) -> None:
        """It holds nothing (any more): look for sources, or end."""
        if self.pulls.is_needed(pull):
            self._look(pull)
        else:
            self._end(pull)

    def ended(self, key: bytes, message: PullEnded) -> None:
        """The port has all bytes, or no source that works."""
        pull = self.pulls.table[key]
        assert pull.state == PULLING, pull
        for holder in message.failed:
            pull.fail(holder)
        if pull.place is None:
            self._abandoned(pull)
            return
        if message.failure is None:
            self.pulled_count += 1
            self.pulled_bytes += pull.size_bytes
            self.admission.end(key)
            self.arrived.append(pull)
            self._end(pull)
            return
        for holder in pull.given:
            pull.fail(holder)
        if pull.sources:
            self._fetch(pull, pull.place)  # from who offered it when the port had given up
        else:
            self._give_room_back(pull, pull.place)

    # ------------------------------------------------------------------ other ends
    def takes_report(self, key: bytes) -> bool:
        """Its writer here reports it. Returns whether that is welcome: a copy that is being written stands in the way.

        (Then the report took longer than anybody waits for it.)
        """
        pull = self.pulls.table.get(key)
        return pull is None or pull.state not in AT_WORK

    def take_over(self, key: bytes) -> list[Wish]:
        """It is here without having been pulled. Returns who waits for it."""
        pull = self.pulls.table.get(key)
        if pull is None:
            return []
        waiters = list(pull.waiters)
        pull.waiters.clear()
        self._end(pull)
        return waiters

    def freed(self, key: bytes) -> None:
        """Its owner says that nobody refers to it any more."""
        pull = self.pulls.table.get(key)
        if pull is not None and pull.failure is None:
            self._give_up(pull, pull.lost("its owner has released it"))

    def owner_died(self, process: str) -> None:
        """What it owned is gone, wherever it lies."""
        for pull in [pull for pull in self.pulls.table.values() if pull.owner == process and pull.failure is None]:
            self._give_up(pull, _owner_died(pull))

    def peer_gone(self, process: str) -> None:
        """The connection to an owner or a holder ended."""
        for pull in list(self.pulls.table.values()):
            if pull.state == LOCATING and pull.owner == process:
                self._give_up(pull, _owner_died(pull))
            elif process in pull.asked or (process in pull.sources and pull.state != PULLING):
                self._holder_failed(pull, process)

    def no_store(self, failure: Failure) -> None:
        """There is no store to put anything in."""
        for pull in [pull for pull in self.pulls.table.values() if pull.state == QUEUED]:
            self._give_up(pull, failure)

    def expire(self, now: float) -> None:
        """What should have been here has not come, or a holder does not answer: look for it elsewhere."""
        for key, holder in self.asks.take_due(now):
            pull = self.pulls.table[key]
            pull.ignore(holder)
            self._one_less(pull)
        while self.pulls.due_s <= now:
            pull = self.pulls.table[next(iter(self.pulls.parked))]
            pull.failed[self.pulls.me] = None
            self._look(pull)

    def _give_up(self, pull: Pull, failure: Failure) -> None:
        self.failed_count += 1
        self.failed += [(wish, failure) for wish in pull.waiters]
        pull.waiters.clear()
        self.pulls.hints.pop(pull.key, None)
        pull.failure = failure
        self._abandon(pull)

    def _end(self, pull: Pull) -> None:
        self._stop_waiting(pull)
        for holder in pull.asked:
            self.asks.drop(pull.key, holder)
        self.pulls.end(pull)

    def _stop_waiting(self, pull: Pull) -> None:
        """For its writer's report, or for its turn."""
        self.pulls.unpark(pull)
        if pull.state == QUEUED:
            self.admission.leave(pull.key)

    def check(self) -> None:
        """Assert what holds between pulls, admission, tickets and catalog."""
        self.pulls.check()
        self.admission.check()
        self.asks.check()
        asking = [(key, holder) for key, pull in self.pulls.table.items() for holder in pull.asked]
        assert sorted(asking) == sorted(self.asks.table), "a question without an end"
        assert not self.arrived
        assert not self.failed
        working = [pull.key for pull in self.pulls.table.values() if pull.state in AT_WORK]
        assert sorted(working) == sorted(self.admission.inflight)
        asked = [(type(t), t.key) for t in self._tickets.table.values() if isinstance(t, (CopyAsked, PullAsked))]
        assert len(asked) == len(working)
        for pull in self.pulls.table.values():
            assert pull.key not in self._catalog, f"{pull!r} is here"
            assert pull.state != CREATING or (CopyAsked, pull.key) in asked
            assert pull.state != PULLING or (PullAsked, pull.key) in asked
        waiting = [key for key, pull in self.pulls.table.items() if pull.state == QUEUED]
        assert len(waiting) == len(self.admission)


def _owner_died(pull: Pull) -> Failure:
    object_id = object_id_of(pull.key)
    text = f"the process that owned object {object_id.hex()} is gone ({pull.owner}), and the value with it"
    return Failure("OwnerDiedError", text, subject_id=object_id)
