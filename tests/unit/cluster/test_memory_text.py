import json

import pytest

from actorrt.cluster.memory_report import (
    MemoryReport,
    NodeMemory,
    ObjectHold,
    ObjectMemory,
    ObjectPlace,
    ProcessMemory,
)
from actorrt.cluster.memory_text import memory_lines, node_label, report_json, size_text, total_of, usage_text

MIB = 1 << 20
HEAD = NodeMemory(
    node_id="0a" * 16, name="first", is_head=True, pid=1, capacity_bytes=100 * MIB, used_bytes=30 * MIB,
    figures={"objects": 3, "spilled": 1, "spilled_bytes": 5 * MIB, "pinned": 2, "pinned_bytes": MIB, "pulls": 1,
             "pulling_bytes": 2 * MIB},
)  # fmt: skip
OTHER = NodeMemory(node_id="0b" * 16, pid=2, capacity_bytes=50 * MIB, used_bytes=MIB, figures={"objects": 1})
SILENT = NodeMemory(node_id="0c" * 16, pid=3, capacity_bytes=50 * MIB, problem="it said nothing, for so long a time")
DRIVER = ProcessMemory(process="unix:///s/driver.sock", role="driver", pid=7)
KEEPER = ProcessMemory(process="unix:///s/w-1.sock", role="actor Keeper", pid=8)
MUTE = ProcessMemory(process="unix:///s/w-2.sock,tcp://h:1", problem="too late")

BIG = ObjectMemory(
    object_id="b" * 40, size_bytes=2 * MIB, state="SEALED", owner=DRIVER.process,
    holds=(
        ObjectHold(process=DRIVER.process, kinds={"LOCAL_REFERENCE": 1, "BORROWED_BY": 1}),
        ObjectHold(process=KEEPER.process, kinds={"LOCAL_REFERENCE": 2}),
    ),
    places=(
        ObjectPlace(node_id=OTHER.node_id, state="SEALED"),
        ObjectPlace(node_id=HEAD.node_id, state="CREATED", is_copy=True, pins=2,
                    pinned_by=(KEEPER.process, "bulk-transfer 1")),
    ),
)  # fmt: skip
SMALL = ObjectMemory(object_id="5" * 40, size_bytes=9, state="INLINE", owner=KEEPER.process)
LATE = ObjectMemory(object_id="1" * 40, size_bytes=0, state="PENDING", owner=MUTE.process, detail="slow")
SPILLED = ObjectMemory(
    object_id="2" * 40, size_bytes=MIB, state="SPILLED", owner="",
    places=(ObjectPlace(node_id=HEAD.node_id, state="SPILLED"),),
)  # fmt: skip
REPORT = MemoryReport(nodes=(HEAD, OTHER), processes=(DRIVER, KEEPER), objects=(BIG, SPILLED, SMALL, LATE))


def cells(lines, first):
    """The row that begins so, by column (two blanks or more between them)."""
    (line,) = [line for line in lines if line.startswith(f"  {first}")]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (MIB, "1 MiB"), (3 << 30, "3 GiB"), (5 << 40, "5 TiB"),
     (5 << 50, "5120 TiB")],
)  # fmt: skip
def test_sizes(size_bytes, text):
    assert size_text(size_bytes) == text


def test_labels_of_nodes():
    assert node_label(HEAD) == "0a0a0a0a first (head)"
    assert node_label(OTHER) == "0b0b0b0b"


def test_one_line_for_the_status():
    assert usage_text(HEAD) == "30 MiB / 100 MiB object store, 3 objects, 5 MiB spilled"
    assert usage_text(OTHER) == "1 MiB / 50 MiB object store, 1 object, 0 B spilled"
    assert usage_text(SILENT) == "object store: no answer (it said nothing, for so long a time)"


def test_the_sum_is_of_those_that_answered():
    assert usage_text(total_of([HEAD, OTHER, SILENT])) == "31 MiB / 150 MiB object store, 4 objects, 5 MiB spilled"
    assert total_of([]).capacity_bytes == 0


# --------------------------------------------------------------------------------------------------------------- nodes
def test_a_table_of_nodes():
    lines = memory_lines(MemoryReport(nodes=(HEAD, OTHER, SILENT)), stats_only=True)
    assert cells(lines, "0a0a") == [
        "0a0a0a0a first (head)", "1", "100 MiB", "30 MiB", "1 (5 MiB)", "3", "2 (1 MiB)", "1 (2 MiB)"
    ]  # fmt: skip
    assert cells(lines, "0b0b") == ["0b0b0b0b", "2", "50 MiB", "1 MiB", "0", "1", "0", "0"]
    assert cells(lines, "0c0c") == ["0c0c0c0c", "3", "50 MiB", "no answer: it said nothing, for so long a time"]
    assert not [line for line in lines if line.startswith("Objects")]
    assert lines[-1] == (
        "Total: 3 nodes, 31 MiB / 150 MiB object store, 4 objects, 5 MiB spilled, 1 MiB pinned, 1 transfer; "
        "1 node did not answer"
    )


def test_columns_are_aligned():
    lines = memory_lines(MemoryReport(nodes=(HEAD, OTHER, SILENT)), stats_only=True)
    table = lines[1:5]
    column = table[0].index("CAPACITY")
    assert [line[column : column + 7].strip() for line in table[1:]] == ["100 MiB", "50 MiB", "50 MiB"]
    assert len(table[0]) < 100  # the long text of the silent one widens nothing


# ------------------------------------------------------------------------------------------------------------- objects
def test_a_table_of_objects():
    lines = memory_lines(REPORT)
    assert cells(lines, "bbbb") == [
        "b" * 40,
        "2 MiB",
        "SEALED",
        "driver 7",
        "0b0b0b0b, 0a0a0a0a (copy CREATED)",
        "LOCAL_REFERENCE=1 BORROWED_BY=1; actor Keeper 8: LOCAL_REFERENCE=2",
        "actor Keeper 8, bulk-transfer 1",
    ]
    assert cells(lines, "2222") == ["2" * 40, "1 MiB", "SPILLED", "unknown", "0a0a0a0a", "-", "-"]
    assert cells(lines, "5555") == ["5" * 40, "9 B", "INLINE", "actor Keeper 8", "-", "-", "-"]
    assert cells(lines, "1111") == ["1" * 40, "-", "PENDING (slow)", "w-2.sock", "-", "-", "-"]


@pytest.mark.parametrize(("sort_by", "order"), [("size", "b251"), ("node", "2b51"), ("owner", "5b21")])
def test_orders(sort_by, order):
    lines = memory_lines(REPORT, sort_by=sort_by)
    rows = [line.strip()[0] for line in lines[lines.index(f"Objects (by {sort_by})") + 2 : -2]]
    assert "".join(rows) == order


def test_no_objects():
    lines = memory_lines(MemoryReport(nodes=(OTHER,)))
    assert lines[lines.index("Objects (by size)") + 1] == "  none"


def test_long_lists_are_cut():
    places = (ObjectPlace(node_id="0a", state="SEALED", pinned_by=tuple(f"p{n}" for n in range(6))),)
    item = ObjectMemory(object_id="b", size_bytes=1, state="SEALED", owner="o", places=places)
    assert cells(memory_lines(MemoryReport(nodes=(OTHER,), objects=(item,))), "b ")[-1] == "p0, p1, p2, p3, 2 more"


def test_what_is_missing_is_said():
    report = MemoryReport(nodes=(OTHER,), processes=(DRIVER, MUTE), objects=(SMALL,), omitted=12, unasked=3)
    lines = memory_lines(report)
    assert "  ... and 12 more (--limit shows more)" in lines
    assert lines[lines.index("Did not answer") + 1] == "  w-2.sock: too late"
    assert "3 nodes and processes were not asked: there are too many." in lines


def test_for_programs():
    decoded = json.loads(report_json(REPORT))
    assert decoded["objects"][0]["holds"][1]["kinds"] == {"LOCAL_REFERENCE": 2}
    assert decoded["nodes"][0]["figures"]["pulls"] == 1
