from actorrt.store.errors import NotSealed, ObjectNotFound, ObjectStoreFull, ObjectTooLarge, StoreError


def test_a_missing_object_is_a_key_error_with_a_readable_text():
    error = NotSealed("the object 00ff is still being written")
    assert isinstance(error, (ObjectNotFound, KeyError))
    assert str(error) == "the object 00ff is still being written"


def test_a_full_store_is_a_memory_error():
    assert issubclass(ObjectTooLarge, ObjectStoreFull)
    assert issubclass(ObjectStoreFull, (StoreError, MemoryError))
