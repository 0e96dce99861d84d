"""Scheduling arithmetic shared by raylet and GCS: what resources are, and where work goes.

Theory of operation
-------------------
Everything here is a pure function or a plain ledger: no messages, no time, randomness only through an argument.

``resources``
    Quantities are fixed-point integers, 1/10000 of a unit, so that a thousand times 0.1 CPU is exactly 100 CPUs and two
    machines never disagree about the last bit. A *resource set* is a ``dict`` from name to quantity, without zeros. An
    ``Available`` ledger is one node's truth about what is free; it never goes negative unless told to (a worker that
    comes back from a blocked ``get`` takes its CPU even if somebody else has it by now). Accelerators are *unit
    instances*: a demand is met by concrete devices, whole ones or a fraction of a single one.
``labels``
    Node labels and the selectors over them (``v``, ``!v``, ``in(a,b)``, ``!in(a,b)``).
``policy``
    ``choose_node``: from a view of the cluster and one demand to ``Chosen``, ``Busy``, ``Infeasible`` or ``Refused``.
    The view may be stale; the raylet's own ledger decides in the end, and a wrong choice costs a redirection, never
    correctness.

Deliberately unknown here: what runs, for whom, and for how long.
"""
