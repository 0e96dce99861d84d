"""The repository keeps its own rules. What each check means, and that it can fail, is in the other files here."""

import pathlib
import subprocess
import sys

from tests.tidy import layering, purity, style
from tests.tidy.tree import read_list

HERE = pathlib.Path(__file__).parent


def report(problems):
    assert not problems, "\n".join(["", *problems])


def test_finds_the_sources(repository):
    """A check that looks at nothing passes; so make sure there is something."""
    paths = {module.path for module in repository.sources}
    assert {"actorrt/kernel/message.py", "transports/base.py"} <= paths
    assert not [path for path in paths if path.startswith(("actorrt/store/", "actorrt/transports/"))]


def test_layering(repository):
    report(layering.layering(repository))


def test_late_imports(repository):
    report(layering.late_imports(repository, read_list(HERE / "late_imports.txt")))


def test_purity(repository):
    report(purity.purity(repository))


def test_set_iteration(repository):
    report(purity.set_iteration(repository))


def test_swallowed(repository):
    report(style.swallowed(repository))


def test_sleeps(repository):
    report(style.sleeps(repository))


def test_sizes(repository):
    report(style.sizes(repository, read_list(HERE / "sizes.txt")))


def test_texts(repository):
    report(style.texts(repository))


def test_paths(repository):
    report(style.paths(repository))


def test_mirrors(repository):
    report(style.mirrors(repository, read_list(HERE / "mirrors.txt")))


def test_import_is_light():
    """`import actorrt` stays cheap: Arrow and NumPy are loaded when a value needs them."""
    code = "import sys, actorrt; print(sorted({'pyarrow', 'numpy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_leaves_load_without_the_runtime():
    """actorrt.transports and actorrt.store stand alone: importing them pulls in nothing else of ours."""
    code = """
import sys, actorrt.transports.base, actorrt.store.base
print(sorted({name.split(".")[1] for name in sys.modules if name.startswith("actorrt.")} - {"transports", "store"}))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
