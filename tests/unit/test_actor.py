"""actorrt.actor only gives names to what api.actors defines."""

from actorrt import actor
from actorrt.api import actors


def test_names():
    for name in actor.__all__:
        assert getattr(actor, name) is getattr(actors, name)
