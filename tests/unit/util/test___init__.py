"""actorrt.util finds its names on first use (the rest is tested with the package itself)."""

import pytest

from actorrt import util


@pytest.mark.parametrize("name", util.__all__)
def test_every_name_exists(name):
    assert getattr(util, name) is getattr(util, name)
