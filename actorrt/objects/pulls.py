"""Bringing objects here from other nodes: the table of pulls, and what happens in which state (pure).

A pull looks for sources (``ASKING`` holders, ``LOCATING`` with the owner), waits for its turn (``QUEUED``), gets room
(``CREATING``) and lets the port fetch the bytes (``PULLING``). When all sources have failed it gives its room back and
looks again; a holder that failed is not asked twice. ``PARKED``: the object should be here already, only the report of
its writer has not come yet.

A pull that nobody needs any more ends at once, or as soon as the port has answered if it works on it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from actorrt.kernel.ids import OBJECT_ID_BYTES
from actorrt.kernel.limits import PULL_SOURCES_MAX, SEAL_REPORT_WAIT_S
from actorrt.objects.clients import HINTS, Wish
from actorrt.objects.messages import ObjectWanted, Place
from actorrt.wire.records import Failure

OBJECTS: Final = "objects"
"""The actor's name in every node's process."""

PARKED: Final = "PARKED"
ASKING: Final = "ASKING"
LOCATING: Final = "LOCATING"
QUEUED: Final = "QUEUED"
CREATING: Final = "CREATING"
PULLING: Final = "PULLING"
ENDED: Final = "ENDED"
STATES: Final = (PARKED, ASKING, LOCATING, QUEUED, CREATING, PULLING)

TRANSITIONS: Final[dict[tuple[str, str], str]] = {
    (PARKED, "ask"): ASKING,
    (PARKED, "locate"): LOCATING,
    (PARKED, "end"): ENDED,
    (ASKING, "locate"): LOCATING,
    (ASKING, "offer"): QUEUED,
    (ASKING, "end"): ENDED,
    (LOCATING, "park"): PARKED,
    (LOCATING, "ask"): ASKING,
    (LOCATING, "end"): ENDED,
    (QUEUED, "ask"): ASKING,
    (QUEUED, "locate"): LOCATING,
    (QUEUED, "admit"): CREATING,
    (QUEUED, "end"): ENDED,
    (CREATING, "room"): PULLING,
    (CREATING, "ask"): ASKING,
    (CREATING, "locate"): LOCATING,
    (CREATING, "end"): ENDED,
    (PULLING, "room"): PULLING,
    (PULLING, "ask"): ASKING,
    (PULLING, "locate"): LOCATING,
    (PULLING, "end"): ENDED,
}
"""``ask``, ``locate``: it looks for sources; ``offer``: it has one; ``room``: the port begins (again)."""
AT_WORK: Final = frozenset({CREATING, PULLING})
"""The port works on it and will answer."""


class Pull:
    """One object on its way here."""

    __slots__ = (
        "asked",
        "candidates",
        "deadline_s",
        "failed",
        "failure",
        "given",
        "key",
        "owner",
        "place",
        "rounds",
        "silent",
        "size_bytes",
        "sources",
        "state",
        "ticket",
        "urgency",
        "waiters",
    )

    def __init__(self, wanted: ObjectWanted) -> None:
        self.key = wanted.key
        self.size_bytes = wanted.size_bytes
        self.owner = wanted.owner
        self.state = PARKED
        self.urgency = HINTS
        self.waiters: dict[Wish, None] = {}
        self.candidates: dict[str, None] = {}
        """Holders not asked yet."""
        self.asked: dict[str, None] = {}
        """Holders that have not answered."""
        self.sources: dict[str, str] = {}
        """Holders that offered it, with their endpoints."""
        self.failed: dict[str, None] = {}
        """Holders that do not have it, or were lost."""
        self.silent: dict[str, None] = {}
        """Holders that did not answer in time: asked again only when the owner names them again."""
        self.given: dict[str, str] = {}
        """Sources the port began with."""
        self.place: Place | None = None
        """While PULLING, until it is given up."""
        self.ticket = 0
        """While PULLING."""
        self.rounds = 0
        """How often the owner was asked."""
        self.deadline_s = 0.0
        """While PARKED."""
        self.failure: Failure | None = None
        """Why it was given up (the port may still work on it)."""

    def fire(self, event: str) -> None:
        """Go on to the next state; an event the state does not know is a bug."""
        self.state = TRANSITIONS[self.state, event]

    def consider(self, holders: tuple[str, ...], me: str) -> None:
        """These may have it."""
        for holder in holders:
            if holder != me and holder not in self.failed and holder not in self.asked and holder not in self.sources:
                self.candidates[holder] = None

    def take_candidates(self) -> list[str]:
        """Holders to be asked now."""
        taken = list(self.candidates)[: max(0, PULL_SOURCES_MAX - len(self.asked) - len(self.sources))]
        for holder in taken:
            del self.candidates[holder]
            self.asked[holder] = None
        return taken

    def fail(self, holder: str) -> None:
        """This holder is out."""
        self.candidates.pop(holder, None)
        self.asked.pop(holder, None)
        self.sources.pop(holder, None)
        self.failed[holder] = None

    def ignore(self, holder: str) -> None:
        """This holder does not answer."""
        del self.asked[holder]
        self.silent[holder] = None

    def lost(self, why: str) -> Failure:
        """Why it cannot be had."""
        silent = [f"{holder}, which does not answer" for holder in self.silent if holder not in self.failed]
        tried = ", ".join([*self.failed, *silent]) or "nobody"
        text = f"object {object_id_of(self.key).hex()} is lost: {why} (tried: {tried})"
        return Failure("ObjectLostError", text, subject_id=object_id_of(self.key))

    def __repr__(self) -> str:
        return f"Pull({self.key.hex()}, {self.state}, {len(self.waiters)} waiters)"


class PullTable:
    """All pulls by key, those that are parked, and those that only a hint asks for."""

    def __init__(self, me: str, *, hints_max: int) -> None:
        self.me = me
        self.table: dict[bytes, Pull] = {}
        self.hints: dict[bytes, None] = {}
        self._hints_max = hints_max
        self.parked: OrderedDict[bytes, None] = OrderedDict()
        """In the order of their deadlines."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def due_s(self) -> float:
        """When the next parked one has waited long enough."""
        for key in self.parked:
            return self.table[key].deadline_s
        return float("inf")

    @property
    def takes_hints(self) -> bool:
        """Whether there is room for one more hint."""
        return len(self.hints) < self._hints_max

    def begin(self, wanted: ObjectWanted) -> Pull:
        """A new one."""
        assert wanted.key not in self.table
        pull = self.table[wanted.key] = Pull(wanted)
        pull.consider(wanted.holders, self.me)
        return pull

    def park(self, pull: Pull, now: float) -> None:
        """Wait for the report of its writer."""
        pull.deadline_s = now + SEAL_REPORT_WAIT_S
        self.parked[pull.key] = None

    def unpark(self, pull: Pull) -> None:
        """It waits for that no longer."""
        self.parked.pop(pull.key, None)

    def is_needed(self, pull: Pull) -> bool:
        """Whether anybody wants it."""
        return pull.failure is None and (bool(pull.waiters) or pull.key in self.hints)

    def end(self, pull: Pull) -> None:
        """It is over."""
        pull.fire("end")
        del self.table[pull.key]
        self.parked.pop(pull.key, None)
        self.hints.pop(pull.key, None)

    def check(self) -> None:
        """Assert what holds for every state."""
        for key, pull in self.table.items():
            assert pull.key == key
            assert pull.state in STATES, pull
            assert (pull.state == PARKED) == (key in self.parked), pull
            assert (pull.state == ASKING) <= bool(pull.asked), f"{pull!r} asks nobody"
            assert (pull.state in {ASKING, LOCATING, PARKED}) <= (not pull.sources), f"{pull!r} has sources already"
            assert (pull.state == LOCATING) <= (not pull.asked), f"{pull!r} asks holders and the owner"
            assert (pull.state == QUEUED) <= bool(pull.sources), f"{pull!r} has no source"
            assert (pull.place is not None) <= (pull.state == PULLING), pull
            assert pull.state in AT_WORK or self.is_needed(pull), f"nobody needs {pull!r}"
            assert pull.failure is None or not pull.waiters, f"somebody waits for {pull!r}, which is given up"
            assert not (key in self.hints and pull.waiters), f"{pull!r} is more than a hint"
            assert self.me not in pull.candidates
            assert len(pull.asked) + len(pull.sources) <= PULL_SOURCES_MAX
            for holder in (*pull.candidates, *pull.asked, *pull.sources):
                assert holder not in pull.failed, f"{pull!r}: {holder} has failed"
        assert len(self.hints) <= self._hints_max
        deadlines = [self.table[key].deadline_s for key in self.parked]
        assert deadlines == sorted(deadlines)


def object_id_of(key: bytes) -> bytes:
    """The object a key belongs to."""
    return key[:OBJECT_ID_BYTES]
