import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from actorrt.cluster import session


@pytest.fixture
def short_path() -> Iterator[Path]:
    """pytest's own folders are too deep for sockets."""
    with tempfile.TemporaryDirectory(prefix="ac-") as folder:
        yield Path(folder)


@pytest.fixture
def root(short_path, monkeypatch) -> Path:
    """A user's folder of its own; nothing of the real one is seen."""
    monkeypatch.setenv(session.TEMP_VARIABLE, str(short_path))
    monkeypatch.delenv("ACTORRT_ADDRESS", raising=False)
    return session.root_folder()
