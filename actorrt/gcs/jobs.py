"""Jobs: one per driver, numbered, remembered after their end while somebody may ask or need them."""

from __future__ import annotations

import msgspec

from actorrt.gcs.messages import GetJob, JobList
from actorrt.kernel.ids import JOB_ID_BYTES
from actorrt.kernel.limits import FINISHED_JOBS_KEPT_MAX, PEERS_MAX
from actorrt.kernel.message import Address
from actorrt.wire.records import JobConfig


class Job(msgspec.Struct, frozen=True):
    """A job and the node its driver is on."""

    config: JobConfig
    node_id: bytes
    finished_text: str = ""
    """Why it ended; empty while it runs."""


class Jobs:
    """All jobs known. ``pins`` counts the living detached actors of each: they keep its code needed after its end."""

    def __init__(self) -> None:
        self.number_last = 0
        self.running: dict[bytes, Job] = {}
        self.finished: dict[bytes, Job] = {}
        self.pins: dict[bytes, int] = {}

    def register(self, config: JobConfig, node_id: bytes) -> Job | None:
        """Number and record a job; a driver that registers twice gets the same. None when there are too many."""
        known = self.of_driver(config.driver)
        if known is not None:
            return known
        if len(self.running) >= PEERS_MAX:
            return None
        self.number_last += 1
        job_id = self.number_last.to_bytes(JOB_ID_BYTES, "big")
        job = Job(msgspec.structs.replace(config, job_id=job_id), node_id)
        self.running[job_id] = job
        return job

    def finish(self, job_id: bytes, text: str) -> Job | None:
        """End a running job; None when it is not running (any more)."""
        job = self.running.pop(job_id, None)
        if job is None:
            return None
        self.finished[job_id] = msgspec.structs.replace(job, finished_text=text)
        self._forget_oldest()
        return job

    def pin(self, job_id: bytes) -> None:
        """One more detached actor of this job lives."""
        self.pins[job_id] = self.pins.get(job_id, 0) + 1

    def unpin(self, job_id: bytes) -> bool:
        """One lives no more; True when nothing needs this job's code any longer."""
        self.pins[job_id] -= 1
        if self.pins[job_id]:
            return False
        del self.pins[job_id]
        self._forget_oldest()
        return job_id not in self.running

    def get(self, job_id: bytes) -> Job | None:
        """A job, running or finished."""
        return self.running.get(job_id) or self.finished.get(job_id)

    def of_driver(self, driver: Address) -> Job | None:
        """The running job of a driver."""
        return next((job for job in self.running.values() if job.config.driver == driver), None)

    def of_process(self, process: str) -> list[Job]:
        """Running jobs whose driver is in this process."""
        return [job for job in self.running.values() if job.config.driver.process == process]

    def refusal(self, job_id: bytes) -> str:
        """Why nothing new of this job can be accepted; empty when it can."""
        if job_id in self.running or job_id in self.pins:
            return ""
        job = self.finished.get(job_id)
        if job is None:
            return f"job {job_id.hex() or '(empty id)'} is unknown"
        return f"job {job_id.hex()} has ended ({job.finished_text})"

    def needed(self) -> tuple[JobConfig, ...]:
        """What a node must know: running jobs and those a detached actor keeps."""
        kept = [job for job_id, job in self.finished.items() if job_id in self.pins]
        return tuple(job.config for job in [*self.running.values(), *kept])

    def answer(self, message: GetJob) -> JobList:
        """One job, or all."""
        if message.job_id:
            job = self.get(message.job_id)
            listed = [] if job is None else [job]
        else:
            listed = [*self.finished.values(), *self.running.values()]
        configs = tuple(job.config for job in listed)
        return JobList(configs, tuple(config.job_id for config in configs if config.job_id in self.finished))

    def check(self) -> None:
        """Assert that a job is in one table, finished ones are bounded and pins are positive."""
        assert not [job_id for job_id in self.running if job_id in self.finished]
        unpinned = [job_id for job_id in self.finished if job_id not in self.pins]
        assert len(unpinned) <= FINISHED_JOBS_KEPT_MAX, len(unpinned)
        assert all(count > 0 for count in self.pins.values()), self.pins
        assert not [job_id for job_id in self.pins if self.get(job_id) is None], "a pinned job was forgotten"
        assert all(job.finished_text for job in self.finished.values())

    def _forget_oldest(self) -> None:
        excess = len(self.finished) - FINISHED_JOBS_KEPT_MAX
        if excess > 0:
            for job_id in [job_id for job_id in self.finished if job_id not in self.pins][:excess]:
                del self.finished[job_id]
