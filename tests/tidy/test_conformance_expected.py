"""The list of expected conformance failures is strict in both directions."""

import pathlib
import shutil
import subprocess
import sys

import pytest

PLUGIN = pathlib.Path(__file__).parents[1] / "conformance_expected.py"
SUITE = """
import pytest

@pytest.mark.parametrize("value", [1])
def test_fails(value):
    assert not value

def test_passes():
    pass
"""


@pytest.fixture
def run(tmp_path):
    """Runs the suite above with the given list, laid out as the real one: the suite lies beside the checkout."""
    suite, checkout = tmp_path / "suite", tmp_path / "checkout"
    (checkout / "tests").mkdir(parents=True)
    suite.mkdir()
    shutil.copy(PLUGIN, checkout / "tests")
    (suite / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (suite / "test_a.py").write_text(SUITE)

    def run_pytest(listing, *selection, races=""):
        (checkout / "tests" / "conformance_expected_failures.txt").write_text(listing)
        (checkout / "tests" / "conformance_races.txt").write_text(races)
        command = [sys.executable, "-m", "pytest", "-p", "tests.conformance_expected", "-q", "-p", "no:cacheprovider"]
        arguments = selection or ["../suite/test_a.py"]
        return subprocess.run([*command, *arguments], cwd=checkout, capture_output=True, text=True, check=False)

    return run_pytest


def test_listed_failure_is_accepted(run):
    done = run("# comment\n\ntest_a.py::test_fails[1]  # known\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 xfailed" in done.stdout


def test_unlisted_failure_fails(run):
    assert run("").returncode == 1


def test_listed_test_that_passes_fails(run):
    done = run("test_a.py::test_fails[1]  # known\ntest_a.py::test_passes  # outlived its reason\n")
    assert done.returncode == 1
    assert "outlived its reason" in done.stdout


def test_stale_line_fails(run):
    done = run("test_a.py::test_fails[1]  # known\ntest_a.py::test_gone  # renamed since\n")
    assert done.returncode == 4
    assert "no such test: test_a.py::test_gone" in done.stderr


def test_lines_of_other_modules_and_of_unselected_tests_are_left_alone(run):
    done = run("test_a.py::test_fails[1]  # known\ntest_b.py::test_x  # later\n", "../suite/test_a.py::test_passes")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_reason_is_wanted(run):
    assert run("test_a.py::test_fails[1]\n").returncode == 4


RACES = """
import pathlib

import pytest

@pytest.fixture
def count(request):
    file = pathlib.Path(__file__).with_name("attempts")
    with file.open("a") as stream:
        stream.write("x")
    return len(file.read_text())

def test_third_time_lucky(count):
    assert count == 3
"""


def test_a_race_gets_another_attempt_with_fresh_fixtures(run, tmp_path):
    (tmp_path / "suite" / "test_c.py").write_text(RACES)
    done = run("", "../suite/test_c.py", races="test_c.py::test_third_time_lucky  # a race\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_race_that_never_passes_fails(run, tmp_path):
    (tmp_path / "suite" / "test_c.py").write_text(RACES.replace("== 3", "== 0"))
    done = run("", "../suite/test_c.py", races="test_c.py::test_third_time_lucky  # a race\n")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert (tmp_path / "suite" / "attempts").read_text() == "xxxxx"
