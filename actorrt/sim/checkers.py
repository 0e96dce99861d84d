"""Invariants across machines. Some are watched after every step, the others hold when nothing is left to do.

A violation raises ``SimulationError``, which carries the world (seed, time, step): that is a failing seed.

Watched after every step (``Watch``):

* an owner ends every task it was given exactly once, and never forgets one;
* an object that has a result keeps that very result, unless that lay in stores (it may be lost, and made again);
* an object is freed in a store only when its owner, if that lives, does not refer to it any more;
* a worker is leased to one owner at a time, and works for nobody else;
* a node gives away more than it has only by taking back what a blocked worker needs to go on;
* calls of one owner run in the order in which they were submitted, and what may not be repeated is not.

At the end (``check_quiet``): no task, object, borrower, lease, request or waiting actor is left anywhere, every store
is empty, nothing is pinned or pulled, and every node has all its resources again.
"""

from __future__ import annotations

from typing import Any

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.message import Envelope
from actorrt.objects.messages import FreeObjects
from actorrt.objects.pulls import object_id_of
from actorrt.objects.state import ObjectManagerMachine
from actorrt.owner.messages import LeaseGranted
from actorrt.owner.requests import Submit
from actorrt.owner.state import OwnerMachine
from actorrt.owner.tasks import ENDED, Task
from actorrt.raylet.messages import ReturnLease, WorkerDied, WorkerStartFailed, WorkerUnblocked
from actorrt.raylet.state import RayletMachine
from actorrt.sim.town import Execution, Node, Town
from actorrt.sim.world import Cell, Process, SimulationError, Watcher
from actorrt.wire.records import Result, Stored, Value
from actorrt.worker.state import WorkerMachine

SCAN_INTERVAL_STEPS = 10
"""An owner's objects are all looked at after this many of its steps."""


class OwnerBook:
    """What a checker knows of one owner."""

    __slots__ = ("results", "steps", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[bytes, Task] = {}
        self.results: dict[bytes, Result] = {}
        self.steps = 0


class Watch(Watcher):
    """Watches every step of a town. Made before anything is submitted."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self._world = town.world
        self.owners: dict[str, OwnerBook] = {}
        self.submitted = 0
        self.freed = 0
        """Objects in stores."""
        self._leases: dict[str, dict[int, str]] = {}
        """By raylet process: lease id -> worker process, from the grant to its return or the worker's death."""
        self._worker_ids: dict[bytes, str] = {}
        self._oversubscribed: dict[str, int] = {}
        self._executions_seen = 0
        self._call_positions: dict[tuple[bytes, int, str], bytes] = {}
        self._runs: dict[bytes, int] = {}
        town.world.observers.append(self)

    # ------------------------------------------------------------------ after every step
    def stepped(self, cell: Cell, envelope: Envelope, effects: list[Effect], now: float) -> None:  # noqa: ARG002
        """See ``Observer``."""
        machine = cell.machine
        if isinstance(machine, OwnerMachine):
            self._owner_stepped(cell, machine, envelope)
        elif isinstance(machine, RayletMachine):
            self._raylet_stepped(cell, machine, envelope, effects)
        elif isinstance(machine, WorkerMachine):
            self._worker_stepped(cell, machine)
        elif isinstance(machine, ObjectManagerMachine) and isinstance(envelope.body, FreeObjects):
            self._freed(cell, envelope.body)

    def ended(self, process: Process, reason: str, now: float) -> None:  # noqa: ARG002
        """See ``Observer``."""
        self.owners.pop(process.name, None)
        self._leases.pop(process.name, None)

    def _freed(self, cell: Cell, message: FreeObjects) -> None:
        """The manager was told that nobody refers to these any more."""
        self.freed += len(message.keys)
        for runtime in self._town.runtimes():
            holdings = runtime.machine.objects.holdings
            for key in message.keys:
                needed = object_id_of(key) in holdings and holdings.holders(key)
                self._demand(not needed, f"{cell.address} frees {key.hex()}, which {runtime.me} needs: {needed}")

    def _owner_stepped(self, cell: Cell, machine: OwnerMachine, envelope: Envelope) -> None:
        book = self.owners.setdefault(cell.process.name, OwnerBook())
        body: Any = envelope.body
        if isinstance(body, Submit):
            self.submitted += len(body.tasks)
            book.tasks.update((task.task_id, task) for task in body.tasks)
        submitter = machine.submitter
        ended, pending = submitter.finished_count, len(submitter.tasks)
        self._demand(
            ended + pending == len(book.tasks) + submitter.lineage.restarted_count,
            f"{cell.address}: {len(book.tasks)} tasks were submitted, {pending} are pending, {ended} have ended",
        )
        book.steps += 1
        if book.steps % SCAN_INTERVAL_STEPS == 0:
            self._look_at_results(cell, machine, book)

    def _look_at_results(self, cell: Cell, machine: OwnerMachine, book: OwnerBook) -> None:
        results: dict[bytes, Result] = {}
        for object_id, record in machine.objects.records.items():
            if record.result is not None:
                results[object_id] = record.result
                known = book.results.get(object_id)
                same = known is None or known is record.result or isinstance(known, Stored)
                self._demand(same, f"{cell.address}: the result of {object_id.hex()} has changed")
            else:
                kept = not isinstance(book.results.get(object_id), Value)
                self._demand(kept, f"{cell.address}: the result of {object_id.hex()} has gone")
        book.results = results

    def _raylet_stepped(self, cell: Cell, machine: RayletMachine, envelope: Envelope, effects: list[Effect]) -> None:
        leases = self._leases.setdefault(cell.process.name, {})
        body = envelope.body
        if isinstance(body, ReturnLease):
            leases.pop(body.lease_id, None)
        elif isinstance(body, (WorkerDied, WorkerStartFailed)):
            process = self._worker_ids.pop(body.worker_id, "")
            for lease_id in [lease_id for lease_id, worker in leases.items() if worker == process]:
                del leases[lease_id]
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.body, LeaseGranted):
                self._granted(cell, leases, effect.body)
        free = machine.grants.ledger.free()
        missing = sum(-fixed for fixed in free.values() if fixed < 0)
        before = self._oversubscribed.get(cell.process.name, 0)
        self._demand(
            missing <= before or isinstance(body, WorkerUnblocked),
            f"{cell.address} gave away more than it has: {free} after {type(body).__name__}",
        )
        self._oversubscribed[cell.process.name] = missing

    def _granted(self, cell: Cell, leases: dict[int, str], grant: LeaseGranted) -> None:
        worker = grant.worker.process
        self._demand(grant.lease_id not in leases, f"{cell.address} grants lease {grant.lease_id} twice")
        holding = [lease_id for lease_id, process in leases.items() if process == worker]
        self._demand(not holding, f"{cell.address} leases {worker} again, which holds {holding}")
        leases[grant.lease_id] = worker
        self._worker_ids[grant.worker_id] = worker

    def _worker_stepped(self, cell: Cell, machine: WorkerMachine) -> None:
        if machine.actor is None and len(machine.assigned) > 1:
            owners = dict.fromkeys(address.process for address in machine.assigned.values())
            self._demand(len(owners) == 1, f"{cell.address} works for {list(owners)} at once")
        for execution in self._town.executions[self._executions_seen :]:
            self._executions_seen += 1
            self._started(cell, execution)

    def _started(self, cell: Cell, execution: Execution) -> None:
        runs = self._runs[execution.task_id] = self._runs.get(execution.task_id, 0) + 1
        task = self._task_of(execution.owner, execution.task_id)
        if task is not None and task.template.max_retries == 0:
            self._demand(runs == 1, f"{task!r} may not be repeated and ran {runs} times, now at {cell.address}")
        if execution.actor_id and execution.attempt == 0 and runs == 1:
            key = (execution.actor_id, execution.incarnation, execution.owner)
            last = self._call_positions.get(key, b"")
            self._demand(last < execution.task_id, f"{cell.address} runs call {task!r} out of order")
            self._call_positions[key] = execution.task_id

    def _task_of(self, owner: str, task_id: bytes) -> Task | None:
        book = self.owners.get(owner)
        return None if book is None else book.tasks.get(task_id)

    # ------------------------------------------------------------------ at the end
    def check_all_ended(self) -> None:
        """Every task has ended that was given to an owner which still lives."""
        for process, book in self.owners.items():
            open_tasks = [task for task in book.tasks.values() if task.state != ENDED]
            self._demand(not open_tasks, f"{process} never ended {open_tasks[:3]!r} ({len(open_tasks)} in all)")

    def check_quiet(self) -> None:
        """Nothing is left to do, and nothing was left behind. For towns whose programs have released everything."""
        self.check_all_ended()
        for runtime in self._town.runtimes():
            self._check_owner(runtime.machine)
        for node in self._town.nodes:
            if node.alive:
                self._check_node(node.name, node.machine)
                self._check_store(node)
        statistics = self._town.gcs_machine.statistics()
        living = {state: count for state, count in statistics.actors.items() if count}
        self._demand(not living, f"the GCS still has actors: {living}")
        self._demand(not statistics.actors_waiting, f"{statistics.actors_waiting} actors wait for a node")
        self._demand(not statistics.parked_requests, f"{statistics.parked_requests} requests wait for a function")
        for process in self._world.processes.values():
            if process.alive:
                self._check_process(process)

    def _check_owner(self, machine: OwnerMachine) -> None:
        me = machine.me
        objects, submitter = machine.objects, machine.submitter
        left = {
            object_id.hex(): (record.local, record.pins, record.shared and record.shared.borrowers)
            for object_id, record in list(objects.records.items())[:5]
        }
        self._demand(not objects.records, f"{me} keeps {len(objects.records)} objects: {left}")
        self._demand(not submitter.lineage.tasks, f"{me} keeps tasks to run again: {list(submitter.lineage.tasks)[:3]}")
        self._demand(not len(objects.holdings), f"{me} believes that objects of its own lie in stores")
        self._demand(not objects.borrowed_by, f"{me} believes others hold its objects: {list(objects.borrowed_by)}")
        self._demand(not objects.borrowed_from, f"{me} believes it borrows: {list(objects.borrowed_from)}")
        self._demand(not submitter.workers, f"{me} keeps leases: {list(submitter.workers)}")
        requested = [c.requested for c in submitter.classes.values() if c.requested]
        self._demand(not requested, f"{me} waits for leases: {requested}")
        calls = [client for client in machine.caller.clients.values() if client.queue or client.in_flight]
        self._demand(not calls, f"{me} has unfinished calls to {[client.actor_id.hex() for client in calls]}")

    def _check_node(self, name: str, machine: RayletMachine) -> None:
        ledger = machine.grants.ledger
        self._demand(ledger.free() == ledger.total(), f"{name} has {ledger.free()} free of {ledger.total()}")
        statistics = machine.statistics()
        busy = (statistics.leases, statistics.grants_waiting, statistics.actors, statistics.requests_waiting)
        self._demand(not any(busy), f"{name} is not idle: {statistics}")
        self._demand(not machine.queue.count, f"{name} has {machine.queue.count} requests waiting")

    def _check_store(self, node: Node) -> None:
        machine, storage = node.objects, node.storage
        machine.check()
        entries = list(machine.catalog)
        self._demand(not entries, f"{node.name} keeps {len(entries)} objects: {entries[:3]}")
        busy = [*machine.puller.pulls.table.values(), *machine.tickets.table.values()]
        self._demand(not busy, f"{node.name} is busy with objects: {busy[:3]}")
        self._demand(not machine.clients.wishes_count, f"{machine.clients.wishes_count} wishes wait at {node.name}")
        left = list(storage.objects.values())
        self._demand(not left, f"the store of {node.name} is not empty: {left[:3]}")
        self._demand(not storage.carved, f"objects in slabs of {node.name} were never reported: {len(storage.carved)}")
        leased = [client.decode() for client in storage.slabs.values()]
        gone = [client for client in leased if not self._world.processes[client].alive]
        self._demand(not gone, f"slabs of {node.name} are leased to {gone}, which are dead")

    def _check_process(self, process: Process) -> None:
        waiting = [(str(dst), type(body).__name__) for dst, body, _ in process.requests.values()]
        self._demand(not waiting, f"{process.name} waits for answers: {waiting}")
        for cell in process.cells.values():
            self._demand(not cell.open, f"{cell.address} never answered {list(cell.open.items())[:3]}")

    def _demand(self, holds: bool, text: str) -> None:
        if not holds:
            world = self._world
            raise SimulationError(f"seed {world.seed}, t={world.now:.6f}, step {world.steps}: {text}")
