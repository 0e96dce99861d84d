"""Building blocks for tests of the owner: addresses, tasks, and a driver that collects effects."""

import itertools

from actorrt.kernel.effects import Do, Send
from actorrt.kernel.message import Address, Envelope
from actorrt.owner.messages import LeaseGranted, TasksDone
from actorrt.owner.operations import Wake
from actorrt.owner.requests import AddWaiter, Submit
from actorrt.owner.state import OwnerMachine, local
from actorrt.owner.tasks import Task, Template, Waiter
from actorrt.wire.records import LeaseSpec, RefInfo, TaskOutcome, TaskTemplate, Value
from actorrt.worker.messages import PushCalls, PushTasks

ME = Address("me", "owner")
RAYLET = Address("raylet", "raylet")
GCS = Address("gcs", "gcs")
VALUE = Value(b"v")
RETURN = b"\x00\x00\x00\x00"


def worker_address(number):
    return Address(f"worker{number}", "worker")


class Driver:
    """One owner machine, the time, and what it said so far."""

    def __init__(self, me=ME):
        self.machine = OwnerMachine(me, RAYLET, GCS)
        self.now = 0.0
        self.effects = []
        self.numbers = itertools.count(1)
        self.templates = {}

    # ---- messages in
    def tell(self, body, src=None, now=None):
        """Handle one message; returns the effects of this step."""
        if now is not None:
            self.now = now
        envelope = local(body) if src is None else Envelope(src, body)
        effects = self.machine.handle(envelope, self.now)
        self.machine.check()
        self.effects.extend(effects)
        return effects

    def template(self, name="f", *, retries=3, lease="cpu", num_returns=1, method=""):
        key = (name, retries, lease, num_returns, method)
        if key not in self.templates:
            spec = TaskTemplate(
                len(self.templates) + 1, b"k", name, name, b"job", num_returns, max_retries=retries, method_name=method
            )
            lease_spec = None if method else LeaseSpec(b"job", {lease: 10_000})
            self.templates[key] = Template(spec, lease_spec, b"" if method else lease.encode())
        return self.templates[key]

    def task(self, template=None, dependencies=(), refs=(), actor=b"", parent=b""):
        task_id = next(self.numbers).to_bytes(16, "big")
        return Task(task_id, template or self.template(), b"args", (), dependencies, refs, actor, parent)

    def submit(self, *tasks):
        return self.tell(Submit(list(tasks)))

    def grant(self, number=1, class_id=1, raylet=RAYLET):
        worker = worker_address(number)
        grant = LeaseGranted(class_id, number, worker, b"w%d" % number, b"node", 1000 + number)
        return self.tell(grant, raylet)

    def finish(self, task, number=1, duration_s=0.001, result=VALUE, **more):
        outcome = TaskOutcome(task.task_id, (result,), duration_s, **more)
        return self.tell(TasksDone((outcome,)), worker_address(number))

    def wait(self, *object_ids, needed=None, owner="me", fail_fast=False):
        refs = tuple(RefInfo(oid, owner) for oid in object_ids)
        waiter = Waiter(refs, len(refs) if needed is None else needed, lambda: None, fail_fast=fail_fast)
        self.tell(AddWaiter(waiter))
        return waiter

    # ---- what is known
    def result(self, task, index=0):
        return self.machine.objects.records[task.task_id + index.to_bytes(4, "big")].result

    @property
    def submitter(self):
        return self.machine.submitter


def sent(effects, kind=None):
    """Bodies that were sent, of a kind."""
    return [e.body for e in effects if isinstance(e, Send) and (kind is None or isinstance(e.body, kind))]


def sent_to(effects, dst):
    return [e.body for e in effects if isinstance(e, Send) and e.dst == dst]


def pushed(effects, number=None):
    """Ids of tasks and calls pushed (to a certain worker)."""
    return [
        call.task_id
        for e in effects
        if isinstance(e, Send) and isinstance(e.body, (PushTasks, PushCalls))
        if number is None or e.dst == worker_address(number)
        for call in e.body.calls
    ]


def woken(effects):
    return [e.operation.waiter for e in effects if isinstance(e, Do) and isinstance(e.operation, Wake)]
