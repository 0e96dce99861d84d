"""The promises are checked by the conformance suite; here is what is particular to the fake."""

import pytest

from actorrt.store.conformance import CLIENT, put
from actorrt.store.errors import ObjectStoreFull
from actorrt.store.memory import MemoryStore


def test_it_counts_like_the_real_one():
    store = MemoryStore(1000)
    put(store, b"key", bytes(100))
    assert store.statistics().used_bytes == 192
    with pytest.raises(ObjectStoreFull):
        store.create(b"more", 800, CLIENT)
    store.delete(b"key")
    assert store.statistics().used_bytes == 0


def test_a_view_is_of_the_object_itself_and_read_only():
    store = MemoryStore(1000)
    location = put(store, b"key", b"abc")
    view = store.get(b"key", CLIENT)
    store.buffer(location)[0] = ord("A")
    assert (bytes(view), view.readonly) == (b"Abc", True)
