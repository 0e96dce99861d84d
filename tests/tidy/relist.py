"""Brings the three lists of exceptions up to date: `python -m tests.tidy.relist ["reason for new lines"]`.

Lines that are no longer needed go, sizes are lowered, known reasons stay. New lines are added only with a reason, and
each of them deserves one of its own: the reason given here is a first draft for all of them.
"""

import pathlib
import sys

from tests.tidy.layering import covers, imported_late
from tests.tidy.style import measured, unmirrored
from tests.tidy.tree import Tree, read_list

HERE = pathlib.Path(__file__).parent


def rewrite(path: pathlib.Path, wanted: dict[str, str | None], new_reason: str) -> None:
    """`wanted` maps each entry that is needed to the reason it has already, or None."""
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    reasons = {entry: reason or new_reason for entry, reason in wanted.items()}
    body = [f"{entry}  # {reason}" for entry, reason in sorted(reasons.items()) if reason]
    path.write_text("\n".join([*head, *body, ""]), encoding="utf-8")


def relist(tree: Tree, folder: pathlib.Path, new_reason: str = "") -> None:
    known = read_list(folder / "mirrors.txt")
    rewrite(folder / "mirrors.txt", {path: known.get(path) for path in unmirrored(tree)}, new_reason)

    known = read_list(folder / "late_imports.txt")
    wanted: dict[str, str | None] = {}
    for key in imported_late(tree):
        # `from a.b import c` yields a.b, then a.b.c, which the entry for a.b covers.
        if not any(covers(entry, key) for entry in wanted):
            entry = next((entry for entry in known if covers(entry, key)), key)
            wanted[entry] = known.get(entry)
    rewrite(folder / "late_imports.txt", wanted, new_reason)

    known = {entry.rpartition(" ")[0]: reason for entry, reason in read_list(folder / "sizes.txt").items()}
    limits = {entry.rpartition(" ")[0]: int(entry.rpartition(" ")[2]) for entry in read_list(folder / "sizes.txt")}
    wanted = {}
    for module in tree.modules:
        for key, _, lines, most in measured(module):
            # Growth of a listed thing is a new decision, hence only with a new reason.
            if lines > most and (new_reason or lines <= limits.get(key, 0)):
                wanted[f"{key} {lines}"] = known.get(key) if lines <= limits.get(key, 0) else None
    rewrite(folder / "sizes.txt", wanted, new_reason)


if __name__ == "__main__":
    relist(Tree.of_repository(HERE.parents[1]), HERE, *sys.argv[1:2])
