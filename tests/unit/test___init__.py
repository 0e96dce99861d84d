"""The package's face: names, where they live, and what importing it loads."""

import ast
import importlib
import pathlib
import subprocess
import sys
import tomllib

import pytest

import actorrt
from actorrt import util

ROOT = pathlib.Path(__file__).parents[2]
RUNTIME = ("actorrt.api", "actorrt.kernel", "actorrt.wire", "actorrt.owner", "asyncio", "msgspec", "zmq")


def loaded_by(code):
    """Modules of a fresh interpreter after ``code``."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_version():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert actorrt.__version__ == settings["project"]["version"]


@pytest.mark.parametrize("package", [actorrt, util], ids=lambda package: package.__name__)
def test_names_agree(package):
    """What is listed, what is found lazily, and what type checkers see are the same names."""
    lazy = {*package._HOMES, *package._MODULES}
    assert {name for name in package.__all__ if name != "__version__"} <= lazy
    assert set(package._HOMES) <= set(package.__all__)
    tree = ast.parse(pathlib.Path(package.__file__).read_text(encoding="utf-8"))
    typing = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name for node in typing.body for alias in node.names}
    assert seen == {name for name in package.__all__ if name != "__version__"}
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("name", [name for name in actorrt.__all__ if name != "__version__"])
def test_every_name_exists(name):
    value = getattr(actorrt, name)
    home = actorrt._HOMES.get(name)
    expected = f"actorrt.{home}" if home else f"actorrt.{name}"
    assert expected in sys.modules
    assert getattr(actorrt, name) is value


@pytest.mark.parametrize("package", [actorrt, util], ids=lambda package: package.__name__)
def test_unknown_names(package):
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = package.no_such_name


def test_a_module_that_fails_to_import_says_why(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError("No module named 'something_else'", name="something_else")

    monkeypatch.delitem(actorrt.__dict__, "testing", raising=False)
    monkeypatch.setattr(actorrt, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="something_else"):
        _ = actorrt.testing


def test_import_loads_nothing():
    loaded = loaded_by("import actorrt")
    assert not [name for name in RUNTIME if name in loaded]


@pytest.mark.parametrize("layer", ["store", "transports"])
def test_layers_load_without_the_runtime(layer):
    if importlib.util.find_spec(f"actorrt.{layer}") is None:
        pytest.skip(f"actorrt.{layer} is not built yet")
    loaded = loaded_by(f"import actorrt.{layer}")
    assert not [name for name in loaded if name.startswith("actorrt.") and name.split(".")[1] != layer]
