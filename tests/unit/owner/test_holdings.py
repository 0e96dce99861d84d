from actorrt.kernel.effects import Send
from actorrt.kernel.message import Address
from actorrt.objects.messages import FreeObjects
from actorrt.owner.holdings import Holdings, object_id_of
from actorrt.wire.records import Stored

ONE, TWO = b"1" * 20, b"2" * 20


def stored(object_id=ONE, attempt=b"a" * 8, holders=("n1",)):
    return Stored(object_id + attempt, 1000, "me", holders)


def flushed(holdings):
    effects = []
    holdings.flush(effects)
    assert all(isinstance(effect, Send) and effect.dst.actor == "objects" for effect in effects)
    return {effect.dst.process: effect.body.keys for effect in effects if isinstance(effect.body, FreeObjects)}


def test_an_object_is_freed_wherever_it_lies():
    holdings = Holdings()
    first, second = stored(), stored(TWO, holders=("n2",))
    holdings.enter(first)
    holdings.enter(second)
    holdings.copies_added((first.key,), "n2")
    holdings.copies_added((first.key,), "n2")
    assert holdings.current(first).holders == ("n1", "n2")
    assert holdings.current(second) is second
    assert holdings.holders(first.key) == ("n1", "n2")
    holdings.free(ONE)
    holdings.free(TWO)
    holdings.free(ONE)
    assert flushed(holdings) == {"n1": (first.key,), "n2": (first.key, second.key)}
    assert flushed(holdings) == {}
    assert len(holdings) == 0


def test_what_nobody_needs_is_freed_when_it_is_heard_of():
    holdings = Holdings()
    known, other = stored(), stored(attempt=b"b" * 8)
    holdings.enter(known)
    holdings.discard(known)
    assert flushed(holdings) == {}
    holdings.discard(other)
    assert flushed(holdings) == {"n1": (other.key,)}
    holdings.copies_added((other.key, known.key), "n3")
    assert flushed(holdings) == {"n3": (other.key,)}
    assert holdings.holders(other.key) == ()
    assert holdings.current(other) is other


def test_what_no_node_has_is_lost():
    holdings = Holdings()
    first, second = stored(), stored(TWO)
    holdings.enter(first)
    holdings.enter(second)
    holdings.copies_added((first.key,), "n2")
    assert holdings.node_gone("n1") == [TWO]
    assert holdings.copies_removed((first.key, second.key), "n1") == []
    assert holdings.copies_removed((first.key,), "n2") == [ONE]
    assert holdings.copies_removed((first.key,), "n2") == []
    assert holdings.lose(ONE) == "put"
    holdings.lose(TWO)
    assert flushed(holdings) == {}
    assert ONE not in holdings
    assert list(holdings.gone) == [ONE, TWO]
    holdings.free(ONE)
    holdings.enter(stored(TWO))
    assert holdings.gone == {}


def test_an_evicted_value_is_freed_and_what_made_it_remembered():
    holdings = Holdings()
    holdings.enter(stored(), "task")
    holdings.evict(ONE)
    assert flushed(holdings) == {"n1": (stored().key,)}
    assert holdings.gone == {ONE: "task"}
    assert ONE not in holdings


def test_nothing_is_sent_to_a_dead_node():
    holdings = Holdings()
    holdings.enter(stored())
    holdings.free(ONE)
    holdings.node_gone("n1")
    assert flushed(holdings) == {}


def test_a_key_begins_with_the_id_of_its_object():
    assert object_id_of(stored().key) == ONE
    effects = []
    holdings = Holdings()
    holdings.enter(stored())
    holdings.free(ONE)
    holdings.flush(effects)
    assert effects == [Send(Address("n1", "objects"), FreeObjects((stored().key,)))]
