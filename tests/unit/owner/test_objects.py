import itertools
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actorrt.kernel.effects import Do, Send
from actorrt.kernel.message import Address, Envelope, PeerGone
from actorrt.objects.messages import FreeObjects, ObjectLocated
from actorrt.owner.messages import (
    BorrowersAdded,
    BorrowersRemoved,
    CopiesAdded,
    CopiesRemoved,
    DropGets,
    GetObjects,
    LocateObject,
    NodeChanged,
    ObjectsReady,
    TasksDone,
    VerifyObjects,
)
from actorrt.owner.operations import Wake
from actorrt.owner.requests import (
    AddRefs,
    AddWaiter,
    DropWaiter,
    Lend,
    PutObject,
    Release,
    ReportHeld,
    Submit,
)
from actorrt.owner.state import OwnerMachine, local
from actorrt.owner.tasks import Task, Template, Waiter
from actorrt.wire.records import Failure, LeaseSpec, RefInfo, Stored, TaskOutcome, TaskTemplate, Value
from actorrt.worker.messages import PushTasks
from tests.unit.owner.harness import GCS, RAYLET, RETURN, VALUE, Driver, sent, sent_to, woken

OTHER = Address("other", "owner")
MINE = b"m" * 20
THEIRS = RefInfo(b"t" * 20, "other")


def test_a_ref_that_came_back_after_its_owners_connection_was_lost():
    """Its owner was only cut off, and counts us again (found by the simulator)."""
    driver = Driver()
    driver.tell(AddRefs([THEIRS]))
    driver.tell(PeerGone("other", "reset"))
    driver.tell(AddRefs([THEIRS]))
    driver.tell(ReportHeld((THEIRS,), held := [], Waiter((), 0, None)))
    assert held == [THEIRS]
    driver.machine.check()
    effects = driver.tell(Release([THEIRS.object_id] * 2))
    assert sent_to(effects, OTHER) == [BorrowersRemoved((THEIRS.object_id,))]


# ---------------------------------------------------------------------------------------------- waiting
def test_a_waiter_wakes_when_enough_is_ready():
    driver = Driver()
    tasks = [driver.task() for _ in range(3)]
    driver.submit(*tasks)
    ids = [t.task_id + RETURN for t in tasks]
    two, all_of_them = driver.wait(*ids, needed=2), driver.wait(*ids)
    driver.grant()
    assert woken(driver.finish(tasks[0])) == []
    assert woken(driver.finish(tasks[1])) == [two]
    assert woken(driver.finish(tasks[2])) == [all_of_them]
    assert driver.wait(*ids).done


def test_the_same_object_counts_as_often_as_it_is_named():
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    waiter = driver.wait(task.task_id + RETURN, task.task_id + RETURN)
    assert woken(driver.finish(task)) == [waiter]


def test_get_wakes_at_the_first_failure_and_wait_does_not():
    driver = Driver()
    tasks = [driver.task() for _ in range(2)]
    driver.submit(*tasks)
    ids = [t.task_id + RETURN for t in tasks]
    get, wait = driver.wait(*ids, fail_fast=True), driver.wait(*ids)
    assert woken(driver.finish(tasks[0], result=Failure("TaskError", "x"))) == [get]
    assert not wait.done
    assert driver.wait(*ids, fail_fast=True).done


def test_wait_in_a_loop_leaves_no_waiters_behind():
    driver = Driver()
    tasks = [driver.task() for _ in range(20)]
    driver.submit(*tasks)
    pending = [t.task_id + RETURN for t in tasks]
    records = driver.machine.objects.records
    for task in tasks[:10]:
        driver.wait(*pending, needed=1)
        driver.finish(task)
        pending.remove(task.task_id + RETURN)
        assert all(records[oid].waiters is None for oid in pending)


def test_a_waiter_that_gave_up_is_never_woken():
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    waiter = driver.wait(task.task_id + RETURN)
    driver.tell(DropWaiter(waiter))
    assert woken(driver.finish(task)) == []


# ---------------------------------------------------------------------------------------------- freeing
def test_an_object_goes_with_its_last_hold():
    driver = Driver()
    driver.tell(PutObject(MINE, VALUE))
    records = driver.machine.objects.records
    driver.tell(AddRefs([RefInfo(MINE, "me")]))
    driver.tell(Release([MINE]))
    assert MINE in records
    driver.tell(Release([MINE]))
    assert MINE not in records


def test_a_pending_task_holds_its_arguments_and_its_outcome_frees_what_nobody_wants():
    driver = Driver()
    driver.tell(PutObject(MINE, VALUE))
    task = driver.task(refs=(RefInfo(MINE, "me"),))
    driver.submit(task)
    driver.tell(Release([MINE, task.task_id + RETURN]))
    records = driver.machine.objects.records
    assert set(records) == {MINE, task.task_id + RETURN}
    driver.finish(task)
    assert not records


def test_values_nested_thousands_deep_are_freed_without_recursion():
    driver = Driver()
    previous = None
    for number in range(3000):
        oid = number.to_bytes(20, "big")
        driver.machine.handle(local(PutObject(oid, Value(b"x", (), (previous,) if previous else ()))), 0.0)
        if previous:
            driver.machine.handle(local(Release([previous.object_id])), 0.0)
        previous = RefInfo(oid, "me")
    assert len(driver.machine.objects.records) == 3000
    driver.tell(Release([previous.object_id]))
    assert not driver.machine.objects.records


def test_a_ref_that_comes_back_too_late_says_so():
    driver = Driver()
    driver.tell(AddRefs([RefInfo(MINE, "me")]))
    assert driver.wait(MINE).done
    assert driver.machine.objects.records[MINE].result.kind == "ObjectLostError"
    driver.tell(Release([MINE]))
    assert not driver.machine.objects.records


# ---------------------------------------------------------------------------------------------- other processes
def test_a_borrowed_object_is_fetched_once_and_given_back():
    driver = Driver()
    driver.tell(AddRefs([THEIRS]))
    driver.tell(ReportHeld((THEIRS,), held := [], Waiter((), 0, None)))
    assert held == [THEIRS]
    first = driver.wait(THEIRS.object_id, owner="other")
    driver.wait(THEIRS.object_id, owner="other")
    assert sent(driver.effects, GetObjects) == [GetObjects((THEIRS.object_id,))]
    driver.tell(ObjectsReady(((THEIRS.object_id, VALUE),)), OTHER)
    assert first.done
    assert sent(driver.tell(Release([THEIRS.object_id]))) == [BorrowersRemoved((THEIRS.object_id,))]
    assert not driver.machine.objects.records


def test_nobody_waits_for_what_was_dropped():
    driver = Driver()
    driver.tell(AddRefs([THEIRS]))
    waiter = driver.wait(THEIRS.object_id, owner="other")
    driver.tell(Release([THEIRS.object_id]))
    assert sent(driver.tell(DropWaiter(waiter))) == [DropGets((THEIRS.object_id,))]
    inside = RefInfo(b"i" * 20, "other")
    late = Value(b"x", (), (inside,))
    assert sent(driver.tell(ObjectsReady(((THEIRS.object_id, late),)), OTHER)) == [
        BorrowersRemoved((inside.object_id,))
    ]


def test_getters_are_answered_and_what_is_inside_is_lent_first():
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    oid = task.task_id + RETURN
    driver.tell(GetObjects((oid,)), OTHER)
    driver.tell(GetObjects((oid,)), OTHER)
    value = Value(b"x", (), (RefInfo(b"c" * 20, "third"),))
    effects = driver.finish(task, result=value)
    assert sent_to(effects, Address("third", "owner")) == [BorrowersAdded(value.refs, "other")]
    assert sent_to(effects, OTHER) == [ObjectsReady(((oid, value),))]
    assert sent_to(driver.tell(GetObjects((oid,)), OTHER), OTHER) == [ObjectsReady(((oid, value),))]
    (lost,) = sent(driver.tell(GetObjects((b"?" * 20,)), OTHER), ObjectsReady)
    assert lost.objects[0][1].kind == "ObjectLostError"


def test_a_removal_may_overtake_its_addition():
    driver = Driver()
    driver.tell(PutObject(MINE, VALUE))
    driver.tell(BorrowersRemoved((MINE,)), OTHER)
    driver.tell(Release([MINE]))
    assert MINE in driver.machine.objects.records
    driver.tell(BorrowersAdded((RefInfo(MINE, "me"),), "other"), Address("third", "owner"))
    assert not driver.machine.objects.records


def test_a_process_that_ends_takes_its_holds_its_waits_and_its_objects_along():
    driver = Driver()
    driver.tell(PutObject(MINE, VALUE))
    driver.tell(BorrowersAdded((RefInfo(MINE, "me"),), "other"), OTHER)
    task = driver.task()
    driver.submit(task)
    driver.tell(GetObjects((task.task_id + RETURN,)), OTHER)
    driver.tell(AddRefs([THEIRS]))
    waiter = driver.wait(THEIRS.object_id, owner="other")
    driver.tell(Release([MINE, task.task_id + RETURN]))
    assert woken(driver.tell(PeerGone("other", "killed"))) == [waiter]
    objects = driver.machine.objects
    assert objects.records[THEIRS.object_id].result.kind == "OwnerDiedError"
    driver.finish(task)
    driver.tell(Release([THEIRS.object_id]))
    assert not objects.records
    assert not objects.borrowed_by
    assert not objects.borrowed_from
    assert not objects.waited_by


# ---------------------------------------------------------------------------------------------- three owners at random
NAMES = ("A", "B", "C")


class Call:
    """A task of ``src`` whose code runs in ``dst``; it travels the same path as messages from src to dst."""

    def __init__(self, task, src, dst):
        self.task = task
        self.src = src
        self.dst = dst


class ReferenceCounting(RuleBasedStateMachine):
    """Three owners pass refs around; messages of different pairs of processes overtake each other at will.

    The oracle knows all refs that anybody holds. Safety: what is reachable from one of them is never released.
    Liveness: once all refs are dropped and all messages delivered, nothing is left anywhere.
    """

    def __init__(self):
        super().__init__()
        self.machines = {n: OwnerMachine(Address(n, "owner"), RAYLET, GCS) for n in NAMES}
        self.channels = {pair: deque() for pair in itertools.product(NAMES, NAMES)}
        self.handles = {n: [] for n in NAMES}
        self.contents = {}
        self.running = []
        self.fetching = {}
        self.count = itertools.count(1)
        spec = TaskTemplate(1, b"k", "f", "f", b"job")
        self.template = Template(spec, LeaseSpec(b"job", {"CPU": 1}), b"cpu")

    # ---- plumbing
    def tell(self, name, body, src=None):
        envelope = local(body) if src is None else Envelope(Address(src, "owner"), body)
        machine = self.machines[name]
        effects = machine.handle(envelope, 0.0)
        machine.check()
        for effect in effects:
            if isinstance(effect, Send) and effect.dst.process in NAMES:
                self.channels[name, effect.dst.process].append(effect.body)
            elif isinstance(effect, Do) and isinstance(effect.operation, Wake):
                self.woken(name, effect.operation.waiter)

    def woken(self, name, waiter):
        ref = self.fetching.pop(waiter, None)
        if ref is None:
            return
        result = self.machines[name].objects.records[ref.object_id].result
        assert isinstance(result, Value), f"{name} holds {ref} and gets {result}"
        self.handles[name].remove(ref)  # the ``get`` held it
        self.handles[name] += [ref, *result.refs]
        self.pending_adoptions.append((name, result.refs))

    def settle(self):
        while self.pending_adoptions:
            name, refs = self.pending_adoptions.pop()
            self.tell(name, AddRefs(list(refs)))

    pending_adoptions: list = []

    def step(self, name, body, src=None):
        self.pending_adoptions = []
        self.tell(name, body, src)
        self.settle()

    def draw(self, data, items):
        return data.draw(st.sampled_from(items))

    def some(self, data, name):
        held = self.handles[name]
        if not held:
            return ()
        return tuple(data.draw(st.lists(st.sampled_from(held), min_size=data.draw(st.integers(0, 1)), max_size=3)))

    def droppable(self, name):
        busy = [ref for waiter, ref in self.fetching.items() if waiter.wake == name]
        rest = list(self.handles[name])
        for ref in busy:
            rest.remove(ref)
        return rest

    # ---- what user code does
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def put(self, data, name):
        refs = self.some(data, name)
        oid = next(self.count).to_bytes(16, "big") + RETURN
        self.contents[oid] = refs
        self.handles[name].append(RefInfo(oid, name))
        self.step(name, PutObject(oid, Value(b"x", (), refs)))

    def all_droppable(self):
        return [(name, ref) for name in NAMES for ref in self.droppable(name)]

    @precondition(lambda self: self.all_droppable())
    @rule(data=st.data())
    def drop(self, data):
        name, ref = self.draw(data, self.all_droppable())
        self.handles[name].remove(ref)
        self.step(name, Release([ref.object_id]))

    @precondition(lambda self: self.all_droppable())
    @rule(data=st.data())
    def get(self, data):
        # Rather what came from elsewhere and what has something inside: there the counting happens.
        found = self.all_droppable()
        found.sort(key=lambda item: (item[1].owner == item[0], not self.contents[item[1].object_id]))
        name, ref = self.draw(data, found[: max(1, len(found) // 2)])
        waiter = Waiter((ref,), 1, name)
        self.fetching[waiter] = ref
        self.step(name, AddWaiter(waiter))

    @precondition(lambda self: self.fetching)
    @rule(data=st.data())
    def give_up(self, data):
        waiter = self.draw(data, list(self.fetching))
        del self.fetching[waiter]
        self.step(waiter.wake, DropWaiter(waiter))

    @rule(data=st.data(), src=st.sampled_from(NAMES), dst=st.sampled_from(NAMES))
    def call(self, data, src, dst):
        refs = self.some(data, src)
        task = Task(next(self.count).to_bytes(16, "big"), self.template, b"a", (), (), refs)
        self.handles[src].append(RefInfo(task.task_id + RETURN, src))
        self.contents[task.task_id + RETURN] = ()
        self.step(src, Submit([task]))
        self.channels[src, dst].append(Call(task, src, dst))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish_call(self, data):
        call = self.draw(data, self.running)
        self.running.remove(call)
        # Only refs older than the call: a cycle of values is never freed, as with all counting of references.
        self.end(call, tuple(r for r in self.some(data, call.dst) if r.object_id < call.task.task_id))

    def end(self, call, inside):
        result = Value(b"r", (), inside)
        self.contents[call.task.task_id + RETURN] = inside
        if inside:
            self.step(call.dst, Lend(inside, call.src))
        borrowed = []
        if call.task.refs:
            self.step(call.dst, ReportHeld(call.task.refs, borrowed, Waiter((), 0, None)))
        outcome = TaskOutcome(call.task.task_id, (result,), 0.001, tuple(borrowed))
        self.channels[call.dst, call.src].append(TasksDone((outcome,)))

    @precondition(lambda self: any(self.channels.values()))
    @rule(data=st.data(), count=st.integers(1, 4))
    def deliver(self, data, count):
        for _ in range(count):
            pairs = [pair for pair, queue in self.channels.items() if queue]
            if pairs:
                self.deliver_from(self.draw(data, pairs))
                self.nothing_held_is_released()

    def deliver_from(self, pair):
        item = self.channels[pair].popleft()
        if isinstance(item, Call):
            self.running.append(item)
            self.handles[item.dst] += item.task.refs
            self.step(item.dst, AddRefs(list(item.task.refs)))
        else:
            self.step(pair[1], item, pair[0])

    # ---- the oracle
    @invariant()
    def nothing_held_is_released(self):
        todo = [ref for held in self.handles.values() for ref in held]
        # Tasks whose outcome has not arrived hold their arguments.
        for machine in self.machines.values():
            for task in machine.submitter.tasks.values():
                todo += task.refs
        seen = set()
        while todo:
            ref = todo.pop()
            if ref in seen:
                continue
            seen.add(ref)
            record = self.machines[ref.owner].objects.records.get(ref.object_id)
            assert record is not None, f"{ref} was released although it can be reached"
            assert not isinstance(record.result, Failure), f"{ref} was lost although it can be reached"
            if record.result is not None:
                todo += self.contents[ref.object_id]

    def teardown(self):
        for _ in range(10_000):
            for name in NAMES:
                for ref in self.droppable(name):
                    self.handles[name].remove(ref)
                    self.step(name, Release([ref.object_id]))
            while self.running:
                self.end(self.running.pop(), ())
            pairs = [pair for pair, queue in self.channels.items() if queue]
            if not pairs and not self.running and not any(self.droppable(n) for n in NAMES):
                break
            for pair in pairs:
                self.deliver_from(pair)
                self.nothing_held_is_released()
        assert not self.fetching
        for name, machine in self.machines.items():
            objects = machine.objects
            assert not objects.records, f"{name} keeps {objects.records}"
            assert not objects.borrowed_by
            assert not objects.borrowed_from
            assert not objects.waited_by


TestReferenceCounting = ReferenceCounting.TestCase
TestReferenceCounting.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)


# ---------------------------------------------------------------------------------------------- stores
NODE = Address("node1", "objects")


def stored_of(object_id, attempt=b"a" * 8, refs=(), holders=("node1",)):
    return Stored(object_id + attempt, 200_000, "me", holders, refs)


def frees(effects):
    return {e.dst.process: e.body.keys for e in effects if isinstance(e, Send) and isinstance(e.body, FreeObjects)}


def test_a_stored_result_is_freed_with_its_last_ref_and_what_it_holds_with_it():
    driver = Driver()
    driver.tell(PutObject(MINE, VALUE))
    task = driver.task()
    driver.submit(task)
    driver.grant()
    oid = task.task_id + RETURN
    result = stored_of(oid, refs=(RefInfo(MINE, "me"),))
    driver.tell(BorrowersAdded((RefInfo(MINE, "me"),), "me"))  # the worker lends what is in its result
    driver.finish(task, result=result)
    assert frees(driver.tell(Release([MINE]))) == {}
    assert driver.machine.statistics().objects_stored == 1
    assert frees(driver.tell(Release([oid]))) == {"node1": (result.key,)}
    assert driver.machine.objects.records == {}


def test_others_are_told_where_it_lies_now():
    driver = Driver()
    result = stored_of(MINE)
    driver.tell(PutObject(MINE, result))
    driver.tell(CopiesAdded((result.key,), "node2"), Address("node2", "objects"))
    effects = driver.tell(GetObjects((MINE,)), OTHER)
    ((_, answer),) = sent_to(effects, OTHER)[0].objects
    assert answer.holders == ("node1", "node2")
    task = driver.task(dependencies=(RefInfo(MINE, "me"),))
    driver.submit(task)
    (push,) = sent(driver.grant(), PushTasks)
    assert push.calls[0].dependencies == (answer,)
    assert sent_to(driver.tell(LocateObject(result.key), NODE), NODE) == [ObjectLocated(result.key, ("node1", "node2"))]


def test_a_value_that_comes_too_late_is_freed_at_once():
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    driver.grant()
    first, second = stored_of(task.task_id + RETURN), stored_of(task.task_id + RETURN, b"b" * 8)
    assert frees(driver.finish(task, result=first)) == {}
    assert frees(driver.finish(task, result=second)) == {"node1": (second.key,)}
    assert frees(driver.finish(task, result=first)) == {}  # the same word twice
    driver.tell(Release([task.task_id + RETURN]))
    assert frees(driver.finish(task, result=first)) == {"node1": (first.key,)}


def test_stores_ask_what_is_still_needed():
    """What is being made may be on its way; what is unknown is nobody's."""
    driver = Driver()
    task = driver.task()
    driver.submit(task)
    known = stored_of(MINE)
    driver.tell(PutObject(MINE, known))
    pending = stored_of(task.task_id + RETURN)
    keys = (known.key, pending.key, MINE + b"x" * 8, b"unknown" * 4)
    effects = driver.tell(VerifyObjects(keys, "node3"), Address("node3", "objects"))
    assert frees(effects) == {"node3": keys[2:]}
    located = driver.tell(LocateObject(known.key), NODE)
    assert sent_to(located, NODE)[0].holders == ("node1", "node3")


def test_with_its_last_node_a_value_is_lost_and_everybody_hears_it():
    driver = Driver()
    result = stored_of(MINE, refs=(RefInfo(b"i" * 20, "me"),))
    driver.tell(PutObject(b"i" * 20, VALUE))
    driver.tell(PutObject(MINE, result))
    driver.tell(Release([b"i" * 20]))
    driver.tell(CopiesAdded((result.key,), "node2"), Address("node2", "objects"))
    driver.tell(NodeChanged(b"n", Address("node1", "raylet"), alive=False, text="power cut"), GCS)
    assert driver.machine.objects.records[MINE].result is result
    driver.tell(CopiesRemoved((result.key,), "node2"), Address("node2", "objects"))
    lost = driver.machine.objects.records[MINE].result
    assert lost.kind == "ObjectReconstructionFailedError"
    assert "made by put()" in lost.text
    assert list(driver.machine.objects.records) == [MINE]  # what was in it went with it
    (answer,) = sent_to(driver.tell(LocateObject(result.key), NODE), NODE)
    assert answer == ObjectLocated(result.key, (), lost)
    assert frees(driver.tell(Release([MINE]))) == {}


def test_a_released_object_cannot_be_located():
    driver = Driver()
    (answer,) = sent_to(driver.tell(LocateObject(b"k" * 28), NODE), NODE)
    assert answer.failure.kind == "ObjectLostError"


def test_a_borrower_frees_nothing():
    driver = Driver()
    driver.tell(AddRefs([THEIRS]))
    waiter = driver.wait(THEIRS.object_id, owner="other")
    theirs = Stored(THEIRS.object_id + b"a" * 8, 200_000, "other", ("node1",))
    assert woken(driver.tell(ObjectsReady(((THEIRS.object_id, theirs),)), OTHER)) == [waiter]
    assert driver.machine.objects.any_stored([THEIRS.object_id])
    again = driver.tell(ObjectsReady(((THEIRS.object_id, theirs),)), OTHER)
    assert frees([*again, *driver.tell(Release([THEIRS.object_id]))]) == {}
