"""When a load is sent."""

from actorrt.gcs.messages import LoadReported
from actorrt.kernel.effects import Send, SetTimer
from actorrt.kernel.limits import HEARTBEAT_INTERVAL_S, RESOURCE_REPORT_INTERVAL_S
from actorrt.raylet.reporting import LoadReporter
from actorrt.scheduling.resources import UNIT
from actorrt.wire.records import PendingDemand
from tests.unit.raylet.harness import GCS, NODE_ID

FULL, EMPTY = {"CPU": 10_000}, {}


class Watched:
    def __init__(self, total=FULL):
        self.effects = []
        self.reporter = LoadReporter(self.effects, GCS, NODE_ID, total)

    def look(self, available, now, pending=()):
        self.effects.clear()
        if not self.reporter.may_skip(now):
            self.reporter.look(available, pending, now)
        return [effect.body.load for effect in self.effects if isinstance(effect, Send)]

    def timer(self):
        return next((effect.at_s for effect in self.effects if isinstance(effect, SetTimer)), None)


def test_the_first_is_sent_at_once():
    watched = Watched()
    [load] = watched.look(FULL, 10.0)
    assert (load.node_id, load.available, load.version) == (NODE_ID, FULL, 1)
    assert watched.timer() == 10.0 + HEARTBEAT_INTERVAL_S


def test_changes_are_collected():
    watched = Watched()
    watched.look(FULL, 10.0)
    assert watched.look(EMPTY, 10.01) == []
    assert watched.timer() == 10.0 + RESOURCE_REPORT_INTERVAL_S
    assert watched.look(FULL, 10.02) == []
    watched.reporter.due()
    assert watched.look(EMPTY, 10.0 + RESOURCE_REPORT_INTERVAL_S)[0].available == EMPTY


def test_a_change_undone_is_not_sent():
    watched = Watched()
    watched.look(FULL, 10.0)
    watched.look(EMPTY, 10.01)
    watched.reporter.due()
    assert watched.look(FULL, 10.0 + RESOURCE_REPORT_INTERVAL_S) == []
    assert watched.timer() == 10.0 + HEARTBEAT_INTERVAL_S


def test_silence_is_broken():
    watched = Watched()
    watched.look(FULL, 10.0)
    watched.reporter.due()
    [load] = watched.look(FULL, 10.0 + HEARTBEAT_INTERVAL_S)
    assert load.version == 2


def test_pending_work_is_a_change():
    watched = Watched()
    watched.look(FULL, 10.0)
    demand = PendingDemand(FULL, 1, "busy")
    assert watched.look(FULL, 11.0, (demand,))[0].pending == (demand,)
    assert all(isinstance(effect.body, LoadReported) for effect in watched.effects if isinstance(effect, Send))


def test_room_in_the_object_store_is_what_is_not_used():
    total = {**FULL, "object_store_memory": 1000 * UNIT}
    watched = Watched(total)
    assert watched.look(total, 10.0)[0].available == total
    watched.reporter.store_used(300)
    assert watched.look(total, 10.05) == [], "collected like any change"
    watched.reporter.due()
    assert watched.look(total, 10.1)[0].available == {**FULL, "object_store_memory": 700 * UNIT}
    watched.reporter.due()
    watched.reporter.store_used(1001)
    assert watched.look(total, 11.0)[0].available == FULL, "zeros are left out"


def test_a_node_without_a_store_reports_no_room():
    watched = Watched()
    watched.reporter.store_used(300)
    assert watched.look(FULL, 10.0)[0].available == FULL
