"""The composition root of the simulator: head, nodes, workers and drivers in a world.

It puts the machines together the way ``cluster.node``, ``api.worker_host`` and ``api.driver`` do, in the same order of
messages: a node registers before its raylet begins, a worker reports after its machines stand, a driver registers its
job before its owner exists.
"""

from __future__ import annotations

import functools
from typing import Any

from actorrt.gcs.messages import FinishJob, JobRegistered, NodeRegistered, RegisterJob, RegisterNode
from actorrt.gcs.state import GcsMachine
from actorrt.kernel.message import Address, Envelope, Message
from actorrt.objects.clients import StoreFacts
from actorrt.objects.pulls import OBJECTS
from actorrt.objects.state import ObjectManagerMachine
from actorrt.raylet.messages import DriverJoined, ReportDue
from actorrt.raylet.operations import StartWorker
from actorrt.raylet.state import RayletMachine
from actorrt.scheduling.resources import UNIT
from actorrt.sim.executor import Executor
from actorrt.sim.pool import Pace, ScriptedPool
from actorrt.sim.runtime import Book, Code, Context, Program, Runtime
from actorrt.sim.storage import SLAB_BYTES_MAX, SimStorage, StoragePace
from actorrt.sim.world import Process, SimulationError, World
from actorrt.wire.records import DeathCause, JobConfig, NodeInfo
from actorrt.worker.messages import Started
from actorrt.worker.operations import Work
from actorrt.worker.state import WorkerMachine

BOOT_S_MAX = 0.003
"""From a worker's first instruction until it reports."""
LEAVE_S_MAX = 0.0005
"""From the decision to leave until the process is gone (exit hooks)."""


class Execution:
    """One start of a program for a task or call: for checkers."""

    __slots__ = ("actor_id", "attempt", "incarnation", "now", "owner", "task_id", "worker")

    def __init__(self, work: Work, worker: str, actor_id: bytes, incarnation: int, now: float) -> None:
        self.task_id = work.call.task_id
        self.attempt = work.call.attempt
        self.owner = work.src.process
        self.worker = worker
        self.actor_id = actor_id
        self.incarnation = incarnation
        self.now = now


class Worker:
    """A worker process: worker machine, owner, executor."""

    def __init__(self, node: Node, operation: StartWorker) -> None:
        town = node.town
        self.node = node
        self.worker_id = operation.worker_id
        node.worker_count += 1
        self.process = town.world.spawn(f"{node.name}/w{node.worker_count}")
        self._rng = town.world.rng(f"worker {self.process.name}")
        job_id = operation.job.job_id
        self.runtime = Runtime(
            town.world, self.process, raylet=node.raylet, gcs=town.gcs, job_id=job_id, storage=node.storage
        )
        me = Address(self.process.name, "worker")
        self.machine = WorkerMachine(operation.worker_id, me, node.raylet, self.process.pid)
        self.executor = Executor(self.runtime, self.machine, town.book, self._leave, self._started)
        self.cell = self.process.attach("worker", self.machine, self.executor.perform)
        town.world.after(BOOT_S_MAX * self._rng.random(), self._report, self.process)

    def _report(self) -> None:
        self.process.post("worker", Started())

    def _leave(self, cause: DeathCause, orderly: bool) -> None:
        delay_s = LEAVE_S_MAX * self._rng.random() if orderly else 0.0
        self.node.town.world.after(delay_s, functools.partial(self._end, cause, orderly), self.process)

    def _end(self, cause: DeathCause, orderly: bool) -> None:
        if orderly:
            self.runtime.shelf.close()
        self.node.pool.left(self.worker_id, cause)
        self.node.town.world.end(self.process, cause.text, orderly=True)

    def _started(self, work: Work, incarnation: int) -> None:
        town = self.node.town
        actor_id = self.machine.actor.actor_id if self.machine.actor is not None else b""
        town.executions.append(Execution(work, self.process.name, actor_id, incarnation, town.world.now))


class Node:
    """A node process: raylet and pool, object manager and store, on the head the GCS as well."""

    def __init__(self, town: Town, name: str, cpus: int, *, is_head: bool) -> None:
        world = town.world
        self.town = town
        self.name = name
        self.joined = False
        self.worker_count = 0
        self.workers: list[Worker] = []
        self.process = world.spawn(name)
        self.raylet = Address(name, "raylet")
        rng = world.rng(f"node {name}")
        self.info = NodeInfo(
            rng.randbytes(16),
            self.raylet,
            hostname=name,
            address=name,
            name=name,
            resources={"CPU": cpus * UNIT, "object_store_memory": town.storage_pace.capacity_bytes * UNIT},
            is_head=is_head,
            pid=self.process.pid,
        )
        if is_head:
            town.gcs_machine = GcsMachine(rng.randbytes(16), world.rng("gcs"))
            self.process.attach("gcs", town.gcs_machine, _no_operations)
        self.machine = RayletMachine(self.info, town.gcs, world.rng(f"raylet {name}"), rng.randbytes)
        self.pool = ScriptedPool(self.process, self._make_worker, self.stop, town.pace)
        self.cell = self.process.attach("raylet", self.machine, self.pool.perform)
        facts = StoreFacts("", "", SLAB_BYTES_MAX, town.storage_pace.capacity_bytes)
        self.objects = ObjectManagerMachine(Address(name, OBJECTS), self.raylet, facts, bulk_endpoint=name)
        self.storage = SimStorage(self.process, town.storages, town.storage_pace)
        self.process.attach(OBJECTS, self.objects, self.storage.perform)
        self.process.request(town.gcs, RegisterNode(self.info), self._registered)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.alive

    def stop(self, reason: str) -> None:
        """End the node in order, its workers first."""
        for process in self.pool.processes():
            self.town.world.end(process, reason, orderly=False)
        self.town.world.end(self.process, reason, orderly=True)

    def crash(self, reason: str = "power failure") -> None:
        """The node and everything on it is gone at once."""
        world = self.town.world
        world.end(self.process, reason, orderly=False)
        for process in self.pool.processes():
            world.end(process, reason, orderly=False)

    def living_workers(self) -> list[Worker]:
        """Workers whose process runs."""
        return [worker for worker in self.workers if worker.process.alive]

    def _make_worker(self, operation: StartWorker) -> Process:
        worker = Worker(self, operation)
        self.workers.append(worker)
        return worker.process

    def _registered(self, body: Message) -> None:
        if not isinstance(body, NodeRegistered):
            self.stop(f"could not join: {body!r}")
            return
        self.joined = True
        self.town.world.post(self.cell, Envelope(self.town.gcs, body))
        self.process.post("raylet", ReportDue())

    def __repr__(self) -> str:
        return f"Node({self.name}, {'alive' if self.alive else 'gone'}, {len(self.living_workers())} workers)"


class Driver:
    """A driver process: joins, runs one program, leaves."""

    def __init__(self, town: Town, name: str, node: Node, code: Code) -> None:
        self.town = town
        self.node = node
        self.process = town.world.spawn(name)
        self.runtime: Runtime | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False
        """The program is over and its scope closed."""
        self.left = False
        self._code = code
        job = JobConfig(b"", Address(name, "owner"), namespace=name, driver_pid=self.process.pid)
        self.process.request(town.gcs, RegisterJob(job, node.raylet), self._registered)

    def _registered(self, body: Message) -> None:
        if not isinstance(body, JobRegistered):
            raise SimulationError(f"{self.process.name} could not join: {body!r}")
        job_id = body.job.job_id
        node = self.node
        self.runtime = Runtime(
            self.town.world, self.process, raylet=node.raylet, gcs=self.town.gcs, job_id=job_id, storage=node.storage
        )
        self.process.request(self.node.raylet, DriverJoined(job_id, self.runtime.me), self._joined)

    def _joined(self, _body: Message) -> None:
        assert self.runtime is not None
        self.context = Context(self.runtime)
        Program(self.context, self._ended).start(self._code, ())

    def _ended(self, value: Any, error: BaseException | None) -> None:
        assert self.runtime is not None
        self.value, self.error, self.done = value, error, True
        self.context.close()
        self.runtime.flush()

    def leave(self) -> None:
        """Say goodbye and end."""
        assert self.runtime is not None
        shelf = self.runtime.shelf

        def answered(_body: Message) -> None:
            self.left = True
            shelf.close()
            self.town.world.end(self.process, "left", orderly=True)

        self.process.request(self.town.gcs, FinishJob(self.runtime.job_id), answered)


class Town:
    """A cluster in a world. ``book`` holds what its programs can call."""

    def __init__(
        self, world: World, book: Book, *, pace: Pace | None = None, storage_pace: StoragePace | None = None
    ) -> None:
        self.world = world
        self.book = book
        self.pace = pace or Pace()
        self.storage_pace = storage_pace or StoragePace()
        self.storages: dict[str, SimStorage] = {}
        self.nodes: list[Node] = []
        self.drivers: list[Driver] = []
        self.executions: list[Execution] = []
        self.gcs = Address("node1", "gcs")
        self.gcs_machine: GcsMachine

    def add_node(self, cpus: int = 2) -> Node:
        """Start a node; the first one is the head. It joins when time passes."""
        node = Node(self, f"node{len(self.nodes) + 1}", cpus, is_head=not self.nodes)
        self.nodes.append(node)
        return node

    def add_driver(self, code: Code, node: Node | None = None) -> Driver:
        """Start a driver that runs this program, at the head or another node."""
        driver = Driver(self, f"driver{len(self.drivers) + 1}", node or self.nodes[0], code)
        self.drivers.append(driver)
        return driver

    def join_all(self, time_max_s: float = 10.0) -> None:
        """Let time pass until all nodes have joined."""
        self.world.run(lambda: all(node.joined for node in self.nodes), time_max_s)

    def runtimes(self) -> list[Runtime]:
        """Owners of living processes: drivers, then workers."""
        drivers = [driver.runtime for driver in self.drivers if driver.process.alive and driver.runtime is not None]
        return drivers + [worker.runtime for node in self.nodes for worker in node.living_workers()]


def _no_operations(operation: Any) -> None:
    raise TypeError(f"the GCS asks for no operations, got {operation!r}")
