import pytest

from actorrt.gcs import jobs as jobs_module
from actorrt.gcs.jobs import Jobs
from actorrt.gcs.messages import GetJob
from actorrt.kernel.message import Address
from actorrt.wire.records import JobConfig


@pytest.fixture
def jobs():
    table = Jobs()
    yield table
    table.check()


def register(jobs, driver="d"):
    job = jobs.register(JobConfig(b"", Address(driver, "owner"), "ns"), b"node")
    return None if job is None else job.config.job_id


def test_numbers_are_big_endian_from_one(jobs):
    assert [register(jobs, "a"), register(jobs, "b")] == [b"\0\0\0\1", b"\0\0\0\2"]


def test_registering_twice_is_once_until_it_is_finished(jobs):
    first = register(jobs)
    assert register(jobs) == first
    jobs.finish(first, "done")
    assert register(jobs) == b"\0\0\0\2"


def test_finish(jobs):
    job_id = register(jobs)
    assert jobs.refusal(job_id) == ""
    assert jobs.finish(job_id, "done").config.job_id == job_id
    assert jobs.finish(job_id, "again") is None
    assert jobs.finish(b"none", "x") is None
    assert "has ended (done)" in jobs.refusal(job_id)
    assert "unknown" in jobs.refusal(b"none")
    assert jobs.needed() == ()


def test_a_detached_actor_keeps_its_job_needed(jobs):
    job_id = register(jobs)
    jobs.pin(job_id)
    jobs.pin(job_id)
    jobs.finish(job_id, "done")
    assert jobs.refusal(job_id) == ""
    assert [config.job_id for config in jobs.needed()] == [job_id]
    assert not jobs.unpin(job_id)
    assert jobs.unpin(job_id)
    assert jobs.needed() == ()


def test_unpinning_a_running_job_releases_nothing(jobs):
    job_id = register(jobs)
    jobs.pin(job_id)
    assert not jobs.unpin(job_id)


def test_answers(jobs):
    first, second = register(jobs, "a"), register(jobs, "b")
    jobs.finish(first, "done")
    everything = jobs.answer(GetJob())
    assert [config.job_id for config in everything.jobs] == [first, second]
    assert everything.finished == (first,)
    assert [config.job_id for config in jobs.answer(GetJob(second)).jobs] == [second]
    assert jobs.answer(GetJob(second)).finished == ()
    assert jobs.answer(GetJob(b"none")).jobs == ()
    assert [job.config.job_id for job in jobs.of_process("b")] == [second]
    assert jobs.of_process("a") == []


def test_finished_jobs_are_forgotten_in_order_but_not_pinned_ones(jobs, monkeypatch):
    monkeypatch.setattr(jobs_module, "FINISHED_JOBS_KEPT_MAX", 2)
    ids = []
    for index in range(5):
        job_id = register(jobs, f"d{index}")
        ids.append(job_id)
        if index == 0:
            jobs.pin(job_id)
        jobs.finish(job_id, "done")
        jobs.check()
    assert list(jobs.finished) == [ids[0], ids[4]]
    jobs.unpin(ids[0])
    assert list(jobs.finished) == [ids[0], ids[4]]


def test_an_old_job_is_forgotten_when_its_last_detached_actor_dies(jobs, monkeypatch):
    monkeypatch.setattr(jobs_module, "FINISHED_JOBS_KEPT_MAX", 1)
    first, second = register(jobs, "a"), register(jobs, "b")
    for job_id in (first, second):
        jobs.pin(job_id)
        jobs.finish(job_id, "done")
    assert list(jobs.finished) == [first, second]
    assert jobs.unpin(first)
    assert list(jobs.finished) == [second]


def test_running_jobs_are_bounded(jobs, monkeypatch):
    monkeypatch.setattr(jobs_module, "PEERS_MAX", 1)
    assert register(jobs, "a")
    assert register(jobs, "b") is None
    assert register(jobs, "a")
