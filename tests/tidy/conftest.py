import itertools
import pathlib
import textwrap
from collections.abc import Callable

import pytest

from tests.tidy.tree import Tree

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def repository() -> Tree:
    return Tree.of_repository(ROOT)


@pytest.fixture
def tree(tmp_path) -> Callable[..., Tree]:
    """Makes up a small source tree, a new one per call: tree({"actorrt/gcs/state.py": "import asyncio"})."""
    numbers = itertools.count()

    def make(files: dict[str, str]) -> Tree:
        root = tmp_path / str(next(numbers))
        root.mkdir()
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return Tree.of_folder(root)

    return make
