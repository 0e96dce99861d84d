import pytest

from actorrt.gcs import kv as kv_module
from actorrt.gcs.kv import Kv
from actorrt.gcs.messages import KvAnswer, KvDelete, KvGet, KvKeyList, KvKeys, KvPut
from actorrt.kernel.message import RequestFailed


@pytest.fixture
def kv():
    store = Kv()
    yield store
    store.check()


def test_put_get_delete(kv):
    assert kv.get(KvGet("n", b"k")) == KvAnswer(False)
    assert kv.put(KvPut("n", b"k", b"v")) == KvAnswer(True)
    assert kv.put(KvPut("n", b"k", b"w")) == KvAnswer(False)
    assert kv.get(KvGet("n", b"k")) == KvAnswer(True, b"w")
    assert kv.get(KvGet("other", b"k")) == KvAnswer(False)
    assert kv.delete(KvDelete("n", b"k")) == KvAnswer(True)
    assert kv.delete(KvDelete("n", b"k")) == KvAnswer(False)
    assert (kv.namespaces, kv.bytes_used, kv.count()) == ({}, 0, 0)


def test_without_overwrite_the_first_value_stays(kv):
    assert kv.put(KvPut("n", b"k", b"v", overwrite=False)) == KvAnswer(True)
    assert kv.put(KvPut("n", b"k", b"w", overwrite=False)) == KvAnswer(False)
    assert kv.get(KvGet("n", b"k")).value == b"v"


def test_an_empty_value_is_a_value(kv):
    kv.put(KvPut("n", b"", b""))
    assert kv.get(KvGet("n", b"")) == KvAnswer(True, b"")
    assert kv.put(KvPut("n", b"", b"x")) == KvAnswer(False)


def test_keys_are_sorted_and_filtered(kv):
    for key in (b"b2", b"a", b"b1"):
        kv.put(KvPut("n", key, b""))
    assert kv.keys(KvKeys("n")) == KvKeyList((b"a", b"b1", b"b2"))
    assert kv.keys(KvKeys("n", b"b")) == KvKeyList((b"b1", b"b2"))
    assert kv.keys(KvKeys("other")) == KvKeyList(())


def test_bounds(kv, monkeypatch):
    monkeypatch.setattr(kv_module, "KV_KEY_BYTES_MAX", 4)
    monkeypatch.setattr(kv_module, "KV_VALUE_BYTES_MAX", 8)
    monkeypatch.setattr(kv_module, "KV_BYTES_MAX", 20)
    for message in (KvPut("n", b"12345", b""), KvPut("n", b"k", b"123456789")):
        answer = kv.put(message)
        assert isinstance(answer, RequestFailed)
        assert answer.kind == "Overloaded"
    kv.put(KvPut("n", b"a", b"12345678"))
    kv.put(KvPut("n", b"b", b"12345678"))
    assert kv.put(KvPut("n", b"c", b"12345678")).kind == "Overloaded"
    assert kv.put(KvPut("n", b"b", b"1234567")) == KvAnswer(False)  # replacing makes room for itself
    assert kv.put(KvPut("n", b"c", b"")) == KvAnswer(True)
    assert kv.bytes_used == 9 + 8 + 1


def test_check_can_fail(kv):
    kv.put(KvPut("n", b"k", b"v"))
    kv.bytes_used += 1
    with pytest.raises(AssertionError):
        kv.check()
    kv.bytes_used -= 1
