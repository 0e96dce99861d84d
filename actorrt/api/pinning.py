"""Having stored values here: pins, and what is done when one is not where it was said to be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import NamedTuple, TypeAlias

from actorrt.cluster.shelf import Shelf
from actorrt.kernel.errors import InternalError
from actorrt.kernel.message import Message
from actorrt.objects.messages import ObjectsPinned, Place
from actorrt.wire.records import Failure, Result, Stored, Value

RENEW_PATIENCE_S = 15.0
"""How long an owner may go on naming nodes that do not have the value: longer than a silent node counts as alive."""
RENEW_DELAY_S_MIN = 0.02
RENEW_DELAY_S_MAX = 0.5

Renew: TypeAlias = Callable[[list[Stored], Callable[[list[Result | None]], None]], None]
"""``renew(stale, done)``: find out what these are now; ``done`` gets the results in order (None: nothing will come)."""


class Here(NamedTuple):
    """What became of stored values: pinned places, values that turned out small, failures; and the keys they have."""

    found: list[Place | Value | Failure]
    keys: list[bytes]


class Pinning:
    """Pins stored values until all are here, or it is certain that one will not be.

    Where a value lies is known from hearsay. By the time it is read, its node may have died, and its task may have to
    run again: ``renew`` asks the owner, who sees to that. Until the owner has heard of the node's death it names the
    same holder again; so an unchanged answer is asked for again, for ``RENEW_PATIENCE_S``.
    """

    def __init__(self, shelf: Shelf, renew: Renew, stored: list[Stored], *, for_arguments: bool = False) -> None:
        self.answer: Future[Here] = Future()
        self.answer.set_running_or_notify_cancel()
        self._shelf = shelf
        self._renew = renew
        self._results: list[Result] = list(stored)
        self._for_arguments = for_arguments
        self._deadline_s = 0.0
        self._delay_s = RENEW_DELAY_S_MIN
        self._ticket = 0
        self._abandoned = False
        self._pin()

    def abandon(self) -> None:
        """Nobody waits any more."""
        self._abandoned = True
        self.answer.add_done_callback(self._let_go)
        self._shelf.withdraw(self._ticket)

    def _let_go(self, answer: Future[Here]) -> None:
        if answer.exception() is None:
            self._shelf.release_places(answer.result().found)

    def _pin(self) -> None:
        wanted = [result for result in self._results if type(result) is Stored]
        if not wanted:  # all of them turned out small, or failed
            self._pinned_all(iter(()))
            return
        self._ticket = ticket = self._shelf.next_ticket()
        self._shelf.pin(wanted, ticket, for_arguments=self._for_arguments).add_done_callback(self._pinned)
        if self._abandoned:
            self._shelf.withdraw(ticket)  # it may have been abandoned in between

    def _pinned(self, future: Future[Message]) -> None:
        error = future.exception()
        if error is not None:
            self.answer.set_exception(error)
            return
        answer = future.result()
        assert isinstance(answer, ObjectsPinned)
        self._pinned_all(iter(answer.found))

    def _pinned_all(self, places: Iterator[Place | Failure]) -> None:
        found: list[Place | Value | Failure] = []
        keys: list[bytes] = []
        stale: list[int] = []
        for index, result in enumerate(self._results):
            if type(result) is not Stored:
                assert not isinstance(result, Stored)
                found.append(result)
                keys.append(b"")
                continue
            place = next(places)
            found.append(place)
            keys.append(result.key)
            if isinstance(place, Failure) and place.kind == "ObjectLostError":
                stale.append(index)
        now_s = time.monotonic()
        self._deadline_s = self._deadline_s or now_s + RENEW_PATIENCE_S
        if not stale or now_s > self._deadline_s:
            self.answer.set_result(Here(found, keys))
        else:
            self._shelf.release_places(found)  # pinned again, all together, once the others can be
            self._ask(stale)

    def _ask(self, stale: list[int]) -> None:
        old = [result for index in stale if type(result := self._results[index]) is Stored]

        def renewed(results: list[Result | None]) -> None:
            changed = False
            for index, before, result in zip(stale, old, results, strict=True):
                if result is None:
                    self.answer.set_exception(InternalError("the runtime was shut down while a value was made again"))
                    return
                changed = changed or type(result) is not Stored or result.key != before.key
                self._results[index] = result
            if changed:
                self._deadline_s = 0.0
                self._delay_s = RENEW_DELAY_S_MIN
                self._pin()
            else:
                self._shelf.later(self._delay_s, self._pin)
                self._delay_s = min(2 * self._delay_s, RENEW_DELAY_S_MAX)

        self._renew(old, renewed)
