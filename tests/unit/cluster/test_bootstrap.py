"""What is decided before a node process is started; tests/e2e starts some."""

import os
from pathlib import Path

import pytest

from actorrt.cluster import bootstrap, session
from actorrt.cluster.addresses import ClusterAddress
from actorrt.cluster.config import MemoryMonitorConfig, SpillTarget, StoreConfig
from actorrt.cluster.spilling import Spilling
from actorrt.cluster.token import TOKEN_PATH_VARIABLE, TOKEN_VARIABLE, read_session_token


@pytest.fixture(autouse=True)
def no_token(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(TOKEN_PATH_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".actorrt").mkdir()
    (tmp_path / ".actorrt" / "auth_token").write_text("of the user")


def descriptors() -> list[str]:
    return sorted(entry.name for entry in Path("/dev/fd").iterdir())


def cluster(session_dir="") -> ClusterAddress:
    return ClusterAddress(address="a", gcs="unix:///g", raylet="unix:///g", token=b"t", session_dir=session_dir)


def test_tokens(monkeypatch):
    private = bootstrap._token_for(None, public=False)
    assert private != bootstrap._token_for(None, public=False)
    assert bootstrap._token_for(None, public=True) == b"of the user"
    assert bootstrap._token_for(cluster(), public=True) == b"t"
    monkeypatch.setenv(TOKEN_VARIABLE, "chosen")
    assert bootstrap._token_for(None, public=False) == b"chosen"


def test_sessions(root):
    made, fd = bootstrap._session_for(root, None, b"secret")
    assert read_session_token(made) == b"secret"
    same, second_fd = bootstrap._session_for(root, cluster(str(made)), b"secret")
    assert same == made
    for elsewhere in ("", str(root / "session_elsewhere"), str(root.parent / made.name)):
        other, other_fd = bootstrap._session_for(root, cluster(elsewhere), b"secret")
        assert other != made
        os.close(other_fd)
    os.close(fd)
    assert session.is_held(made)
    os.close(second_fd)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"num_cpus": -1}, ValueError),
        ({"resources": {"GPU": 1}}, ValueError),
        ({"x": 1}, TypeError),
        ({"object_store_memory": 5}, ValueError),
        ({"object_store_memory": "5"}, TypeError),
        ({"object_store_memory": 1 << 50}, ValueError),
        ({"spilling": Spilling(targets=(SpillTarget(__file__),))}, ValueError),
    ],
)
def test_nonsense_leaves_nothing(root, arguments, error):
    with pytest.raises(error):
        bootstrap.start_node(**arguments)
    assert list(root.iterdir()) == []


def test_a_bad_setting_in_the_environment_leaves_nothing(root, monkeypatch):
    monkeypatch.setenv("ACTORRT_MEMORY_USAGE_THRESHOLD", "7")
    with pytest.raises(ValueError, match="ACTORRT_MEMORY_USAGE_THRESHOLD"):
        bootstrap.start_node(num_cpus=1)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("given", [None, MemoryMonitorConfig(usage_threshold=0.5)])
def test_what_a_node_is_told_of_memory(root, monkeypatch, given):
    told = []
    monkeypatch.setattr(bootstrap, "_begin", lambda config, _join, _root: told.append(config.memory_monitor))
    monkeypatch.setenv("ACTORRT_MEMORY_MONITOR_REFRESH_MS", "0")
    bootstrap.begin_node(num_cpus=1, memory_monitor=given)
    assert told == [given or MemoryMonitorConfig(refresh_s=0.0)]


def test_failing_to_launch_leaves_no_sockets(root, monkeypatch):
    def fail(*_arguments):
        raise OSError("no processes any more")

    monkeypatch.setattr(bootstrap, "_launch", fail)
    open_before = descriptors()
    with pytest.raises(OSError, match="no processes"):
        bootstrap.start_node(num_cpus=1)
    assert list((root / "s").iterdir()) == []
    assert descriptors() == open_before


def test_what_a_node_is_told_of_its_store(tmp_path):
    spilling = Spilling(targets=(SpillTarget(str(tmp_path / "a"), 7),), threshold=0.5, fuse_bytes=9)
    store = bootstrap.store_config(2 << 20, spilling)
    assert store == StoreConfig(capacity_bytes=2 << 20, spill=spilling.targets, spill_threshold=0.5, fuse_bytes=9)
    assert (tmp_path / "a").is_dir()
    assert bootstrap.store_config(None, None).capacity_bytes > 1 << 20
