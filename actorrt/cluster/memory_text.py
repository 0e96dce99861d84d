"""``memory_report.MemoryReport`` as text for people: a table of stores, a table of objects, totals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from actorrt.cluster.memory_report import MemoryReport, NodeMemory, ObjectMemory, ObjectPlace, ProcessMemory

NODE_ID_CHARACTERS: Final = 8
UNKNOWN_SIZE: Final = ("PENDING", "BORROWED")
"""States of objects nobody may know the size of."""
NAMES_MAX: Final = 4
"""Processes named in one column; the others are counted."""


def size_text(size_bytes: float) -> str:
    """Return a size for people: ``1.5 GiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def usage_text(node: NodeMemory) -> str:
    """Return the store of a node (or of all together) in one line, for ``actorrt status``."""
    if node.problem:
        return f"object store: no answer ({node.problem})"
    objects, spilled = node.figures.get("objects", 0), node.figures.get("spilled_bytes", 0)
    used = f"{size_text(node.used_bytes)} / {size_text(node.capacity_bytes)}"
    return f"{used} object store, {_count(objects, 'object')}, {size_text(spilled)} spilled"


def total_of(nodes: Sequence[NodeMemory]) -> NodeMemory:
    """Return the sum of those that answered."""
    answered = [node for node in nodes if not node.problem]
    figures: dict[str, int] = {}
    for node in answered:
        for name, value in node.figures.items():
            figures[name] = figures.get(name, 0) + value
    return NodeMemory(
        node_id="",
        capacity_bytes=sum(node.capacity_bytes for node in answered),
        used_bytes=sum(node.used_bytes for node in answered),
        figures=figures,
    )


def memory_lines(report: MemoryReport, *, sort_by: str = "size", stats_only: bool = False) -> list[str]:
    """Return what ``actorrt memory`` prints."""
    lines = ["Nodes", *_indented(_node_rows(report.nodes))]
    if not stats_only:
        names = _Names(report)
        lines += ["", f"Objects (by {sort_by})"]
        lines += _indented(_object_rows(report.objects, names, sort_by)) if report.objects else ["  none"]
        if report.omitted:
            lines.append(f"  ... and {report.omitted} more (--limit shows more)")
        silent = [process for process in report.processes if process.problem]
        if silent:
            lines += ["", "Did not answer", *(f"  {names.of(each.process)}: {each.problem}" for each in silent)]
    if report.unasked:
        lines += ["", f"{report.unasked} nodes and processes were not asked: there are too many."]
    return [*lines, "", _totals(report)]


def _totals(report: MemoryReport) -> str:
    total = total_of(report.nodes)
    figures = total.figures
    text = f"Total: {_count(len(report.nodes), 'node')}, {usage_text(total)}"
    text += f", {size_text(figures.get('pinned_bytes', 0))} pinned, {_count(total.pulls_inflight, 'transfer')}"
    silent = sum(1 for node in report.nodes if node.problem)
    return f"{text}; {_count(silent, 'node')} did not answer" if silent else text


# --------------------------------------------------------------------------------------------------------------- nodes
def _node_rows(nodes: Sequence[NodeMemory]) -> list[list[str]]:
    rows = [["NODE", "PID", "CAPACITY", "USED", "SPILLED", "OBJECTS", "PINNED", "TRANSFERS"]]
    for node in nodes:
        row = [node_label(node), str(node.pid), size_text(node.capacity_bytes)]
        if node.problem:
            rows.append([*row, f"no answer: {node.problem}"])
            continue
        figures = node.figures
        rows.append(
            [
                *row,
                size_text(node.used_bytes),
                _with_size(figures.get("spilled", 0), figures.get("spilled_bytes", 0)),
                str(figures.get("objects", 0)),
                _with_size(figures.get("pinned", 0), figures.get("pinned_bytes", 0)),
                _with_size(node.pulls_inflight, figures.get("pulling_bytes", 0)),
            ]
        )
    return rows


def node_label(node: NodeMemory) -> str:
    """Return a short name of a node for people."""
    name = f" {node.name}" if node.name else ""
    return f"{node.node_id[:NODE_ID_CHARACTERS]}{name}{' (head)' if node.is_head else ''}"


def _with_size(count: int, size_bytes: int) -> str:
    return f"{count} ({size_text(size_bytes)})" if count else "0"


# ------------------------------------------------------------------------------------------------------------- objects
class _Names:
    """Short names of processes."""

    def __init__(self, report: MemoryReport) -> None:
        self._processes = {each.process: each for each in report.processes}

    def of(self, process: str) -> str:
        """``driver 123``; the end of the address of one that is not known."""
        known: ProcessMemory | None = self._processes.get(process)
        if known is not None and known.pid:
            return f"{known.role} {known.pid}"
        if not process:
            return "unknown"
        return process.split(",", 1)[0].rpartition("/")[2] if "://" in process else process


def _object_rows(objects: Sequence[ObjectMemory], names: _Names, sort_by: str) -> list[list[str]]:
    keys: dict[str, Callable[[ObjectMemory], str]] = {
        "size": lambda _item: "",
        "node": lambda item: item.places[0].node_id if item.places else "~",
        "owner": lambda item: names.of(item.owner),
    }
    key = keys[sort_by]
    rows = [["OBJECT", "SIZE", "STATE", "OWNER", "LIES AT", "HELD BY", "PINNED BY"]]
    for item in sorted(objects, key=lambda item: (key(item), -item.size_bytes, item.object_id)):
        state = f"{item.state} ({item.detail})" if item.detail else item.state
        places = ", ".join(_place(place, item.state) for place in item.places)
        pins = [(names.of(process), place) for place in item.places for process in place.pinned_by]
        rows.append(
            [
                item.object_id,
                "-" if item.state in UNKNOWN_SIZE and not item.size_bytes else size_text(item.size_bytes),
                state,
                names.of(item.owner),
                places or "-",
                _holds(item, names),
                _some([name for name, _ in pins]) or "-",
            ]
        )
    return rows


def _place(place: ObjectPlace, state: str) -> str:
    marks = ["copy"] if place.is_copy else []
    if place.state not in {state, ""}:
        marks.append(place.state)
    text = place.node_id[:NODE_ID_CHARACTERS]
    return f"{text} ({' '.join(marks)})" if marks else text


def _holds(item: ObjectMemory, names: _Names) -> str:
    texts = []
    for hold in item.holds:
        kinds = " ".join(f"{kind}={count}" for kind, count in hold.kinds.items())
        if kinds:
            texts.append(kinds if hold.process == item.owner else f"{names.of(hold.process)}: {kinds}")
    return _some(texts, separator="; ") or "-"


def _some(texts: Sequence[str], separator: str = ", ") -> str:
    left_out = len(texts) - NAMES_MAX
    shown = [*texts[:NAMES_MAX], *([f"{left_out} more"] if left_out > 0 else [])]
    return separator.join(shown)


def report_json(report: MemoryReport) -> str:
    """Return the report for programs."""
    return msgspec.json.format(msgspec.json.encode(report)).decode()


# --------------------------------------------------------------------------------------------------------------- table
def _indented(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns. A short row (its last cell is a text) does not count for the width."""
    columns = len(rows[0])
    full = [row for row in rows if len(row) == columns]
    widths = [max(len(row[i]) for row in full) for i in range(columns)]
    for row in rows:
        for i, cell in enumerate(row[:-1]):
            widths[i] = max(widths[i], len(cell))
    return [
        f"  {'  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))}".rstrip() for row in rows
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
