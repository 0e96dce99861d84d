"""What to drop from memory under pressure. Pure planner.

Only what can be had again is dropped: an object with a copy on disk, or a secondary copy of another node's object. A
primary object without a copy is never a victim; it is written first (``spill``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actorrt.store.layout import extent_bytes
from actorrt.store.table import Record


def victims(clean: Iterable[Record], missing_bytes: int) -> Iterator[Record]:
    """Least recently used first, until so much has been named. The caller stops earlier when it has what it needs."""
    named_bytes = 0
    for record in clean:
        if named_bytes >= missing_bytes:
            return
        named_bytes += extent_bytes(record.size_bytes)
        yield record


def excess_bytes(
    *, capacity_bytes: int, used_bytes: int, clean_bytes: int, spilling_bytes: int, threshold: float
) -> int:
    """How much should be written ahead of need: what is above the threshold and neither droppable nor on its way."""
    return max(0, used_bytes - clean_bytes - spilling_bytes - int(capacity_bytes * threshold))
