from actorrt.kernel.effects import Send
from actorrt.kernel.message import Address
from actorrt.objects.messages import ObjectLocated
from actorrt.owner.lineage import Lineage
from actorrt.owner.messages import GetObjects
from actorrt.owner.objects import ObjectTable
from actorrt.owner.stores import Stores
from actorrt.wire.records import Failure, RefInfo, Stored

NODE = Address("node", "objects")
ONE = b"1" * 20
STORED = Stored(ONE + b"a" * 8, 1000, "me", ("node",))


def table():
    objects = ObjectTable("me", lambda _dependent: None)
    objects.put([(ONE, STORED)])
    lineage = Lineage(objects, lambda _task: None)
    objects.remake, objects.on_stored_gone = lineage.remake, lineage.dropped
    return objects, Stores(objects, lineage)


def located(stores, key):
    effects = []
    stores.locate(NODE, key, effects)
    ((answer),) = effects
    assert isinstance(answer, Send)
    assert answer.dst == NODE
    return answer.body


def test_locating():
    _, stores = table()
    assert located(stores, STORED.key) == ObjectLocated(STORED.key, ("node",))
    assert located(stores, ONE + b"other...").failure.kind == "ObjectLostError"
    assert located(stores, b"unknown" * 4).failure.kind == "ObjectLostError"


def test_a_lost_value_says_why():
    objects, stores = table()
    stores.node_gone("node", "fire")
    failure = objects.records[ONE].result
    assert isinstance(failure, Failure)
    assert "fire" in failure.text
    assert located(stores, STORED.key) == ObjectLocated(STORED.key, (), failure)
    objects.check()


def test_copies_come_and_go():
    objects, stores = table()
    stores.copies_added((STORED.key,), "other")
    stores.copies_removed((STORED.key,), "node")
    assert located(stores, STORED.key).holders == ("other",)
    stores.copies_removed((STORED.key,), "other")
    assert "dropped by other" in objects.records[ONE].result.text


def test_verifying_enters_what_was_not_heard_of():
    objects, stores = table()
    stores.verify((STORED.key, b"unknown" * 4), "third")
    assert objects.holdings.holders(STORED.key) == ("node", "third")
    effects = []
    objects.holdings.flush(effects)
    assert [effect.body.keys for effect in effects] == [(b"unknown" * 4,)]


def test_renewing_what_is_here_changes_nothing():
    objects, stores = table()
    stores.renew(RefInfo(ONE, "me"), STORED.key)
    stores.renew(RefInfo(ONE, "me"), b"older key")
    assert objects.records[ONE].result is STORED


def test_a_borrowed_value_is_asked_for_again_once_per_key():
    objects, stores = table()
    theirs = RefInfo(b"t" * 20, "other")
    objects.add_refs([theirs])
    record = objects.records[theirs.object_id]
    stale = Stored(theirs.object_id + b"a" * 8, 1000, "other", ("node",))
    objects.resolve(theirs.object_id, record, stale, received=True)
    stores.renew(theirs, b"older key")
    assert record.result is stale
    stores.renew(theirs, stale.key)
    assert record.result is None
    objects.flush()
    assert [(effect.dst.process, effect.body) for effect in objects.effects] == [
        ("other", GetObjects((theirs.object_id,)))
    ]
