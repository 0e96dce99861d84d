"""What the checks look at: a source tree (the repository, or one made up by a test) and its parsed modules."""

import ast
import fnmatch
import functools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE_ROOTS = ("actorrt", "transports", "store")
PYTHON_ROOTS = (*SOURCE_ROOTS, "examples", "bench", "tests")


@dataclass(frozen=True)
class Import:
    """One imported module, absolute; `from a import b` yields both `a` and `a.b`, as b may be a module."""

    target: str
    line: int
    typing_only: bool
    late: bool


@dataclass(frozen=True)
class Module:
    path: str
    text: str = field(repr=False)

    @functools.cached_property
    def syntax(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def name(self) -> str:
        """The installed name: transports/base.py is actorrt.transports.base."""
        parts = list(Path(self.path).with_suffix("").parts)
        if parts[0] in {"transports", "store"}:
            parts.insert(0, "actorrt")
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        """`gcs` of actorrt.gcs.state; empty for actorrt itself."""
        return self.name.split(".")[1] if "." in self.name else ""

    @functools.cached_property
    def imports(self) -> list[Import]:
        return list(self._walk(self.syntax, typing_only=False, late=False))

    def _walk(self, node: ast.AST, *, typing_only: bool, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inner_late = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            inner_typing = typing_only or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            for target in self._targets(child):
                yield Import(target, child.lineno, inner_typing, inner_late)
            yield from self._walk(child, typing_only=inner_typing, late=inner_late)

    def _targets(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                depth = node.level - Path(self.path).name.startswith("__init__.")
                package = self.name.split(".")
                base = ".".join(filter(None, [*package[: len(package) - depth], base]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


class Tree:
    """Files below a root. `files` are paths with forward slashes, links not followed."""

    def __init__(self, root: Path, files: list[str]) -> None:
        self.root = root
        self.files = sorted(files)

    @classmethod
    def of_repository(cls, root: Path) -> "Tree":
        """Tracked files and those not yet added; outside git (an unpacked archive) every file."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if listing.returncode == 0:
            names = {name for name in listing.stdout.split("\0") if name}
            return cls(root, [name for name in names if (root / name).is_file() and not (root / name).is_symlink()])
        return cls.of_folder(root)

    @classmethod
    def of_folder(cls, root: Path) -> "Tree":
        found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        names = (path.relative_to(root).as_posix() for path in found)
        return cls(root, [name for name in names if not name.startswith((".venv", ".git/"))])

    def read(self, path: str) -> str | None:
        """The text of a file, None when it is not text."""
        try:
            return (self.root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return None

    @functools.cached_property
    def modules(self) -> list[Module]:
        return [
            Module(path, self.read(path) or "")
            for path in self.files
            if path.endswith(".py") and path.split("/")[0] in PYTHON_ROOTS
        ]

    @property
    def sources(self) -> list[Module]:
        return [module for module in self.modules if module.path.split("/")[0] in SOURCE_ROOTS]

    def matching(self, patterns: tuple[str, ...]) -> list[Module]:
        return [m for m in self.modules if any(fnmatch.fnmatchcase(m.path, pattern) for pattern in patterns)]


def read_list(path: Path) -> dict[str, str]:
    """A list file: `entry  # reason` per line. A missing reason is an error: the reason is the point of the list."""
    entries: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        entry, _, reason = line.partition("  # ")
        if not reason.strip() or entry.strip() in entries:
            raise ValueError(f"{path.name}:{number}: want `entry  # reason`, once each, got {line!r}")
        entries[entry.strip()] = reason.strip()
    return entries
