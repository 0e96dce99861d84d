"""Each layering check complains when it should."""

import pathlib
import re
import tomllib

import pytest

from tests.tidy.layering import late_imports, layering
from tests.tidy.rules import LAYERS

BAD = [
    ("actorrt/kernel/ids.py", "import actorrt.wire.codec", "downwards"),
    ("actorrt/wire/codec.py", "from actorrt.scheduling import policy", "downwards"),
    ("actorrt/cluster/node.py", "from actorrt.api.verbs import init", "downwards"),
    ("actorrt/gcs/state.py", "from actorrt import protocol", "downwards"),
    ("actorrt/gcs/state.py", "from ..cluster import node", "downwards"),
    ("actorrt/gcs/state.py", "from actorrt.raylet.state import Raylet", "siblings"),
    ("actorrt/gcs/state.py", "from actorrt.raylet import leases", "siblings"),
    ("actorrt/wire/codec.py", "from actorrt.transports.base import Frames", "only for actorrt.wire.router"),
    ("actorrt/wire/router.py", "from actorrt.transports.zeromq import Zeromq", "cluster/"),
    ("actorrt/raylet/state.py", "from actorrt.store.base import ObjectStore", "actorrt.raylet.actor"),
    ("actorrt/raylet/actor.py", "from actorrt.store.local import LocalStore", "cluster/"),
    ("transports/inproc.py", "from actorrt.kernel import limits", "leaf"),
    ("transports/inproc.py", "import msgspec", "standard library"),
    ("store/local.py", "from actorrt.transports.base import Frames", "leaf"),
    ("store/local.py", "import transports", "installed name"),
    ("actorrt/api/verbs.py", "import store.base", "installed name"),
    ("actorrt/cluster/node.py", "from actorrt.sim import world", "nobody"),
    ("actorrt/sim/world.py", "from actorrt.cluster import node", "composition root"),
    ("actorrt/__init__.py", "from actorrt.kernel import ids", "public modules"),
    ("actorrt/attic/old.py", "", "no place"),
]

GOOD = [
    ("actorrt/gcs/state.py", "from actorrt.kernel import effects"),
    ("actorrt/gcs/state.py", "from actorrt.raylet import messages"),
    ("actorrt/gcs/state.py", "from actorrt.raylet.messages import RequestLease"),
    ("actorrt/protocol.py", "from actorrt.gcs import messages"),
    ("actorrt/wire/router.py", "from actorrt.transports.base import Transport"),
    ("actorrt/raylet/actor.py", "from actorrt.store.base import ObjectStore"),
    ("actorrt/cluster/node.py", "from actorrt.transports.zeromq import Zeromq"),
    ("actorrt/sim/world.py", "from actorrt.gcs.state import Gcs"),
    ("actorrt/api/verbs.py", "from actorrt.exceptions import GetTimeoutError"),
    ("transports/zeromq.py", "import zmq, asyncio\nfrom actorrt.transports import base"),
    ("store/arrow.py", "import pyarrow"),
]


@pytest.mark.parametrize(("path", "code", "complaint"), BAD)
def test_complains(tree, path, code, complaint):
    problems = layering(tree({path: code}))
    assert problems
    assert complaint in problems[0]


@pytest.mark.parametrize(("path", "code"), GOOD)
def test_accepts(tree, path, code):
    assert layering(tree({path: code})) == []


def test_late_import(tree):
    made = tree({"actorrt/api/refs.py": "def f():\n    from actorrt.api import verbs\n"})
    assert late_imports(made, {})
    assert late_imports(made, {"actorrt/api/refs.py:actorrt.api": "cycle of two public names"}) == []


def test_stale_late_import(tree):
    made = tree({"actorrt/api/refs.py": "from actorrt.api import verbs\n"})
    assert "remove the line" in late_imports(made, {"actorrt/api/refs.py:actorrt.api": "was needed"})[0]


def test_both_lines_of_defence_agree():
    """import-linter and these tests hold the same layers, top first there and bottom first here."""
    settings = tomllib.loads((pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    assert [frozenset(re.findall(r"\w+", layer)) for layer in layers] == list(reversed(LAYERS))
