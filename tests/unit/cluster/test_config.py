import msgspec

from actorrt.cluster.config import NodeConfig, WorkerConfig
from actorrt.kernel.message import Address
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
    for config in (NODE, WORKER):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=type(config)) == config


def test_the_token_is_not_shown():
    assert "secret" not in f"{NODE!r} {WORKER!r}"
