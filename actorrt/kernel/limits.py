"""Every bound of the runtime, with its unit. What enforces it is named with it."""

from __future__ import annotations

from typing import Final

# ---- mailboxes (kernel.mailbox): beyond, a network message is answered Overloaded, a local caller drains first
MAILBOX_MESSAGES_MAX: Final = 1_000_000

# ---- wire (wire.router, wire.handshake)
HELLO_BYTES_MAX: Final = 4096
"""Largest message accepted from a peer that has not proved the token yet."""
HANDSHAKE_TIMEOUT_S: Final = 5.0
PEERS_MAX: Final = 16_384
"""Connections of one process."""
SEND_QUEUE_MESSAGES_MAX: Final = 100_000
"""Messages that wait for a connection to be made, per peer."""
CONNECT_ATTEMPT_TIMEOUT_S: Final = 5.0

# ---- values
BUFFER_OUT_OF_BAND_BYTES_MIN: Final = 64 * 1024
"""Pickle buffers from this size travel as frames of their own."""
INLINE_VALUE_BYTES_MAX: Final = 100 * 1024
"""Values up to this size travel inside messages and live in their owner; larger ones go to an object store."""
FUNCTION_BYTES_WARN: Final = 10 << 20
FUNCTION_BYTES_MAX: Final = 100 << 20
"""Exported functions and classes (api.export): a ValueError beyond."""

# ---- owner
PUSH_DEPTH_MAX: Final = 1000
"""Tasks pushed to one worker and not finished."""
OUTCOMES_HELD_MAX: Final = 64
"""Outcomes of quick functions a worker hands over together (``worker.executor``)."""
PUSH_TARGET_S: Final = 0.010
"""Work kept in a worker's queue: depth = target / average duration."""
LEASE_REQUESTS_MAX: Final = 64
"""Lease requests of one scheduling class at one raylet."""
COUNT_HOLDS_INTERVAL_S: Final = 10.0
"""An owner says so often to every process that holds objects of its: the dead ones are found out."""
LINEAGE_BYTES_MAX: Final = 1 << 30
"""Arguments of finished tasks that are kept to make lost values again; beyond, the oldest half is let go."""
LOCALITY_BYTES_MIN: Final = 1 << 20
"""A task asks another node first if so many more bytes of its arguments lie there."""
LEASE_LINGER_S: Final = 0.2
"""An idle lease is kept this long for the next task of its class."""
PENDING_TASKS_MAX: Final = 10_000_000
"""Tasks one owner may have unfinished; beyond, ``.remote()`` raises Overloaded."""
ACTOR_CALLS_IN_FLIGHT_MAX: Final = 10_000
"""Calls of one caller pushed to one actor and not finished."""

# ---- raylet
WORKERS_MAX: Final = 4096
"""Worker processes of one node, blocked ones included."""
WORKER_START_CONCURRENCY: Final = 8
WORKER_START_TIMEOUT_S: Final = 60.0
IDLE_WORKER_KEEP_S: Final = 1.0
"""An idle worker beyond the node's CPU count ends after this time."""
LEASE_QUEUE_MAX: Final = 100_000
REDIRECT_HOPS_MAX: Final = 3
STDERR_TAIL_LINES: Final = 20

# ---- GCS
HEARTBEAT_INTERVAL_S: Final = 0.5
NODE_DEAD_AFTER_S: Final = 10.0
"""Silence after which a connected node counts as dead (a lost connection counts at once)."""
RESOURCE_REPORT_INTERVAL_S: Final = 0.1
KV_VALUE_BYTES_MAX: Final = 512 << 20
KV_BYTES_MAX: Final = 4 << 30
KV_KEY_BYTES_MAX: Final = 4096
FUNCTIONS_BYTES_MAX: Final = 4 << 30
DEAD_ACTORS_KEPT_MAX: Final = 10_000
DEAD_NODES_KEPT_MAX: Final = 1000
FINISHED_JOBS_KEPT_MAX: Final = 1000
PARKED_REQUESTS_MAX: Final = 100_000

# ---- sessions (cluster.bootstrap)
SESSIONS_KEPT_MAX: Final = 10
"""Session folders (logs) kept on disk; older ones are swept at start."""
LOG_FILE_BYTES_MAX: Final = 100 << 20
LOG_LINE_BYTES_MAX: Final = 64 * 1024

# ---- object manager
STORE_CLIENTS_MAX: Final = 16_384
"""Processes attached to the store of one node."""
OBJECT_WISHES_MAX: Final = 1_000_000
"""Objects that processes of one node wait for, each entry of a request counted; beyond, a request is Overloaded."""
PREFETCHES_MAX: Final = 1000
"""Pulls that only a hint asks for; further hints are dropped."""
PULLS_INFLIGHT_MAX: Final = 64
PULL_BYTES_INFLIGHT_MAX: Final = 2 << 30
"""Bytes of the pulls in flight together; a single larger one goes alone."""
PULL_SOURCES_MAX: Final = 4
"""Holders of an object that are asked, or read from, at once."""
ASK_TIMEOUT_S: Final = 5.0
"""A holder that does not say within this time whether it has an object is left out, until its owner names it again."""
LOCATE_ROUNDS_MAX: Final = 3
"""How often an owner is asked where its object is before it counts as lost."""
PIN_ATTEMPTS_MAX: Final = 3
"""How often an object is pulled again because the store dropped it before it was pinned."""
SEAL_REPORT_WAIT_S: Final = 1.0
"""The report of an object that should be here may be under way so long."""
PARKED_ASKS_MAX: Final = 10_000
"""Questions of other nodes that wait for such a report; further ones are answered at once."""
GONE_OBJECTS_KEPT_MAX: Final = 50_000
"""Keys remembered after the end of their objects, and of such as were freed before they came."""
CLIENT_LAST_WORDS_S: Final = 0.2
"""What a process said before its death may be under way so long; then its pins and slabs are taken back."""
SUSPECT_WAIT_S: Final = 1.0
"""An owner whose connection has ended is asked after this time; if it cannot be reached, its objects are deleted."""
AUDIT_INTERVAL_S: Final = 10.0
"""After this time an object's owner is asked again whether it is still needed."""
VERIFY_KEYS_MAX: Final = 1000
"""Keys in one such question; an owner of more objects is asked about the others the next time."""
STORE_REPORT_OBJECTS_MAX: Final = 10_000
"""Objects listed in one report."""
