"""The worker table by itself."""

import random

import pytest

from actorrt.kernel.effects import Do, Send
from actorrt.kernel.limits import IDLE_WORKER_KEEP_S, WORKER_START_TIMEOUT_S
from actorrt.kernel.message import Address
from actorrt.raylet import pool
from actorrt.raylet.operations import KillWorker
from actorrt.raylet.pool import Pool
from actorrt.wire.records import DeathCause, Environment
from actorrt.worker.messages import ExitWorker
from tests.unit.raylet.harness import job

GPU0 = (("GPU", ("0",)),)
CAUSE = DeathCause("exit", "test")


class Table:
    def __init__(self, soft=2, **options):
        self.effects = []
        self.pool = Pool(self.effects, random.Random(1).randbytes, soft, **options)
        self.made = 0

    def start(self, now=0.0, environment=Environment()):
        return self.pool.start(job(), environment, now)

    def idle(self, now=0.0, environment=Environment()):
        worker = self.start(now, environment)
        self.made += 1
        self.pool.ready(worker, self.made, Address(f"p{self.made}", "worker"), now)
        self.pool.check()
        return worker


KEY = (job().job_id, Environment())


def test_every_state_leads_to_death():
    for state in pool.STATES[:-1]:
        assert pool.TRANSITIONS[state, "died"] == pool.DEAD
    assert not any(state == pool.DEAD for state, _ in pool.TRANSITIONS)


@pytest.mark.parametrize("event", ["lease", "host", "return"])
def test_illegal_events_raise(event):
    table = Table()
    worker = table.start()
    with pytest.raises(KeyError):
        table.pool._move(worker, event)


def test_the_worker_used_last_is_used_next():
    table = Table()
    first, second = table.idle(), table.idle()
    for worker in (second, first):
        table.pool.assign(worker, 7, (), actor=False)
    for worker in (second, first):
        table.pool.give_back(worker, 1.0)
    assert table.pool.find_idle(KEY, (), fresh=False) is first


def test_a_used_worker_is_preferred_to_a_fresh_one():
    table = Table()
    used, fresh = table.idle(), table.idle()
    table.pool.assign(used, 7, (), actor=False)
    table.pool.give_back(used, 1.0)
    assert table.pool.find_idle(KEY, (), fresh=False) is used
    assert table.pool.find_idle(KEY, (), fresh=True) is fresh
    assert table.pool.find_idle(KEY, GPU0, fresh=False) is fresh
    assert table.pool.find_idle((b"other", Environment()), (), fresh=False) is None


def test_devices_are_fixed_by_the_first_lease():
    table = Table()
    worker = table.idle()
    table.pool.assign(worker, 7, GPU0, actor=False)
    table.pool.give_back(worker, 1.0)
    assert table.pool.find_idle(KEY, (), fresh=False) is None
    assert table.pool.find_idle(KEY, GPU0, fresh=False) is worker


def test_bounds():
    table = Table(workers_max=3, start_concurrency=2)
    table.idle()
    table.start()
    worker = table.start()
    assert not table.pool.may_start(), "two are starting, three exist"
    with pytest.raises(AssertionError):
        table.start()
    assert table.pool.bury(worker), "it never reported"
    assert table.pool.may_start()
    table.pool.check()


def test_idle_workers_beyond_the_soft_number_end_after_a_while():
    table = Table(soft=1)
    old, young = table.idle(0.0), table.idle(0.5)
    assert table.pool.needs_sweep
    table.pool.sweep(IDLE_WORKER_KEEP_S - 0.1)
    assert old.state == pool.IDLE
    table.pool.sweep(IDLE_WORKER_KEEP_S)
    assert (old.state, young.state) == (pool.EXITING, pool.IDLE)
    assert [effect.body for effect in table.effects if isinstance(effect, Send)] == [ExitWorker(graceful=True)]
    table.pool.sweep(100.0)
    assert young.state == pool.IDLE


def test_leased_workers_count_towards_the_soft_number():
    table = Table(soft=1)
    busy, idle = table.idle(), table.idle()
    table.pool.assign(busy, 7, (), actor=False)
    table.pool.sweep(10.0)
    assert (busy.state, idle.state) == (pool.LEASED, pool.EXITING)


def test_actors_do_not_count():
    table = Table(soft=1)
    actor, idle = table.idle(), table.idle()
    table.pool.assign(actor, 7, (), actor=True)
    table.pool.sweep(10.0)
    assert idle.state == pool.IDLE


def test_late_starters():
    table = Table()
    worker = table.start(5.0)
    assert table.pool.sweep(5.0 + WORKER_START_TIMEOUT_S - 0.1) == []
    assert table.pool.sweep(5.0 + WORKER_START_TIMEOUT_S) == [worker]
    assert worker.state == pool.EXITING
    assert not table.pool.bury(worker), "it was counted when it was late"


def test_a_kill_is_repeated_until_it_works():
    table = Table()
    worker = table.idle()
    table.pool.kill(worker, 0.0, CAUSE)
    table.pool.sweep(pool.EXIT_GRACE_S)
    kills = [effect for effect in table.effects if isinstance(effect, Do) and isinstance(effect.operation, KillWorker)]
    assert len(kills) == 2
    assert worker.cause is CAUSE


def test_longest_idle():
    table = Table()
    assert table.pool.longest_idle() is None
    table.idle(2.0)
    oldest = table.idle(1.0, Environment((("A", "1"),)))
    assert table.pool.longest_idle() is oldest


def test_check_notices():
    table = Table()
    worker = table.idle()
    worker.grant_id = 3
    with pytest.raises(AssertionError):
        table.pool.check()
    worker.grant_id = 0
    worker.state = pool.LEASED
    with pytest.raises(AssertionError):
        table.pool.check()
