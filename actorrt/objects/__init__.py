"""The object manager: one per node, beside the raylet. It knows which large objects lie in the node's store, for whom.

Theory of operation
-------------------
**Duties.** Give the processes of its node (*clients*) room to write and pins to read, bring objects here that lie on
other nodes, offer its own to others, delete what owners free, and see to it that nothing is left behind by whoever
dies. It never touches a byte: the *port* (``cluster.storage``) has the store, performs ``operations`` and answers.

======================  ===============================================================================================
file                    duty
======================  ===============================================================================================
``state.py``            the machine: takes messages to their part, then settles what follows; deaths, audits, reports
``attaching.py``        the store is made for the first process that attaches
``writing.py``          slabs, room for large objects, reports of sealed ones
``reading.py``          requests for objects: wishes, pins, one answer when all are done
``puller.py``           runs the pulls; ``pulls.py``: their table of states; ``admission.py``: which may begin;
                        ``asks.py``: questions to holders without an answer
``offers.py``           answers to other nodes
``catalog.py``          what lies here, by key, owner and writer; what is gone
``clients.py``          who is attached, what each asked for; ``tickets.py``: what the store was asked
``leaving.py``          ends of clients and owners; ``leftovers.py``: pins of processes that have left
``notices.py``          what owners are told; ``suspects.py``: owners that may be dead
======================  ===============================================================================================

**An object's way.** A client leases slabs and carves small objects from them without asking (``ObjectsSealed`` reports
them in batches), or asks for room for a large one. Its result goes to the owner, who alone counts references and
lists the *holders*: process addresses of nodes. A reader's ``PinObjects`` is answered with places in shared memory
(or in a spill file), pinned until ``PinsReleased`` or the reader's death. ``FreeObjects`` of the owner ends it.

**Overtaking.** The writer's report, the owner's word and another node's question travel on different connections. So a
wish or a question for an object that should be here waits a moment for the report; an object that was freed before it
was reported is deleted when the report comes; and a process that died is buried a moment later, when what it had said
before has come.

**A pull's way** is the table ``pulls.TRANSITIONS``: ask a few holders at once, begin with the first that offers, add
the others; when nobody has it, ask the owner (a few times). A holder that says nothing for ``ASK_TIMEOUT_S`` is left
out until the owner names it again; one that the cluster has given up (``NodeChanged``) is lost. A copy is *secondary*:
the store may drop it under pressure, and its owner is told. Arguments of tasks go before reads, reads before hints.

**Ends.** A client that leaves in order (``Detach``) takes along what it owned and all it asked for. Its process may go
on and look at values: those pins stay, under its old name, until a later client of the process (the same pid) releases
them or the port sees the process end. What a client does not wait for any more it withdraws (``WithdrawRequest``):
else every ``get`` with a timeout would leave a wish behind.

**Deaths.** With a client go its pins, slabs, unfinished objects and requests, and every object it *owned*. Of what it
*wrote* for others the owners are asked (``VerifyObjects``): the word of it may have died with the writer. The end of a
connection is not the end of a process: a client only loses its requests; an owner elsewhere, or a client whose end the
port cannot see (it listens by tcp only: it is on another machine), is dialled once more before it counts as dead.
Every object's owner is asked again now and then, so nothing stays for good by a lost word.

**Messages in**: ``objects.messages``. **Out**: to clients answers; to owners ``CopiesAdded``, ``CopiesRemoved``,
``LocateObject``, ``VerifyObjects``; to other managers ``AskForObject``, ``ObjectOffered``, ``ObjectMissing``; to the
raylet ``StoreUsed``; and operations.

**Invariants** (``ObjectManagerMachine.check``): an object is either here, on its way, or neither; an unfinished wish
waits at one pull or under one ticket; a request without wishes has been answered; the port works on exactly the pulls
that count as in flight; what nobody needs ends; all tables stay within ``kernel.limits``.

**Deliberately unknown here**: values, references, tasks, where bytes lie and when they are spilled, who else has a
copy.
"""
