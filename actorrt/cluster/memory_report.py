"""What fills the object stores of a cluster, and why it is still there: asked of those who know (``actorrt memory``).

Nobody knows all of it. A node's object manager knows what lies there and who pins it; an object's owner knows by whom
it is held; a borrower knows how often it does. So the nodes are asked first, then the drivers, the actors and whoever
an answer names, all at once, with a time limit: who does not answer is in the report, with the reason. The answers are
put together by object id.

Every question is bounded: the largest objects of each, ``NODES_ASKED_MAX`` nodes, ``PROCESSES_ASKED_MAX`` processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Final, Protocol, TypeVar

import msgspec

from actorrt.gcs.messages import ActorList, GetStatus, ListActors, Status
from actorrt.kernel.errors import ActorrtError
from actorrt.kernel.ids import OBJECT_ID_BYTES
from actorrt.kernel.message import Address, Message
from actorrt.objects.messages import GetStoreReport, StoredObject, StoreReport
from actorrt.owner.messages import GetReferences, ObjectReference, References
from actorrt.scheduling.resources import UNIT
from actorrt.wire.peers import PeerInfo
from actorrt.wire.records import NodeInfo

QUESTION_TIMEOUT_S: Final = 3.0
"""Whoever says nothing for so long is reported as silent."""
NODES_ASKED_MAX: Final = 400
PROCESSES_ASKED_MAX: Final = 400
"""Each costs a connection; together they stay below the usual limit of 1024 open files."""
ROUNDS_MAX: Final = 3
"""Answers name further processes (borrowers, owners of borrowed objects): so often those are asked as well."""
OBJECTS_ASKED_MIN: Final = 1000
"""Objects everybody is asked for, at least: more than are shown, as not everybody's largest are the same."""
OBJECTS_ASKED_MAX: Final = 10_000
"""As many as an object manager and an owner list at most."""

MANAGER: Final = "objects"
OWNER: Final = "owner"

Answer = TypeVar("Answer", bound=Message)


class Network(Protocol):
    """What is needed of a ``wire.router.Router``."""

    def request(self, dst: Address, body: Message, timeout_s: float | None) -> Future[Message]: ...
    def peers(self) -> tuple[PeerInfo, ...]: ...


class NodeMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The store of one node."""

    node_id: str
    name: str = ""
    address: str = ""
    process: str = ""
    pid: int = 0
    is_head: bool = False
    capacity_bytes: int = 0
    used_bytes: int = 0
    """Without the parts of leased slabs nothing was written to yet."""
    figures: dict[str, int] = {}
    """All the store and its manager count."""
    problem: str = ""
    """Why there are no figures."""

    @property
    def pulls_inflight(self) -> int:
        """Objects that are being brought here."""
        return self.figures.get("pulls", 0)


class ProcessMemory(msgspec.Struct, frozen=True, kw_only=True):
    """A process that owns, borrows or pins objects."""

    process: str
    role: str = "process"
    """``driver``, ``worker``, ``actor <class>``."""
    pid: int = 0
    node_id: str = ""
    objects: int = 0
    """Objects it knows, borrowed ones included."""
    tasks_pending: int = 0
    problem: str = ""
    """Why nothing is known of it."""


class ObjectPlace(msgspec.Struct, frozen=True, kw_only=True):
    """One copy of an object."""

    node_id: str
    state: str = ""
    """Of the node's store; empty when only the owner says that it is there."""
    is_copy: bool = False
    pins: int = 0
    pinned_by: tuple[str, ...] = ()
    """Process addresses."""


class ObjectHold(msgspec.Struct, frozen=True, kw_only=True):
    """Why one process holds an object: counts by kind (``owner.references``)."""

    process: str
    kinds: dict[str, int]


class ObjectMemory(msgspec.Struct, frozen=True, kw_only=True):
    """One object, as all who know of it say together."""

    object_id: str
    size_bytes: int
    state: str
    """Of the store (SEALED, SPILLED, ...) when it lies in one; else PENDING, INLINE, FAILED, or STORED or BORROWED
    when who said so is the only one that was heard.
    """
    owner: str
    detail: str = ""
    holds: tuple[ObjectHold, ...] = ()
    """The owner's first."""
    places: tuple[ObjectPlace, ...] = ()
    """The one that was written first, then copies."""


class MemoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. What is given back by ``--json``."""

    nodes: tuple[NodeMemory, ...]
    processes: tuple[ProcessMemory, ...] = ()
    objects: tuple[ObjectMemory, ...] = ()
    omitted: int = 0
    """Objects that are known besides those listed (an object several processes know may count more than once)."""
    unasked: int = 0
    """Nodes and processes that were not asked, because there are too many."""


async def ask(network: Network, dst: Address, question: Message, kind: type[Answer]) -> Answer | str:
    """Return the answer, or why there is none."""
    try:
        answer = await asyncio.wrap_future(network.request(dst, question, QUESTION_TIMEOUT_S))
    except (ActorrtError, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return answer if isinstance(answer, kind) else f"{dst} answered with {type(answer).__name__}"


# --------------------------------------------------------------------------------------------------------------- nodes
async def ask_stores(
    network: Network, nodes: Iterable[NodeInfo], objects_max: int = 0
) -> dict[bytes, StoreReport | str]:
    """Ask the living nodes for their stores; by node id: the report, or why there is none."""
    alive = [node for node in nodes if node.alive]
    asked = alive[:NODES_ASKED_MAX]
    question = GetStoreReport(min(objects_max, OBJECTS_ASKED_MAX))
    answers = await asyncio.gather(
        *(ask(network, Address(node.raylet.process, MANAGER), question, StoreReport) for node in asked)
    )
    stores: dict[bytes, StoreReport | str] = dict(zip((node.node_id for node in asked), answers, strict=True))
    text = f"not asked: only {NODES_ASKED_MAX} nodes are"
    return stores | {node.node_id: text for node in alive[NODES_ASKED_MAX:]}


def node_memory(node: NodeInfo, report: StoreReport | str | None) -> NodeMemory:
    """Put together what is known of one node."""
    figures = report.figures if isinstance(report, StoreReport) else {}
    capacity_bytes = figures.get("capacity_bytes") or node.resources.get("object_store_memory", 0) // UNIT
    return NodeMemory(
        node_id=node.node_id.hex(),
        name=node.name,
        address=node.address,
        process=node.raylet.process,
        pid=node.pid,
        is_head=node.is_head,
        capacity_bytes=capacity_bytes,
        used_bytes=figures.get("used_bytes", 0) - figures.get("leased_bytes", 0),
        figures=figures,
        problem="" if isinstance(report, StoreReport) else report or "not asked",
    )


# ----------------------------------------------------------------------------------------------------------- processes
class _People:
    """The processes that may hold objects: who they are, and what they say."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._roles: dict[str, tuple[str, int]] = {}
        self.answers: dict[str, References | str] = {}
        self.unasked: dict[str, None] = {}

    def introduce(self, status: Status, actors: ActorList | str) -> list[str]:
        """Take in whom the GCS knows; returns their addresses."""
        for job in status.jobs:
            self._roles[job.driver.process] = ("driver", job.driver_pid)
        if isinstance(actors, ActorList):
            for actor in actors.actors:
                if actor.worker.process and actor.state == "ALIVE":
                    self._roles[actor.worker.process] = (f"actor {actor.class_name}", actor.pid)
        return list(self._roles)

    async def question(self, processes: Iterable[str], objects_max: int) -> None:
        """Ask these, and whom their answers name."""
        question = GetReferences(objects_max)
        for _ in range(ROUNDS_MAX):
            new = [each for each in dict.fromkeys(processes) if each not in self.answers and each not in self.unasked]
            room = PROCESSES_ASKED_MAX - len(self.answers)
            self.unasked |= dict.fromkeys(new[room:])
            asked = new[:room]
            if not asked:
                return
            answers = await asyncio.gather(
                *(ask(self._network, Address(each, OWNER), question, References) for each in asked)
            )
            self.answers.update(zip(asked, answers, strict=True))
            processes = [name for answer in answers if isinstance(answer, References) for name in _named(answer)]

    def processes(self, nodes: Sequence[NodeMemory]) -> tuple[ProcessMemory, ...]:
        """All that were asked."""
        by_process = {node.process: node.node_id for node in nodes}
        introduced = {peer.process: _introduced(peer.description) for peer in self._network.peers()}
        found = []
        for process, answer in self.answers.items():
            role, pid = self._roles.get(process) or introduced.get(process) or ("process", 0)
            item = ProcessMemory(process=process, role=role, pid=pid)
            if isinstance(answer, References):
                item = msgspec.structs.replace(
                    item,
                    node_id=by_process.get(answer.raylet, ""),
                    objects=len(answer.entries) + answer.omitted,
                    tasks_pending=answer.tasks_pending,
                )
            else:
                item = msgspec.structs.replace(item, problem=answer)
            found.append(item)
        return tuple(found)


def _named(answer: References) -> list[str]:
    return [name for entry in answer.entries for name in (entry.owner, *entry.borrowers)]


def _introduced(description: str) -> tuple[str, int] | None:
    """Role and pid as a process gives them in the handshake: ``worker 0a1b pid=12``; None before it did."""
    text, separator, pid = description.rpartition(" pid=")
    return (text.split(" ")[0], int(pid)) if separator and pid.isdecimal() else None


# ------------------------------------------------------------------------------------------------------------- objects
class _Known(msgspec.Struct):
    """One object while the answers are put together."""

    of_owner: ObjectReference | None = None
    owner: str = ""
    size_bytes: int = 0
    holds: list[ObjectHold] = []
    places: dict[str, ObjectPlace] = {}

    def finished(self, object_id: bytes, node_ids: dict[str, str]) -> ObjectMemory:
        places = dict(self.places)
        entry = self.of_owner
        for holder in () if entry is None else entry.holders:
            node_id = node_ids.get(holder)
            if node_id is not None:
                places.setdefault(node_id, ObjectPlace(node_id=node_id))
        in_order = tuple(sorted(places.values(), key=lambda place: (place.is_copy or not place.state, place.node_id)))
        said = entry.state if entry is not None else "BORROWED"
        return ObjectMemory(
            object_id=object_id.hex(),
            size_bytes=self.size_bytes,
            state=(in_order[0].state if in_order else "") or said,
            owner=self.owner,
            detail="" if entry is None else entry.detail,
            holds=tuple(sorted(self.holds, key=lambda hold: hold.process != self.owner)),
            places=in_order,
        )


def _merge(
    nodes: Sequence[NodeMemory], stores: dict[bytes, StoreReport | str], answers: dict[str, References | str]
) -> list[ObjectMemory]:
    table: dict[bytes, _Known] = {}
    for node_id, report in stores.items():
        for item in report.objects if isinstance(report, StoreReport) else ():
            known = table.setdefault(item.key[:OBJECT_ID_BYTES], _Known())
            known.size_bytes = max(known.size_bytes, item.size_bytes)
            known.owner = known.owner or item.owner
            known.places[node_id.hex()] = _place(node_id.hex(), item)
    for process, answer in answers.items():
        for entry in answer.entries if isinstance(answer, References) else ():
            known = table.setdefault(entry.object_id, _Known())
            known.size_bytes = max(known.size_bytes, entry.size_bytes)
            known.owner = entry.owner or known.owner
            known.holds.append(ObjectHold(process=process, kinds=entry.kinds))
            if entry.owner == process:
                known.of_owner = entry
    node_ids = {node.process: node.node_id for node in nodes}
    return [known.finished(object_id, node_ids) for object_id, known in table.items()]


def _place(node_id: str, item: StoredObject) -> ObjectPlace:
    return ObjectPlace(
        node_id=node_id, state=item.state, is_copy=item.is_copy, pins=item.pins, pinned_by=item.pinned_by
    )


def _omitted(answers: Iterable[Message | str]) -> int:
    return sum(answer.omitted for answer in answers if isinstance(answer, (StoreReport, References)))


# -------------------------------------------------------------------------------------------------------------- report
async def collect(network: Network, gcs: Address, *, objects_max: int, stats_only: bool = False) -> MemoryReport:
    """Ask everybody. Raises ConnectionError when the GCS does not answer."""
    status = await ask(network, gcs, GetStatus(), Status)
    if isinstance(status, str):
        raise ConnectionError(f"the cluster does not answer: {status}")
    count = 0 if stats_only else min(max(objects_max, OBJECTS_ASKED_MIN), OBJECTS_ASKED_MAX)
    stores = await ask_stores(network, status.nodes, count)
    nodes = tuple(node_memory(node, stores.get(node.node_id)) for node in status.nodes if node.alive)
    unasked = max(0, len(nodes) - NODES_ASKED_MAX)
    if stats_only:
        return MemoryReport(nodes=nodes, unasked=unasked)
    people = _People(network)
    processes = people.introduce(status, await ask(network, gcs, ListActors(alive_only=True), ActorList))
    reports = [report for report in stores.values() if isinstance(report, StoreReport)]
    items = [item for report in reports for item in report.objects]
    processes += [item.owner for item in items if item.owner]
    processes += [name for item in items for name in item.pinned_by if "://" in name]  # the others are transfers
    await people.question(processes, count)
    objects = sorted(_merge(nodes, stores, people.answers), key=lambda item: (-item.size_bytes, item.object_id))
    return MemoryReport(
        nodes=nodes,
        processes=people.processes(nodes),
        objects=tuple(objects[:objects_max]),
        omitted=len(objects[objects_max:]) + _omitted([*reports, *people.answers.values()]),
        unasked=unasked + len(people.unasked),
    )
