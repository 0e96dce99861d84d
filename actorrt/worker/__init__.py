"""The worker: takes tasks and calls from owners, has user code run, sends outcomes back.

Theory of operation ------------------- Two halves. The *machine* (``state.py``) knows who pushed which task and talks
to owners and to its raylet. The *executor* (``executor.py``, with ``packing.py``) is the one place where user code
runs, in threads of its own; the machine gives it operations (``Run``, ``Create``, ``Return``, ``Interrupt``, ``Exit``),
it answers with messages (``TasksFinished``,
``WorksReturned``, ``ActorCreated``, ``ExitRequested``). Neither ever waits for the other.

A task is *assigned* from its push until its outcome or its return is sent. A worker belongs to one lease at a time, or
to one actor from ``CreateActorHere`` to its end; calls for another actor or incarnation are refused. While its task
waits in
``get`` it is *blocked*: a plain worker then gives back all it has not started, and what still comes.

**The end** is a handshake, so that nothing that was said is lost: the executor hands over all outcomes and asks
(``ExitRequested``); the machine tells the raylet why (``WorkerExiting``), has unstarted tasks returned to their owners,
accepts nothing more, and answers ``Exit``. Only then may the process go. A process that is killed says nothing: its
owners learn it from the end of the connection and from the raylet (see ``owner.submission`` for who is charged).

**In.** ``PushTasks``, ``PushCalls``, ``TakeBack``, ``CancelTask`` from owners; ``CreateActorHere``, ``ExitWorker`` from
the raylet; ``PeerGone``. **Out.** ``TasksDone``, ``TasksReturned``, ``CallsRefused``; ``WorkerReady``,
``WorkerBlocked``,
``WorkerUnblocked``, ``WorkerExiting``, ``ActorInitialized``.

Invariants
----------
* Every accepted task ends in exactly one ``TasksDone`` or ``TasksReturned``, unless the process dies.
* Outcomes of one owner's tasks leave in the order in which they ended, before anything that is said about the end.
* Outcomes are held back only behind functions known to be quick, for milliseconds, and never those of tasks that must
  not run twice.
* An interrupt reaches user code of the task it is meant for, or nobody.
* Cancels may overtake their task; they are kept (bounded) until it comes.

What it deliberately does not know
----------------------------------
Leases and resources (raylet), retries and lineage (owner), where functions come from (``Host.load_function``), and
whether it is a process or a thread of a test cluster, but for how an interrupt is delivered.
"""
