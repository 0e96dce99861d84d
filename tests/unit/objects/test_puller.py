"""A pull from wish to copy, and every way in which it can end."""

import pytest

from actorrt.kernel.limits import ASK_TIMEOUT_S, LOCATE_ROUNDS_MAX, PULL_SOURCES_MAX, SEAL_REPORT_WAIT_S
from actorrt.objects import pulls
from actorrt.objects.admission import Admission
from actorrt.objects.clients import ARGUMENTS, HINTS
from actorrt.objects.messages import AskForObject, ObjectLocated, ObjectOffered, PullEnded, StoreAnswered
from actorrt.objects.operations import Abort, AddSource, Create
from actorrt.objects.operations import Pull as Fetch
from actorrt.objects.puller import MANAGER
from actorrt.owner.messages import LocateObject
from tests.unit.objects.harness import FAR, FULL, HERE, LOST, OWNER, THERE, Bench, key, manager, place, wanted


class Yard(Bench):
    """Steps of a puller, each followed by its checks."""

    now = 10.0

    def want(self, number=1, *holders, **details):
        [wish] = self.wish(wanted(number, *holders, size_bytes=details.pop("size_bytes", 100)), **details)
        self.puller.want(wish, self.now)
        self.check()
        return wish

    def hint(self, number, *holders):
        self.puller.hint(wanted(number, *holders), self.now)
        self.check()

    def offer(self, process=THERE, number=1, size_bytes=100):
        self.puller.offered(manager(process), ObjectOffered(key(number), f"bulk://{process}", size_bytes))
        self.check()

    def miss(self, process=THERE, number=1):
        self.puller.missing(manager(process), key(number))
        self.check()

    def locate(self, *holders, number=1, failure=None, src=OWNER):
        self.puller.located(src, ObjectLocated(key(number), holders, failure), self.now)
        self.check()

    def create(self):
        """The operations that make room for what may begin."""
        self.puller.pump()
        self.check()
        return self.take(Create)

    def room(self, create, answer=None, failure=None):
        self.tickets.answered(create.ticket)
        number = int.from_bytes(create.key[:2], "big")
        place_ = None if failure else answer or place(number)
        self.puller.created(create.key, StoreAnswered(create.ticket, place_, None, failure))
        self.check()
        return self.take(Fetch)

    def begin(self, number=1, process=THERE):
        """From an offer to the port."""
        self.offer(process, number)
        [create] = self.create()
        [fetch] = self.room(create)
        return fetch

    def end(self, fetch, *failed, failure=None):
        self.tickets.answered(fetch.ticket)
        self.puller.ended(fetch.key, PullEnded(fetch.ticket, failed, failure))
        self.check()

    def check(self):
        self.arrived, self.puller.arrived = self.puller.arrived, []
        self.failed, self.puller.failed = self.puller.failed, []
        self.puller.check()

    def asked(self):
        found = [
            (effect.dst.process, effect.body.key)
            for effect in self.effects
            if isinstance(getattr(effect, "body", None), AskForObject)
        ]
        self.take(AskForObject)
        return found

    @property
    def kinds(self):
        return [failure.kind for _, failure in self.failed]

    @property
    def state(self):
        [pull] = self.puller.pulls.table.values()
        return pull.state


def test_the_way_of_a_pull():
    yard = Yard()
    wish = yard.want()
    assert yard.asked() == [(THERE, key(1))]
    yard.offer()
    assert yard.state == pulls.QUEUED
    [create] = yard.create()
    assert create == Create(1, key(1), 100, MANAGER, secondary=True)
    [fetch] = yard.room(create)
    assert fetch == Fetch(2, key(1), place(1), ((THERE, "bulk://there"),))
    yard.end(fetch)
    [pull] = yard.arrived
    assert (list(pull.waiters), pull.place) == ([wish], place(1))
    assert (yard.puller.pulls.table, yard.failed) == ({}, [])
    assert (yard.puller.pulled_count, yard.puller.pulled_bytes) == (1, 100)


def test_many_wishes_one_pull():
    yard = Yard()
    wishes = [yard.want(), yard.want(1, THERE, FAR), yard.want()]
    assert yard.asked() == [(THERE, key(1)), (FAR, key(1))], "the second knew one more holder"
    yard.end(yard.begin())
    assert list(yard.arrived[0].waiters) == wishes


def test_later_offers_are_added():
    yard = Yard()
    yard.want(1, THERE, FAR, "third")
    fetch = yard.begin()
    yard.offer(FAR)
    assert yard.take(AddSource) == [AddSource(fetch.ticket, (FAR, "bulk://far"))]
    yard.offer(FAR)
    yard.offer("stranger")
    assert yard.take(AddSource) == []
    yard.end(fetch)
    yard.offer("third")
    assert yard.puller.pulls.table == {}


def test_a_holder_that_misses_it_is_replaced():
    yard = Yard()
    names = tuple(f"node{number}" for number in range(PULL_SOURCES_MAX + 1))
    yard.want(1, *names)
    assert [process for process, _ in yard.asked()] == list(names[:-1])
    yard.miss(names[0])
    assert yard.asked() == [(names[-1], key(1))]
    yard.miss(names[0])
    assert yard.asked() == []


def test_the_owner_is_asked_when_nobody_has_it():
    yard = Yard()
    yard.want()
    assert yard.asked() == [(THERE, key(1))]
    yard.miss()
    assert yard.state == pulls.LOCATING
    assert yard.take(LocateObject) == [LocateObject(key(1))]
    yard.locate(FAR, src=manager(FAR))
    assert yard.state == pulls.LOCATING, "only the owner knows"
    yard.locate(THERE, FAR)
    assert yard.asked() == [(FAR, key(1))], "who failed is not asked again"
    yard.end(yard.begin(process=FAR))
    assert len(yard.arrived) == 1


@pytest.mark.parametrize(
    ("holders", "failure", "kind"),
    [((), FULL, FULL.kind), ((), None, "ObjectLostError"), ((THERE,), None, "ObjectLostError")],
)
def test_the_owner_knows_nobody(holders, failure, kind):
    yard = Yard()
    wish = yard.want()
    yard.miss()
    yard.locate(*holders, failure=failure)
    assert (yard.kinds, yard.failed[0][0]) == ([kind], wish)
    assert yard.puller.pulls.table == {}


def test_the_owner_is_not_asked_for_ever():
    yard = Yard()
    yard.want(1, "node0")
    for number in range(LOCATE_ROUNDS_MAX):
        yard.miss(f"node{number}")
        assert len(yard.take(LocateObject)) == 1
        yard.locate(f"node{number + 1}")
    yard.miss(f"node{LOCATE_ROUNDS_MAX}")
    assert yard.take(LocateObject) == []
    assert yard.kinds == ["ObjectLostError"]


def test_the_owner_is_gone():
    yard = Yard()
    yard.want()
    yard.puller.peer_gone(OWNER.process)
    assert yard.state == pulls.ASKING, "others may have it"
    yard.miss()
    yard.puller.peer_gone(OWNER.process)
    yard.check()
    assert yard.kinds == ["OwnerDiedError"]


def test_a_holder_is_gone_while_asked():
    yard = Yard()
    yard.want(1, THERE, FAR)
    yard.puller.peer_gone(THERE)
    yard.check()
    assert yard.state == pulls.ASKING
    yard.puller.peer_gone(FAR)
    yard.check()
    assert yard.state == pulls.LOCATING


def test_a_holder_is_gone_while_its_offer_waits():
    yard = Yard(admission=Admission(inflight_max=1))
    yard.want(1)
    yard.want(2, THERE, FAR)
    yard.begin(1)
    yard.offer(number=2)
    yard.puller.peer_gone(THERE)
    yard.check()
    assert yard.puller.pulls.table[key(2)].state == pulls.ASKING
    yard.offer(FAR, 2)
    assert yard.puller.pulls.table[key(2)].state == pulls.QUEUED
    yard.puller.peer_gone(FAR)
    yard.check()
    assert yard.puller.pulls.table[key(2)].state == pulls.LOCATING


def test_the_last_source_goes_while_room_is_made():
    yard = Yard()
    yard.want()
    yard.offer()
    [create] = yard.create()
    yard.puller.peer_gone(THERE)
    assert yard.room(create) == []
    assert yard.take(Abort) == [Abort(place(1).number)]
    assert (yard.state, yard.puller.admission.inflight) == (pulls.LOCATING, {})


def test_no_room():
    yard = Yard()
    yard.want()
    yard.offer()
    [create] = yard.create()
    yard.room(create, failure=FULL)
    assert (yard.kinds, yard.puller.pulls.table, yard.puller.admission.inflight) == ([FULL.kind], {}, {})


def test_all_sources_fail():
    yard = Yard()
    yard.want(1, THERE, FAR)
    fetch = yard.begin()
    yard.offer(FAR)
    yard.end(fetch, THERE, FAR, failure=LOST)
    assert yard.take(Abort) == [Abort(place(1).number)], "others may need the room meanwhile"
    assert yard.state == pulls.LOCATING
    yard.locate("third")
    yard.end(yard.begin(process="third"))
    assert len(yard.arrived) == 1


def test_an_offer_that_came_too_late_is_tried_next():
    yard = Yard()
    yard.want(1, THERE, FAR)
    fetch = yard.begin()
    yard.offer(FAR)
    yard.end(fetch, THERE, failure=LOST)
    [again] = yard.take(Fetch)
    assert again.sources == ((FAR, "bulk://far"),)
    yard.end(again, failure=LOST)
    assert yard.state == pulls.LOCATING, "who does not work is out, named or not"


def test_an_offer_of_another_size_is_none():
    yard = Yard()
    yard.want()
    yard.offer(size_bytes=99)
    assert yard.state == pulls.LOCATING


# ---------------------------------------------------------------------------------------------------- it should be here
def test_the_report_comes():
    yard = Yard()
    wish = yard.want(1, HERE, THERE)
    assert yard.state == pulls.PARKED
    assert yard.asked() == []
    assert yard.puller.takes_report(key(1))
    assert yard.puller.take_over(key(1)) == [wish]
    yard.check()
    assert yard.puller.take_over(key(1)) == []


def test_the_report_does_not_come():
    yard = Yard()
    yard.want(1, HERE, THERE)
    yard.puller.expire(yard.now + SEAL_REPORT_WAIT_S / 2)
    assert yard.state == pulls.PARKED
    yard.puller.expire(yard.now + SEAL_REPORT_WAIT_S)
    yard.check()
    assert yard.asked() == [(THERE, key(1))]
    yard.miss()
    yard.locate(HERE)
    assert yard.kinds == ["ObjectLostError"], "we have waited for it once"


def test_the_owner_says_that_it_is_here():
    yard = Yard()
    wish = yard.want(1, THERE)
    yard.miss()
    yard.locate(HERE)
    assert yard.state == pulls.PARKED
    assert yard.puller.take_over(key(1)) == [wish]
    yard.check()


def test_what_is_known_to_be_gone_is_not_waited_for():
    yard = Yard()
    yard.catalog.remember_gone(key(1))
    yard.want(1, HERE)
    assert yard.state == pulls.LOCATING
    yard.locate(HERE)
    assert yard.kinds == ["ObjectLostError"]


def test_a_report_that_is_far_too_late_is_not_welcome():
    yard = Yard()
    yard.want()
    yard.begin()
    assert not yard.puller.takes_report(key(1))


# ---------------------------------------------------------------------------------------------------- urgency and hints
def test_hints_give_way_and_are_promoted():
    yard = Yard(admission=Admission(inflight_max=1))
    yard.want(9)
    yard.begin(9)
    for number in (1, 2):
        yard.hint(number)
        yard.offer(number=number)
    yard.want(3)
    yard.offer(number=3)
    wish = yard.want(2, urgency=ARGUMENTS)
    assert list(yard.puller.pulls.hints) == [key(1)]
    order = []
    for fetching in (9, 2, 3, 1):
        fetch = Fetch(next(t for t, a in yard.tickets.table.items() if a.key == key(fetching)), key(fetching), None, ())
        yard.end(fetch)
        for create in yard.create():
            order.append(create.key)
            yard.room(create)
    assert order == [key(2), key(3), key(1)]
    assert wish.request.urgency == ARGUMENTS


def test_who_goes_takes_the_hurry_along():
    yard = Yard()
    slow, quick = yard.want(), yard.want(urgency=ARGUMENTS)
    [pull] = yard.puller.pulls.table.values()
    assert pull.urgency == ARGUMENTS
    yard.puller.unwant(quick)
    assert pull.urgency == slow.request.urgency
    yard.check()


def test_hints_are_bounded_and_fail_in_silence():
    yard = Yard(hints_max=1)
    yard.hint(1)
    yard.hint(1)
    yard.hint(2)
    assert list(yard.puller.pulls.table) == [key(1)]
    assert yard.puller.pulls.table[key(1)].urgency == HINTS
    yard.miss()
    yard.locate()
    assert (yard.puller.pulls.table, yard.failed) == ({}, [])
    yard.hint(3, HERE, THERE)
    assert yard.puller.pulls.table == {}, "it is here, or will be in a moment"


# --------------------------------------------------------------------------------------------------- nobody needs it
@pytest.mark.parametrize("stage", ["parked", "asking", "locating", "queued"])
def test_a_pull_nobody_needs_ends(stage):
    yard = Yard()
    wish = yard.want(1, *([HERE] if stage == "parked" else []), THERE)
    if stage == "locating":
        yard.miss()
    elif stage == "queued":
        yard.offer()
    assert yard.state == getattr(pulls, stage.upper())
    yard.puller.unwant(wish)
    yard.check()
    assert (yard.puller.pulls.table, len(yard.puller.admission)) == ({}, 0)
    yard.offer()
    yard.miss()
    yard.locate(FAR)


def test_it_ends_when_the_room_is_there():
    yard = Yard()
    wish = yard.want()
    yard.offer()
    [create] = yard.create()
    yard.puller.unwant(wish)
    yard.check()
    assert yard.state == pulls.CREATING
    assert yard.room(create) == []
    assert (yard.take(Abort), yard.puller.pulls.table) == ([Abort(place(1).number)], {})


def test_it_ends_when_the_port_has_stopped():
    yard = Yard()
    wish = yard.want()
    fetch = yard.begin()
    yard.puller.unwant(wish)
    yard.check()
    assert yard.take(Abort) == [Abort(place(1).number)]
    assert yard.puller.admission.inflight == {key(1): 100}
    yard.end(fetch, failure=LOST)
    assert (yard.take(Abort), yard.puller.pulls.table, yard.arrived) == ([], {}, [])


@pytest.mark.parametrize("failure", [LOST, None])
def test_somebody_wants_it_again(failure):
    yard = Yard()
    first = yard.want()
    fetch = yard.begin()
    yard.puller.unwant(first)
    second = yard.want()
    yard.take(Abort)
    yard.asked()
    yard.end(fetch, failure=failure)
    assert yard.arrived == [], "its room was given back"
    assert yard.asked() == [(THERE, key(1))], "this source has not failed"
    yard.end(yard.begin())
    assert list(yard.arrived[0].waiters) == [second]


def test_what_is_freed_is_not_pulled():
    yard = Yard()
    yard.want(1)
    yard.want(2)
    fetch = yard.begin(2)
    yard.puller.freed(key(1))
    yard.puller.freed(key(2))
    yard.puller.freed(key(2))
    yard.puller.freed(key(3))
    yard.check()
    assert yard.kinds == ["ObjectLostError"] * 2
    late = yard.want(2)
    assert [wish for wish, _ in yard.failed] == [late]
    yard.end(fetch)
    assert (yard.arrived, yard.puller.pulls.table) == ([], {})


def test_the_death_of_an_owner_ends_its_pulls():
    yard = Yard()
    yard.want(1)
    yard.want(2)
    yard.begin(2)
    yard.puller.owner_died("somebody")
    assert len(yard.puller.pulls.table) == 2
    yard.puller.owner_died(OWNER.process)
    yard.check()
    assert yard.kinds == ["OwnerDiedError"] * 2
    assert list(yard.puller.pulls.table) == [key(2)], "the port still works on it"


def test_without_a_store_nothing_is_pulled():
    yard = Yard()
    yard.want(1)
    yard.want(2)
    yard.offer()
    yard.puller.no_store(FULL)
    yard.check()
    assert yard.kinds == [FULL.kind]
    assert yard.state == pulls.ASKING


def test_a_holder_that_hangs():
    """It is left out, until its owner names it again; not for ever."""
    yard = Yard()
    yard.want(1, THERE, FAR)
    yard.puller.asks.date(yard.now)
    yard.miss(FAR)
    rounds = 0
    while not yard.failed:
        assert yard.state == pulls.ASKING
        assert (THERE, key(1)) in yard.asked()
        yard.now += ASK_TIMEOUT_S
        yard.puller.expire(yard.now)
        yard.check()
        if yard.failed:
            break
        rounds += 1
        assert [locate.key for locate in yard.take(LocateObject)] == [key(1)]
        yard.locate(THERE)
        yard.puller.asks.date(yard.now)
    assert rounds == LOCATE_ROUNDS_MAX
    assert yard.kinds == ["ObjectLostError"]
    assert "tried: far, there, which does not answer" in yard.failed[0][1].text
    assert len(yard.puller.asks) == 0


def test_a_holder_that_hangs_does_not_keep_others_from_being_asked():
    yard = Yard()
    names = tuple(f"node{number}" for number in range(PULL_SOURCES_MAX + 1))
    yard.want(1, *names)
    yard.puller.asks.date(yard.now)
    yard.asked()
    yard.offer(names[1])
    yard.puller.expire(yard.now + ASK_TIMEOUT_S)
    yard.check()
    assert yard.asked() == [(names[-1], key(1))]
    assert yard.state == pulls.QUEUED
    assert list(yard.puller.asks.table) == [(key(1), names[-1])]


def test_questions_end_with_their_pull():
    yard = Yard()
    wish = yard.want(1, THERE, FAR)
    yard.puller.asks.date(yard.now)
    yard.puller.unwant(wish)
    yard.check()
    assert len(yard.puller.asks) == 0
