"""The global control service: what a cluster must agree on, and nothing that is on the path of a task or an actor call.

Theory of operation
-------------------
One pure machine (``state.GcsMachine``) composed of one table per noun. ``handle`` dispatches by message type; what
concerns one noun is done by its table, what concerns several (a node's death, a job's end, a process that is gone) is a
short story in ``state``. Effects go into a list that is passed along. Tables are plain dicts, changed only by methods
of their own file, so that a storage port can be put behind them.

Duties
    ``nodes``      membership, health, loads; the cluster view that all raylets follow
    ``jobs``       numbers jobs (4 bytes, from 1), knows which run and which are still needed by a detached actor
    ``functions``  pickled functions and classes by (job, hash); a request may wait for an export that is on its way
    ``kv``         small key-value pairs by namespace
    ``actors``     the actor directory: identity, names, life cycle, restarts
    ``followers``  who hears of which actor
    ``placement``  actors that wait for a node, and which node they get
    ``pubsub``     channels

A node is ALIVE from ``RegisterNode`` until its process's connection ends, it is silent for ``NODE_DEAD_AFTER_S``, or it
is drained; then DEAD for good (a dead node that speaks is told to stop, so that its actors, restarted elsewhere, do not
live twice). A job RUNS from ``RegisterJob`` until ``FinishJob`` or the loss of its driver. An actor follows
``actors.TRANSITIONS``::

    DEPENDENCIES_UNREADY -> PENDING_CREATION -> ALIVE <-> RESTARTING, any of them -> DEAD

with one creation under way at a time, numbered by ``incarnation``. News of another incarnation, or of a node other than
the one asked, is stale: ignored, and a stale *start* is answered with ``StopActor`` so that nothing runs unknown. An
actor that holds resources prefers its driver's node; one that holds none lands anywhere. What fits nowhere now waits
here while there are several nodes to hope for, but no longer than ``placement.QUEUE_AFTER_S``: then it queues at one
raylet, in line with the leases, so that a stream of tasks cannot starve it.

Invariants (``GcsMachine.check``)
    every index (by name, node, job, owner, subscriber) agrees with the directory; a living actor has a living node; an
    actor waits for placement exactly when it is to be created and no raylet has been asked; a name belongs to at most
    one actor, which is not dead nor ending; dead actors, dead nodes and finished jobs are kept up to a limit; parked
    requests belong to running jobs.

Messages in: ``messages.py``. Out: ``raylet`` (``ClusterChanged``, ``JobStarted``, ``JobFinished``, ``StartActor``,
``StopActor``, ``StopNode``), ``owner`` (``ActorChanged``, ``NodeChanged``, ``Published``), and answers.

Deliberately unknown here: tasks, leases, objects and their references; what user values mean (a spec's arguments and a
function are opaque bytes); how messages travel; whether a worker process lives (its raylet says so).
"""
