"""nodes, cluster_resources, available_resources."""

import actorrt
from actorrt.api import cluster_info
from actorrt.testing import Cluster


def test_what_nodes_tell():
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2}, in_process=True) as cluster:
        extra = cluster.add_node(num_cpus=1.5, resources={"disk": 3}, labels={"rack": "r1"}, node_name="extra")
        cluster.connect()
        cluster.wait_for_nodes()
        rows = {row["NodeID"]: row for row in actorrt.nodes()}
        row = rows[extra.node_id]
        assert row["Alive"] is row["alive"] is True
        assert row["NodeName"] == "extra"
        assert row["Labels"]["rack"] == "r1"
        assert (row["Resources"]["CPU"], row["Resources"]["disk"]) == (1.5, 3)
        assert actorrt.cluster_resources()["CPU"] == 3.5
        assert set(actorrt.available_resources()) <= set(actorrt.cluster_resources())
        assert cluster_info.get_node_ip_address() == "127.0.0.1"
        cluster.remove_node(extra)
        cluster.wait_for_nodes()
        dead = {row["NodeID"]: row for row in actorrt.nodes()}[extra.node_id]
        assert dead["Alive"] is False
        assert dead["Resources"] == {}
        assert dead["DeathReasonMessage"]
        assert actorrt.cluster_resources()["CPU"] == 2
