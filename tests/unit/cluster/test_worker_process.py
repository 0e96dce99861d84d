"""The parts of a worker's first moments that do not change the process; test_zygote runs the rest."""

import os
import sys

import pytest

from actorrt.cluster import worker_process
from actorrt.cluster.worker_process import _exit_code_of, load_entry, log_paths


def leave(code):
    return lambda: sys.exit(code)


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda: 5, 0),
        (leave(None), 0),
        (leave(3), 3),
        (leave(-1), 255),
        (leave("text"), 1),
        (lambda: 1 / 0, 1),
    ],
)
def test_exit_codes(function, code):
    assert _exit_code_of(function) == code


def test_what_is_printed_at_the_exit(capsys):
    _exit_code_of(leave("so long"))
    assert capsys.readouterr().err == "so long\n"
    _exit_code_of(lambda: 1 / 0)
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_entries():
    assert load_entry("os.path:join") is os.path.join
    with pytest.raises(ModuleNotFoundError):
        load_entry("no.such:thing")
    with pytest.raises(AttributeError):
        load_entry("os:thing")
    with pytest.raises(TypeError, match="not callable"):
        load_entry("os:sep")


def test_log_paths():
    assert log_paths("d/worker-ab", 7) == ("d/worker-ab-7.out", "d/worker-ab-7.err")


def test_the_oom_killer_is_asked_for_workers_first():
    assert 0 < worker_process.OOM_SCORE_ADJUSTMENT <= 1000
