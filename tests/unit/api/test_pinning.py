"""Values that are not where they were said to be are asked for again."""

from concurrent.futures import Future

import pytest

from actorrt.api import pinning as pinning_module
from actorrt.api.pinning import Pinning
from actorrt.objects.messages import ObjectsPinned, Place
from actorrt.wire.records import Failure, Stored, Value

LOST = Failure("ObjectLostError", "nobody has it")
PLACES = [Place(0, 64 * number, 10, number) for number in range(10)]


def stored(number, attempt=b"a"):
    return Stored(b"%d" % number * 20 + attempt * 8, 1000, "owner", ("node",))


class World:
    """A shelf whose answers are scripted, an owner too, and a clock."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self.asked = []
        self.answers = []
        self.released = []
        self.renewals = []
        self.timers = []
        self.tickets = 0
        self.withdrawn = []
        monkeypatch.setattr(pinning_module.time, "monotonic", lambda: self.now)

    def next_ticket(self):
        self.tickets += 1
        return self.tickets

    def withdraw(self, ticket):
        self.withdrawn.append(ticket)

    def pin(self, wanted, ticket, *, for_arguments=False):
        assert ticket == self.tickets
        self.asked.append((list(wanted), for_arguments))
        future = Future()
        future.set_running_or_notify_cancel()
        self.answers.append(future)
        return future

    def release_places(self, found):
        self.released.extend(place for place in found if isinstance(place, Place))

    def later(self, delay_s, callback):
        self.timers.append((delay_s, callback))

    def renew(self, stale, done):
        self.renewals.append((list(stale), done))

    def start(self, *values, **more):
        return Pinning(self, self.renew, list(values), **more)

    def found(self, *found):
        self.answers[-1].set_result(ObjectsPinned(found))

    def renewed(self, *results):
        self.renewals[-1][1](list(results))


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_all_are_here(world):
    pinning = world.start(stored(1), stored(2), for_arguments=True)
    assert world.asked == [([stored(1), stored(2)], True)]
    world.found(*PLACES[:2])
    assert pinning.answer.result(0) == (PLACES[:2], [stored(1).key, stored(2).key])
    assert world.renewals == []


def test_a_value_that_was_made_again_is_pinned_by_its_new_key(world):
    pinning = world.start(stored(1), stored(2))
    world.found(PLACES[0], LOST)
    assert world.released == [PLACES[0]]
    assert world.renewals[0][0] == [stored(2)]
    again = stored(2, b"b")
    world.renewed(again)
    assert world.asked[-1][0] == [stored(1), again]
    world.found(PLACES[1], PLACES[2])
    assert pinning.answer.result(0) == (PLACES[1:3], [stored(1).key, again.key])


def test_it_may_have_become_small_or_have_failed(world):
    small, failed = Value(b"v"), Failure("TaskError", "x")
    pinning = world.start(stored(1), stored(2), stored(3))
    world.found(PLACES[0], LOST, LOST)
    world.renewed(small, failed)
    assert world.asked[-1][0] == [stored(1)]
    world.found(PLACES[1])
    assert pinning.answer.result(0) == ([PLACES[1], small, failed], [stored(1).key, b"", b""])


def test_when_all_became_small_nothing_is_pinned(world):
    pinning = world.start(stored(1))
    world.found(LOST)
    world.renewed(Value(b"v"))
    assert len(world.asked) == 1
    assert pinning.answer.result(0) == ([Value(b"v")], [b""])


def test_an_unchanged_answer_is_asked_for_again_but_not_for_ever(world):
    pinning = world.start(stored(1))
    delays = []
    while not pinning.answer.done():
        world.found(LOST)
        if pinning.answer.done():
            break
        world.renewed(stored(1))
        delay_s, callback = world.timers.pop()
        delays.append(delay_s)
        world.now += delay_s
        callback()
    assert pinning.answer.result(0).found == [LOST]
    assert delays[0] == pinning_module.RENEW_DELAY_S_MIN
    assert delays[-1] == pinning_module.RENEW_DELAY_S_MAX
    assert 0 <= sum(delays) - pinning_module.RENEW_PATIENCE_S <= pinning_module.RENEW_DELAY_S_MAX


@pytest.mark.parametrize("kind", ["OwnerDiedError", "ObjectReconstructionFailedError", "ObjectStoreFullError"])
def test_other_failures_are_final(world, kind):
    pinning = world.start(stored(1))
    world.found(Failure(kind, "x"))
    assert pinning.answer.result(0).found == [Failure(kind, "x")]
    assert world.renewals == []


def test_nothing_will_come_any_more(world):
    pinning = world.start(stored(1))
    world.found(LOST)
    world.renewed(None)
    with pytest.raises(Exception, match="shut down"):
        pinning.answer.result(0)


def test_the_node_does_not_answer(world):
    pinning = world.start(stored(1))
    world.answers[0].set_exception(ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        pinning.answer.result(0)


def test_whoever_lets_go_leaves_no_pin(world):
    pinning = world.start(stored(1), stored(2))
    pinning.abandon()
    assert world.withdrawn == [1]
    world.found(LOST, PLACES[0])
    world.renewed(stored(1, b"b"))
    assert world.withdrawn == [1, 2]  # what is asked for all the same is not wanted either
    world.found(PLACES[1], PLACES[2])
    assert world.released == PLACES[:3]
    failed = world.start(stored(1))
    failed.abandon()
    world.answers[-1].set_exception(ConnectionError())
    assert world.released == PLACES[:3]
