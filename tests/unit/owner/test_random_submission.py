"""Tasks, workers and deaths at random around one owner, against a ledger of what ran."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actorrt.kernel.message import PeerGone
from actorrt.owner.messages import (
    LeasedWorkerDied,
    LeaseGranted,
    LeaseRecalled,
    TasksDone,
    TasksReturned,
)
from actorrt.owner.requests import Cancel, Submit, Tick
from actorrt.owner.submission import LAST_WORDS_S
from actorrt.owner.tasks import ENDED, QUEUED
from actorrt.raylet.messages import CancelLeases, RequestLeases, ReturnLease
from actorrt.wire.records import DeathCause, TaskOutcome
from actorrt.worker.messages import PushTasks, TakeBack
from tests.unit.owner.harness import RAYLET, RETURN, VALUE, Driver, worker_address

CRASH = DeathCause("signal", "killed by SIGKILL", signal=9)


def learned(driver, name="f", **options):
    """A template whose duration is known to be short, so that tasks are pipelined."""
    template = driver.template(name, **options)
    template.average_s = 0.0001
    return template


class FakeWorker:
    def __init__(self, number):
        self.number = number
        self.queue = deque()
        self.held = []
        self.channel = deque()
        self.dead = False
        self.gone_told = False
        self.death_told = False


class Submission(RuleBasedStateMachine):
    """Random grants, outcomes, deaths, returns and cancels around one owner, against a ledger of what ran."""

    def __init__(self):
        super().__init__()
        self.driver = Driver()
        self.once = learned(self.driver, "once", retries=0)
        self.often = learned(self.driver, "often", retries=2)
        self.unknown = self.driver.template("unknown", retries=1)
        self.slow = self.driver.template("slow", retries=0, lease="gpu")
        self.tasks = []
        self.by_id = {}
        self.runs = {}
        self.workers = {}
        self.requested = {}
        self.ended = {}
        self.told_dead_s = {}
        self.lost_patience = False

    def absorb(self, effects):
        for effect in effects:
            body = getattr(effect, "body", None)
            if isinstance(body, RequestLeases):
                self.requested[body.class_id] = self.requested.get(body.class_id, 0) + body.count
            elif isinstance(body, CancelLeases):
                assert body.count <= self.requested.get(body.class_id, 0) + 1000
                self.requested[body.class_id] = max(0, self.requested.get(body.class_id, 0) - body.count)
            elif isinstance(body, PushTasks):
                worker = self.workers[int(effect.dst.process[6:])]
                for call in body.calls:
                    if not worker.dead:
                        worker.queue.append(call.task_id)
            elif isinstance(body, TakeBack):
                worker = self.workers[int(effect.dst.process[6:])]
                back = [worker.queue.pop() for _ in range(min(body.count, max(0, len(worker.queue) - 1)))]
                if back:
                    worker.channel.append(TasksReturned(tuple(reversed(back))))
            elif isinstance(body, ReturnLease):
                worker = self.workers[body.lease_id & 0xFFFF]
                assert body.worker_failed or not (worker.queue or worker.held), "returned with work in its hands"
                worker.dead = True
                worker.death_told = True

    def tell(self, *args, **kwargs):
        self.absorb(self.driver.tell(*args, **kwargs))
        for task in self.tasks:
            if task.state == ENDED and task not in self.ended:
                self.ended[task] = self.driver.result(task)
            assert task not in self.ended or self.driver.result(task) is self.ended[task], "ended twice"

    @rule(kinds=st.lists(st.sampled_from(["once", "often", "unknown", "slow"]), min_size=1, max_size=6))
    def submit(self, kinds):
        tasks = [self.driver.task(getattr(self, kind)) for kind in kinds]
        self.tasks += tasks
        self.by_id.update({t.task_id: t for t in tasks})
        self.tell(Submit(tasks))

    def wanted(self):
        return [class_id for class_id, count in self.requested.items() if count]

    @precondition(lambda self: self.wanted())
    @rule(data=st.data())
    def grant(self, data):
        class_id = data.draw(st.sampled_from(self.wanted()))
        self.requested[class_id] -= 1
        number = len(self.workers) + 1
        self.workers[number] = FakeWorker(number)
        self.tell(LeaseGranted(class_id, number, worker_address(number), b"w", b"n", number), RAYLET)

    def pick(self, data, condition):
        found = [w for w in self.workers.values() if condition(w)]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(data=st.data(), hold=st.booleans())
    def run_one(self, data, hold):
        worker = self.pick(data, lambda w: w.queue and not w.dead)
        if worker is None:
            return
        task_id = worker.queue.popleft()
        once = not self.by_id[task_id].template.max_retries
        if once:
            self.flush(worker)
        self.runs[task_id] = self.runs.get(task_id, 0) + 1
        worker.held.append(TaskOutcome(task_id, (VALUE,), 0.0001))
        if once or not hold:
            self.flush(worker)

    def flush(self, worker):
        if worker.held:
            worker.channel.append(TasksDone(tuple(worker.held)))
            worker.held = []

    @rule(data=st.data())
    def deliver(self, data):
        worker = self.pick(data, lambda w: w.channel)
        if worker is not None:
            self.tell(worker.channel.popleft(), worker_address(worker.number))

    @rule(data=st.data())
    def kill(self, data):
        worker = self.pick(data, lambda w: not w.dead and w.queue) or self.pick(data, lambda w: not w.dead)
        if worker is None:
            return
        worker.dead = True
        if worker.queue:  # the one that runs has run
            task_id = worker.queue[0]
            if not self.by_id[task_id].template.max_retries:
                self.flush(worker)
            self.runs[task_id] = self.runs.get(task_id, 0) + 1
        worker.held = []
        worker.queue.clear()

    @rule(data=st.data())
    def tell_death(self, data):
        worker = self.pick(data, lambda w: w.dead and not w.death_told)
        if worker is not None:
            worker.death_told = True
            self.told_dead_s[worker] = self.driver.now
            self.tell(LeasedWorkerDied(worker.number, worker_address(worker.number), CRASH), RAYLET)

    @rule(data=st.data())
    def tell_gone(self, data):
        worker = self.pick(data, lambda w: w.dead and not w.gone_told and not w.channel)
        if worker is not None:
            worker.gone_told = True
            self.tell(PeerGone(f"worker{worker.number}", "closed"))

    @rule(data=st.data())
    def recall(self, data):
        worker = self.pick(data, lambda w: not w.dead)
        if worker is not None:
            self.tell(LeaseRecalled(worker.number), RAYLET)

    @rule(data=st.data())
    def cancel(self, data):
        waiting = [t for t in self.tasks if t.state == QUEUED]
        if waiting:
            task = data.draw(st.sampled_from(waiting))
            self.tell(Cancel(task.task_id + RETURN, "me", False, True))

    @rule(seconds=st.sampled_from([0.03, 0.3]))
    def tick(self, seconds):
        now = self.driver.now + seconds
        for worker, told_s in self.told_dead_s.items():
            if not worker.gone_told and now - told_s >= LAST_WORDS_S:
                self.lost_patience = True  # a transport that does not keep its promise: then outcomes may be missed
        self.tell(Tick(), now=now)

    @invariant()
    def tasks_that_must_not_run_twice_do_not(self):
        for task_id, count in self.runs.items():
            task = self.by_id[task_id]
            if not task.template.max_retries and not self.lost_patience:
                assert count <= 1, task

    def teardown(self):
        for _ in range(10_000):
            if not self.driver.submitter.tasks:
                break
            for worker in list(self.workers.values()):
                while worker.queue and not worker.dead:
                    self.runs[worker.queue[0]] = self.runs.get(worker.queue[0], 0) + 1
                    worker.held.append(TaskOutcome(worker.queue.popleft(), (VALUE,), 0.0001))
                if not worker.dead:
                    self.flush(worker)
                while worker.channel:
                    self.tell(worker.channel.popleft(), worker_address(worker.number))
                if worker.dead and not worker.gone_told:
                    worker.gone_told = True
                    self.tell(PeerGone(f"worker{worker.number}", "closed"))
                if worker.dead and not worker.death_told:
                    worker.death_told = True
                    self.tell(LeasedWorkerDied(worker.number, worker_address(worker.number), CRASH), RAYLET)
            for class_id in self.wanted():
                self.requested[class_id] -= 1
                number = len(self.workers) + 1
                self.workers[number] = FakeWorker(number)
                self.tell(LeaseGranted(class_id, number, worker_address(number), b"w", b"n", number), RAYLET)
            self.tell(Tick(), now=self.driver.now + 1.0)
        assert all(t.state == ENDED for t in self.tasks)
        for _ in range(3):
            self.tell(Tick(), now=self.driver.now + 3.0)
        assert not self.driver.submitter.workers
        for scheduling_class in self.driver.submitter.classes.values():
            assert not any(t.state != ENDED for t in scheduling_class.queue)


TestSubmission = Submission.TestCase
TestSubmission.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
