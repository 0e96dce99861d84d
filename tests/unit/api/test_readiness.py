import types

import pytest

from actorrt.api.blocking import Blocker
from actorrt.api.readiness import Readiness
from actorrt.api.refs import ObjectRef
from actorrt.kernel.errors import GetTimeoutError
from actorrt.owner.tasks import ObjectRecord
from actorrt.wire.records import Failure, Value

ONE, TWO, THREE = (ObjectRef(bytes([number]) * 20, "me", None) for number in (1, 2, 3))
VALUE = Value(b"v")


class Owner:
    def __init__(self):
        self.records = {}
        self.flushed = 0
        self.waited = []
        self.then = {}
        self.put = {}
        blocker = Blocker(self.add, lambda _w: None, lambda: None)
        machine = types.SimpleNamespace(
            objects=types.SimpleNamespace(records=self.records),
            explainer=types.SimpleNamespace(why_not_ready=lambda object_id: f"{object_id.hex()} is late"),
        )
        self.readiness = Readiness(machine, blocker, self.flush, self.check)

    def flush(self):
        """What was put becomes known."""
        self.flushed += 1
        put, self.put = self.put, {}
        for ref, result in put.items():
            self.know(ref, result)
        return bool(put)

    def check(self):
        pass

    def know(self, ref, result):
        self.records[ref._id] = ObjectRecord()
        self.records[ref._id].result = result

    def add(self, waiter):
        self.waited.append(waiter)
        for ref, result in self.then.items():
            self.know(ref, result)
        if self.then:
            waiter.wake()


@pytest.fixture
def owner():
    return Owner()


def test_what_is_there_is_not_waited_for(owner):
    owner.know(ONE, VALUE)
    owner.know(TWO, Failure("TaskError", "x"))
    assert owner.readiness.results_of([ONE, TWO, ONE], None) == [VALUE, Failure("TaskError", "x"), VALUE]
    assert owner.readiness.wait([ONE, TWO], 1, None) == ([ONE], [TWO])
    assert owner.waited == []


def test_what_was_put_and_not_told_yet_is_found(owner):
    owner.put = {ONE: VALUE, TWO: VALUE}
    assert owner.readiness.results_of([ONE, TWO], None) == [VALUE, VALUE]
    assert (owner.flushed, owner.waited) == (1, [])


def test_waiting_until_enough_is_there(owner):
    owner.know(TWO, VALUE)
    owner.then = {ONE: VALUE}
    assert owner.readiness.wait([ONE, TWO, THREE], 2, None) == ([ONE, TWO], [THREE])
    assert owner.readiness.results_of([ONE, TWO], None) == [VALUE, VALUE]
    assert len(owner.waited) == 1


def test_a_timeout_names_what_is_missing(owner):
    owner.know(ONE, VALUE)
    with pytest.raises(GetTimeoutError, match=r"after 0 s 1 of 2 objects were not ready; the first: 0202.* is late"):
        owner.readiness.results_of([ONE, TWO], 0)
    assert owner.readiness.wait([TWO], 1, 0) == ([], [TWO])


def test_a_failure_is_enough(owner):
    owner.then = {ONE: Failure("TaskError", "x")}
    assert owner.readiness.results_of([ONE, TWO], None) == [Failure("TaskError", "x"), None]
