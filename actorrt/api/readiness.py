"""Which results are there, and waiting in threads until they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actorrt.api.blocking import Blocker
from actorrt.api.refs import ObjectRef
from actorrt.kernel.errors import GetTimeoutError
from actorrt.owner.state import OwnerMachine
from actorrt.wire.records import Failure, RefInfo, Result


class Readiness:
    """Args:
    machine: the owner, whose records are read without a lock.
    blocker: waits.
    flush_puts: hands over objects that were put and not told yet; whether there were any.
    check_alive: raises when nothing will come any more.
    """

    def __init__(
        self,
        machine: OwnerMachine,
        blocker: Blocker,
        flush_puts: Callable[[], bool],
        check_alive: Callable[[], None],
    ) -> None:
        self._records = machine.objects.records
        self._blocker = blocker
        self._flush_puts = flush_puts
        self.check_alive = check_alive
        self._why_not_ready = machine.explainer.why_not_ready

    def results_of(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None) -> list[Result | None]:
        """Block until all are ready, or one has failed, or the time is up (GetTimeoutError)."""
        records = self._records
        results: list[Result | None] = []
        for ref in refs:
            record = records.get(ref._id)
            if record is None or record.result is None:
                break
            results.append(record.result)
        else:
            return results
        if record is None and self._flush_puts():
            return self.results_of(refs, timeout_s)
        infos = tuple(RefInfo(r._id, r._owner) for r in refs)
        self._blocker.wait(infos, len(refs), timeout_s, fail_fast=True, explain=lambda: self._explain(refs))
        found = [None if (record := records.get(r._id)) is None else record.result for r in refs]
        if any(result is None for result in found) and not any(type(result) is Failure for result in found):
            self.check_alive()
            raise GetTimeoutError(f"get: after {timeout_s} s {self._explain(refs)}")
        return found

    def _explain(self, refs: Sequence[ObjectRef[Any]]) -> str:
        missing = [ref for ref in refs if (r := self._records.get(ref._id)) is None or r.result is None]
        if not missing:
            return "everything is ready"
        first = self._why_not_ready(missing[0]._id)
        return f"{len(missing)} of {len(refs)} objects were not ready; the first: {first}"

    def wait(
        self, refs: Sequence[ObjectRef[Any]], count: int, timeout_s: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Block until ``count`` are ready or the time is up; returns (at most ``count`` ready ones, the rest)."""
        self._flush_puts()
        ready, rest = self._split_ready(refs, count)
        if len(ready) < count:
            infos = tuple(RefInfo(r._id, r._owner) for r in refs)
            self._blocker.wait(infos, count, timeout_s, fail_fast=False, explain=lambda: self._explain(refs))
            ready, rest = self._split_ready(refs, count)
        return ready, rest

    def _split_ready(
        self, refs: Sequence[ObjectRef[Any]], count: int
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        # Loops of wait(refs) over thousands are common: look no further than needed.
        records = self._records
        ready: list[ObjectRef[Any]] = []
        rest: list[ObjectRef[Any]] = []
        for index, ref in enumerate(refs):
            record = records.get(ref._id)
            if record is None or record.result is None:
                rest.append(ref)
                continue
            ready.append(ref)
            if len(ready) == count:
                rest.extend(refs[index + 1 :])
                break
        return ready, rest
