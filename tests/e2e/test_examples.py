"""Every example runs as a user would run it, and says what it promises to say."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FULL_RUN_S_MAX = 20
STDLIB_MB = 35
TIMEOUT_S = 55

# Wraps the cluster's part of the example, so that one word is counted once too often.
TAMPERED = """
import sys
import wordcount

honest = wordcount.count_on_cluster

def tampered(batches, progress):
    words, reports = honest(batches, progress)
    words["self"] += 1
    return words, reports

wordcount.count_on_cluster = tampered
sys.exit(wordcount.main(["--limit-mb", "2", "--num-cpus", "2"]))
"""


def run(arguments, timeout_s=TIMEOUT_S):
    """A finished process; its output is shown when a test fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACTORRT_")}
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(EXAMPLES), *([inherited] if inherited else [])])
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    print(done.stdout)
    print(done.stderr, file=sys.stderr)
    return done


def example(name, *arguments, timeout_s=TIMEOUT_S):
    return run([str(EXAMPLES / name), *arguments], timeout_s)


def number(pattern, text):
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"{pattern!r} is not in the output"
    return int(found.group(1))


def tasks_by_pid(output):
    return {int(pid): int(tasks) for pid, tasks in re.findall(r"^  pid (\d+): (\d+) tasks$", output, re.MULTILINE)}


def test_every_example_is_tested():
    tested = {"quickstart.py", "async_pipeline.py", "wordcount.py", "actor_pool.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_quickstart():
    done = example("quickstart.py")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "squares: [0, 1, 4, 9]",
        "sum of squares: 14",
        "looked up: [1, 3]",
        "counter: [11, 13, 16]",
        "first to finish: 0.05 - still running: 1",
        "the task raised: TaskError(KeyError)",
    ]
    assert done.stderr == ""


def test_actor_pool():
    done = example("actor_pool.py")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "actor pool: [0, 1, 4, 9, 16]",
        "as completed: [0.01, 0.5]",
        "map unordered: [0, 1, 8, 27, 64]",
        "through the queue: ['TO', 'BE', 'OR', 'NOT']",
        "processes: [100, 101, 102]",
        "executor: (3, 2)",
    ]
    assert done.stderr == ""


def test_async_pipeline():
    done = example("async_pipeline.py")
    assert done.returncode == 0
    assert "page 0 has 8 words" in done.stdout
    words = sum(2 + 6 * (page + 1) for page in range(20))
    assert f"pages: 20 - words: {words}" in done.stdout
    assert number(r"^fetches at the same time: (\d+)$", done.stdout) > 1
    assert done.stderr == ""


@pytest.fixture(scope="module")
def wordcount():
    """The whole standard library, or 5 MB of it where all would take too long (a slow or a busy machine)."""
    limited = example("wordcount.py", "--limit-mb", "5")
    if limited.returncode:
        return limited
    counting_s = sum(float(figure) for figure in re.findall(r"^wall time: (\d+\.\d+) s", limited.stdout, re.MULTILINE))
    if counting_s * STDLIB_MB / 5 > FULL_RUN_S_MAX:
        return limited
    return example("wordcount.py")


@pytest.mark.timeout(120)
def test_wordcount_agrees_with_a_single_process(wordcount):
    assert wordcount.returncode == 0
    assert "check: both counts are equal" in wordcount.stdout
    assert number(r"^files: (\d+)$", wordcount.stdout) > 100
    assert number(r"^bytes: (\d+) ", wordcount.stdout) > 4_000_000
    assert number(r"^words: (\d+) ", wordcount.stdout) > 400_000
    assert re.search(r"^wall time: \d+\.\d\d s on the cluster$", wordcount.stdout, re.MULTILINE)


@pytest.mark.timeout(120)
def test_wordcount_shows_the_twenty_most_frequent_words(wordcount):
    rows = re.findall(r"^│ ([a-z]+) +│ +([\d,]+) │$", wordcount.stdout, re.MULTILINE)
    counts = [int(count.replace(",", "")) for _word, count in rows]
    assert len(rows) == 20
    assert counts == sorted(counts, reverse=True)
    assert {"self", "def", "the"} <= {word for word, _count in rows}


@pytest.mark.timeout(120)
def test_wordcount_uses_several_processes(wordcount):
    by_pid = tasks_by_pid(wordcount.stdout)
    assert len(by_pid) >= 2
    assert all(tasks > 0 for tasks in by_pid.values())
    assert number(r"^worker processes: (\d+) ", wordcount.stdout) == len(by_pid)
    assert f"{sum(by_pid.values())}/{sum(by_pid.values())} tasks" in wordcount.stderr, "the bar did not reach its end"


def test_wordcount_notices_a_wrong_count():
    done = run(["-c", TAMPERED])
    assert done.returncode == 1
    assert "check: MISMATCH in 1 words" in done.stderr
    assert "'self'" in done.stderr
    assert "both counts are equal" not in done.stdout


def test_wordcount_can_leave_the_check_out():
    done = example("wordcount.py", "--limit-mb", "0.5", "--no-check", "--num-cpus", "3")
    assert done.returncode == 0
    assert "check:" not in done.stdout + done.stderr
    assert "(num_cpus=3)" in done.stdout
    assert number(r"^bytes: (\d+) ", done.stdout) <= 500_000


def test_wordcount_without_files_says_so():
    done = example("wordcount.py", "--limit-mb", "0")
    assert done.returncode == 1
    assert "no file of the standard library" in done.stderr
