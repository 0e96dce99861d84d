"""Each style check complains when it should."""

import pytest

from tests.tidy import style
from tests.tidy.rules import CLASS_LINES_MAX, FUNCTION_LINES_MAX, MODULE_LINES_MAX
from tests.tidy.tree import read_list


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\nexcept: pass",
        "try: f()\nexcept Exception: pass",
        "try: f()\nexcept BaseException as error: ...",
        "try: f()\nexcept (ValueError, Exception): pass",
        "for x in y:\n    try: f()\n    except Exception:\n        'ignored'\n        continue",
        "import contextlib\nwith contextlib.suppress(Exception): f()",
        "from contextlib import suppress\nwith suppress(OSError, BaseException): f()",
    ],
)
def test_swallowed(tree, code):
    assert style.swallowed(tree({"transports/inproc.py": code}))


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\nexcept ValueError: pass",
        "try: f()\nexcept Exception as error: report(error)",
        "try: f()\nexcept Exception: raise",
        "import contextlib\nwith contextlib.suppress(OSError): f()",
    ],
)
def test_not_swallowed(tree, code):
    assert style.swallowed(tree({"transports/inproc.py": code})) == []


SLEEPY = [
    "import time\ntime.sleep(1)",
    "import time as clock\nclock.sleep(1)",
    "from time import sleep\nsleep(1)",
    "from asyncio import sleep as rest\nasync def f(): await rest(0.1)",
    "import asyncio\nasync def f(): await asyncio.sleep(0.1)",
]


@pytest.mark.parametrize("code", SLEEPY)
def test_sleeps(tree, code):
    assert style.sleeps(tree({"tests/unit/test_x.py": code}))


@pytest.mark.parametrize("code", SLEEPY)
def test_sleeps_where_allowed(tree, code):
    assert style.sleeps(tree({"tests/e2e/test_x.py": code, "actorrt/cluster/node.py": code})) == []


def test_yielding_is_not_sleeping(tree):
    assert style.sleeps(tree({"tests/unit/test_x.py": "import asyncio\nasync def f(): await asyncio.sleep(0)"})) == []


def lines(head, count):
    """A definition of exactly `count` lines."""
    return head + "\n" + "    x = 1\n" * (count - 1)


@pytest.mark.parametrize(
    ("head", "most"),
    [("def f():", FUNCTION_LINES_MAX), ("async def f():", FUNCTION_LINES_MAX), ("class f:", CLASS_LINES_MAX)],
)
def test_sizes_of_definitions(tree, head, most):
    assert style.sizes(tree({"store/a.py": lines(head, most)}), {}) == []
    grown = tree({"store/a.py": lines(head, most + 1)})
    assert style.sizes(grown, {})
    assert style.sizes(grown, {f"store/a.py::f {most + 1}": "a reason"}) == []


def test_size_of_a_method(tree):
    body = "class A:\n    def f(self):\n" + "        x = 1\n" * FUNCTION_LINES_MAX
    assert style.sizes(tree({"store/a.py": body}), {})[0].startswith("store/a.py::A.f:")


def test_size_of_a_module(tree):
    assert style.sizes(tree({"store/a.py": "x = 1\n" * MODULE_LINES_MAX}), {}) == []
    grown = tree({"store/a.py": "x = 1\n" * (MODULE_LINES_MAX + 1)})
    assert style.sizes(grown, {})
    assert style.sizes(grown, {f"store/a.py {MODULE_LINES_MAX + 1}": "a reason"}) == []


def test_sizes_only_shrink(tree):
    grown = tree({"store/a.py": lines("def f():", FUNCTION_LINES_MAX + 5)})
    assert style.sizes(grown, {f"store/a.py::f {FUNCTION_LINES_MAX + 4}": "a reason"})
    shrunk = tree({"store/a.py": lines("def f():", 3)})
    assert "remove the line" in style.sizes(shrunk, {f"store/a.py::f {FUNCTION_LINES_MAX + 5}": "a reason"})[0]
    assert "remove the line" in style.sizes(shrunk, {f"store/gone.py {MODULE_LINES_MAX + 5}": "a reason"})[0]


@pytest.mark.parametrize(
    "line",
    [
        "see /home/alice/actorrt",
        'ROOT = "/root/main"',
        "cd /work/main && ./check",
        'path = "/tmp/actorrt-1"',
        "pip install --index-url example actorrt",
        "from https://pypi.org/simple",
    ],
)
def test_texts(tree, line):
    assert style.texts(tree({"docs/hacking.md": line}))


@pytest.mark.parametrize("line", ["bench/work/a.py", "the shared/home/x folder", "ipc:///tmp/x", "/dev/shm/actorrt"])
def test_texts_left_alone(tree, line):
    assert style.texts(tree({"docs/hacking.md": line})) == []


def test_texts_skips_what_is_not_text(tree):
    made = tree({})
    (made.root / "picture.bin").write_bytes(b"\xff\xfe/home/alice")
    assert style.texts(type(made).of_folder(made.root)) == []


def test_paths(tree):
    assert style.paths(tree({"a\u0441torrt/state.py": ""}))
    assert style.paths(tree({"actorrt/state.py": ""})) == []


def test_mirrors(tree):
    files = {"actorrt/gcs/state.py": "", "store/table.py": "", "actorrt/gcs/__init__.py": '"""Theory."""\n'}
    assert len(style.mirrors(tree(files), {})) == 2
    assert style.mirrors(tree(files), {"actorrt/gcs/state.py": "a reason", "store/table.py": "a reason"}) == []
    tests = {"tests/unit/gcs/test_state.py": "", "tests/unit/store/test_table.py": ""}
    whole = tree({**files, **tests})
    assert style.mirrors(whole, {}) == []
    assert "remove the line" in style.mirrors(whole, {"store/table.py": "a reason"})[0]


def test_a_list_wants_reasons(tmp_path):
    listing = tmp_path / "sizes.txt"
    listing.write_text("# comment\n\nstore/a.py 700  # generated\n")
    assert read_list(listing) == {"store/a.py 700": "generated"}
    for bad in ("store/a.py 700\n", "store/a.py 700  # \n", "a  # b\na  # c\n"):
        listing.write_text(bad)
        with pytest.raises(ValueError, match="want `entry  # reason`"):
            read_list(listing)
