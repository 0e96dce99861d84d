"""The event-loop core: what every component is made of, and nothing any component is about.

Theory of operation
-------------------
A *component* (GCS, raylet, owner, worker) is a **machine**: a plain object whose ``handle(envelope, now)`` takes one
message and the time and returns a list of **effects** (``Send``, ``Reply``, ``SetTimer``, ``Do`` ...). It never waits,
never reads a clock, never touches a socket. A **shell** runs a machine: it keeps the bounded mailbox, calls ``handle``
to completion one message at a time, and carries out the effects in order through ports it was given (a router, timers,
an operation performer). Completions, timeouts and losses come back as messages.

A shell has no thread of its own. Whoever brings a message *drives* it: the event loop for what arrives from the
network, the user's own thread for a submitted task, the executor's thread for a finished one. One lock says who drives;
a thread that finds it taken leaves its message in the mailbox, and the holder handles it before letting go. So a
machine is always run by exactly one thread, and the one-at-a-time path crosses no thread it need not cross.

The simulator runs the same machines without any shell.
"""
