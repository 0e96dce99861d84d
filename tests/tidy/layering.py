"""Who may import whom (house: downwards only). The second line of defence behind import-linter."""

import sys

from tests.tidy.rules import (
    ADAPTER_ROOMS,
    COMPONENTS,
    LAYERS,
    LEAF_PORTS,
    LEAVES,
    PUBLIC,
    SIM_MAY_NOT,
)
from tests.tidy.tree import Module, Tree

RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}


def layering(tree: Tree) -> list[str]:
    problems = []
    for module in tree.sources:
        known = module.room in {*RANK, *LEAVES, "sim", ""} or module.name == "actorrt.__main__"
        if not known:
            problems.append(f"{module.path}: no place in the layers; give {module.room!r} one in tests/tidy/rules.py")
            continue
        for item in module.imports:
            complaint = _complaint(module, item.target)
            if complaint:
                problems.append(f"{module.path}:{item.line}: imports {item.target}: {complaint}")
    return problems


def _complaint(module: Module, target: str) -> str:
    top, _, rest = target.partition(".")
    there = rest.split(".")[0]
    if top in {"transports", "store"}:
        return f"the installed name is actorrt.{top}"
    if module.room in LEAVES and top != "actorrt":
        allowed = top in sys.stdlib_module_names or top in LEAVES[module.room]
        return "" if allowed else f"{module.room} uses only the standard library and {sorted(LEAVES[module.room])}"
    if top != "actorrt" or module.room == there or there not in {*RANK, *LEAVES, "sim"}:
        return ""
    if module.room in LEAVES:
        return f"{module.room} is a leaf and knows nothing of the runtime"
    if module.room == "":
        return "" if there in PUBLIC else "the package itself names only public modules"
    if module.room == "sim":
        return "the simulator stays below the composition root" if there in SIM_MAY_NOT else ""
    if there in LEAVES:
        return _leaf_complaint(module, target)
    if there == "sim":
        return "nobody imports the simulator"
    if RANK[there] < RANK[module.room] or (module.room in PUBLIC and there in PUBLIC):
        return ""
    if module.room in COMPONENTS and there in COMPONENTS:
        sibling_messages = f"actorrt.{there}.messages"
        # `from actorrt.gcs import messages` also yields the bare package; the second target decides.
        harmless = target == f"actorrt.{there}" or f"{target}.".startswith(f"{sibling_messages}.")
        return "" if harmless else "siblings import only each other's messages.py"
    return "imports go downwards only"


def _leaf_complaint(module: Module, target: str) -> str:
    if module.room in ADAPTER_ROOMS or target.count(".") == 1:
        return ""
    port = ".".join(target.split(".")[:3])
    if module.name in LEAF_PORTS.get(port, ()):
        return ""
    allowed = ", ".join(LEAF_PORTS.get(port, ())) or "cluster/ (instances arrive by constructor)"
    return f"only for {allowed}"


def imported_late(tree: Tree) -> dict[str, int]:
    """`path:module` of every import inside a function, and its line."""
    found: dict[str, int] = {}
    for module in tree.sources:
        for item in module.imports:
            if item.late:
                found.setdefault(f"{module.path}:{item.target}", item.line)
    return found


def late_imports(tree: Tree, allowed: dict[str, str]) -> list[str]:
    """Imports inside functions hide cycles; each one stands on the list with its reason."""
    found = imported_late(tree)
    problems = [
        f"{key} (line {line}): late import; import at the top, or list it in late_imports.txt"
        for key, line in found.items()
        if not any(covers(entry, key) for entry in allowed)
    ]
    stale = [entry for entry in allowed if not any(covers(entry, key) for key in found)]
    return problems + [f"late_imports.txt: {entry} is no longer there; remove the line" for entry in stale]


def covers(entry: str, key: str) -> bool:
    """`from a.b import c` yields a.b and a.b.c: an entry for a.b covers both."""
    return key == entry or key.startswith(f"{entry}.")
