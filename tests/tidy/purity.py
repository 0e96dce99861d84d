"""Pure files: machines, planners and arithmetic that neither wait nor look at the world (house rules 2, 3 and 8)."""

import ast
from collections.abc import Iterator

from tests.tidy.rules import BANNED_IN_PURE, IMPURE, PURE_GLOBS
from tests.tidy.tree import Module, Tree

# Consumers for which the order of what they are fed does not matter.
ORDER_FREE = frozenset({"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum"})
SET_MAKERS = frozenset({"frozenset", "set"})
SET_TYPES = frozenset({"frozenset", "set", "Set", "AbstractSet", "MutableSet"})


def pure_modules(tree: Tree) -> list[Module]:
    return [module for module in tree.matching(PURE_GLOBS) if module.path not in IMPURE]


def purity(tree: Tree) -> list[str]:
    problems = []
    for module in pure_modules(tree):
        for item in module.imports:
            instead = BANNED_IN_PURE.get(item.target.split(".")[0])
            if instead and not item.typing_only:
                problems.append(f"{module.path}:{item.line}: pure file imports {item.target}: {instead}")
        for node in ast.walk(module.syntax):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                problems.append(f"{module.path}:{node.lineno}: pure file waits: {BANNED_IN_PURE['asyncio']}")
    return problems


def set_iteration(tree: Tree) -> list[str]:
    """String hashing differs per process, so the order of a set is not reproducible."""
    problems = []
    for module in pure_modules(tree):
        names = _names_of_sets(module.syntax)
        for loop in _ordered_iterations(module.syntax):
            if _is_set(loop, names):
                what = ast.unparse(loop)
                problems.append(f"{module.path}:{loop.lineno}: iterates a set ({what}): sort it, or keep a dict")
    return problems


def _names_of_sets(syntax: ast.AST) -> set[str]:
    """Variables and attributes annotated as, or bound to, a set anywhere in the module (by their text)."""
    names = set()
    for node in ast.walk(syntax):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            outer = node.annotation.value if isinstance(node.annotation, ast.Subscript) else node.annotation
            if ast.unparse(outer).split(".")[-1] in SET_TYPES:
                names.add(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target))
        elif isinstance(node, ast.Assign) and _is_set(node.value, set()):
            names.update(ast.unparse(target) for target in node.targets)
    # A field of a Struct or dataclass is declared bare and used through self.
    return names | {f"self.{name}" for name in names if "." not in name}


def _is_set(node: ast.expr, names: set[str]) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.Sub | ast.BitXor):
        return _is_set(node.left, names) or _is_set(node.right, names)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in SET_MAKERS
    return isinstance(node, ast.Set | ast.SetComp) or ast.unparse(node) in names


def _ordered_iterations(syntax: ast.AST) -> Iterator[ast.expr]:
    """Every iterable whose order can be seen afterwards."""
    free = set()
    for node in ast.walk(syntax):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ORDER_FREE:
                free.update(id(argument) for argument in node.args)
            elif node.func.id in {"list", "tuple", "iter", "enumerate", "next", "zip", "map"}:
                yield from (argument for argument in node.args if not isinstance(argument, ast.Starred))
        elif isinstance(node, ast.For):
            yield node.iter
        elif isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp) and id(node) not in free:
            yield from (generator.iter for generator in node.generators)
