"""Seeds that once failed stay in the suite."""

import pathlib

import pytest

from tests.sim import storm, story

RUNS = {
    "small": story.run,
    "storm": storm.run,
    "cut": lambda seed: storm.run(seed, connections_broken=1),
}


def read(text):
    """(story, seed, what happened) of each line."""
    found = []
    for line in text.splitlines():
        entry, _, what = line.partition("#")
        if entry.strip():
            name, seed = entry.split()
            assert name in RUNS, f"no story {name!r}"
            assert what.strip(), f"{line!r} does not say what happened"
            found.append((name, int(seed), what.strip()))
    return found


LISTED = read(pathlib.Path(__file__).with_name("regressions.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "seed", "what"), LISTED)
def test_a_seed_that_once_failed(name, seed, what):
    del what
    RUNS[name](seed)


def test_the_list_is_read_as_documented():
    assert read("# remark\n\nstorm 7  # lost a task\n") == [("storm", 7, "lost a task")]
    with pytest.raises(AssertionError, match="does not say"):
        read("storm 7")
    with pytest.raises(AssertionError, match="no story"):
        read("strom 7  # typo")
