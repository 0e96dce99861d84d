"""The actor directory: identity, names, life cycle, restarts, and who wants to hear of it.

Each actor has at most one creation under way, at the node ``node_id``, numbered ``incarnation``. An actor that is to be
created and has no ``node_id`` stands in ``placement``. The dead are remembered as ``ActorInfo``, without arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from actorrt.gcs.followers import Followers
from actorrt.gcs.jobs import Jobs
from actorrt.gcs.nodes import Nodes
from actorrt.gcs.placement import Explained, Impossible, LineKey, Placed, Placement
from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.limits import DEAD_ACTORS_KEPT_MAX, PARKED_REQUESTS_MAX
from actorrt.kernel.message import NOWHERE, Address
from actorrt.owner.messages import ActorChanged
from actorrt.raylet.messages import JobStarted, StartActor, StopActor
from actorrt.wire.records import ActorInfo, ActorSpec, DeathCause

UNREADY: Final = "DEPENDENCIES_UNREADY"
PENDING: Final = "PENDING_CREATION"
ALIVE: Final = "ALIVE"
RESTARTING: Final = "RESTARTING"
DEAD: Final = "DEAD"
STATES: Final = (UNREADY, PENDING, ALIVE, RESTARTING, DEAD)

READY: Final = "ready"
"""Its arguments are there."""
STARTED: Final = "started"
"""``__init__`` is done."""
LOST: Final = "lost"
"""Its process ended, and it may have another."""
ENDED: Final = "ended"
"""It ended for good."""

TRANSITIONS: Final[dict[tuple[str, str], str]] = {
    (UNREADY, READY): PENDING,
    (UNREADY, ENDED): DEAD,
    (PENDING, STARTED): ALIVE,
    (PENDING, LOST): RESTARTING,
    (PENDING, ENDED): DEAD,
    (ALIVE, LOST): RESTARTING,
    (ALIVE, ENDED): DEAD,
    (RESTARTING, STARTED): ALIVE,
    (RESTARTING, LOST): RESTARTING,
    (RESTARTING, ENDED): DEAD,
}
"""The life cycle; what is not here cannot happen."""

Key = TypeVar("Key", bytes, str)

FINAL_CAUSES: Final = ("exit_actor", "init_failed", "job_finished", "out_of_scope", "owner_died", "unschedulable")
"""Ends after which no restart is tried, whatever ``max_restarts`` says."""

RETRY_DELAY_S: Final = 0.1
"""Before a creation that failed without anybody's fault (a lost race) is tried again; doubles each time."""
RETRY_DELAY_S_MAX: Final = 5.0


class Actor(msgspec.Struct):
    """A living actor (or one that is being made)."""

    spec: ActorSpec
    state: str
    restarts_left: int
    incarnation: int = 0
    node_id: bytes = b""
    """The node asked to run the current incarnation; empty: none is under way."""
    worker: Address = NOWHERE
    worker_id: bytes = b""
    pid: int = 0
    ending: DeathCause | None = None
    """It was told to end gracefully; when it is gone, this is why."""
    last_cause: DeathCause | None = None
    """Why the previous incarnation ended."""
    attempts: int = 0
    """Creations in a row that came to nothing."""
    retrying: bool = False
    """The next creation is the present one again (a lost race), so it keeps its number."""


class Actors:
    """The directory. Methods append what must happen to ``out``."""

    def __init__(self, nodes: Nodes, jobs: Jobs, placement: Placement) -> None:
        self.living: dict[bytes, Actor] = {}
        self.dead: dict[bytes, ActorInfo] = {}
        self.by_name: dict[tuple[str, str], bytes] = {}
        self.by_node: dict[bytes, dict[bytes, None]] = {}
        self.by_job: dict[bytes, dict[bytes, None]] = {}
        self.by_owner: dict[str, dict[bytes, None]] = {}
        self.followers = Followers()
        self.counts: dict[str, int] = dict.fromkeys((UNREADY, PENDING, ALIVE, RESTARTING), 0)
        self.released_jobs: list[bytes] = []
        """Finished jobs whose last detached actor just died; the machine drops their functions."""
        self._nodes = nodes
        self._jobs = jobs
        self._placement = placement

    # ---- looking
    def info(self, actor_id: bytes) -> ActorInfo | None:
        """The directory's view of an actor; None when it is unknown (or forgotten)."""
        actor = self.living.get(actor_id)
        return self.dead.get(actor_id) if actor is None else self._info(actor)

    def named(self, namespace: str, name: str) -> ActorInfo | None:
        """The actor that has this name."""
        actor_id = self.by_name.get((namespace, name))
        return None if actor_id is None else self._info(self.living[actor_id])

    def infos(self, *, alive_only: bool) -> tuple[ActorInfo, ...]:
        """All actors, the dead ones that are remembered first."""
        dead: Iterable[ActorInfo] = () if alive_only else self.dead.values()
        return (*dead, *map(self._info, self.living.values()))

    def pending_infos(self, count_max: int) -> tuple[ActorInfo, ...]:
        """The first actors that are not alive yet (or again), with the reason."""
        found = []
        for actor in self.living.values():
            if actor.state != ALIVE:
                found.append(self._info(actor))
                if len(found) == count_max:
                    break
        return tuple(found)

    def unborn(self) -> int:
        """Number of actors that are to be created."""
        return self.counts[UNREADY] + self.counts[PENDING] + self.counts[RESTARTING]

    def refusal(self, spec: ActorSpec) -> tuple[str, str] | None:
        """Kind and text of the error that keeps a new actor from being registered."""
        taken = self.by_name.get((spec.namespace, spec.name)) if spec.name else None
        if taken is not None:
            text = (
                f"the name {spec.name!r} in namespace {spec.namespace!r} belongs to actor {taken.hex()}; "
                "choose another name, use get_if_exists=True, or kill that actor first"
            )
            return "ActorAlreadyExistsError", text
        why = self._jobs.refusal(spec.job_id)
        if why:
            return "ActorDiedError", f"the actor {spec.class_name} cannot be created: {why}"
        if self.unborn() >= PARKED_REQUESTS_MAX:
            text = f"{self.unborn()} actors wait to be created, at most {PARKED_REQUESTS_MAX} may"
            return "Overloaded", text
        return None

    # ---- life, from the owner's side
    def register(self, spec: ActorSpec) -> Actor:
        """Enter a new actor, whose arguments are not known to be ready yet."""
        assert self.refusal(spec) is None
        assert spec.actor_id not in self.living
        actor = Actor(spec, UNREADY, spec.max_restarts)
        self.living[spec.actor_id] = actor
        self.counts[UNREADY] += 1
        self.by_job.setdefault(spec.job_id, {})[spec.actor_id] = None
        if spec.name:
            self.by_name[spec.namespace, spec.name] = spec.actor_id
        if spec.detached:
            self._jobs.pin(spec.job_id)
        else:
            self.by_owner.setdefault(spec.owner.process, {})[spec.actor_id] = None
        return actor

    def make_ready(self, spec: ActorSpec, now: float, out: list[Effect]) -> None:
        """Its arguments are there: find it a node. Anything but a first time changes nothing."""
        actor = self.living.get(spec.actor_id)
        if actor is None or actor.state != UNREADY:
            return
        old = actor.spec
        # What the directory is indexed by was settled at registration.
        actor.spec = msgspec.structs.replace(
            spec, job_id=old.job_id, owner=old.owner, name=old.name, namespace=old.namespace, detached=old.detached
        )
        self._enter(actor, READY)
        line = self._wait(actor, now)
        self._tell(actor, out)
        if line is not None:
            self.place(now, out, line)

    def kill(self, actor_id: bytes, cause: DeathCause, now: float, out: list[Effect], *, no_restart: bool) -> bool:
        """End the actor, or only its process; False when it is unknown."""
        actor = self.living.get(actor_id)
        if actor is None:
            return actor_id in self.dead
        cause = msgspec.structs.replace(cause, pid=actor.pid, node_id=actor.node_id)
        if no_restart:
            self._end(actor, cause, out)
        elif actor.node_id:
            # The raylet reports the death, which then counts as any other.
            self._stop(actor, cause, out, graceful=False)
        elif actor.state != UNREADY:
            self._lose(actor, cause, now, out)
        elif actor.restarts_left == 0:
            self._end(actor, cause, out)
        return True

    def out_of_scope(self, actor_id: bytes, out: list[Effect]) -> None:
        """Nobody can call it any more: it ends after what was already pushed to it, and its name is free."""
        actor = self.living.get(actor_id)
        if actor is None or actor.spec.detached or actor.ending is not None:
            return
        text = "all handles of its owner went out of scope"
        cause = DeathCause("out_of_scope", text, pid=actor.pid, node_id=actor.node_id)
        if actor.state != ALIVE:
            self._end(actor, cause, out)
            return
        actor.ending = cause
        self._free_name(actor)
        self._stop(actor, cause, out, graceful=True)

    def owner_gone(self, process: str, reason: str, out: list[Effect]) -> None:
        """End what a process owned."""
        for actor_id in list(self.by_owner.get(process, {})):
            actor = self.living[actor_id]
            text = f"its owner ({actor.spec.owner}) died: {reason}"
            self._end(actor, DeathCause("owner_died", text, pid=actor.pid, node_id=actor.node_id), out)

    def job_ended(self, job_id: bytes, text: str, out: list[Effect]) -> None:
        """End the job's actors, except detached ones."""
        for actor_id in list(self.by_job.get(job_id, {})):
            actor = self.living[actor_id]
            if not actor.spec.detached:
                reason = f"its job {job_id.hex()} ended: {text}"
                self._end(actor, DeathCause("job_finished", reason, pid=actor.pid, node_id=actor.node_id), out)

    # ---- life, from the raylet's side
    def awaited(self, actor_id: bytes, incarnation: int, raylet: Address) -> Actor | None:
        """The actor this news from a raylet is about; None when it is stale."""
        actor = self.living.get(actor_id)
        if actor is None or not actor.node_id or actor.incarnation != incarnation:
            return None
        # The number stays the same when a lost race sends the creation to another node.
        sender = self._nodes.at_raylet(raylet)
        return None if sender and sender != actor.node_id else actor

    def started(self, actor: Actor, worker: Address, worker_id: bytes, pid: int, out: list[Effect]) -> None:
        """Its ``__init__`` is done."""
        if actor.state == ALIVE:
            return
        self._enter(actor, STARTED)
        actor.worker, actor.worker_id, actor.pid = worker, worker_id, pid
        actor.attempts = 0
        actor.last_cause = None
        self._tell(actor, out)

    def start_failed(self, actor: Actor, cause: DeathCause, now: float, out: list[Effect], *, retry: bool) -> None:
        """It could not be created there."""
        if actor.state == ALIVE:
            return
        if not retry:
            self._lose(actor, cause, now, out)
            return
        self._leave_node(actor)
        self._wait(actor, now, _delay_s(actor.attempts))
        actor.attempts += 1
        actor.retrying = True

    def died(self, actor: Actor, cause: DeathCause, now: float, out: list[Effect]) -> None:
        """Its process ended; so what that process owned ends too."""
        process = actor.worker.process
        self._lose(actor, cause, now, out)
        if process:
            self.owner_gone(process, cause.text, out)

    def node_died(self, node_id: bytes, cause: DeathCause, now: float, out: list[Effect]) -> None:
        """Its actors are lost, and what their processes owned ends."""
        processes = []
        for actor_id in list(self.by_node.get(node_id, {})):
            actor = self.living[actor_id]
            if actor.worker.process:
                processes.append(actor.worker.process)
            self._lose(actor, cause, now, out)
        for process in processes:
            self.owner_gone(process, cause.text, out)

    # ---- placement
    def place(self, now: float, out: list[Effect], only: LineKey | None = None) -> None:
        """Start whoever has found a node."""
        for decision in self._placement.attempt(now, only):
            actor = self.living[decision.actor_id]
            match decision:
                case Placed(_, node_id):
                    self._start(actor, node_id, out)
                case Impossible(_, text):
                    self._end(actor, DeathCause("unschedulable", text), out)
                case Explained():
                    self._tell(actor, out)

    # ---- subscribers
    def subscribe(self, actor_id: bytes, subscriber: Address, out: list[Effect]) -> bool:
        """Tell of the present state and of every change until it is dead; False when there are too many subscribers."""
        actor = self.living.get(actor_id)
        if actor is not None and not self.followers.add(actor_id, subscriber):
            return False
        info = self.info(actor_id) or _unknown(actor_id)
        out.append(Send(subscriber, ActorChanged(info)))
        return True

    # ---- the steps all of this is made of
    def _enter(self, actor: Actor, event: str) -> None:
        state = TRANSITIONS[actor.state, event]
        self.counts[actor.state] -= 1
        if state != DEAD:
            self.counts[state] += 1
        actor.state = state

    def _wait(self, actor: Actor, now: float, delay_s: float = 0.0) -> LineKey | None:
        job = self._jobs.get(actor.spec.job_id)
        local = b"" if job is None else job.node_id
        return self._placement.wait(actor.spec, now, local_node_id=local, delay_s=delay_s)

    def _start(self, actor: Actor, node_id: bytes, out: list[Effect]) -> None:
        raylet = self._nodes.raylet_of(node_id)
        assert raylet is not None
        actor.incarnation += not actor.retrying
        actor.retrying = False
        actor.node_id = node_id
        self.by_node.setdefault(node_id, {})[actor.spec.actor_id] = None
        job_id = actor.spec.job_id
        if job_id not in self._jobs.running:
            # Nodes forget finished jobs; a detached actor's restart needs its job once more.
            job = self._jobs.get(job_id)
            if job is not None:
                out.append(Send(raylet, JobStarted(job.config)))
        out.append(Send(raylet, StartActor(actor.spec, actor.incarnation)))

    def _lose(self, actor: Actor, cause: DeathCause, now: float, out: list[Effect]) -> None:
        """Its process is gone (or never came to be): restart it or end it."""
        self._leave_node(actor)
        if actor.ending is not None:
            cause = actor.ending
        if cause.kind in FINAL_CAUSES or actor.restarts_left == 0:
            self._end(actor, cause, out)
            return
        if actor.restarts_left > 0:
            actor.restarts_left -= 1
        was_alive = actor.state == ALIVE
        self._enter(actor, LOST)
        self._placement.discard(actor.spec.actor_id)
        actor.last_cause = cause
        # The first time at once; one that dies again and again while it is made must not keep the cluster busy.
        line = self._wait(actor, now, 0.0 if was_alive or not actor.attempts else _delay_s(actor.attempts - 1))
        actor.attempts += not was_alive
        actor.retrying = False
        self._tell(actor, out)
        if line is not None:
            self.place(now, out, line)

    def _end(self, actor: Actor, cause: DeathCause, out: list[Effect]) -> None:
        """It is dead for good: stop what runs, forget it everywhere, tell who follows it."""
        actor_id = actor.spec.actor_id
        self._stop(actor, cause, out, graceful=False)
        self._leave_node(actor)
        self._placement.discard(actor_id)
        self._enter(actor, ENDED)
        self._free_name(actor)
        _remove(self.by_job, actor.spec.job_id, actor_id)
        if actor.spec.detached:
            if self._jobs.unpin(actor.spec.job_id):
                self.released_jobs.append(actor.spec.job_id)
        else:
            _remove(self.by_owner, actor.spec.owner.process, actor_id)
        del self.living[actor_id]
        info = msgspec.structs.replace(self._info(actor), death=cause)
        self.dead[actor_id] = info
        if len(self.dead) > DEAD_ACTORS_KEPT_MAX:
            del self.dead[next(iter(self.dead))]
        self.followers.tell(info, out)
        self.followers.drop_actor(actor_id)

    def _stop(self, actor: Actor, cause: DeathCause, out: list[Effect], *, graceful: bool) -> None:
        raylet = self._nodes.raylet_of(actor.node_id)
        if raylet is not None:
            out.append(Send(raylet, StopActor(actor.spec.actor_id, actor.incarnation, cause, graceful)))

    def _leave_node(self, actor: Actor) -> None:
        if actor.node_id:
            self._nodes.unreserve(actor.node_id, actor.spec.actor_id)
            _remove(self.by_node, actor.node_id, actor.spec.actor_id)
            actor.node_id, actor.worker, actor.worker_id, actor.pid = b"", NOWHERE, b"", 0

    def _free_name(self, actor: Actor) -> None:
        key = (actor.spec.namespace, actor.spec.name)
        if self.by_name.get(key) == actor.spec.actor_id:
            del self.by_name[key]

    def _tell(self, actor: Actor, out: list[Effect]) -> None:
        if actor.spec.actor_id in self.followers.of_actor:
            self.followers.tell(self._info(actor), out)

    def _reason(self, actor: Actor) -> str:
        if actor.state == UNREADY:
            return "waits for its arguments"
        if actor.state in (ALIVE, DEAD):
            return ""
        if actor.node_id:
            return f"is being created on node {actor.node_id.hex()}"
        return self._placement.reason(actor.spec.actor_id)

    def _info(self, actor: Actor) -> ActorInfo:
        return _describe(actor, self._reason(actor))

    def check(self) -> None:
        """Assert that every index agrees with the directory, and the life cycle with what is under way."""
        for actor_id, actor in self.living.items():
            assert actor.spec.actor_id == actor_id
            _check_actor(actor)
        living = self.living.values()
        assert self.counts == {state: sum(actor.state == state for actor in living) for state in self.counts}
        named = [actor for actor in living if actor.spec.name and actor.ending is None]
        assert self.by_name == {(actor.spec.namespace, actor.spec.name): actor.spec.actor_id for actor in named}
        assert len(named) == len(self.by_name), "two actors of one name"
        assert self.by_job == _indexed((actor.spec.job_id, actor) for actor in living)
        assert self.by_node == _indexed((actor.node_id, actor) for actor in living if actor.node_id)
        owned = [(actor.spec.owner.process, actor) for actor in living if not actor.spec.detached]
        assert self.by_owner == _indexed(owned)
        detached = _indexed((actor.spec.job_id, actor) for actor in living if actor.spec.detached)
        assert self._jobs.pins == {job_id: len(actor_ids) for job_id, actor_ids in detached.items()}
        assert not [node_id for node_id in self.by_node if node_id not in self._nodes.alive], "on a node that is gone"
        waiting = [actor.spec.actor_id for actor in living if actor.state != UNREADY and not actor.node_id]
        assert sorted(waiting) == sorted(self._placement.line_of)
        assert len(self.dead) <= DEAD_ACTORS_KEPT_MAX
        assert not [actor_id for actor_id in self.dead if actor_id in self.living]
        assert all(info.state == DEAD and info.death is not None for info in self.dead.values())
        assert not [actor_id for actor_id in self.followers.of_actor if actor_id not in self.living]
        self.followers.check()
        self._placement.check()


def _describe(actor: Actor, reason: str) -> ActorInfo:
    spec = actor.spec
    return ActorInfo(
        actor_id=spec.actor_id,
        job_id=spec.job_id,
        state=actor.state,
        incarnation=actor.incarnation,
        worker=actor.worker,
        node_id=actor.node_id,
        pid=actor.pid,
        name=spec.name,
        namespace=spec.namespace,
        class_name=spec.class_name,
        class_key=spec.class_key,
        detached=spec.detached,
        restarts_left=actor.restarts_left,
        max_task_retries=spec.max_task_retries,
        out_of_order=spec.out_of_order,
        handle_data=spec.handle_data,
        death=actor.last_cause if actor.state == RESTARTING else None,
        pending_reason=reason,
    )


def _check_actor(actor: Actor) -> None:
    assert (actor.state == ALIVE) == bool(actor.worker.process), (actor.state, actor.worker)
    assert actor.state != ALIVE or actor.node_id
    assert not actor.node_id or actor.incarnation > 0
    assert actor.state != UNREADY or not (actor.node_id or actor.incarnation)
    assert actor.ending is None or actor.state == ALIVE
    assert actor.restarts_left >= -1


def _indexed(pairs: Iterable[tuple[Key, Actor]]) -> dict[Key, dict[bytes, None]]:
    index: dict[Key, dict[bytes, None]] = {}
    for key, actor in pairs:
        index.setdefault(key, {})[actor.spec.actor_id] = None
    return index


def _delay_s(attempts: int) -> float:
    return float(min(RETRY_DELAY_S * 2.0 ** min(attempts, 10), RETRY_DELAY_S_MAX))


def _remove(index: dict[Key, dict[bytes, None]], key: Key, actor_id: bytes) -> None:
    del index[key][actor_id]
    if not index[key]:
        del index[key]


def _unknown(actor_id: bytes) -> ActorInfo:
    text = "the GCS does not know this actor: it belongs to another cluster, or died long ago"
    return ActorInfo(actor_id, b"", DEAD, death=DeathCause("unknown", text))
