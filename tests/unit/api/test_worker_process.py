"""A worker process enters its job: the driver's import path and working directory."""

import sys
from types import SimpleNamespace

from actorrt.api.worker_process import _enter_job


def config(sys_path=(), working_directory=""):
    return SimpleNamespace(job=SimpleNamespace(sys_path=sys_path, working_directory=working_directory))


def test_the_drivers_import_path_comes_first(monkeypatch):
    monkeypatch.setattr("sys.path", ["own", "both"])
    _enter_job(config(("driver", "both")))
    assert sys.path == ["driver", "both", "own"]


def test_the_drivers_working_directory(monkeypatch, tmp_path):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "there"
    folder.mkdir()
    _enter_job(config(working_directory=str(folder)))
    assert Path.cwd() == folder
    _enter_job(config(working_directory=str(tmp_path / "not here")))
    assert Path.cwd() == folder
