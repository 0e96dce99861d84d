"""The jobs this node works for, and the drivers that joined here.

A worker cannot be started without its job's configuration, so requests of unknown jobs wait (visibly) for
``JobStarted``. Configurations of finished jobs are kept for a while: detached actors outlive their job and may still
need workers.
"""

from __future__ import annotations

from actorrt.kernel.limits import FINISHED_JOBS_KEPT_MAX
from actorrt.wire.records import JobConfig


class Jobs:
    """Job configurations, which jobs are finished, and which processes are drivers."""

    def __init__(self) -> None:
        self._configs: dict[bytes, JobConfig] = {}
        self._finished: dict[bytes, None] = {}
        self._drivers: dict[str, dict[bytes, None]] = {}
        """Jobs by their driver's process, for drivers attached to this node."""

    def config(self, job_id: bytes) -> JobConfig | None:
        """The job's configuration, when it is known."""
        return self._configs.get(job_id)

    def is_finished(self, job_id: bytes) -> bool:
        """Whether the job has ended."""
        return job_id in self._finished

    def is_over_for(self, job_id: bytes, process: str) -> bool:
        """Whether this process is the driver of a finished job: it gets no more workers (detached actors still do)."""
        config = self._configs.get(job_id)
        return job_id in self._finished and config is not None and config.driver.process == process

    def is_local(self, job_id: bytes) -> bool:
        """Whether the job's driver is attached to this node."""
        return any(job_id in jobs for jobs in self._drivers.values())

    def started(self, config: JobConfig) -> bool:
        """Learn a job. Says whether it is news of a job that runs (its end may have come first, in a faster lane)."""
        news = config.job_id not in self._configs
        self._configs[config.job_id] = config
        self._trim()
        return news and config.job_id not in self._finished

    def finished(self, job_id: bytes) -> bool:
        """Note the end of a job. Says whether that is news."""
        if job_id in self._finished:
            return False
        self._finished[job_id] = None
        for process, jobs in list(self._drivers.items()):
            jobs.pop(job_id, None)
            if not jobs:
                del self._drivers[process]
        self._trim()
        return True

    def driver_joined(self, job_id: bytes, process: str) -> None:
        """A driver attached to this node."""
        if job_id not in self._finished:
            self._drivers.setdefault(process, {})[job_id] = None

    def driver_gone(self, process: str) -> list[bytes]:
        """A process is gone: the jobs it was the driver of."""
        return list(self._drivers.pop(process, {}))

    def _trim(self) -> None:
        while len(self._finished) > FINISHED_JOBS_KEPT_MAX:
            oldest = next(iter(self._finished))
            del self._finished[oldest]
            self._configs.pop(oldest, None)

    def statistics(self) -> tuple[int, int]:
        """Number of jobs that run, and of drivers here."""
        running = sum(job_id not in self._finished for job_id in self._configs)
        return running, len(self._drivers)

    def check(self) -> None:
        """Assert the bound and that no driver is kept for a finished job."""
        assert len(self._finished) <= FINISHED_JOBS_KEPT_MAX
        assert not any(job_id in self._finished for jobs in self._drivers.values() for job_id in jobs)
