"""1,000 tasks, 20 actors, 5 nodes, one of them lost: the very machines, in a plain synchronous test."""

import os
import subprocess
import sys

import pytest

from tests.sim import storm, story

SEED = 11
TASKS_TO_COMPARE = 300


def test_everything_ends_well_although_a_node_is_lost():
    town, watch, tally = story.run(SEED)
    assert watch.submitted >= story.TASKS + story.ACTORS * story.CALLS_PER_ACTOR
    assert [node.alive for node in town.nodes].count(False) == 1
    assert tally.failures["failing", "TaskError"] == story.TASKS // 10
    lost = {kind for name, kind in tally.failures if name not in {"failing", "lends", "relay", "bundle"}}
    assert lost <= set(story.LOSSES)
    assert tally.values + sum(tally.failures.values()) == story.TASKS + story.ACTORS * story.CALLS_PER_ACTOR


def test_without_a_fault_only_what_is_meant_to_fail_fails():
    _, _, tally = story.run(SEED, crash_at_s=None)
    assert tally.failures == {("failing", "TaskError"): story.TASKS // 10}


def digest(seed):
    return story.run(seed, tasks=TASKS_TO_COMPARE)[0].world.trace.digest


def test_one_seed_is_one_run_and_another_seed_another():
    assert digest(SEED) == digest(SEED)
    assert digest(SEED) != digest(SEED + 1)


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_the_run_does_not_depend_on_string_hashing(hash_seed):
    run = subprocess.run(
        [sys.executable, "-m", "tests.sim.story", str(SEED), str(TASKS_TO_COMPARE)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert run.stdout.split() == [digest(SEED)]


@pytest.mark.parametrize("seed", range(4))
def test_a_storm_blows_over(seed):
    storm.run(seed)
