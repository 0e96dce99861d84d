"""What can be said of a node without its process; the rest is in tests/e2e."""

import asyncio
import os

import msgspec
import pytest

from actorrt.cluster import node, session
from actorrt.cluster.config import SpillTarget, StoreConfig, store_prefix
from actorrt.kernel.clock import MonotonicClock
from actorrt.kernel.message import NOWHERE, Address, Envelope, PeerGone
from actorrt.wire.records import Environment, JobConfig
from tests.unit.cluster.test_config import NODE


def make(**changes) -> node.NodeProcess:
    return node.NodeProcess(msgspec.structs.replace(NODE, **changes), 0, None, -1)


@pytest.mark.asyncio
async def test_the_first_reason_counts():
    made = make()
    made.stop("first", exit_code=1)
    made.stop("second")
    assert made._stopping.is_set()
    assert (made._reason, made._exit_code) == ("first", 1)


@pytest.mark.asyncio
async def test_a_failed_component_ends_the_process():
    made = make()
    made._shell_failed(RuntimeError("broken"))
    assert made._exit_code == 1
    assert "broken" in made._reason


@pytest.mark.asyncio
async def test_a_lost_zygote_ends_the_process():
    killed = []
    made = make()
    made._pool = type("Pool", (), {"kill_all": lambda _self: killed.append(True)})()
    made._zygote_lost("gone")
    assert killed == [True]
    assert made._exit_code == 1


@pytest.mark.asyncio
async def test_the_end_of_the_parent():
    read, write = os.pipe()
    made = make(parent_pid=os.getppid())
    made._parent_fd = read
    loop = asyncio.get_running_loop()
    made._watch_parent(loop)
    # We are not that process's child's child: seen at once, and once more when the pipe ends.
    os.close(write)
    await asyncio.wait_for(made._stopping.wait(), 10)
    loop.remove_reader(read)
    os.close(read)


@pytest.mark.asyncio
async def test_public_nodes_have_no_parent():
    read, write = os.pipe()
    made = make(parent_pid=0)
    made._parent_fd = read
    made._watch_parent(asyncio.get_running_loop())
    os.close(write)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    assert not made._stopping.is_set()


@pytest.mark.asyncio
@pytest.mark.parametrize(("port", "schemes"), [(None, ["unix"]), (0, ["unix", "tcp"])])
async def test_workers_listen_as_their_node_does(port, schemes):
    made = make(port=port)
    made._raylet = made._gcs = NOWHERE
    made._router = type("Router", (), {"cluster_id": b"learned"})()
    config = made._worker_config(b"\xab" * 16, JobConfig(b"j", NOWHERE, ""), Environment())
    assert [address.partition(":")[0] for address in config.listen] == schemes
    assert config.token == NODE.token
    assert config.cluster_id == b"learned"


@pytest.mark.asyncio
async def test_the_collector_hears_of_drivers_that_are_gone():
    forgotten = []
    made = make()
    made._logs = type("Logs", (), {"forget_driver": lambda _self, process: forgotten.append(process)})()
    made._hear_of_losses(Envelope(NOWHERE, PeerGone("unix:///d", "closed")))
    assert forgotten == ["unix:///d"]


def test_the_log_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(node, "LOG_FILE_BYTES_MAX", 10)
    path = tmp_path / "node.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"0123456789")
    node._bound_log(fd)
    assert path.stat().st_size == 10
    os.write(fd, b"0")
    node._bound_log(fd)
    assert path.stat().st_size == 0
    os.close(fd)


@pytest.mark.asyncio
@pytest.mark.parametrize(("port", "schemes"), [(None, ["unix"]), (0, ["unix", "tcp"])])
async def test_a_store_nobody_used_leaves_nothing_to_wait_for(short_path, port, schemes):
    made = make(port=port, host="127.0.0.1", sockets_dir=str(short_path), cluster_id=b"c" * 16)
    made._router = type("Router", (), {"cluster_id": b"c" * 16, "process": "unix:///n"})()
    made._raylet = Address("unix:///n", "raylet")
    made._make_objects(asyncio.get_running_loop(), MonotonicClock())
    endpoints = made._storage.endpoint.split(",")
    assert [endpoint.partition(":")[0] for endpoint in endpoints] == schemes
    assert made._shells[0].name == "objects"
    assert made._close_storage() is None
    made._shells[0].stop()


@pytest.mark.asyncio
async def test_where_the_objects_are_is_noted_for_others(short_path):
    folder = short_path / "s" / "aabbccdd"
    folder.mkdir(parents=True)
    config = msgspec.structs.replace(NODE, sockets_dir=str(folder), session_dir=str(short_path / "session"))
    storage = node._make_storage(config, b"c" * 16, asyncio.get_running_loop())
    assert storage._spill_folder() == str(short_path / "session" / "spill")
    storage._before_open(StoreConfig(spill=(SpillTarget("/a"), SpillTarget("s3://b/c"))))
    storage.stop()
    noted = msgspec.json.decode((folder / "store.json").read_bytes(), type=session.StoreRecord)
    assert noted == session.StoreRecord(directory="/dev/shm", prefix=store_prefix(NODE.node_id), spill=("/a",))


@pytest.mark.asyncio
@pytest.mark.parametrize("others", [False, True])
async def test_the_store_ends_with_the_node(tmp_path, others):
    made = make(session_dir=str(tmp_path))
    (tmp_path / "spill").mkdir()
    if others:
        (tmp_path / "spill" / "of-another-node").touch()
    steps = []

    class Storage:
        is_used = True

        def stop(self):
            steps.append("stop")

        def join(self):
            steps.append("join")

    made._storage = Storage()
    await made._storage_closed(made._close_storage())
    assert steps == ["stop", "join"]
    assert (tmp_path / "spill").exists() == others


@pytest.mark.asyncio
async def test_a_store_that_does_not_end_is_left(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(node, "STORE_END_TIMEOUT_S", 0.01)
    made = make(session_dir=str(tmp_path))
    await made._storage_closed(asyncio.get_running_loop().create_future())
    assert "did not end within" in caplog.text
    assert make()._close_storage() is None
