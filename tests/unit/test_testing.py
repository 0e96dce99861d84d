"""The Cluster class."""

import os
import tempfile
import threading

import pytest

import actorrt
from actorrt.testing import Cluster


@pytest.fixture
def place(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="ac-") as folder:
        monkeypatch.setenv("ACTORRT_TMPDIR", folder)
        monkeypatch.delenv("ACTORRT_ADDRESS", raising=False)
        yield folder


def test_an_empty_cluster():
    cluster = Cluster(in_process=True)
    assert cluster.list_all_nodes() == []
    with pytest.raises(RuntimeError, match="no head yet"):
        _ = cluster.address
    cluster.wait_for_nodes()
    cluster.shutdown()
    cluster.shutdown()


@pytest.mark.parametrize("arguments", [{"connect": True}, {"head_node_args": {"num_cpus": 1}}], ids=str)
def test_arguments_that_need_a_head(arguments):
    with pytest.raises(ValueError, match="initialize_head"):
        Cluster(in_process=True, **arguments)


def test_unknown_arguments_of_a_node():
    with Cluster(in_process=True) as cluster, pytest.raises(TypeError, match="no argument 'num_cpu'"):
        cluster.add_node(num_cpu=1)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"object_store_memory": 5}, ValueError, "object_store_memory must be at least"),
        ({"object_store_memory": 1 << 50}, ValueError, "bytes free"),
        ({"object_spilling_directory": 5}, TypeError, "object_spilling_directory"),
        ({"_system_config": {"object_spilling_config": "{"}}, ValueError, "not JSON"),
        ({"_system_config": {"memory_usage_threshold": 2}}, ValueError, "memory_usage_threshold"),
    ],
    ids=str,
)
def test_bad_stores(arguments, error, text):
    before = {thread for thread in threading.enumerate() if thread.name.startswith("actorrt")}
    with Cluster(in_process=True) as cluster, pytest.raises(error, match=text):
        cluster.add_node(**arguments)
    assert {thread for thread in threading.enumerate() if thread.name.startswith("actorrt")} <= before


def test_where_objects_go(tmp_path):
    spilling = {"object_spilling_config": {"type": "filesystem", "params": {"directory_path": str(tmp_path / "b")}}}
    with Cluster(in_process=True) as cluster:
        one = cluster.add_node(object_store_memory=5 << 20, object_spilling_directory=str(tmp_path / "a"))
        two = cluster.add_node(_system_config={**spilling, "object_spilling_threshold": 0.5})
        assert (one.storage.config.capacity_bytes, one.storage.config.spill_threshold) == (5 << 20, 0.8)
        assert two.storage.config.spill_threshold == 0.5
        targets = [node.storage.config.spill[0].uri for node in (one, two)]
        assert targets == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_nodes_come_and_go():
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 3}, in_process=True) as cluster:
        first, second = cluster.add_node(), cluster.add_node(num_cpus=2, include_dashboard=False)
        assert cluster.list_all_nodes() == [cluster.head_node, first, second]
        assert cluster.gcs_address == cluster.address
        assert len({node.node_id for node in cluster.list_all_nodes()}) == 3
        cluster.connect()
        cluster.wait_for_nodes()
        assert actorrt.cluster_resources()["CPU"] == 6
        cluster.remove_node(first)
        cluster.wait_for_nodes()
        assert actorrt.cluster_resources()["CPU"] == 5
        with pytest.raises(ValueError, match="not a node"):
            cluster.remove_node(first)
        with pytest.raises(ValueError, match="only be removed last"):
            cluster.remove_node(cluster.head_node)
    assert not actorrt.is_initialized()


def test_a_missing_node_is_told_in_time():
    with Cluster(initialize_head=True, connect=True, in_process=True) as cluster:
        cluster.worker_nodes.append(type("Ghost", (), {"node_id": "00" * 16}))
        with pytest.raises(TimeoutError, match="did not become"):
            cluster.wait_for_nodes(timeout=0.05)
        cluster.worker_nodes.clear()


def test_real_processes(place):
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1}) as cluster:
        node = cluster.add_node(num_cpus=1, resources={"there": 1})
        cluster.wait_for_nodes()
        assert node.pid not in {os.getpid(), cluster.head_node.pid}
        assert f"pid={node.pid}" in repr(node)
        assert node.address
        there = actorrt.remote(resources={"there": 1})(lambda: actorrt.get_runtime_context().get_node_id())
        assert actorrt.get(there.remote(), timeout=20) == node.node_id
        cluster.remove_node(node, allow_graceful=False)
        cluster.wait_for_nodes()
        assert len(cluster.list_all_nodes()) == 1
    assert not actorrt.is_initialized()
