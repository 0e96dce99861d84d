"""Pytest plugin for the conformance suite: the failures we know of, each with its reason.

    RT_IMPL=actorrt python -m pytest -p tests.conformance_expected ../shared/conformance/test_tasks.py

Strict in both directions: a listed test that passes fails the run, and so does a line that names no test of a module
that was collected. So the list cannot outlive its reasons.

A second list names tests that are races by construction, in the test and not in the runtime; those get a few attempts,
and one must pass.
"""

import pathlib

import pytest
from _pytest.runner import runtestprotocol

LIST = pathlib.Path(__file__).with_name("conformance_expected_failures.txt")
RACES = pathlib.Path(__file__).with_name("conformance_races.txt")
ATTEMPTS_MAX = 5


def read(path: pathlib.Path) -> dict[str, str]:
    """`test_tasks.py::test_name[parameter]  # reason` per line."""
    expected: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        nodeid, _, reason = line.partition("  # ")
        if "::" not in nodeid or not reason.strip() or nodeid.strip() in expected:
            raise pytest.UsageError(f"{path.name}:{number}: want `module.py::test  # reason`, once each, got {line!r}")
        expected[nodeid.strip()] = reason.strip()
    return expected


def short(nodeid: str) -> str:
    """The node id without folders, so that it does not depend on where pytest was started."""
    module, separator, rest = nodeid.partition("::")
    return f"{module.rpartition('/')[2]}{separator}{rest}"


class ExpectedFailures:
    def __init__(self, expected: dict[str, str], races: dict[str, str]) -> None:
        self.expected = expected
        self.races = races

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a race again until it passes; only the last attempt is reported."""
        if short(item.nodeid) not in self.races:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            if attempt == ATTEMPTS_MAX or not any(report.failed for report in reports):
                break
            item._initrequest()  # type: ignore[attr-defined] # fresh fixtures, as pytest does between items
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    # First: before -k and -m deselect, so that a selection does not make lines look stale.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        found = {short(item.nodeid): item for item in items}
        for nodeid, reason in self.expected.items():
            if nodeid in found:
                found[nodeid].add_marker(pytest.mark.xfail(reason=reason, strict=True))
        if any("::" in argument for argument in config.args):
            return  # single tests were asked for: the rest of their module is not collected
        modules = {nodeid.partition("::")[0] for nodeid in found}
        listed = {**self.expected, **self.races}
        stale = [line for line in listed if line.partition("::")[0] in modules and line not in found]
        if stale:
            raise pytest.UsageError(f"{LIST.name}: no such test: {', '.join(stale)}")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ExpectedFailures(read(LIST), read(RACES)), "conformance-expected-failures")
