"""The object store of a node: large values in shared memory, written once, read without a copy, spilled when there are
many.

It knows nothing of the runtime; keys are opaque bytes. ``base`` is the contract, ``conformance`` the suite every store
is held to, ``docs/store-format.md`` the format of the files.

* **The node's process** has a ``local.LocalStore``: the machine ``ledger`` (pure: who has what, who waits for room;
  made of ``table`` life cycle, ``room`` memory and disk, ``slabs`` leases, ``allocator``, ``spill``, ``eviction``) in a
  shell of ``segment`` (files in shared memory) and spill directories (``filedisk``, ``disk``).
* **Every other process** of the node has a ``writer.Writer`` (carves objects from leased slabs, reports them in
  batches) and a ``reader.Reader`` (maps segments once, hands out read-only views, notices the end of the last). How the
  questions travel between the two sides is the runtime's business: locations, slabs and reports are plain tuples.
* **Values**: ``values`` lays a pickle stream and its out-of-band buffers out in an object, ``arrow`` an Arrow stream.

What is deliberately not known here: owners and references, other nodes, when to fetch or to recompute.
"""
