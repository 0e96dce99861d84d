"""Each purity check complains when it should."""

import pytest

from tests.tidy.purity import purity, set_iteration
from tests.tidy.rules import BANNED_IN_PURE


@pytest.mark.parametrize("name", sorted(BANNED_IN_PURE))
def test_banned_import_names_the_replacement(tree, name):
    problems = purity(tree({"actorrt/gcs/nodes.py": f"import {name}\n"}))
    assert problems == [f"actorrt/gcs/nodes.py:1: pure file imports {name}: {BANNED_IN_PURE[name]}"]


@pytest.mark.parametrize(
    "path",
    ["actorrt/worker/ordering.py", "actorrt/scheduling/policy.py", "actorrt/kernel/ids.py", "store/table.py"],
)
def test_banned_from_import(tree, path):
    assert purity(tree({path: "from asyncio import sleep\n"}))


def test_waiting(tree):
    assert purity(tree({"transports/fabric.py": "async def deliver(): ...\n"}))


def test_impure_files_are_left_alone(tree):
    files = {
        "actorrt/gcs/actor.py": "import asyncio\nasync def run(): ...\n",
        "actorrt/kernel/shell.py": "import asyncio\n",
        "transports/inproc.py": "import asyncio\n",
    }
    assert purity(tree(files)) == []


def test_an_annotation_may_name_random(tree):
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import random\n"
    assert purity(tree({"actorrt/scheduling/policy.py": code})) == []


@pytest.mark.parametrize(
    "code",
    [
        "for x in {1, 2}: print(x)",
        "for x in set(y): print(x)",
        "for x in set(y) - z: print(x)",
        "seen: set[str] = set()\nrows = [x for x in seen]",
        "seen = set()\nrows = list(seen)",
        "seen = frozenset(y)\nfirst = next(iter(seen))",
        "class A:\n    waiting: set[bytes]\n    def f(self):\n        for x in self.waiting: print(x)",
        "class A:\n    def __init__(self): self.seen = set()\n    def f(self): return {x: 1 for x in self.seen}",
        "def f(ids: set[int]):\n    return tuple(ids)",
        "seen = {x for x in y}\nfor x in enumerate(seen): print(x)",
    ],
)
def test_set_iteration(tree, code):
    assert set_iteration(tree({"actorrt/gcs/state.py": code}))


@pytest.mark.parametrize(
    "code",
    [
        "for x in sorted({1, 2}): print(x)",
        "seen = set()\ntotal = sum(x for x in seen)",
        "seen = set()\nother = {x + 1 for x in seen}",
        "rows = {}\nfor x in rows: print(x)",
        "seen = set()\nfound = 3 in seen",
        "mask = 6 & 3\nfor x in range(mask): print(x)",
    ],
)
def test_order_free_use_of_sets(tree, code):
    assert set_iteration(tree({"actorrt/gcs/state.py": code})) == []
