"""The simulator: the very machines of a cluster, under a virtual clock, in one plain synchronous program.

Theory of operation
-------------------
A ``World`` stands for everything below the machines: loops, shells, routers, transports, operating system. It keeps one
heap of events ordered by (time, number of the event), and time jumps from one to the next. What happens is decided by
the machines and by random numbers drawn from streams that all come from one seed, so a seed *is* a run: the same seed
gives the same events, and the same trace hash, in every process and under every ``PYTHONHASHSEED``.

* ``world``     processes, mailboxes, timers, the simulated network, crashes. Does what ``kernel.shell`` and
  ``wire.router`` do: lanes, one message at a time, effects in order, every message through the real codec, one
  ordered path per pair of processes, ``PeerGone`` to every actor of a process after the last message of that peer.
* ``values``    user values as bytes, with the refs and actor handles inside them.
* ``runtime``   what ``api.runtime`` is to user code: submit, put, create, call, release; runs *programs*, which are
  generators that say what they wait for.
* ``executor``  what ``worker.executor`` is to a worker machine: runs functions (programs again) in virtual time.
* ``storage``   what ``cluster.storage`` is to an object manager: a store, pulls, watched processes.
* ``shelf``     what ``cluster.shelf`` is to a process: its large values in the store of its node.
* ``pool``      what ``cluster.pool`` is to a raylet: worker processes that start late and die when killed.
* ``town``      puts them together: head, nodes, drivers; the composition root of the simulator.
* ``checkers``  invariants across machines, watched after every step and at the end.
* ``faults``    what goes wrong, and when.
* ``transcript`` who said what to whom, as text.

Simulated handling takes a little (seeded) time, so that messages queue up and lanes matter. Nothing here knows
``cluster`` or ``api``; nothing in production knows the simulator. Sets are never iterated, ``id()`` never decides.
"""
