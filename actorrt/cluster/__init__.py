"""The composition root: which processes there are, who starts and outlives whom, and which adapters they use.

Theory of operation
-------------------
``bootstrap.start_node`` makes the files of a node (``session``), finds the token (``token``) and starts a *node
process* (``process``), which forks its *zygote* (``zygote``) while it is still single-threaded, then runs raylet and,
on the head, GCS machines in shells (``node``). The raylet's operations are performed by ``pool``, which has the zygote
fork workers (``worker_process``) and reports their deaths; ``logs`` carries their output to their driver.

Beside the raylet lives the object manager; ``storage`` is its port. With the first large object it opens the node's
store (``storeroom``), and it moves objects between nodes on connections and threads of their own: ``bulk`` is the
protocol, ``bulk_server`` sends, ``bulk_pull`` fetches from several sources at once. ``watch`` notices the end of
processes that use the store; ``spilling`` reads where objects go when memory is short. ``memory_monitor`` looks after
the node's memory, ``memory_settings`` reads when.

Fate sharing, always by the kernel's word and never by silence alone:

===========================  ==========================================================================================
who dies                     who notices, and how
===========================  ==========================================================================================
driver that ran ``init()``   its node process: pidfd, and end of file on the pipe its configuration came through
node process                 the zygote: end of file on their socket pair; it kills every worker's process group,
                             removes the node's objects and its sockets folder, and ends
zygote                       its workers: PR_SET_PDEATHSIG; the node process: end of file; it kills the groups and ends
worker                       the zygote reaps it, ends its group, and tells the node process how it died
head                         the other nodes: their connection to the GCS ends
===========================  ==========================================================================================

All processes of a node inherit the pipe its readiness was reported through and never write to it again: its end of file
tells the parent that every one of them is gone.

Only this package names concrete transports and stores (``network``).
"""
