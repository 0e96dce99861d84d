"""The function table: what a job's workers fetch once and cache.

An export and the first request for it take different paths, so a request may come first: it is parked until the export
arrives or the job ends. An export that does not fit is remembered as refused, so that requests for it fail with the
reason instead of waiting for good.
"""

from __future__ import annotations

import msgspec

from actorrt.gcs.messages import ExportFunction, FunctionFound, GetFunction
from actorrt.kernel.effects import Effect, Fail, Reply
from actorrt.kernel.limits import FUNCTION_BYTES_MAX, FUNCTIONS_BYTES_MAX, PARKED_REQUESTS_MAX
from actorrt.kernel.message import Address, Envelope


class Function(msgspec.Struct, frozen=True):
    """One export; ``refusal`` says why its bytes were not kept."""

    name: str
    pickled: bytes
    refusal: str = ""


class Functions:
    """Functions by job and key, and the requests that wait for one."""

    def __init__(self) -> None:
        self.jobs: dict[bytes, dict[bytes, Function]] = {}
        self.bytes_used = 0
        self.parked: dict[bytes, dict[bytes, dict[tuple[Address, int], None]]] = {}
        self.parked_count = 0

    def export(self, message: ExportFunction, out: list[Effect]) -> None:
        """Keep a function of a running job, and answer who waits for it. A repeated export changes nothing."""
        if message.key in self.jobs.get(message.job_id, {}):
            return
        size = len(message.pickled)
        refusal = ""
        if size > FUNCTION_BYTES_MAX:
            refusal = f"its pickle has {size} bytes, at most {FUNCTION_BYTES_MAX} are allowed"
        elif self.bytes_used + size > FUNCTIONS_BYTES_MAX:
            refusal = f"the function table holds {self.bytes_used} bytes, at most {FUNCTIONS_BYTES_MAX} are allowed"
        function = Function(message.name, b"" if refusal else message.pickled, refusal)
        self._store(message.job_id, message.key, function)
        for dst, request_id in self._unpark(message.job_id, message.key):
            out.append(_answer(dst, request_id, function))

    def get(self, envelope: Envelope, message: GetFunction, out: list[Effect], *, job_text: str) -> None:
        """Answer with the function, now or when it is exported. ``job_text``: why none will come (empty: it may)."""
        if not envelope.request_id:
            return
        function = self.jobs.get(message.job_id, {}).get(message.key)
        if function is not None:
            out.append(_answer(envelope.src, envelope.request_id, function))
        elif job_text:
            out.append(Fail(envelope.src, envelope.request_id, "InternalError", f"no such function: {job_text}"))
        elif self.parked_count >= PARKED_REQUESTS_MAX:
            text = f"{self.parked_count} requests wait for functions, at most {PARKED_REQUESTS_MAX} are allowed"
            out.append(Fail(envelope.src, envelope.request_id, "Overloaded", text))
        else:
            self._park(message.job_id, message.key, envelope.src, envelope.request_id)

    def end_job(self, job_id: bytes, text: str, out: list[Effect]) -> None:
        """Fail the requests that wait for functions of this job."""
        for key in list(self.parked.get(job_id, {})):
            for dst, request_id in self._unpark(job_id, key):
                out.append(Fail(dst, request_id, "InternalError", f"no such function: {text}"))

    def drop_job(self, job_id: bytes) -> None:
        """Forget all functions of a job that nothing needs any more."""
        for key in list(self.jobs.get(job_id, {})):
            self._store(job_id, key, None)

    def drop_process(self, process: str) -> None:
        """Forget the requests of a process that is gone."""
        for job_id, keys in list(self.parked.items()):
            for key, waiting in list(keys.items()):
                if any(dst.process == process for dst, _ in waiting):
                    for dst, request_id in self._unpark(job_id, key):
                        if dst.process != process:
                            self._park(job_id, key, dst, request_id)

    def count(self) -> int:
        """Number of functions."""
        return sum(len(functions) for functions in self.jobs.values())

    def check(self) -> None:
        """Assert that bytes and parked requests are counted right, and none waits for what is there."""
        sizes = [len(function.pickled) for functions in self.jobs.values() for function in functions.values()]
        assert sum(sizes) == self.bytes_used <= FUNCTIONS_BYTES_MAX, self.bytes_used
        parked = sum(len(waiting) for keys in self.parked.values() for waiting in keys.values())
        assert parked == self.parked_count <= PARKED_REQUESTS_MAX, (parked, self.parked_count)
        for job_id, keys in self.parked.items():
            assert keys, "a job without parked requests is kept"
            assert all(keys.values()), "a function without parked requests is kept"
            assert not [key for key in keys if key in self.jobs.get(job_id, {})], "a request waits for what is there"

    def _store(self, job_id: bytes, key: bytes, function: Function | None) -> None:
        """The one place that changes the table; None deletes."""
        functions = self.jobs.setdefault(job_id, {})
        old = functions.pop(key, None)
        if old is not None:
            self.bytes_used -= len(old.pickled)
        if function is not None:
            functions[key] = function
            self.bytes_used += len(function.pickled)
        if not functions:
            del self.jobs[job_id]

    def _park(self, job_id: bytes, key: bytes, dst: Address, request_id: int) -> None:
        waiting = self.parked.setdefault(job_id, {}).setdefault(key, {})
        self.parked_count += (dst, request_id) not in waiting
        waiting[dst, request_id] = None

    def _unpark(self, job_id: bytes, key: bytes) -> list[tuple[Address, int]]:
        keys = self.parked.get(job_id, {})
        waiting = list(keys.pop(key, {}))
        self.parked_count -= len(waiting)
        if not keys:
            self.parked.pop(job_id, None)
        return waiting


def _answer(dst: Address, request_id: int, function: Function) -> Effect:
    if function.refusal:
        text = f"function {function.name!r} was not accepted: {function.refusal}"
        return Fail(dst, request_id, "Overloaded", text)
    return Reply(dst, request_id, FunctionFound(function.name, function.pickled))
