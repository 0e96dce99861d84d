import msgspec

from actorrt.cluster.config import (
    FUSE_BYTES,
    SPILL_THRESHOLD,
    MemoryMonitorConfig,
    NodeConfig,
    SpillTarget,
    StoreConfig,
    WorkerConfig,
    store_prefix,
)
from actorrt.kernel.message import Address
from actorrt.store.base import Limits
from actorrt.store.layout import parse_segment_name, segment_name
from actorrt.wire.records import Environment, JobConfig

NODE = NodeConfig(
    node_id=b"n", cluster_id=b"c", token=b"secret", is_head=True, gcs="", session_dir="d", sockets_dir="s", host="h"
)
WORKER = WorkerConfig(
    worker_id=b"w",
    node_id=b"n",
    cluster_id=b"c",
    token=b"secret",
    raylet=Address("unix:///x", "raylet"),
    gcs=Address("unix:///x", "gcs"),
    job=JobConfig(b"j", Address("unix:///d", "owner"), "space"),
    environment=Environment(env_vars=(("A", "1"),)),
    session_dir="d",
    sockets_dir="s",
    log_dir="l",
    node_host="h",
)


def test_they_travel():
    store = StoreConfig(capacity_bytes=5, spill=(SpillTarget("/a", 7), SpillTarget("s3://b")))
    monitor = MemoryMonitorConfig(usage_threshold=0.5, refresh_s=0.0)
    for config in (NODE, WORKER, msgspec.structs.replace(NODE, store=store, memory_monitor=monitor)):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=type(config)) == config


def test_the_token_is_not_shown():
    assert "secret" not in f"{NODE!r} {WORKER!r}"


def test_defaults_are_those_of_the_store():
    limits = Limits(capacity_bytes=1)
    assert (limits.spill_threshold, limits.fuse_bytes) == (SPILL_THRESHOLD, FUSE_BYTES)


def test_names_of_files():
    prefix = store_prefix(bytes(range(16)))
    assert prefix == "actorrt-0001020304050607"
    assert parse_segment_name(segment_name(prefix, 3)) == (prefix, 3)
