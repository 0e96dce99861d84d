"""Scheduling strategies that are more than a word.

``scheduling_strategy=`` accepts one of these, "DEFAULT" or "SPREAD".
"""

from __future__ import annotations

import msgspec

from actorrt.kernel.ids import NODE_ID_BYTES

NIL_NODE_ID = b"\xff" * NODE_ID_BYTES


class NodeAffinitySchedulingStrategy(msgspec.Struct, frozen=True):
    """Run on one node.

    ``node_id`` is a hex id as in ``nodes()[i]["NodeID"]``. While the node is busy, the work waits. When it is dead
    or too small, it fails with ``TaskUnschedulableError`` or ``ActorUnschedulableError`` (``soft=False``) or goes
    elsewhere (``soft=True``).

    Raises TypeError for arguments of a wrong type, ValueError for a ``node_id`` that is no node's id.
    """

    node_id: str
    soft: bool
    _spill_on_unavailable: bool = False
    _fail_on_unavailable: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.node_id, str):
            raise TypeError(
                f"node_id must be a hex string as in nodes()[i]['NodeID'], got {self.node_id!r} of type "
                f"{type(self.node_id).__name__}"
            )
        if not isinstance(self.soft, bool):
            raise TypeError(f"soft must be True or False, got {self.soft!r} of type {type(self.soft).__name__}")
        try:
            node_id = bytes.fromhex(self.node_id)
        except ValueError:
            node_id = b""
        if len(node_id) != NODE_ID_BYTES or len(self.node_id) != 2 * NODE_ID_BYTES:
            raise ValueError(f"node_id must be {2 * NODE_ID_BYTES} hexadecimal digits, got {self.node_id!r}")
        if node_id == NIL_NODE_ID:
            raise ValueError(f"node_id is the nil id {self.node_id!r}, which no node has")
        for name in ("_spill_on_unavailable", "_fail_on_unavailable"):
            if getattr(self, name):
                raise ValueError(f"{name} is not supported yet; a busy node is waited for")

    def node_id_bytes(self) -> bytes:
        """The node's id as it travels (``NODE_ID_BYTES`` long)."""
        return bytes.fromhex(self.node_id)
