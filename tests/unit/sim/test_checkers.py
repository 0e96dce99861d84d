"""Every checker sees what it is there to see: a machine is broken on purpose, and the run must not pass."""

import pytest

from actorrt.gcs.messages import GetFunction
from actorrt.gcs.state import GcsMachine
from actorrt.kernel.effects import Do, Reply, Send
from actorrt.kernel.message import Address
from actorrt.objects.messages import FreeObjects, ObjectsSealed, PinsReleased
from actorrt.objects.state import ObjectManagerMachine
from actorrt.owner.messages import BorrowersRemoved, LeaseGranted, TasksDone
from actorrt.owner.objects import ObjectTable
from actorrt.owner.state import OwnerMachine
from actorrt.owner.submission import TaskSubmitter
from actorrt.raylet.messages import ReturnLease
from actorrt.raylet.state import RayletMachine
from actorrt.sim.checkers import Watch
from actorrt.sim.runtime import Book, Get, Sleep
from actorrt.sim.town import Town
from actorrt.sim.values import TaskFailed
from actorrt.sim.world import SimulationError, World
from actorrt.worker.operations import Run
from actorrt.worker.state import WorkerMachine
from tests.sim.story import FUNCTIONS, Counter

TASKS = 40


def main(context):
    actor = context.create("Counter", 0)
    kept = tuple(context.submit("work", number) for number in range(TASKS))
    lent = tuple(context.submit("lends", number) for number in range(4))
    calls = tuple(context.call(actor, "add", 1) for _ in range(10))
    grown = tuple(context.submit("grow", number) for number in range(10))
    relayed = tuple(context.submit("relay", ref) for ref in grown)
    yield Get(kept)
    assert (yield Get(grown)) == (yield Get(relayed))
    yield Get(lent)
    found = yield Get(calls)
    yield Sleep(0.1)
    assert found == list(range(1, 11)), found


def play(seed=1):
    world = World(seed)
    town = Town(world, Book(dict(FUNCTIONS), {"Counter": Counter}))
    town.add_node(2)
    town.add_node(2)
    town.join_all()
    watch = Watch(town)
    driver = town.add_driver(main)
    world.run(lambda: driver.done, 30)
    if driver.error is not None:
        raise driver.error
    world.run_for(8)
    watch.check_quiet()
    return town


def wrap_handle(monkeypatch, machine, change):
    """``change(machine, envelope, effects, call)`` may alter the effects of each step."""
    original = machine.handle

    def handle(self, envelope, now):
        return change(self, envelope, original(self, envelope, now))

    monkeypatch.setattr(machine, "handle", handle)


def drop_messages(monkeypatch, machine, wanted):
    """Messages for which ``wanted(body)`` holds are never handled."""
    original = machine.handle

    def handle(self, envelope, now):
        return [] if wanted(envelope.body) else original(self, envelope, now)

    monkeypatch.setattr(machine, "handle", handle)


def once(condition):
    """True for the first match only."""
    seen = []

    def matches(body):
        if not seen and condition(body):
            seen.append(True)
            return True
        return False

    return matches


def test_sound_machines_pass():
    play()


def test_an_object_that_is_freed_too_early(monkeypatch):
    def change(machine, _envelope, effects):
        for object_id, record in machine.objects.records.items():
            if object_id in machine.objects.holdings:
                manager = Address(record.result.holders[0], "objects")
                return [*effects, Send(manager, FreeObjects((record.result.key,)))]
        return effects

    wrap_handle(monkeypatch, OwnerMachine, change)
    with pytest.raises(SimulationError, match=r"frees .*, which owner@driver1 needs"):
        play()


def test_an_object_that_is_never_freed(monkeypatch):
    drop_messages(monkeypatch, ObjectManagerMachine, lambda body: isinstance(body, FreeObjects))
    with pytest.raises(SimulationError, match=r"node. keeps .* objects"):
        play()


def test_a_pin_that_is_never_released(monkeypatch):
    drop_messages(monkeypatch, ObjectManagerMachine, once(lambda body: isinstance(body, PinsReleased)))
    with pytest.raises(SimulationError, match=r"the store of .* is not empty"):
        play()


def test_an_object_that_is_never_reported(monkeypatch):
    drop_messages(monkeypatch, ObjectManagerMachine, once(lambda body: isinstance(body, ObjectsSealed)))
    with pytest.raises((SimulationError, TaskFailed), match=r"never reported|is not empty|is lost|cannot be computed"):
        play()


def test_a_lease_granted_twice(monkeypatch):
    def change(_machine, _envelope, effects):
        again = [e for e in effects if isinstance(e, Send) and isinstance(e.body, LeaseGranted)]
        return effects + again

    wrap_handle(monkeypatch, RayletMachine, change)
    with pytest.raises(SimulationError, match=r"grants lease .* twice"):
        play()


def test_a_worker_leased_to_two_owners(monkeypatch):
    first = {}

    def change(machine, _envelope, effects):
        changed = []
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.body, LeaseGranted):
                grant = effect.body
                worker, worker_id = first.setdefault(machine.node.name, (grant.worker, grant.worker_id))
                again = LeaseGranted(grant.class_id, grant.lease_id, worker, worker_id, grant.node_id, grant.pid)
                changed.append(Send(effect.dst, again))
            else:
                changed.append(effect)
        return changed

    wrap_handle(monkeypatch, RayletMachine, change)
    with pytest.raises(SimulationError, match=r"leases .* again"):
        play()


def test_an_outcome_that_is_dropped(monkeypatch):
    drop_messages(monkeypatch, OwnerMachine, once(lambda body: isinstance(body, TasksDone)))
    with pytest.raises(SimulationError, match="what was waited for has not come about"):
        play()


def test_a_task_that_is_forgotten(monkeypatch):
    def change(machine, envelope, effects):
        if isinstance(envelope.body, TasksDone) and machine.submitter.tasks:
            machine.submitter.tasks.popitem()
        return effects

    wrap_handle(monkeypatch, OwnerMachine, change)
    with pytest.raises(SimulationError, match="tasks were submitted"):
        play()


def test_a_task_that_ends_twice(monkeypatch):
    original = TaskSubmitter.finish

    def finish(self, task, results, *, received):
        original(self, task, results, received=received)
        self.finished_count += task.template.spec.name == "lends"

    monkeypatch.setattr(TaskSubmitter, "finish", finish)
    with pytest.raises(SimulationError, match="tasks were submitted"):
        play()


def test_a_result_that_changes(monkeypatch):
    def change(machine, _envelope, effects):
        for record in list(machine.objects.records.values())[:5]:
            if record.result is not None:
                record.result = type(record.result)(
                    *[getattr(record.result, f) for f in record.result.__struct_fields__]
                )
        return effects

    wrap_handle(monkeypatch, OwnerMachine, change)
    with pytest.raises(SimulationError, match=r"the result of .* has changed"):
        play()


def test_a_lease_that_never_comes_back(monkeypatch):
    drop_messages(monkeypatch, RayletMachine, once(lambda body: isinstance(body, ReturnLease)))
    with pytest.raises(SimulationError, match=r"free of|again, which holds|not idle"):
        play()


def test_a_borrower_that_is_never_removed(monkeypatch):
    drop_messages(monkeypatch, OwnerMachine, once(lambda body: isinstance(body, BorrowersRemoved)))
    with pytest.raises(SimulationError, match=r"keeps .* objects"):
        play()


def test_a_ref_that_is_never_released(monkeypatch):
    monkeypatch.setattr(ObjectTable, "release", lambda _self, _object_ids: None)
    with pytest.raises(SimulationError, match=r"keeps .* objects"):
        play()


def test_a_request_that_is_never_answered(monkeypatch):
    def change(_machine, envelope, effects):
        if isinstance(envelope.body, GetFunction):
            return [e for e in effects if not isinstance(e, Reply)]
        return effects

    wrap_handle(monkeypatch, GcsMachine, change)
    with pytest.raises(SimulationError, match="what was waited for has not come about"):
        play()


def test_a_request_that_is_answered_twice(monkeypatch):
    def change(_machine, _envelope, effects):
        return effects + [e for e in effects if isinstance(e, Reply)]

    wrap_handle(monkeypatch, GcsMachine, change)
    with pytest.raises(SimulationError, match="which is not open"):
        play()


def test_a_call_that_runs_twice(monkeypatch):
    def change(machine, _envelope, effects):
        if machine.actor is None:
            return effects
        return effects + [e for e in effects if isinstance(e, Do) and isinstance(e.operation, Run)]

    wrap_handle(monkeypatch, WorkerMachine, change)
    with pytest.raises(SimulationError, match="may not be repeated"):
        play()


def test_calls_out_of_order(monkeypatch):
    def change(machine, _envelope, effects):
        if machine.actor is None:
            return effects
        return [
            Do(Run(e.operation.works[::-1])) if isinstance(e, Do) and isinstance(e.operation, Run) else e
            for e in effects
        ]

    wrap_handle(monkeypatch, WorkerMachine, change)
    with pytest.raises(SimulationError, match="out of order"):
        play()


def test_more_given_away_than_there_is(monkeypatch):
    def change(machine, _envelope, effects):
        if machine.grants.table:
            machine.grants.ledger.take({"CPU": 10_000}, force=True)
        return effects

    wrap_handle(monkeypatch, RayletMachine, change)
    monkeypatch.setattr(RayletMachine, "check", lambda _self: None)
    with pytest.raises(SimulationError, match="gave away more than it has"):
        play()


def test_a_worker_of_two_masters(monkeypatch):
    def change(machine, envelope, effects):
        if machine.actor is None and machine.assigned:
            machine.assigned[b"stranger"] = type(envelope.src)("somebody", "owner")
        return effects

    wrap_handle(monkeypatch, WorkerMachine, change)
    with pytest.raises(SimulationError, match=r"works for .* at once"):
        play()


def test_a_machine_that_raises_is_reported_with_its_seed(monkeypatch):
    def handle(_self, _envelope, _now):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(WorkerMachine, "handle", handle)
    with pytest.raises(SimulationError, match=r"seed 1, t=.*worker@node.*ZeroDivisionError: a bug"):
        play()


def test_a_machine_whose_invariants_fail_is_reported(monkeypatch):
    monkeypatch.setattr(OwnerMachine, "check", lambda self: 1 / (1 - bool(self.submitter.tasks)))
    with pytest.raises(SimulationError, match=r"owner@driver1 handled .*ZeroDivisionError"):
        play()
