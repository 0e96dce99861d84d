"""Which results are there, and waiting in threads until they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actorrt.api.blocking import Blocker
from actorrt.api.refs import ObjectRef
from actorrt.kernel.errors import GetTimeoutError
from actorrt.owner.tasks import ObjectRecord
from actorrt.wire.records import Failure, RefInfo, Result


class Readiness:
    """Args:
    records: the owner's, read without a lock.
    blocker: waits.
    flush_puts: hands over objects that were put and not told yet.
    check_alive: raises when nothing will come any more.
    """

    def __init__(
        self,
        records: dict[bytes, ObjectRecord],
        blocker: Blocker,
        flush_puts: Callable[[], None],
        check_alive: Callable[[], None],
    ) -> None:
        self._records = records
        self._blocker = blocker
        self._flush_puts = flush_puts
        self.check_alive = check_alive

    def results_of(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None) -> list[Result | None]:
        """Block until all are ready, or one has failed, or the time is up (GetTimeoutError)."""
        self._flush_puts()
        records = self._records
        results: list[Result | None] = []
        for ref in refs:
            record = records.get(ref._id)
            if record is None or record.result is None:
                break
            results.append(record.result)
        else:
            return results
        self._blocker.wait(tuple(RefInfo(r._id, r._owner) for r in refs), len(refs), timeout_s, fail_fast=True)
        found = [None if (record := records.get(r._id)) is None else record.result for r in refs]
        if any(result is None for result in found) and not any(type(result) is Failure for result in found):
            self.check_alive()
            missing = [r for r, result in zip(refs, found, strict=True) if result is None]
            raise GetTimeoutError(
                f"get: {len(missing)} of {len(refs)} objects were not ready after {timeout_s} s; "
                f"the first is {missing[0]!r}{self._explain(missing[0])}"
            )
        return found

    def _explain(self, ref: ObjectRef[Any]) -> str:
        record = self._records.get(ref._id)
        task = record.task if record is not None else None
        if task is None:
            return ""
        spec = task.template.spec
        return f" of {task!r}, which needs { {k: v / 10_000 for k, v in spec.resources.items()} }"

    def wait(
        self, refs: Sequence[ObjectRef[Any]], count: int, timeout_s: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Block until ``count`` are ready or the time is up; returns (at most ``count`` ready ones, the rest)."""
        self._flush_puts()
        ready, rest = self._split_ready(refs, count)
        if len(ready) < count:
            self._blocker.wait(tuple(RefInfo(r._id, r._owner) for r in refs), count, timeout_s, fail_fast=False)
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
