"""The end of processes that are not ours, with real ones."""

import asyncio
import os
import subprocess
import sys

import pytest

from actorrt.cluster import watch
from actorrt.cluster.watch import ProcessWatch


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    process.stdin.close()


class Ended:
    def __init__(self):
        self.names = []
        self.event = asyncio.Event()

    def __call__(self, name):
        self.names.append(name)
        self.event.set()

    async def wait(self):
        await asyncio.wait_for(self.event.wait(), 10)


@pytest.fixture(params=["pidfd", "looking"])
def way(request, monkeypatch):
    if request.param == "looking":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        monkeypatch.setattr(watch, "LOOK_INTERVAL_S", 0.01)
    return request.param


@pytest.mark.asyncio
async def test_a_process_that_ends(way, sleeper):
    ended = Ended()
    watching = ProcessWatch(asyncio.get_running_loop(), ended)
    watching.watch("a", sleeper.pid)
    watching.watch("a", sleeper.pid)
    assert len(watching) == 1
    assert ended.names == []
    sleeper.kill()
    await asyncio.to_thread(sleeper.wait)
    await ended.wait()
    assert ended.names == ["a"]
    assert len(watching) == 0
    watching.close()


@pytest.mark.asyncio
async def test_one_that_is_dead_already(way, sleeper):
    sleeper.kill()
    await asyncio.to_thread(sleeper.wait)
    ended = Ended()
    watching = ProcessWatch(asyncio.get_running_loop(), ended)
    watching.watch("a", sleeper.pid)
    assert ended.names == ["a"]
    watching.close()


@pytest.mark.asyncio
async def test_nobody_to_watch(way):
    ended = Ended()
    watching = ProcessWatch(asyncio.get_running_loop(), ended)
    for pid in (0, -1, os.getpid()):
        watching.watch("a", pid)
    assert len(watching) == 0
    assert ended.names == []


@pytest.mark.asyncio
async def test_a_name_that_gets_another_process(way, sleeper):
    ended = Ended()
    watching = ProcessWatch(asyncio.get_running_loop(), ended)
    watching.watch("a", os.getppid())
    watching.watch("a", sleeper.pid)
    assert len(watching) == 1
    sleeper.kill()
    await asyncio.to_thread(sleeper.wait)
    await ended.wait()
    assert ended.names == ["a"]
    watching.close()


@pytest.mark.asyncio
async def test_who_is_forgotten_is_not_told_of(way, sleeper):
    ended = Ended()
    watching = ProcessWatch(asyncio.get_running_loop(), ended)
    for name in ("a", "b"):
        watching.watch(name, sleeper.pid)
    watching.forget("a")
    watching.forget("a")
    assert len(watching) == 1
    sleeper.kill()
    await asyncio.to_thread(sleeper.wait)
    await ended.wait()
    assert ended.names == ["b"]
    watching.close()


@pytest.mark.asyncio
async def test_the_end(way, sleeper):
    ended = Ended()
    watching = ProcessWatch(asyncio.get_running_loop(), ended)
    watching.watch("a", sleeper.pid)
    watching.close()
    watching.close()
    assert len(watching) == 0


@pytest.mark.asyncio
async def test_no_pidfd_to_be_had(monkeypatch, sleeper):
    monkeypatch.setattr(watch, "LOOK_INTERVAL_S", 0.01)

    def refuse(_pid):
        raise OSError(24, "too many")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    ended = Ended()
    watching = ProcessWatch(asyncio.get_running_loop(), ended)
    watching.watch("a", sleeper.pid)
    sleeper.kill()
    await asyncio.to_thread(sleeper.wait)
    await ended.wait()
    watching.close()


@pytest.mark.asyncio
async def test_it_is_bounded(monkeypatch, caplog):
    monkeypatch.setattr(watch, "WATCHED_MAX", 0)
    watching = ProcessWatch(asyncio.get_running_loop(), Ended())
    watching.watch("a", os.getppid())
    assert len(watching) == 0
    assert "is not watched" in caplog.text


def test_processes_of_others_exist(monkeypatch):
    def refuse(_pid, _number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert watch._exists(1)
