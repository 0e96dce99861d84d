"""Bringing the lists up to date never loosens them without a reason."""

import pytest

from tests.tidy.layering import late_imports
from tests.tidy.relist import relist
from tests.tidy.rules import FUNCTION_LINES_MAX
from tests.tidy.style import mirrors, sizes
from tests.tidy.tree import read_list

LISTS = ("mirrors.txt", "late_imports.txt", "sizes.txt")
LONG = "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX


@pytest.fixture
def lists(tmp_path):
    for name in LISTS:
        (tmp_path / name).write_text("# head\n")
    return tmp_path


def problems(tree, lists):
    mirrored, late, sized = (read_list(lists / name) for name in LISTS)
    return [*mirrors(tree, mirrored), *late_imports(tree, late), *sizes(tree, sized)]


def test_new_lines_want_a_reason(tree, lists):
    made = tree({"store/a.py": LONG, "store/b.py": "def g():\n    from actorrt.store import a\n"})
    relist(made, lists)
    assert [read_list(lists / name) for name in LISTS] == [{}, {}, {}]
    relist(made, lists, "a reason")
    assert problems(made, lists) == []
    assert all((lists / name).read_text().startswith("# head\n") for name in LISTS)
    assert set(read_list(lists / "mirrors.txt").values()) == {"a reason"}


def test_stale_lines_go_and_known_reasons_stay(tree, lists):
    (lists / "mirrors.txt").write_text("store/a.py  # known\nstore/gone.py  # stale\n")
    (lists / "late_imports.txt").write_text("store/a.py:pyarrow  # stale\n")
    (lists / "sizes.txt").write_text(f"store/a.py::f {FUNCTION_LINES_MAX + 9}  # known\nstore/gone.py 700  # stale\n")
    made = tree({"store/a.py": LONG})
    relist(made, lists, "another reason")
    assert read_list(lists / "mirrors.txt") == {"store/a.py": "known"}
    assert read_list(lists / "late_imports.txt") == {}
    assert read_list(lists / "sizes.txt") == {f"store/a.py::f {FUNCTION_LINES_MAX + 1}": "known"}
    assert problems(made, lists) == []
