"""Jobs and drivers by themselves."""

from actorrt.raylet import jobs
from actorrt.raylet.jobs import Jobs
from tests.unit.raylet.harness import JOB, job


def test_life():
    table = Jobs()
    assert table.config(JOB) is None
    assert table.started(job())
    assert not table.started(job()), "no news"
    assert table.config(JOB) == job()
    table.driver_joined(JOB, "driver")
    assert table.is_local(JOB)
    assert table.statistics() == (1, 1)
    assert not table.is_over_for(JOB, "driver")
    assert table.finished(JOB)
    assert not table.finished(JOB)
    assert table.is_over_for(JOB, "driver")
    assert not table.is_over_for(JOB, "a detached actor")
    assert not table.is_local(JOB)
    assert table.statistics() == (0, 0)
    assert table.config(JOB) == job(), "detached actors may still need it"
    table.check()


def test_a_driver_may_have_several_jobs():
    table = Jobs()
    table.driver_joined(b"1", "driver")
    table.driver_joined(b"2", "driver")
    table.finished(b"1")
    assert table.driver_gone("driver") == [b"2"]
    assert table.driver_gone("driver") == []


def test_the_end_may_come_first():
    table = Jobs()
    table.finished(JOB)
    assert not table.started(job())
    table.driver_joined(JOB, "driver")
    assert not table.is_local(JOB)
    table.check()


def test_finished_jobs_are_forgotten_some_time(monkeypatch):
    monkeypatch.setattr(jobs, "FINISHED_JOBS_KEPT_MAX", 2)
    table = Jobs()
    for number in range(4):
        job_id = bytes([number])
        table.started(job(job_id))
        table.finished(job_id)
    table.check()
    assert [table.config(bytes([number])) is None for number in range(4)] == [True, True, False, False]
