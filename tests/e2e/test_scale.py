"""Many tasks at once: all complete, and a pending one costs the driver little (bench/micro/memory.py in short)."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TASKS = 20_000
PENDING_BYTES_MAX = 1500


@pytest.mark.parametrize("way", ["queued", "waiting"])
def test_twenty_thousand_tasks_at_once(way, tmp_path):
    """`queued`: behind two tasks that keep both CPUs. `waiting`: for an argument that is still to come."""
    answer = tmp_path / "figures.json"
    command = [sys.executable, "bench/micro/memory.py", "--tasks", str(TASKS), "--way", way, "--json", str(answer)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(answer.read_text("utf-8"))["results"][way]
    assert figures["tasks"] == TASKS
    assert figures["wrong_results"] == 0
    assert 0 < figures["bytes_per_pending_task"] < PENDING_BYTES_MAX
