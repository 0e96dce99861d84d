from actorrt.store.base import Location
from actorrt.store.effects import Answer, Freed, Reserve


def test_effects_are_values():
    assert Reserve(0, 4096, 64) == Reserve(0, 4096, 64)
    assert Freed(Location(0, 64, 1, 2)) != Freed(Location(0, 64, 1, 3))
    assert "ticket='t'" in repr(Answer("t", Location(0, 64, 1, 2)))
