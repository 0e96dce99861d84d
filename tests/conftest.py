"""Shared by every test of the project."""

import gc
import os
import pathlib

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# A loaded machine makes single examples slow without making them wrong; pytest-timeout bounds the test as a whole.
# The suite tries the same examples every time; ACTORRT_EXPLORE=1 makes it look for new ones.
settings.register_profile(
    "actorrt",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("ACTORRT_EXPLORE") != "1",
)
settings.load_profile("actorrt")

# Hypothesis mixes constants of whatever modules happen to be loaded into what it generates. A derandomised test would
# then depend on which tests ran before it, and those that check that every kind of event occurred would fail at times.
if hasattr(providers, "_get_local_constants") and hasattr(providers, "_local_constants"):
    _no_constants = providers._local_constants
    providers._get_local_constants = lambda: _no_constants

E2E = pathlib.Path(__file__).parent / "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder is the marker: everything below tests/e2e starts real processes."""
    for item in items:
        if E2E in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def pytest_collection_finish() -> None:
    """What collecting has made lives to the end: three thousand tests need not search it for garbage each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _modules_leave_nothing_to_search():
    """The same for what each module leaves. What is garbage is collected before, what is not is let be."""
    yield
    gc.collect()
    gc.freeze()
