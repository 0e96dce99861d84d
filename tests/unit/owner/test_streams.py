import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actorrt.gcs.messages import CreateActor
from actorrt.kernel.ids import object_id
from actorrt.kernel.message import Address, PeerGone
from actorrt.owner.messages import ActorChanged, BorrowersAdded, ItemsYielded, LeasedWorkerDied, TasksDone
from actorrt.owner.requests import AddRefs, Cancel, DropStream, DropWaiter, PutObject, Release, StartActor, TakeItem
from actorrt.owner.streams import COMPLETED_INDEX, END_OF_STREAM
from actorrt.owner.tasks import ENDED, PUSHED, Template
from actorrt.wire.records import ActorInfo, ActorSpec, DeathCause, Failure, RefInfo, TaskOutcome, Value
from actorrt.wire.values import NONE_VALUE
from tests.unit.owner.harness import Driver, pushed, woken, worker_address

CRASH = DeathCause("signal", "killed by SIGKILL", signal=9)
BROKEN = Failure("TaskError", "it raised")
INNER = RefInfo(b"inner" * 4, "me")


def streaming_template(driver, *, retries=0, lease="cpu", method=""):
    plain = driver.template("g" + lease, retries=retries, lease=lease, num_returns=0, method=method)
    spec = msgspec.structs.replace(plain.spec, is_streaming=True)
    return Template(spec, plain.lease_spec, plain.lease_key)


class Stream:
    """One streaming task at worker 1, and its consumer."""

    def __init__(self, driver=None, *, retries=0, grant=True):
        self.driver = driver or Driver()
        self.task = self.driver.task(streaming_template(self.driver, retries=retries))
        self.driver.submit(self.task)
        if grant:
            self.driver.grant()

    def oid(self, index):
        return object_id(self.task.task_id, index)

    def yields(self, *indices, number=1, refs=()):
        items = tuple((index, Value(b"%d" % index, refs=refs)) for index in indices)
        return self.driver.tell(ItemsYielded(self.task.task_id, items), worker_address(number))

    def ends(self, *results, count, number=1, **more):
        outcome = TaskOutcome(self.task.task_id, results, 0.001, item_count=count, **more)
        return self.driver.tell(TasksDone((outcome,)), worker_address(number))

    def dies(self, number=1):
        self.driver.tell(LeasedWorkerDied(number, worker_address(number), CRASH), Address("raylet", "raylet"))
        return self.driver.tell(PeerGone(f"worker{number}", "closed"))

    def result(self, index):
        record = self.driver.machine.objects.records.get(self.oid(index))
        return None if record is None else record.result

    def kinds(self, *indices):
        return [r.kind if isinstance(r := self.result(i), Failure) else r and r.data for i in indices]

    def take(self, index):
        self.driver.tell(TakeItem(self.oid(index)))

    def drop(self):
        return self.driver.tell(DropStream(self.task.task_id))

    def release(self, *indices):
        self.driver.tell(Release([self.oid(index) for index in indices]))

    def is_gone(self):
        return not self.driver.machine.objects.records and not self.driver.submitter.streams.streams


def test_items_are_ready_as_they_come_and_the_end_mark_is_last():
    stream = Stream()
    stream.yields(0)
    assert stream.kinds(0, 1) == [b"0", None]
    stream.yields(1, 2)
    stream.ends(count=3)
    assert stream.kinds(0, 1, 2, 3) == [b"0", b"1", b"2", END_OF_STREAM]
    assert stream.result(COMPLETED_INDEX) == NONE_VALUE
    assert stream.task.state == ENDED


def test_items_taken_are_the_consumers_and_the_rest_goes_with_the_generator():
    stream = Stream()
    stream.yields(0, 1, 2)
    stream.take(0)
    stream.take(1)
    stream.release(0)
    assert stream.kinds(0, 1, 2) == [None, b"1", b"2"]
    stream.ends(count=3)
    stream.drop()
    assert stream.kinds(0, 1, 2, 3, COMPLETED_INDEX) == [None, b"1", None, None, None]
    stream.release(1)
    assert stream.is_gone()


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_failure_is_the_last_item(taken):
    stream = Stream()
    stream.yields(0, 1)
    for index in range(taken):
        stream.take(index)
    stream.ends(BROKEN, count=2)
    assert stream.kinds(1, 2, 3) == [b"1", "TaskError", END_OF_STREAM]
    assert stream.result(COMPLETED_INDEX) == BROKEN


def test_a_consumer_that_is_ahead_waits():
    stream = Stream(grant=False)
    first = stream.driver.wait(stream.oid(0))
    stream.driver.grant()
    assert woken(stream.yields(0)) == [first]
    end = stream.driver.wait(stream.oid(1))
    far = stream.driver.wait(stream.oid(5))  # nobody does that, and nobody may hang for it
    assert woken(stream.ends(count=1)) == [end, far]
    assert stream.kinds(1, 5) == [END_OF_STREAM, END_OF_STREAM]
    stream.drop()
    assert stream.is_gone()


def test_a_wait_that_is_given_up_leaves_the_item_to_the_stream():
    stream = Stream()
    waiter = stream.driver.wait(stream.oid(0))
    stream.driver.tell(DropWaiter(waiter))
    stream.yields(0)
    assert stream.kinds(0) == [b"0"]
    stream.driver.tell(DropWaiter(stream.driver.wait(stream.oid(1))))
    stream.drop()
    assert len(stream.driver.machine.objects.records) == 1
    stream.ends(count=2)
    assert stream.is_gone()


def test_items_that_were_taken_and_released_are_gone():
    stream = Stream()
    stream.yields(0)
    stream.take(0)
    stream.release(0)
    stream.driver.tell(AddRefs([RefInfo(stream.oid(0), "me")]))  # from a pickle outside the runtime
    assert stream.kinds(0) == ["ObjectLostError"]


def test_a_second_attempt_yields_again_and_changes_nothing_that_is_known():
    stream = Stream(retries=1)
    stream.yields(0, 1)
    stream.take(0)
    stream.dies()
    assert pushed(stream.driver.grant(2)) == [stream.task.task_id]
    stream.release(0)
    stream.yields(0, number=2)
    assert stream.kinds(0, 1, 2) == [None, b"1", None]
    stream.yields(1, 2, number=2)
    stream.ends(count=3, number=2)
    assert stream.kinds(0, 1, 2, 3) == [None, b"1", b"2", END_OF_STREAM]


def test_without_retries_the_stream_ends_with_the_crash():
    stream = Stream(retries=0)
    stream.yields(0)
    waiter = stream.driver.wait(stream.oid(1))
    assert woken(stream.dies()) == [waiter]
    assert stream.kinds(0, 1, 2) == [b"0", "WorkerCrashedError", END_OF_STREAM]


def test_a_failure_that_is_retried_is_no_item():
    stream = Stream(retries=1)
    stream.yields(0)
    assert pushed(stream.ends(BROKEN, count=1, retry_wanted=True)) == [stream.task.task_id]
    stream.yields(0, 1)
    stream.ends(count=2)
    assert stream.kinds(0, 1, 2) == [b"0", b"1", END_OF_STREAM]


@pytest.mark.parametrize("retries", [0, 1])
def test_items_lost_with_a_connection_do_not_leave_a_hole(retries):
    stream = Stream(retries=retries)
    stream.yields(0)
    stream.yields(2)  # item 1 was lost on its way
    assert stream.kinds(0, 1, 2) == [b"0", None, None]
    again = pushed(stream.ends(count=3))
    if retries:
        assert again == [stream.task.task_id]
        stream.yields(0, 1, 2)
        stream.ends(count=3)
        assert stream.kinds(0, 1, 2, 3) == [b"0", b"1", b"2", END_OF_STREAM]
    else:
        assert stream.kinds(0, 1, 2) == [b"0", "ObjectLostError", END_OF_STREAM]


def test_the_late_outcome_of_a_worker_given_up_does_not_end_a_stream_that_lacks_items():
    stream = Stream(retries=1)
    stream.yields(0)
    stream.dies()
    stream.driver.grant(2)
    stream.ends(count=3, number=1)  # of which 1 and 2 were lost
    assert stream.task.state != ENDED
    stream.yields(0, 1, 2, number=2)
    stream.ends(count=3, number=1)  # nothing is missing any more: as good as any
    assert stream.kinds(2, 3) == [b"2", END_OF_STREAM]
    stream.ends(count=3, number=2)
    stream.yields(3, number=2)
    assert stream.kinds(3) == [END_OF_STREAM]


def test_cancel_before_and_while_it_runs():
    waiting = Stream(grant=False)
    waiting.driver.tell(Cancel(waiting.oid(COMPLETED_INDEX), "me", False, True))
    assert waiting.kinds(0, 1) == ["TaskCancelledError", END_OF_STREAM]

    running = Stream(retries=3)
    running.yields(0)
    running.driver.tell(Cancel(running.oid(COMPLETED_INDEX), "me", False, True))
    running.ends(Failure("TaskCancelledError", "cancelled"), count=2)  # an item may get lost in the interrupt
    assert running.kinds(0, 1, 2) == [b"0", "TaskCancelledError", END_OF_STREAM]


def test_an_argument_that_failed_ends_the_stream():
    driver = Driver()
    bad = driver.task()
    driver.submit(bad)
    task = driver.task(streaming_template(driver), dependencies=(RefInfo(bad.task_id + bytes(4), "me"),))
    driver.submit(task)
    driver.grant()
    driver.finish(bad, result=BROKEN)
    assert driver.result(task, 0) == BROKEN
    assert driver.result(task, 1).kind == END_OF_STREAM


def test_a_dropped_stream_runs_on_and_keeps_nothing():
    stream = Stream()
    stream.yields(0)
    stream.drop()
    stream.drop()
    stream.yields(1)
    assert stream.kinds(0, 1) == [None, None]
    stream.ends(count=2)
    assert stream.is_gone()


@pytest.mark.parametrize("result", [(), (BROKEN,)])
def test_who_holds_the_completion_hears_of_it_though_the_generator_is_gone(result):
    stream = Stream()
    stream.take(COMPLETED_INDEX)
    stream.drop()
    waiter = stream.driver.wait(stream.oid(COMPLETED_INDEX))
    assert woken(stream.ends(*result, count=0)) == [waiter]
    assert stream.result(COMPLETED_INDEX) == (result[0] if result else NONE_VALUE)
    assert not stream.driver.submitter.streams.streams
    stream.release(COMPLETED_INDEX)
    assert stream.is_gone()


def test_a_dropped_stream_can_still_be_cancelled():
    stream = Stream(grant=False)
    stream.take(COMPLETED_INDEX)
    stream.drop()
    stream.driver.tell(Cancel(stream.oid(COMPLETED_INDEX), "me", False, True))
    assert stream.kinds(COMPLETED_INDEX) == ["TaskCancelledError"]


def test_refs_in_items_are_held_with_the_item_and_given_back_when_it_is_not_wanted():
    stream = Stream(retries=1)
    driver = stream.driver
    driver.tell(PutObject(INNER.object_id, Value(b"inner")))

    def yields(*indices):
        for _ in indices:  # the worker lends the refs to us before it sends the item
            driver.tell(BorrowersAdded((INNER,), "me"), Address("worker1", "owner"))
        stream.yields(*indices, refs=(INNER,))

    yields(0, 1)
    driver.tell(Release([INNER.object_id]))
    yields(0)  # a duplicate
    yields(3)  # after a gap
    stream.take(0)
    stream.drop()
    yields(2)  # to nobody
    assert driver.machine.objects.records[INNER.object_id].pins == 1
    stream.release(0)
    assert INNER.object_id not in driver.machine.objects.records


@pytest.mark.parametrize("retries", [0, 1])
def test_calls_of_actors_stream_too(retries):
    driver = Driver()
    spec = ActorSpec(b"a" * 16, b"job", driver.machine.me, b"k", "C", Value(b""))
    effects = driver.tell(StartActor(spec, (), ()))
    assert any(isinstance(getattr(e, "body", None), CreateActor) for e in effects)
    worker = worker_address(1)
    driver.tell(ActorChanged(ActorInfo(spec.actor_id, b"job", "ALIVE", 1, worker)), driver.machine.gcs)
    task = driver.task(streaming_template(driver, retries=retries, method="m"), actor=spec.actor_id)
    assert pushed(driver.submit(task), 1) == [task.task_id]
    driver.tell(ItemsYielded(task.task_id, ((0, Value(b"0")),)), worker)
    lacking = TasksDone((TaskOutcome(task.task_id, (), 0.001, item_count=2),))
    if not retries:
        driver.tell(lacking, worker)
        assert driver.result(task, 1).kind == "ObjectLostError"  # the actor may not run it again
        return
    driver.tell(ActorChanged(ActorInfo(spec.actor_id, b"job", "RESTARTING", 1)), driver.machine.gcs)
    driver.tell(lacking, worker)  # late, from one that is given up
    assert task.retries_left == 0
    alive = ActorInfo(spec.actor_id, b"job", "ALIVE", 2, worker_address(2))
    assert pushed(driver.tell(ActorChanged(alive), driver.machine.gcs), 2) == [task.task_id]
    driver.tell(lacking, worker)
    assert task.state == PUSHED
    driver.tell(ItemsYielded(task.task_id, ((0, Value(b"0")), (1, Value(b"1")))), worker_address(2))
    driver.tell(lacking, worker_address(2))
    assert driver.result(task, 1) == Value(b"1")
    assert driver.result(task, 2).kind == END_OF_STREAM


# ---------------------------------------------------------------------------------------------- at random
class Attempt:
    def __init__(self, number):
        self.number = number
        self.position = 0
        self.dead = False


class Story:
    """What one stream should be."""

    def __init__(self, task, length, fails):
        self.task = task
        self.length = length
        self.fails = fails
        self.attempts = []
        self.taken = 0
        self.held = []
        self.waiter = None
        self.dropped = False
        self.ended = False
        self.finished = False


class Streams(RuleBasedStateMachine):
    """Items in the order of each attempt, attempts that overlap, losses, takes, waits and drops at random."""

    def __init__(self):
        super().__init__()
        self.driver = Driver()
        self.driver.tell(PutObject(INNER.object_id, Value(b"inner")))
        self.stories = []
        self.by_id = {}
        self.workers = 0

    def tell(self, body, src=None):
        effects = self.driver.tell(body, src)
        for task_id in pushed(effects):
            story = self.by_id[task_id]
            story.attempts.append(Attempt(self.workers_of[task_id]))
        for waiter in woken(effects):
            (story,) = (s for s in self.stories if s.waiter is waiter)
            story.waiter = None
        return effects

    @property
    def workers_of(self):
        return {s.task.task_id: s.number for s in self.stories}

    def pick(self, data, condition):
        found = [s for s in self.stories if condition(s)]
        return data.draw(st.sampled_from(found)) if found else None

    @precondition(lambda self: len(self.stories) < 5)
    @rule(length=st.integers(0, 6), fails=st.booleans())
    def submit(self, length, fails):
        story = Story(
            self.driver.task(streaming_template(self.driver, retries=-1, lease=f"lease{len(self.stories)}")),
            length,
            fails,
        )
        self.stories.append(story)
        self.by_id[story.task.task_id] = story
        self.driver.submit(story.task)
        self.grant(story)

    def grant(self, story):
        self.workers += 1
        story.number = self.workers
        effects = self.driver.grant(self.workers, class_id=self.stories.index(story) + 1)
        assert pushed(effects) == [story.task.task_id]
        story.attempts.append(Attempt(self.workers))

    @rule(data=st.data(), count=st.integers(1, 3), is_lost=st.integers(0, 5).map(lambda x: not x))
    def items(self, data, count, is_lost):
        story = self.pick(data, lambda s: any(a.position < s.length for a in s.attempts))
        if story is None:
            return
        attempt = data.draw(st.sampled_from([a for a in story.attempts if a.position < story.length]))
        self.send(story, attempt, count, is_lost=is_lost)

    def send(self, story, attempt, count, *, is_lost=False):
        start, attempt.position = attempt.position, min(story.length, attempt.position + count)
        if is_lost:
            return
        items = []
        for index in range(start, attempt.position):
            self.tell(BorrowersAdded((INNER,), "me"), Address(f"worker{attempt.number}", "owner"))
            items.append((index, Value(b"%d" % index, refs=(INNER,))))
        self.tell(ItemsYielded(story.task.task_id, tuple(items)), worker_address(attempt.number))

    @rule(data=st.data())
    def outcome(self, data):
        story = self.pick(data, lambda s: any(a.position == s.length for a in s.attempts))
        if story is not None:
            attempt = data.draw(st.sampled_from([a for a in story.attempts if a.position == story.length]))
            self.end(story, attempt)

    def end(self, story, attempt):
        story.attempts.remove(attempt)
        results = (BROKEN,) if story.fails else ()
        outcome = TaskOutcome(story.task.task_id, results, 0.001, item_count=story.length)
        self.tell(TasksDone((outcome,)), worker_address(attempt.number))
        story.ended = story.task.state == ENDED

    @rule(data=st.data())
    def worker_dies(self, data):
        story = self.pick(data, lambda s: not s.ended and not s.attempts[-1].dead)
        if story is not None:  # what it sent may still come, late
            self.die(story)

    def die(self, story):
        story.attempts[-1].dead = True
        number = story.number
        self.tell(LeasedWorkerDied(number, worker_address(number), CRASH), Address("raylet", "raylet"))
        self.tell(PeerGone(f"worker{number}", "closed"))
        self.grant(story)

    @rule(data=st.data())
    def take(self, data):
        story = self.pick(data, lambda s: not s.finished and not s.dropped)
        if story is not None:
            self.try_take(story)

    def try_take(self, story):
        oid = object_id(story.task.task_id, story.taken)
        record = self.driver.machine.objects.records.get(oid)
        if record is None or record.result is None:
            return False
        result = record.result
        if story.taken < story.length:
            assert result.data == b"%d" % story.taken
        elif story.fails and story.taken == story.length:
            assert result == BROKEN
        else:
            assert result.kind == END_OF_STREAM
            story.finished = True
            return True
        story.taken += 1
        story.held.append(oid)
        self.tell(TakeItem(oid))
        return True

    @rule(data=st.data())
    def wait_ahead(self, data):
        story = self.pick(data, lambda s: not s.finished and not s.dropped and s.waiter is None)
        if story is None:
            return
        oid = object_id(story.task.task_id, story.taken)
        record = self.driver.machine.objects.records.get(oid)
        if record is None or record.result is None:
            story.waiter = self.driver.wait(oid)
            assert not story.waiter.done

    @rule(data=st.data())
    def give_up_waiting(self, data):
        story = self.pick(data, lambda s: s.waiter is not None)
        if story is not None:
            waiter, story.waiter = story.waiter, None
            self.tell(DropWaiter(waiter))

    @rule(data=st.data())
    def release(self, data):
        story = self.pick(data, lambda s: s.held)
        if story is not None:
            self.tell(Release([story.held.pop(0)]))

    @rule(data=st.data())
    def drop(self, data):
        story = self.pick(data, lambda s: not s.dropped and s.waiter is None)
        if story is not None:
            story.dropped = True
            self.tell(DropStream(story.task.task_id))

    @invariant()
    def nothing_is_held_that_nobody_can_ask_for(self):
        for story in self.stories:
            known = [i for i in range(story.length + 2) if object_id(story.task.task_id, i) in self.records]
            if story.dropped:
                assert len(known) == len(story.held)

    @property
    def records(self):
        return self.driver.machine.objects.records

    def teardown(self):
        for story in self.stories:
            while not story.ended:
                if not story.attempts:
                    self.grant(story)
                attempt = story.attempts[-1]
                self.send(story, attempt, story.length - attempt.position)
                self.end(story, attempt)
            if not story.dropped:
                while not story.finished:
                    assert self.try_take(story), "an item is missing"
                assert story.taken == story.length + story.fails
            assert story.waiter is None
            self.tell(DropStream(story.task.task_id))
            self.tell(Release(story.held))
            for attempt in story.attempts:  # late words, to nobody
                self.send(story, attempt, story.length)
        assert list(self.records) == [INNER.object_id]
        assert self.records[INNER.object_id].pins == 0
        self.tell(Release([INNER.object_id]))
        assert not self.records
        assert not self.driver.submitter.streams.streams


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
