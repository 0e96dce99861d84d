"""The cluster as this node sees it: who is there, and what was free a moment ago.

Loads arrive from the GCS a fraction of a second late. Between two reports of a node the view subtracts what was sent
there, so that a burst is not aimed at the same free CPU twice; the next report replaces the guess. A load that does
not change is not reported, though, and what was sent may never have come (its owner had no more use for it): a guess
that nothing has replaced for a while gives way to the last report.
"""

from __future__ import annotations

from actorrt.kernel.limits import DEAD_NODES_KEPT_MAX
from actorrt.scheduling import labels
from actorrt.scheduling.policy import NODE_AFFINITY, NodeView
from actorrt.scheduling.resources import UNIT_INSTANCES, subtract
from actorrt.wire.records import LeaseSpec, NodeInfo, NodeLoad

GUESS_KEPT_S = 0.5
"""So long after the last guess about a node its last report counts again: a right guess would have changed it."""


class ClusterView:
    """All nodes known, this one included."""

    def __init__(self, node: NodeInfo) -> None:
        self.local = node
        self._nodes: dict[bytes, NodeInfo] = {}
        self._versions: dict[bytes, int] = {}
        self._others: dict[bytes, NodeView] = {}
        """Living nodes other than this one, with what they are believed to have free."""
        self._reported: dict[bytes, dict[str, int]] = {}
        """What each of them last said (or has in all, while it has said nothing)."""
        self._guessed_s: dict[bytes, float] = {}
        """When we last thought we knew better."""
        self._dead: dict[bytes, None] = {}
        self.version = 0
        """Changes whenever an answer from here may."""
        self.has_devices = any(node.resources.get(name) for name in UNIT_INSTANCES)

    @property
    def alone(self) -> bool:
        """Whether no other node is known to live."""
        return not self._others

    def node(self, node_id: bytes) -> NodeInfo:
        """A living node other than this one."""
        return self._nodes[node_id]

    def knows(self, node_id: bytes) -> bool:
        """Whether this node was ever heard of (dead ones are remembered for a while)."""
        return node_id == self.local.node_id or node_id in self._nodes or node_id in self._dead

    def update(self, nodes: tuple[NodeInfo, ...], loads: tuple[NodeLoad, ...]) -> str:
        """Take news. Returns why this node is no longer part of the cluster, or an empty text."""
        self.version += 1
        verdict = ""
        for node in nodes:
            if node.node_id == self.local.node_id:
                if not node.alive:
                    verdict = node.death.text if node.death is not None else "declared dead"
            elif node.alive:
                known = self._others.get(node.node_id)
                available = dict(node.resources) if known is None else known.available
                self._reported.setdefault(node.node_id, available)
                self._nodes[node.node_id] = node
                self._dead.pop(node.node_id, None)
                self._others[node.node_id] = NodeView(node.node_id, node.resources, available, node.labels)
            else:
                self._forget(node.node_id)
        for load in loads:
            known = self._others.get(load.node_id)
            if known is not None and load.version > self._versions.get(load.node_id, -1):
                self._versions[load.node_id] = load.version
                self._reported[load.node_id] = load.available
                self._guessed_s.pop(load.node_id, None)
                self._others[load.node_id] = NodeView(load.node_id, known.total, load.available, known.labels)
        return verdict

    def _forget(self, node_id: bytes) -> None:
        self._nodes.pop(node_id, None)
        self._others.pop(node_id, None)
        self._versions.pop(node_id, None)
        self._reported.pop(node_id, None)
        self._guessed_s.pop(node_id, None)
        self._dead[node_id] = None
        if len(self._dead) > DEAD_NODES_KEPT_MAX:
            del self._dead[next(iter(self._dead))]

    def sent_there(self, node_id: bytes, resources: dict[str, int], now: float) -> None:
        """Work was sent to this node: count it as busy with it until its next report."""
        self._guess(node_id, subtract(self._others[node_id].available, resources), now)

    def peer_gone(self, process: str, now: float) -> None:
        """The connection to this process ended: send nothing there until its node reports again."""
        for node in self._nodes.values():
            if node.raylet.process == process:
                self._guess(node.node_id, {}, now)

    def _guess(self, node_id: bytes, available: dict[str, int], now: float) -> None:
        self.version += 1
        self._guessed_s[node_id] = now
        known = self._others[node_id]
        self._others[node_id] = NodeView(node_id, known.total, available, known.labels)

    def settle(self, now: float) -> None:
        """Drop guesses that nothing has confirmed."""
        for node_id in [key for key, guessed_s in self._guessed_s.items() if now >= guessed_s + GUESS_KEPT_S]:
            del self._guessed_s[node_id]
            self.version += 1
            known = self._others[node_id]
            self._others[node_id] = NodeView(node_id, known.total, self._reported[node_id], known.labels)

    def suits_here(self, spec: LeaseSpec) -> bool:
        """Whether labels and affinity allow this node (resources apart)."""
        strategy = spec.strategy
        if strategy.kind == NODE_AFFINITY and strategy.node_id != self.local.node_id:
            # Soft affinity looks elsewhere only when the wanted node is gone; that is choose_node's business.
            return strategy.soft and strategy.node_id not in self._others
        try:
            return labels.matches(self.local.labels, spec.label_selector)
        except (TypeError, ValueError):
            return False

    def views(self, available_here: dict[str, int]) -> list[NodeView]:
        """What ``choose_node`` looks at."""
        local = NodeView(self.local.node_id, self.local.resources, available_here, self.local.labels)
        return [local, *self._others.values()]

    def check(self) -> None:
        """Assert that the tables agree."""
        assert list(self._nodes) == list(self._others) or sorted(self._nodes) == sorted(self._others)
        assert self.local.node_id not in self._nodes
        assert sorted(self._reported) == sorted(self._others)
        assert not [node_id for node_id in self._guessed_s if node_id not in self._others]
        assert len(self._dead) <= DEAD_NODES_KEPT_MAX
