"""The grants of this node: who holds which resources, and which worker works for them.

A grant is made when its resources are taken from the ledger. It then waits for a worker, works, and ends either by
its holder's ``ReturnLease`` or with its worker's death. What a process holds is free again only when the process is
known to be dead or idle: a worker that is being killed still uses its memory and its devices.

An actor's grant is the same thing with an actor in place of a holder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actorrt.kernel.ids import RandomBytes
from actorrt.kernel.message import NOWHERE, Address
from actorrt.raylet.demand import Demand, DemandKey
from actorrt.raylet.pool import Devices, WorkerKey
from actorrt.scheduling.resources import Available, Taken, add
from actorrt.wire.records import PendingDemand

if TYPE_CHECKING:
    from actorrt.raylet.actors import HostedActor

ENDING = "ENDING"
"""The state of ``actors`` (which imports this module) in which a process is being ended."""
BLOCKING_GIVES_BACK = ("CPU",)
"""What a worker that waits in ``get`` does without. Devices and custom resources stay: they may hold state."""


class Grant:
    """Resources of this node in somebody's hands."""

    __slots__ = (
        "actor",
        "class_id",
        "demand_key",
        "grant_id",
        "granted_s",
        "holder",
        "key",
        "lent",
        "name",
        "recalled",
        "retriable",
        "taken",
        "worker_id",
    )

    def __init__(self, grant_id: int, demand: Demand, taken: Taken, now: float) -> None:
        self.grant_id = grant_id
        self.demand_key: DemandKey = demand.key
        self.holder: Address = demand.holder
        """The owner that leases it; NOWHERE for an actor, and when the holder has returned it or is gone."""
        self.class_id = demand.class_id
        self.actor: HostedActor | None = demand.actor
        self.key: WorkerKey = (demand.spec.job_id, demand.spec.environment)
        self.name = demand.spec.name
        self.retriable = demand.spec.retriable
        self.taken = taken
        self.lent: Taken | None = None
        """The part given back while the worker is blocked."""
        self.worker_id = b""
        self.recalled = False
        self.granted_s = now

    @property
    def blocked(self) -> bool:
        """Whether its worker waits in ``get``."""
        return self.lent is not None

    @property
    def devices(self) -> Devices:
        """The accelerators it holds, in the form workers are matched by."""
        return devices_of(self.taken)

    @property
    def recallable(self) -> bool:
        """Whether asking its holder to return it makes sense: it is a lease at work, and was not recalled before."""
        return bool(self.worker_id) and not self.recalled and not self.blocked and self.holder is not NOWHERE

    @property
    def ending(self) -> bool:
        """Whether it lasts only until its worker is dead."""
        return self.actor.state == ENDING if self.actor is not None else self.holder is NOWHERE

    def __repr__(self) -> str:
        whose = self.actor or f"{self.holder} class {self.class_id}"
        return f"Grant({self.grant_id} {whose} {self.taken.resources} worker {self.worker_id.hex()[:8]})"


def devices_of(taken: Taken) -> Devices:
    """Accelerator ids in the form workers are matched by."""
    return tuple(sorted(taken.accelerator_ids().items()))


class Grants:
    """All grants, and the ledger they are taken from."""

    def __init__(self, ledger: Available, random_bytes: RandomBytes) -> None:
        self.ledger = ledger
        self.table: dict[int, Grant] = {}
        """By id, oldest first."""
        self.waiting: dict[WorkerKey, dict[int, Grant]] = {}
        """Grants that wait for a worker."""
        self.waiting_count = 0
        self.shares: dict[DemandKey, int] = {}
        """Leases by demand, without recalled ones and those whose holder is gone."""
        self.blocked_since: dict[str, int] = {}
        """Processes of blocked workers, numbered in the order in which they blocked."""
        self.granted_count = 0
        # Lease ids are unique in the cluster (owners hold leases of several nodes in one table): a random upper half.
        self._prefix = int.from_bytes(random_bytes(4), "big") >> 1 << 32
        self._blocked_count = 0

    def __len__(self) -> int:
        return len(self.table)

    def urgency(self, process: str) -> int:
        """How recently the worker in this process blocked; 0 when it is not blocked (or not a worker of this node)."""
        return self.blocked_since.get(process, 0)

    # ---- life of a grant
    def place(self, demand: Demand, taken: Taken, now: float) -> Grant:
        """Make a grant of resources just taken; it waits for a worker."""
        self.granted_count += 1
        grant = Grant(self._prefix | self.granted_count, demand, taken, now)
        self.table[grant.grant_id] = grant
        self.waiting.setdefault(grant.key, {})[grant.grant_id] = grant
        self.waiting_count += 1
        self._count_share(grant, 1)
        return grant

    def attach(self, grant: Grant, worker_id: bytes, now: float) -> None:
        """A worker begins to work for it."""
        assert not grant.worker_id
        self._leave_waiting(grant)
        grant.worker_id = worker_id
        grant.granted_s = now

    def recall(self, grant: Grant) -> None:
        """Note that its holder was asked to return it."""
        assert grant.recallable
        self._count_share(grant, -1)
        grant.recalled = True

    def orphan(self, grant: Grant) -> None:
        """Its holder has no more claim to it; the resources stay taken until the worker is dead or idle."""
        if grant.holder is NOWHERE:
            return
        if not grant.recalled:
            self._count_share(grant, -1)
        grant.holder = NOWHERE

    def release(self, grant: Grant) -> None:
        """Its resources are free again."""
        self.orphan(grant)
        if not grant.worker_id:
            self._leave_waiting(grant)
        self.ledger.put_back(grant.taken)
        del self.table[grant.grant_id]

    def of_process(self, process: str) -> list[Grant]:
        """Leases held by this process, oldest first."""
        return [
            grant for grant in self.table.values() if grant.holder.process == process and grant.holder is not NOWHERE
        ]

    def _leave_waiting(self, grant: Grant) -> None:
        waiting = self.waiting[grant.key]
        del waiting[grant.grant_id]
        self.waiting_count -= 1
        if not waiting:
            del self.waiting[grant.key]

    def _count_share(self, grant: Grant, change: int) -> None:
        if grant.actor is not None:
            return
        count = self.shares.get(grant.demand_key, 0) + change
        if count:
            self.shares[grant.demand_key] = count
        else:
            del self.shares[grant.demand_key]

    # ---- blocking
    def block(self, grant: Grant, process: str) -> bool:
        """Give back what a blocked worker does without. Says whether anything changed."""
        if grant.blocked:
            return False
        part, rest = grant.taken.split(BLOCKING_GIVES_BACK)
        self.ledger.put_back(part)
        grant.taken = rest
        grant.lent = part
        self._blocked_count += 1
        self.blocked_since[process] = self._blocked_count
        return True

    def unblock(self, grant: Grant, process: str) -> None:
        """Take it again, even if somebody else has it by now."""
        self.forget_blocked(process)
        if grant.lent is None:
            return
        taken = self.ledger.take(grant.lent.resources, force=True)
        assert taken is not None
        grant.taken = grant.taken.joined(taken)
        grant.lent = None

    def forget_blocked(self, process: str) -> None:
        """This worker process is dead, idle or running."""
        self.blocked_since.pop(process, None)

    # ---- outlook
    def returning(self) -> dict[str, int]:
        """What would be free if every lease at work were returned (blocked ones come back later than one may hope)."""
        total = self.ledger.free()
        for grant in self.table.values():
            if grant.actor is None and not grant.blocked:
                total = add(total, grant.taken.resources)
        return total

    def pending(self) -> tuple[PendingDemand, ...]:
        """What has its resources and waits for a process, by display name."""
        counts: dict[str, int] = {}
        for waiting in self.waiting.values():
            for grant in waiting.values():
                counts[grant.name] = counts.get(grant.name, 0) + 1
        return tuple(PendingDemand({}, count, "its worker is starting", name) for name, count in counts.items())

    # ---- invariants
    def check(self) -> None:
        """Assert that resources add up and the indexes agree."""
        self.ledger.check()
        held: dict[str, int] = {}
        shares: dict[DemandKey, int] = {}
        for grant_id, grant in self.table.items():
            assert grant.grant_id == grant_id
            held = add(held, grant.taken.resources)
            assert bool(grant.worker_id) != (grant_id in self.waiting.get(grant.key, {})), grant
            assert grant.actor is None or grant.holder is NOWHERE, grant
            if grant.holder is not NOWHERE and not grant.recalled:
                shares[grant.demand_key] = shares.get(grant.demand_key, 0) + 1
        total = {name: fixed for name, fixed in self.ledger.total().items() if fixed}
        assert add(self.ledger.free(), held) == total, f"{self.ledger!r} and held {held}"
        assert shares == self.shares, (shares, self.shares)
        assert self.waiting_count == sum(len(waiting) for waiting in self.waiting.values())
