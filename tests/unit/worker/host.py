"""A worker without a cluster: real executor, real machine, user code in real threads; everything else is fake."""

import os
import threading
from collections import deque

from actorrt.kernel.effects import Do, Send
from actorrt.kernel.ids import object_id
from actorrt.kernel.message import Address, Envelope
from actorrt.owner.messages import TasksDone
from actorrt.owner.state import local
from actorrt.wire import values
from actorrt.wire.failures import exception_of
from actorrt.wire.records import ActorSpec, Failure, Stored, TaskCall, TaskTemplate, Value
from actorrt.worker.executor import Executor
from actorrt.worker.messages import CancelTask, CreateActorHere, PushCalls, PushTasks
from actorrt.worker.state import WorkerMachine

OWNER = Address("owner", "owner")
RAYLET = Address("raylet", "raylet")
PATIENCE_S = 20.0
ACTOR_ID = b"a" * 16


class Host:
    """What the executor needs, and the shell of the worker machine: whoever posts drives."""

    pid = os.getpid()
    node_id = b"node"

    def __init__(self, *, is_process=False):
        self.machine = WorkerMachine(b"w", Address("me", "worker"), RAYLET, self.pid)
        self.executor = Executor(self, is_process=is_process)
        self.functions = {}
        self.sent = []
        self.left = []
        self.timers = []
        self.lent = []
        self.accelerators = []
        self.held = ()
        self.shelf = {}
        self.children_cancelled = []
        self.changed = threading.Condition()
        self._mailbox = deque()
        self._driving = threading.Lock()
        self._numbers = iter(range(1, 1_000_000))
        self._templates = {}
        self.thread = threading.Thread(target=self.executor.run, daemon=True)

    # ---- the Host protocol
    def post(self, envelope):
        self._mailbox.append(envelope)
        while self._mailbox and self._driving.acquire(blocking=False):
            try:
                while self._mailbox:
                    for effect in self.machine.handle(self._mailbox.popleft(), 0.0):
                        if isinstance(effect, Do):
                            self.executor.perform(effect.operation)
                        elif isinstance(effect, Send):
                            with self.changed:
                                self.sent.append(effect)
                                self.changed.notify_all()
            finally:
                self._driving.release()

    def load_function(self, template):
        return self.functions[template.function_key]

    def load_class(self, spec):
        return self.functions[spec.class_key]

    def lend(self, refs, borrower):
        self.lent.append((refs, borrower))

    def still_held(self, refs):
        return tuple(ref for ref in refs if ref in self.held)

    def keep(self, pickled, whose):
        task_id, index, owner = whose
        stored = Stored(object_id(task_id, index) + b"unique", pickled.size_bytes(), owner, ("node",), pickled.refs)
        self.shelf[stored.key] = pickled.snapshot()
        return stored

    def load(self, results):
        found = [self.shelf[result.key] if isinstance(result, Stored) else result for result in results]
        for result in found:
            if isinstance(result, Failure):
                raise exception_of(result)
        return [values.loads(result) for result in found]

    async def load_async(self, results):
        return self.load(results)

    def use_accelerators(self, ids):
        self.accelerators.append(ids)

    def cancel_children(self, task_id):
        self.children_cancelled.append(task_id)

    def call_soon(self, callback, delay_s):
        with self.changed:
            self.timers.append(callback)
            self.changed.notify_all()

    def enter(self):
        pass

    def leave(self, cause, exit_code):
        with self.changed:
            self.left.append((cause, exit_code))
            self.changed.notify_all()
        self.executor.stop()

    # ---- the other side
    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_error):
        self.executor.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def template(self, function, **options):
        key = (function if isinstance(function, str) else id(function), tuple(sorted(options.items())))
        if key not in self._templates:
            number = len(self._templates) + 1
            function_key = b"%d" % number
            self.functions[function_key] = function
            name = getattr(function, "__name__", str(function))
            self._templates[key] = TaskTemplate(
                number, function_key, name, name, b"job", **{"max_retries": 3, **options}
            )
        return self._templates[key]

    def call_of(self, template, *args, **more):
        number = next(self._numbers)
        data = values.dumps((args, {})).data if args else b""
        return TaskCall(number.to_bytes(16, "big"), template.number, data, **more)

    def push(self, *calls):
        self.post(Envelope(OWNER, PushTasks(1, tuple(self._templates.values()), calls)))

    def run(self, function, *args, **options):
        """Push one task; returns its id."""
        call = self.call_of(self.template(function, **options), *args)
        self.push(call)
        return call.task_id

    def call(self, method, *args, **options):
        """Push one actor call; returns its id."""
        call = self.call_of(self.template(method, method_name=method, **options), *args)
        self.post(Envelope(OWNER, PushCalls(ACTOR_ID, 1, tuple(self._templates.values()), (call,))))
        return call.task_id

    def become(self, cls, *args, **spec):
        self.functions[b"class"] = cls
        packed = values.dumps((args, {})) if args else Value(b"")
        made = ActorSpec(ACTOR_ID, b"job", OWNER, b"class", cls.__name__, packed, **spec)
        self.post(Envelope(RAYLET, CreateActorHere(made, 1)))

    def cancel(self, task_id, **options):
        self.post(Envelope(OWNER, CancelTask(task_id, **options)))

    def tell(self, body):
        self.post(local(body))

    # ---- waiting for what comes of it
    def until(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE_S), f"still waiting; sent so far: {self.sent}"

    def batches(self):
        return [e.body.outcomes for e in self.sent if isinstance(e.body, TasksDone)]

    def outcomes(self):
        return {o.task_id: o for batch in self.batches() for o in batch}

    def outcome(self, task_id):
        self.until(lambda: task_id in self.outcomes())
        return self.outcomes()[task_id]

    def value(self, task_id):
        (result,) = self.outcome(task_id).results
        assert isinstance(result, Value), result
        return values.loads(result)

    def failure(self, task_id):
        (result,) = self.outcome(task_id).results
        assert not isinstance(result, Value), result
        return result

    def messages(self, kind):
        return [e.body for e in self.sent if isinstance(e.body, kind)]

    def wait_for(self, kind):
        self.until(lambda: self.messages(kind))
        return self.messages(kind)
