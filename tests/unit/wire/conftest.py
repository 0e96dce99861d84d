import tempfile

import pytest


@pytest.fixture(params=["inproc", "unix", "ipc"])
def kind(request):
    return request.param


@pytest.fixture
def folder():
    # Not tmp_path: a socket's path may have about a hundred characters only.
    with tempfile.TemporaryDirectory(prefix="actorrt-") as made:
        yield made
