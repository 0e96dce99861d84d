"""Habits: nothing swallowed, nothing slept through, nothing grown unnoticed, no trace of one machine."""

import ast
import re
from collections.abc import Iterator

from tests.tidy.rules import (
    CLASS_LINES_MAX,
    FUNCTION_LINES_MAX,
    MODULE_LINES_MAX,
    SLEEP_ALLOWED_BELOW,
    SLEEPS,
    TEXT_BANNED,
    TEXT_EXEMPT,
)
from tests.tidy.tree import Module, Tree

CATCH_ALL = frozenset({"Exception", "BaseException", "builtins.Exception", "builtins.BaseException"})


def swallowed(tree: Tree) -> list[str]:
    """Catching everything and doing nothing about it hides bugs; name the exception, or report it."""
    problems = []
    for module in tree.modules:
        for node in ast.walk(module.syntax):
            if isinstance(node, ast.ExceptHandler) and _catches_all(node.type) and all(map(_is_nothing, node.body)):
                problems.append(f"{module.path}:{node.lineno}: swallows every exception: name the one you expect")
            elif (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).split(".")[-1] == "suppress"
                and any(_catches_all(argument) for argument in node.args)
            ):
                problems.append(f"{module.path}:{node.lineno}: suppresses every exception: name the one you expect")
    return problems


def _catches_all(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_catches_all, caught.elts))
    return caught is None or ast.unparse(caught) in CATCH_ALL


def _is_nothing(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass | ast.Continue)


def sleeps(tree: Tree) -> list[str]:
    """A sleeping test is slow when it passes and flaky when it does not: wait for the condition, or move the clock."""
    problems = []
    for module in tree.modules:
        if not module.path.startswith("tests/") or module.path.startswith(SLEEP_ALLOWED_BELOW):
            continue
        aliases = _aliases(module)
        for node in ast.walk(module.syntax):
            if not isinstance(node, ast.Call):
                continue
            head, dot, tail = ast.unparse(node.func).partition(".")
            called = aliases.get(head, head) + dot + tail
            # sleep(0) yields to the loop without waiting.
            if called in SLEEPS and [ast.unparse(argument) for argument in node.args] != ["0"]:
                problems.append(f"{module.path}:{node.lineno}: {called} in a test: wait for the condition instead")
    return problems


def _aliases(module: Module) -> dict[str, str]:
    names = {}
    for node in ast.walk(module.syntax):
        if isinstance(node, ast.Import):
            names.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def sizes(tree: Tree, allowed: dict[str, str]) -> list[str]:
    """Sizes only shrink: an entry is `path lines` or `path::name lines`, the most it may have."""
    limits = {}
    for entry in allowed:
        key, _, limit = entry.rpartition(" ")
        limits[key.strip()] = int(limit)
    problems, seen = [], set()
    for module in tree.modules:
        for key, kind, lines, most in measured(module):
            if key in limits:
                seen.add(key)
            if lines > limits.get(key, most):
                problems.append(f"{key}: {kind} of {lines} lines, at most {limits.get(key, most)}: split it")
            elif key in limits and lines <= most:
                problems.append(f"sizes.txt: {key} is down to {lines} lines; remove the line")
    return problems + [f"sizes.txt: {key} does not exist; remove the line" for key in limits if key not in seen]


def measured(module: Module) -> Iterator[tuple[str, str, int, int]]:
    """Key in the list, kind, lines it has, lines it may have."""
    yield module.path, "module", module.text.count("\n"), MODULE_LINES_MAX
    yield from _measured_below(module.path, module.syntax, "")


def _measured_below(path: str, node: ast.AST, prefix: str) -> Iterator[tuple[str, str, int, int]]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{prefix}.{child.name}" if prefix else child.name
            lines = (child.end_lineno or child.lineno) - child.lineno + 1
            if isinstance(child, ast.ClassDef):
                yield f"{path}::{inner}", "class", lines, CLASS_LINES_MAX
            else:
                yield f"{path}::{inner}", "function", lines, FUNCTION_LINES_MAX
        yield from _measured_below(path, child, inner)


def texts(tree: Tree) -> list[str]:
    problems = []
    for path in tree.files:
        text = None if path.startswith(TEXT_EXEMPT) else tree.read(path)
        for number, line in enumerate((text or "").splitlines(), 1):
            for pattern, instead in TEXT_BANNED.items():
                match = re.search(pattern, line)
                if match:
                    problems.append(f"{path}:{number}: {match.group()!r} is {instead}")
    return problems


def paths(tree: Tree) -> list[str]:
    """A Cyrillic letter in a package name once hid a second copy of it from everyone."""
    return [f"{path!a}: not ASCII" for path in tree.files if not path.isascii()]


def unmirrored(tree: Tree) -> dict[str, str]:
    """Source modules without a unit test of their own, and where it should be."""
    missing = {}
    for module in filter(_has_code, tree.sources):
        *folders, name = module.path.removeprefix("actorrt/").split("/")
        mirror = "/".join(["tests/unit", *folders, f"test_{name}"])
        if mirror not in tree.files:
            missing[module.path] = mirror
    return missing


def mirrors(tree: Tree, allowed: dict[str, str]) -> list[str]:
    """actorrt/gcs/state.py <-> tests/unit/gcs/test_state.py; transports/ and store/ keep their folder."""
    missing = unmirrored(tree)
    problems = [f"{path}: no unit test; write {mirror}" for path, mirror in missing.items() if path not in allowed]
    stale = [path for path in allowed if path not in missing]
    return problems + [f"mirrors.txt: {path} has its test, or is gone; remove the line" for path in stale]


def _has_code(module: Module) -> bool:
    """False for a package page that only explains itself and re-exports names."""
    plain = ast.Import | ast.ImportFrom | ast.Expr | ast.Assign | ast.AnnAssign
    return not module.path.endswith("__init__.py") or not all(isinstance(node, plain) for node in module.syntax.body)
