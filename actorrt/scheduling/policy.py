"""Where work goes: one pure function from a view of the cluster and a demand to a choice.

Raylets use it for leases (their view of others is a fraction of a second old), the GCS for actors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from actorrt.scheduling import labels
from actorrt.scheduling.resources import UNIT_INSTANCES, describe, fits

if TYPE_CHECKING:
    import random

PACK_UNTIL: Final = 0.5
"""A node whose critical resource is used up to this share counts as empty: work is packed before it is spread."""
TOP_K_SHARE: Final = 0.2
"""Beyond, one of this share of the nodes (the least utilised ones) is drawn, so that stale views do not herd."""
CRITICAL: Final = ("CPU", "memory", "object_store_memory")
"""Resources whose utilisation counts for every demand; those a demand names count for it too."""

DEFAULT: Final = "DEFAULT"
SPREAD: Final = "SPREAD"
NODE_AFFINITY: Final = "NODE_AFFINITY"


class NodeView(msgspec.Struct, frozen=True):
    """What a scheduler knows of a node."""

    node_id: bytes
    total: dict[str, int]
    available: dict[str, int]
    labels: dict[str, str] = {}
    alive: bool = True


class Demand(msgspec.Struct, frozen=True):
    """What one piece of work wants. The strategy is spelled out because scheduling knows no message."""

    resources: dict[str, int] = {}
    strategy: str = DEFAULT
    affinity_node_id: bytes = b""
    affinity_soft: bool = False
    label_selector: labels.Selector = ()


class Chosen(msgspec.Struct, frozen=True):
    """This node can take it now."""

    node_id: bytes


class Busy(msgspec.Struct, frozen=True):
    """This node could take it, but not now; ``feasible_count`` nodes could in all."""

    node_id: bytes
    text: str
    feasible_count: int = 1


class Infeasible(msgspec.Struct, frozen=True):
    """No node there is could ever take it; one that joins later might."""

    text: str


class Refused(msgspec.Struct, frozen=True):
    """It can never run (hard affinity to a node that is gone or too small)."""

    text: str


Choice: TypeAlias = Chosen | Busy | Infeasible | Refused


def choose_node(
    view: Sequence[NodeView],
    demand: Demand,
    rng: random.Random,
    *,
    local_node_id: bytes = b"",
    spread_after: bytes = b"",
) -> Choice:
    """Choose a node for one demand.

    ``local_node_id`` is preferred by the default strategy. ``spread_after`` is the node that SPREAD used last (the
    caller remembers it, per whatever it wants to spread); empty starts anywhere.
    """
    if demand.strategy == DEFAULT and not demand.label_selector and _local_will_do(view, demand, local_node_id):
        return Chosen(local_node_id)
    alive = [node for node in view if node.alive]
    try:
        matching = [node for node in alive if labels.matches(node.labels, demand.label_selector)]
    except (TypeError, ValueError) as error:
        return Refused(f"malformed label selector: {error}")
    if demand.strategy == NODE_AFFINITY:
        pinned = _pinned(alive, matching, demand)
        if pinned is not None:
            return pinned
    elif demand.strategy not in (DEFAULT, SPREAD):
        return Refused(f"unknown scheduling strategy {demand.strategy!r}")
    feasible = [node for node in matching if fits(demand.resources, node.total)]
    if not feasible:
        return Infeasible(_why_infeasible(alive, matching, demand))
    available = [node for node in feasible if fits(demand.resources, node.available)]
    pick: Callable[[list[NodeView]], NodeView]
    if demand.strategy == SPREAD:
        pick = lambda nodes: _next_in_turn(nodes, spread_after, rng)  # noqa: E731 - two small alternatives side by side
    else:
        top_k = max(1, int(len(alive) * TOP_K_SHARE))
        pick = lambda nodes: _hybrid(nodes, demand, rng, local_node_id, top_k)  # noqa: E731 - same
    if not available:
        node = pick(feasible)
        if len(feasible) == 1:
            where = f"node {node.node_id.hex()}, the only one that could offer it, is busy"
        else:
            where = f"all {len(feasible)} nodes that could offer it are busy"
        return Busy(node.node_id, f"waits for {describe(demand.resources)}: {where}", len(feasible))
    return Chosen(pick(available).node_id)


def utilisation(node: NodeView, demand: Mapping[str, int]) -> float:
    """Share of the node's critical resource in use: the largest among CPU, memory and what the demand names."""
    highest = 0.0
    for name in (*CRITICAL, *demand):
        total = node.total.get(name, 0)
        if total > 0:
            highest = max(highest, 1.0 - node.available.get(name, 0) / total)
    return highest


def _local_will_do(view: Sequence[NodeView], demand: Demand, local_node_id: bytes) -> bool:
    """Whether no other node can be better than the local one: the usual case, told without looking at the others."""
    for node in view:
        if node.node_id == local_node_id:
            return (
                node.alive
                and fits(demand.resources, node.available)
                and fits(demand.resources, node.total)
                and (_wants_accelerator(demand) or not _has_accelerator(node))
                and utilisation(node, demand.resources) <= PACK_UNTIL
            )
    return False


def _wants_accelerator(demand: Demand) -> bool:
    return any(name in UNIT_INSTANCES for name in demand.resources)


def _has_accelerator(node: NodeView) -> bool:
    return any(node.total.get(name) for name in UNIT_INSTANCES)


def _pinned(alive: list[NodeView], matching: list[NodeView], demand: Demand) -> Choice | None:
    """The choice of NODE_AFFINITY; None when soft affinity looks elsewhere."""
    wanted = demand.affinity_node_id
    node = next((node for node in matching if node.node_id == wanted and fits(demand.resources, node.total)), None)
    if node is not None:
        if fits(demand.resources, node.available):
            return Chosen(wanted)
        return Busy(wanted, f"waits for {describe(demand.resources)} on node {wanted.hex()} (node affinity)")
    if demand.affinity_soft:
        return None
    there = next((node for node in alive if node.node_id == wanted), None)
    if there is None:
        return Refused(f"node affinity (soft=False): node {wanted.hex()} is dead or does not exist")
    if not fits(demand.resources, there.total):
        offers = {name: there.total.get(name, 0) for name in demand.resources}
        return Refused(
            f"node affinity (soft=False): node {wanted.hex()} can never offer {describe(demand.resources)}, "
            f"it has {describe(offers)}"
        )
    return Refused(
        f"node affinity (soft=False): node {wanted.hex()} does not match the labels "
        f"{labels.describe(demand.label_selector)}"
    )


def _hybrid(nodes: list[NodeView], demand: Demand, rng: random.Random, local_node_id: bytes, top_k: int) -> NodeView:
    """Local while it is as good as any, else one of the ``top_k`` least utilised.

    Nodes with accelerators are left to work that wants some, as long as others can take the rest.
    """
    if not _wants_accelerator(demand):
        nodes = [node for node in nodes if not _has_accelerator(node)] or nodes
    scored = []
    for node in nodes:
        used = utilisation(node, demand.resources)
        scored.append((0.0 if used <= PACK_UNTIL else used, node.node_id, node))
    scored.sort(key=lambda item: item[:2])
    best = scored[0][0]
    for score, node_id, node in scored:
        if node_id == local_node_id and score <= best:
            return node
    return rng.choice(scored[:top_k])[2]


def _next_in_turn(nodes: list[NodeView], after: bytes, rng: random.Random) -> NodeView:
    ordered = sorted(nodes, key=lambda node: node.node_id)
    if not after:
        return rng.choice(ordered)
    return next((node for node in ordered if node.node_id > after), ordered[0])


def _why_infeasible(alive: list[NodeView], matching: list[NodeView], demand: Demand) -> str:
    if not alive:
        return "no node is alive"
    if not matching:
        return f"none of {len(alive)} nodes matches the labels {labels.describe(demand.label_selector)}"
    most = {name: max(node.total.get(name, 0) for node in matching) for name in demand.resources}
    short = {name: fixed for name, fixed in most.items() if fixed < demand.resources[name]}
    among = f"{len(matching)} matching nodes" if demand.label_selector else f"{len(alive)} nodes"
    if short:
        return f"none of {among} offers {describe(demand.resources)}: the most any has is {describe(short)}"
    return f"none of {among} offers {describe(demand.resources)} together: each has only a part of it"
