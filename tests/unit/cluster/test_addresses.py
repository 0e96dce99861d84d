import os
import socket
from pathlib import Path

import pytest

from actorrt.cluster import addresses, session
from actorrt.cluster.addresses import resolve_address
from actorrt.cluster.token import TOKEN_PATH_VARIABLE, TOKEN_VARIABLE, write_session_token
from actorrt.kernel.errors import AuthenticationError

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture(autouse=True)
def no_token(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(TOKEN_PATH_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def node(root):
    """Makes a node's files, as if this process were it."""
    fds = []

    def make(*, is_head=True, public=False, tcp="", gcs=""):
        session_dir, fd = session.create_session(root)
        fds.append(fd)
        write_session_token(session_dir, b"from the session")
        sockets_dir, fd = session.create_sockets_folder(root)
        fds.append(fd)
        address = f"unix://{sockets_dir}/node.sock" + (f",tcp://{tcp}" if tcp else "")
        record = session.NodeRecord(
            pid=os.getpid(),
            start_mark=session.start_mark(os.getpid()),
            node_id="0a",
            cluster_id="0c",
            address=address,
            gcs=gcs or address,
            session_dir=str(session_dir),
            sockets_dir=str(sockets_dir),
            is_head=is_head,
            public=public,
        )
        session.write_record(record)
        if is_head and public:
            session.set_current_cluster(root, record)
        return record

    yield make
    for fd in fds:
        os.close(fd)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"127.0.0.1:{sock.getsockname()[1]}"


# -------------------------------------------------------------------------------------------------------- nothing there
def test_nothing_runs():
    assert resolve_address(None) is None
    assert resolve_address("local") is None
    with pytest.raises(ConnectionError, match="no running cluster"):
        resolve_address("auto")


@pytest.mark.parametrize("address", ["nonsense", "", "host:", "host:0", "host:99999", ":1", "ray://h:1", "unix://x"])
def test_nonsense(address):
    with pytest.raises(ValueError, match="address"):
        resolve_address(address)


def test_not_a_string():
    with pytest.raises(TypeError, match="address must be a string"):
        resolve_address(5)


def test_nobody_there(short_path):
    with pytest.raises(ConnectionError, match="no node listens"):
        resolve_address(f"unix://{short_path}/s/node.sock")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(ConnectionError, match="no cluster answers"):
        resolve_address(f"127.0.0.1:{port}")


# ------------------------------------------------------------------------------------------------------------- sockets
def test_a_private_cluster(node):
    record = node()
    found = resolve_address(record.address)
    assert found.address == found.gcs == found.raylet == record.address
    assert found.token == b"from the session"
    assert (found.cluster_id, found.node_id, found.session_dir) == (b"\x0c", b"\x0a", record.session_dir)
    assert "from the session" not in repr(found)
    assert resolve_address(None) is None, "a private cluster is only found by its address"


def test_a_dead_private_cluster(node):
    record = node()
    with pytest.raises(ConnectionError, match="no node listens"):
        resolve_address(record.address.replace("node.sock", "other.sock"))


def test_a_folder_of_others_is_not_believed(node):
    record = node()
    Path(record.sockets_dir).chmod(0o755)
    with pytest.raises(PermissionError, match="open to others"):
        resolve_address(record.address)


def test_environment(node, monkeypatch):
    record = node()
    monkeypatch.setenv(addresses.ADDRESS_VARIABLE, record.address)
    assert resolve_address(None).gcs == record.address
    assert resolve_address("auto").gcs == record.address
    assert resolve_address("local") is None
    monkeypatch.setenv(addresses.ADDRESS_VARIABLE, "local")
    assert resolve_address(None) is None


def test_an_explicit_token_decides(node, monkeypatch):
    record = node()
    monkeypatch.setenv(TOKEN_VARIABLE, "from the variable")
    assert resolve_address(record.address).token == b"from the variable"


# ------------------------------------------------------------------------------------------------------ actorrt start
def test_the_running_cluster_is_found(node, listener):
    record = node(public=True, tcp=listener)
    for address in (None, "auto"):
        found = resolve_address(address)
        assert (found.address, found.gcs) == (listener, record.address)


def test_a_node_of_a_cluster_elsewhere(node, listener):
    record = node(is_head=False, public=True, gcs=f"unix:///elsewhere,tcp://{listener}")
    found = resolve_address("auto")
    assert found.raylet == record.address
    assert found.gcs == record.gcs
    assert found.address == listener


def test_tcp_address_of_a_local_head(node, listener):
    record = node(public=True, tcp=listener)
    for address in (listener, f"tcp://{listener}", listener.replace("127.0.0.1", "localhost")):
        found = resolve_address(address)
        assert found.raylet == record.address
        assert found.token == b"from the session"


def test_tcp_address_of_another_machine(listener, monkeypatch):
    with pytest.raises(AuthenticationError, match=TOKEN_PATH_VARIABLE):
        resolve_address(listener)
    monkeypatch.setenv(TOKEN_VARIABLE, "t")
    found = resolve_address(listener)
    assert found.gcs == found.raylet == f"tcp://{listener}"
    assert found.cluster_id == b""


def test_where_a_driver_listens(node, listener):
    record = node(public=True, tcp=listener)
    found = resolve_address("auto")
    # No socket is there yet, as if the node were on another machine.
    assert addresses.driver_endpoints(found, "driver") == ["tcp://127.0.0.1:0"]
    (Path(record.sockets_dir) / "node.sock").touch()
    beside = f"unix://{record.sockets_dir}/driver.sock"
    assert addresses.driver_endpoints(found, "driver") == [beside, "tcp://127.0.0.1:0"]
    assert addresses.driver_endpoints(resolve_address(node().address), "driver") == []


def test_own_address():
    assert addresses.address_towards("127.0.0.1", 1) == "127.0.0.1"
