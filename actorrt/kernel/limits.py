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
