"""What lies here, and what is gone."""

import pytest

from actorrt.kernel.limits import AUDIT_INTERVAL_S, VERIFY_KEYS_MAX
from actorrt.objects.catalog import Catalog, Entry


def entry(key, owner="p", writer="w", now=0.0, size_bytes=10):
    return Entry(key, size_bytes, owner, writer, now, is_copy=not writer)


def filled(*entries, **options):
    catalog = Catalog(**options)
    for item in entries:
        catalog.add(item)
    return catalog


def test_objects_are_found_by_key_owner_and_writer():
    catalog = filled(entry(b"1"), entry(b"2", owner="q"), entry(b"3", writer=""))
    assert b"1" in catalog
    assert (len(catalog), catalog.size_bytes) == (3, 30)
    assert catalog.owned_by("p") == [b"1", b"3"]
    assert catalog.owned_by("nobody") == []
    assert catalog.forget_writer("w") == {"p": [b"1"], "q": [b"2"]}
    assert catalog.forget_writer("w") == {}
    catalog.check()


def test_what_is_removed_is_gone_until_it_comes_again():
    catalog = filled(entry(b"1"))
    assert not catalog.is_gone(b"1")
    assert catalog.remove(b"1").key == b"1"
    assert catalog.remove(b"1") is None
    assert catalog.is_gone(b"1")
    assert (len(catalog), catalog.size_bytes, catalog.owned_by("p"), catalog.forget_writer("w")) == (0, 0, [], {})
    catalog.add(entry(b"1", writer=""))
    assert not catalog.is_gone(b"1")
    catalog.check()


def test_the_oldest_of_what_is_gone_is_forgotten():
    catalog = filled(gone_max=2)
    for key in (b"1", b"2", b"1", b"3"):
        catalog.remember_gone(key)
    assert [catalog.is_gone(key) for key in (b"1", b"2", b"3")] == [True, False, True]
    catalog.check()


def test_an_object_is_here_once():
    catalog = filled(entry(b"1"))
    with pytest.raises(AssertionError, match="is here already"):
        catalog.add(entry(b"1"))


def test_owners_are_asked_in_turn():
    keys = [number.to_bytes(2, "big") for number in range(VERIFY_KEYS_MAX + 2)]
    catalog = filled(*(entry(key) for key in keys), entry(b"fresh", now=5.0), entry(b"q", owner="q"))
    assert catalog.audit(AUDIT_INTERVAL_S - 1) == []
    assert catalog.audit(AUDIT_INTERVAL_S) == [("p", keys[:-2]), ("q", [b"q"])]
    catalog.check()
    assert catalog.audit(AUDIT_INTERVAL_S) == [("p", keys[-2:])]
    assert catalog.audit(AUDIT_INTERVAL_S) == []
    assert catalog.audit(2 * AUDIT_INTERVAL_S)[0] == ("p", [b"fresh", *keys[: VERIFY_KEYS_MAX - 1]])
    catalog.check()


def test_check_sees_a_wrong_index():
    catalog = filled(entry(b"1"))
    catalog.entries[b"1"].writer = "other"
    with pytest.raises(AssertionError):
        catalog.check()
