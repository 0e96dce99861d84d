from actorrt.kernel.effects import Send
from actorrt.kernel.message import Address
from actorrt.objects.messages import ObjectLocated
from actorrt.owner.objects import ObjectTable
from actorrt.owner.stores import Stores
from actorrt.wire.records import Failure, Stored

NODE = Address("node", "objects")
ONE = b"1" * 20
STORED = Stored(ONE + b"a" * 8, 1000, "me", ("node",))


def table():
    objects = ObjectTable("me", lambda _dependent: None)
    objects.put([(ONE, STORED)])
    return objects, Stores(objects)


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
