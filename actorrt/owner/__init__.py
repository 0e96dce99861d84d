"""The owner: what a process that calls ``.remote()`` and ``put`` knows of its tasks, objects and actors.

Theory of operation
-------------------
One owner per driver and per worker, in a shell of its own. It alone knows what became of a task it submitted and who
holds an object it made; no central table is written per task.

=================  ====================================================================================================
file               duty
=================  ====================================================================================================
``state.py``       the machine: takes messages apart, then pumps what became possible, once per step
``objects.py``     values, waiters, and who holds what in which process (distributed reference counting)
``holdings.py``    which nodes have the large values; ``stores.py``: what object managers ask about them
``lineage.py``     the tasks that made large values, to make lost ones again
``locality.py``    tasks go to their data, data to where tasks will run
``references.py``  what ``actorrt memory`` shows of an owner; ``explain.py``: why an object is not there yet
``waiting.py``     who waits for objects in this process
``arguments.py``   what a task waits for, and what travels with it
``submission.py``  leases, pushing, depth, outcomes, retries, deaths of leased workers
``calls.py``       one queue per actor; restarts, lost connections, scope
``tasks.py``       the records all of them work on
``deaths.py``      the texts users read when something ended
``requests.py``    what the API of the same process asks (live objects, never encoded)
``messages.py``    what other processes say; ``operations.py``: what the performer is asked to do
=================  ====================================================================================================

A task is WAITING (arguments missing), QUEUED (ready), PUSHED (in a worker's hands) or ENDED; it goes back to QUEUED
when it is returned, retried, or its worker is lost. A leased worker is usable until it is recalled, asked to give back,
working on a suspect alone, unreachable, or dead. An object record lives while something holds it; when the value
arrives, waiters are woken, dependents queued, other owners answered.

**In.** Requests of the API; from raylets ``LeaseGranted``, ``LeasesRedirected``, ``LeasesRefused``, ``LeaseRecalled``,
``LeasedWorkerDied``; from workers ``TasksDone``, ``TasksReturned``, ``CallsRefused``; from owners ``GetObjects``,
``ObjectsReady``, ``BorrowersAdded``, ``BorrowersRemoved``, ``DropGets``, ``CancelOwned``; from the GCS
``ActorChanged``, ``NodeChanged``, ``Published``; from object managers ``CopiesAdded``, ``CopiesRemoved``,
``LocateObject``, ``VerifyObjects``; ``PeerGone`` from the router and ``Tick`` from its own timer.

**Out.** ``RequestLeases``, ``CancelLeases``, ``ReturnLease``; ``PushTasks``, ``PushCalls``, ``TakeBack``,
``CancelTask``; the owner messages above; ``FreeObjects``, ``ObjectLocated``, ``PrefetchObjects``; ``CreateActor``,
``SubscribeActor``, ``ActorOutOfScope``, ``KillActor``; and ``Do(Wake)``.

Invariants (``check`` asserts them)
-----------------------------------
* Every unfinished task is in exactly one place: waiting for arguments, in one queue, or in one worker's hands.
* A task ends once. Later outcomes change nothing, but the refs they carry are accounted for.
* An object is freed only when *every* count is zero: local refs, pins, and the signed count of each borrower. Whoever
  hands out a ref has registered the receiver before it can drop its own.
* A ready object has no waiters, dependents or task; a waiter that is done is registered nowhere.
* Nothing waits for a message that may never come without another way out: lost workers have a deadline, lost actors are
  asked for, the loss of the node or of the head fails what depends on it.
* No recursion along user data: chains of tasks and nested values of any length are worked off from queues.

What it deliberately does not know ---------------------------------- Which node has room (raylets), how a process died
(raylets, the GCS), what a value means (``api`` and ``worker.executor`` alone unpickle), and what time it is (``now`` is
handed in). A borrower that dies without ever having talked to the owner is not noticed: its hold then lasts as long as
the owner.
"""
