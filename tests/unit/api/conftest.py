"""A cluster inside this process, of which it is a driver."""

import pytest

import actorrt
from actorrt.testing import Cluster


@pytest.fixture
def rt():
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 2}, in_process=True):
        yield actorrt


@pytest.fixture
def alone(monkeypatch):
    """No cluster, and none is started by itself."""
    monkeypatch.setenv("ACTORRT_ENABLE_AUTO_CONNECT", "0")
    assert not actorrt.is_initialized()
    return actorrt
