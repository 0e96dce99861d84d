"""Nodes: who is in the cluster, who is silent, what everybody has free, and what of it others have not been told."""

from __future__ import annotations

import msgspec

from actorrt.kernel.limits import DEAD_NODES_KEPT_MAX, NODE_DEAD_AFTER_S, PEERS_MAX
from actorrt.kernel.message import Address
from actorrt.raylet.messages import ClusterChanged
from actorrt.scheduling.policy import NodeView
from actorrt.scheduling.resources import subtract
from actorrt.wire.records import DeathCause, NodeInfo, NodeLoad

RESERVATION_SETTLES_S = 0.25
"""A load report this much later than a placement has counted it itself: two report intervals and the way."""
STALL_S = NODE_DEAD_AFTER_S / 2
"""A health check this late means that we stood still (a stopped or swapped process), not that the nodes did."""


class Reservation(msgspec.Struct, frozen=True):
    """What a placed actor will hold, until the node's own reports say so."""

    resources: dict[str, int]
    made_s: float


class Node(msgspec.Struct):
    """A living node."""

    info: NodeInfo
    load: NodeLoad
    heard_s: float
    view: NodeView
    reserved: dict[bytes, Reservation] = {}


class Nodes:
    """Membership and loads. ``changed_*`` is what the raylets have not been told."""

    def __init__(self) -> None:
        self.alive: dict[bytes, Node] = {}
        self.dead: dict[bytes, NodeInfo] = {}
        self.by_raylet: dict[Address, bytes] = {}
        self.changed_nodes: dict[bytes, None] = {}
        self.changed_loads: dict[bytes, None] = {}

    # ---- membership
    def refusal(self, info: NodeInfo) -> str:
        """Why this node may not join; empty when it may."""
        if info.node_id in self.dead:
            return f"node {info.node_id.hex()} was declared dead and cannot return under the same id"
        if not info.node_id or not info.raylet.process:
            return "a node needs an id and an address"
        if info.node_id not in self.alive and len(self.alive) >= PEERS_MAX:
            return f"the cluster has {len(self.alive)} nodes, at most {PEERS_MAX} are allowed"
        return ""

    def register(self, info: NodeInfo, now: float) -> bool:
        """Record a node as alive; False when it already was (its record is renewed, its load kept)."""
        assert not self.refusal(info)
        info = msgspec.structs.replace(info, alive=True, death=None)
        old = self.alive.get(info.node_id)
        if old is not None and old.info == info:
            old.heard_s = now
            return False
        if old is not None:
            del self.by_raylet[old.info.raylet]
        load = NodeLoad(info.node_id, dict(info.resources), 0) if old is None else old.load
        reserved = {} if old is None else old.reserved
        view = NodeView(info.node_id, info.resources, load.available, info.labels)
        node = Node(info, load, now, view, reserved)
        self.alive[info.node_id] = node
        self.by_raylet[info.raylet] = info.node_id
        self.changed_nodes[info.node_id] = None
        self.changed_loads[info.node_id] = None
        self._renew_view(node)
        return old is None

    def bury(self, node_id: bytes, cause: DeathCause) -> NodeInfo:
        """Move a living node to the dead."""
        node = self.alive.pop(node_id)
        del self.by_raylet[node.info.raylet]
        info = msgspec.structs.replace(node.info, alive=False, death=cause)
        self.dead[node_id] = info
        self.changed_nodes[node_id] = None
        self.changed_loads.pop(node_id, None)
        while len(self.dead) > DEAD_NODES_KEPT_MAX:
            forgotten = next(iter(self.dead))
            del self.dead[forgotten]
            self.changed_nodes.pop(forgotten, None)
        return info

    def at_raylet(self, raylet: Address) -> bytes:
        """Id of the living node with this raylet, or empty.

        Who reached a process by one of its endpoints may know only that one, so a shared endpoint is enough.
        """
        node_id = self.by_raylet.get(raylet)
        if node_id is not None:
            return node_id
        endpoints = [endpoint for endpoint in raylet.process.split(",") if endpoint]
        for known, node_id in self.by_raylet.items():
            if known.actor == raylet.actor and any(endpoint in known.process.split(",") for endpoint in endpoints):
                return node_id
        return b""

    def of_process(self, process: str) -> list[bytes]:
        """Living nodes whose raylet is in this process."""
        return [node_id for raylet, node_id in self.by_raylet.items() if raylet.process == process]

    def raylets(self) -> list[Address]:
        """Where to send what concerns every node."""
        return list(self.by_raylet)

    def raylet_of(self, node_id: bytes) -> Address | None:
        """The raylet of a living node."""
        node = self.alive.get(node_id)
        return None if node is None else node.info.raylet

    # ---- health and load
    def hear(self, load: NodeLoad, now: float) -> bool:
        """Take a report of a living node; True when the view of it changed. An old report is only a sign of life."""
        node = self.alive[load.node_id]
        node.heard_s = now
        if load.version < node.load.version:
            return False
        settled = [key for key, item in node.reserved.items() if now >= item.made_s + RESERVATION_SETTLES_S]
        for key in settled:
            del node.reserved[key]
        old, node.load = node.load, load
        told = old.available != load.available or old.pending != load.pending
        if told:
            self.changed_loads[load.node_id] = None
        if told or settled:
            self._renew_view(node)
        return bool(told or settled)

    def silent(self, now: float, due_s: float) -> list[bytes]:
        """Living nodes not heard for too long. A check that comes far too late forgives everybody once."""
        if now - due_s > STALL_S:
            for node in self.alive.values():
                node.heard_s = now
        return [node_id for node_id, node in self.alive.items() if now - node.heard_s > NODE_DEAD_AFTER_S]

    # ---- the view
    def reserve(self, node_id: bytes, key: bytes, resources: dict[str, int], now: float) -> None:
        """Count resources as taken until the node's own reports do."""
        if resources:
            node = self.alive[node_id]
            node.reserved[key] = Reservation(resources, now)
            self._renew_view(node)

    def unreserve(self, node_id: bytes, key: bytes) -> None:
        """Forget a reservation that came to nothing."""
        node = self.alive.get(node_id)
        if node is not None and node.reserved.pop(key, None) is not None:
            self._renew_view(node)

    def view(self) -> list[NodeView]:
        """What the policy chooses from."""
        return [node.view for node in self.alive.values()]

    def infos(self) -> tuple[NodeInfo, ...]:
        """All nodes, the dead ones that are remembered first."""
        return (*self.dead.values(), *(node.info for node in self.alive.values()))

    def living_infos(self) -> tuple[NodeInfo, ...]:
        """The living nodes."""
        return tuple(node.info for node in self.alive.values())

    def loads(self) -> tuple[NodeLoad, ...]:
        """Loads of the living nodes."""
        return tuple(node.load for node in self.alive.values())

    def take_changes(self) -> ClusterChanged | None:
        """What the raylets must be told, once; None when nothing."""
        if not self.changed_nodes and not self.changed_loads:
            return None
        infos = [
            self.alive[node_id].info if node_id in self.alive else self.dead[node_id] for node_id in self.changed_nodes
        ]
        loads = [self.alive[node_id].load for node_id in self.changed_loads]
        self.changed_nodes.clear()
        self.changed_loads.clear()
        return ClusterChanged(tuple(infos), tuple(loads))

    def check(self) -> None:
        """Assert that the tables agree."""
        assert self.by_raylet == {node.info.raylet: node_id for node_id, node in self.alive.items()}
        assert not [node_id for node_id in self.alive if node_id in self.dead]
        assert len(self.dead) <= DEAD_NODES_KEPT_MAX
        assert all(node.info.alive for node in self.alive.values())
        assert not any(info.alive for info in self.dead.values())
        assert all(node_id in self.alive for node_id in self.changed_loads)
        assert all(node_id in self.alive or node_id in self.dead for node_id in self.changed_nodes)
        for node_id, node in self.alive.items():
            assert node.info.node_id == node_id == node.load.node_id == node.view.node_id

    def _renew_view(self, node: Node) -> None:
        available = node.load.available
        for reservation in node.reserved.values():
            available = subtract(available, reservation.resources)
        node.view = NodeView(node.info.node_id, node.info.resources, available, node.info.labels)
