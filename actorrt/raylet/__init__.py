"""The raylet: one per node. It has the node's resources and worker processes, and decides who gets them.

Theory of operation
-------------------
**Duties.** Grant leases (resources of this node and a worker process) to owners, host actors for the GCS, keep the
worker table, send work elsewhere when this node cannot take it, tell the GCS what is free, and clean up after whoever
dies. The raylet never sees a task: an owner pushes tasks to its leased workers directly.

**A request's way** (``demand`` -> ``placing`` -> ``leases`` -> ``pool``). ``RequestLeases(class_id, spec, count)``
joins the queue. After every message that may change anything, one *pass* gives all demands turns. A request that fits
takes its resources at once and becomes a *grant*; a grant without a worker gets an idle one, or one is started for
it. So there are never more processes on their way than grants that need them (and prestarts). Every request ends
granted, redirected, refused, cancelled or with its owner; until then ``NodeLoad.pending`` shows it with the reason
why it waits.

**A grant's way.** Resources taken -> worker attached (``LeaseGranted`` / ``CreateActorHere``) -> returned by its
holder, or ended by its worker's death. Resources of a process that is being ended are free when it is dead, not
before. While its worker waits in ``get``, the CPU part is lent to others; it is taken back at once when the worker
goes on, even if the ledger then goes negative (nothing new is granted until it is positive again). Hence nested
``get`` finishes at any depth that ``WORKERS_MAX`` allows, and as children of blocked workers go first, few processes
are needed.

**A worker's way** is the table ``pool.TRANSITIONS``; an actor's ``actors.TRANSITIONS``. A worker serves one job and one
environment, and after its first lease only work with the same accelerators. An actor has a process of its own.

**Fairness.** Demands take turns, so a long queue of one owner delays another by one request, not by all. A small
request may pass a large one that does not fit; after a second of waiting the large one is served first and what it
needs is withheld from others (for limited periods, see ``placing``). Leases are recalled from those who hold more
than those who wait (``recall``), for owners keep a lease as long as they have tasks.

**Redirection** (spillback). A demand that does not fit here now goes where the cluster view says it fits, one that can
never fit here to a node where it can; ``REDIRECT_HOPS_MAX`` per second of waiting bounds the hopping of stale views.
Hard affinity to a dead node is refused; to a busy one, the request is sent there and waits there. No matching node: it
waits here and is looked at again whenever the cluster changes.

**The object store** is none of its business, but for one figure: the room left (``StoreUsed``, from the object manager
in the same process) is part of the load it reports. A demand for ``object_store_memory`` is scheduled like any other.

**Memory** (``pressure``). Told by the node process that memory is short (``MemoryPressed``), it ends one worker at a
time: a big one, and of those the one whose end costs least. Owners learn why (``oom``), and retry as after a crash.

**Ends** (``ending``). An owner's ``PeerGone`` frees its leases and kills their workers, which may run its tasks for
nobody. A driver's ``PeerGone`` makes the GCS finish its job; ``JobFinished`` ends everything of the job except
detached actors. When the GCS is gone and this is not the head, the node ends after ``GCS_GRACE_S``; any message of
the GCS in between calls that off, which is where reconnecting will go. Told by the GCS that it is dead, a node ends
at once: its actors live elsewhere.

**Messages in**: ``raylet.messages``; ``NodeRegistered`` (answer to the registration its process made). **Out**:
``owner`` (``LeaseGranted``, ``LeasesRedirected``, ``LeasesRefused``, ``LeaseRecalled``, ``LeasedWorkerDied``),
``worker`` (``CreateActorHere``, ``ExitWorker``), ``gcs`` (``LoadReported``, ``ActorStarted``, ``ActorStartFailed``,
``ActorDied``, ``FinishJob``), and operations for the pool adapter (``operations``). The adapter answers each
``StartWorker`` with exactly one death in the end (``WorkerDied`` or ``WorkerStartFailed``); everything else may come
late, twice, or for something long gone, and is then ignored.

**Invariants** (``RayletMachine.check``): what is free plus what grants hold is what the node has; a lease has one
holder and one worker; a worker at work has one grant; whoever waits for a worker has one coming unless a bound
forbids it; tables stay within ``kernel.limits``.

**Deliberately unknown here**: tasks, values, where objects are, why an owner wants a worker, restarts of actors.
"""
