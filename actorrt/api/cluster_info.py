"""Questions about the cluster: its nodes and their resources."""

from __future__ import annotations

from typing import Any

from actorrt.api.connection import FIXED_POINT, LOCAL_HOST, require_runtime
from actorrt.gcs.messages import ListNodes


def _to_float(quantities: dict[str, int]) -> dict[str, float]:
    return {name: amount / FIXED_POINT for name, amount in quantities.items() if amount}


def nodes() -> list[dict[str, Any]]:
    """One dict per node, dead ones included while they are remembered."""
    runtime = require_runtime()
    rows = []
    for node in runtime.ask(runtime.gcs, ListNodes()).nodes:
        rows.append(
            {
                "NodeID": node.node_id.hex(),
                "Alive": node.alive,
                "alive": node.alive,
                "NodeManagerAddress": node.address,
                "NodeManagerHostname": node.hostname,
                "NodeManagerPort": 0,
                "ObjectManagerPort": 0,
                "ObjectStoreSocketName": "",
                "RayletSocketName": node.raylet.process,
                "MetricsExportPort": 0,
                "NodeName": node.name or node.address,
                "RuntimeEnvAgentPort": 0,
                "DeathReason": node.death.kind if node.death is not None else "",
                "DeathReasonMessage": node.death.text if node.death is not None else "",
                "Resources": _to_float(node.resources) if node.alive else {},
                "Labels": dict(node.labels),
            }
        )
    return rows


def cluster_resources() -> dict[str, float]:
    """Total resources of the living nodes."""
    runtime = require_runtime()
    total: dict[str, int] = {}
    for node in runtime.ask(runtime.gcs, ListNodes()).nodes:
        if node.alive:
            for name, amount in node.resources.items():
                total[name] = total.get(name, 0) + amount
    return _to_float(total)


def available_resources() -> dict[str, float]:
    """What of them is free at the moment (as last reported by the nodes)."""
    runtime = require_runtime()
    answer = runtime.ask(runtime.gcs, ListNodes())
    alive = {node.node_id for node in answer.nodes if node.alive}
    total: dict[str, int] = {}
    for load in answer.loads:
        if load.node_id in alive:
            for name, amount in load.available.items():
                total[name] = total.get(name, 0) + max(0, amount)
    return _to_float(total)


def get_node_ip_address() -> str:
    """Address of the node this process is on, as in ``nodes()``."""
    runtime = require_runtime()
    for row in nodes():
        if row["NodeID"] == runtime.node.node_id.hex():
            return str(row["NodeManagerAddress"])
    return LOCAL_HOST
