"""From what a user says (``address=...``, the environment, nothing) to a cluster one can connect to.

===============================  ============================================================================
address                          means
===============================  ============================================================================
None                             ``ACTORRT_ADDRESS`` if set, else the running ``actorrt start`` cluster of this user on
                                 this machine, else: start one
``"auto"``                       the same, but ConnectionError instead of starting one
``"local"``                      start one
``"unix:///..."``, ``"ipc://"``  the node that listens there (what ``init()`` of another program reports)
``"host:port"``, ``"tcp://"``    the head that listens there, here or on another machine
===============================  ============================================================================
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

from actorrt.cluster import session
from actorrt.cluster.token import configured_token, explicit_token, read_session_token
from actorrt.kernel.errors import AuthenticationError

ADDRESS_VARIABLE = "ACTORRT_ADDRESS"
CONNECT_TIMEOUT_S = 3.0


class ClusterAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster to connect to."""

    address: str
    """For people, and for other programs' ``init(address=...)``."""
    gcs: str
    """Process address of the head."""
    raylet: str
    """Process address of the node a driver joins: one on this machine if there is one, else the head."""
    token: bytes
    cluster_id: bytes = b""
    """Empty for a cluster of other machines: learned from the first peer."""
    node_id: bytes = b""
    session_dir: str = ""

    def __repr__(self) -> str:
        return f"ClusterAddress({self.address!r}, raylet={self.raylet!r})"  # without the token


def resolve_address(address: str | None, temp_dir: str | None = None) -> ClusterAddress | None:
    """Return the cluster that ``address`` means; None: start one.

    Raises ValueError for what is no address, ConnectionError when nobody is there, AuthenticationError without a token.
    """
    if address is not None and not isinstance(address, str):
        raise TypeError(f"address must be a string, got {address!r}")
    wanted = address
    if address is None or address == "auto":
        wanted = os.environ.get(ADDRESS_VARIABLE, "").strip() or "auto"
    if wanted == "local":
        return None
    if wanted == "auto":
        record = _running_cluster(temp_dir)
        if record is not None:
            return _of_record(record)
        if address is None:
            return None
        raise ConnectionError(
            "no running cluster was found on this machine: start one with `actorrt start --head`, or give its address"
        )
    assert wanted is not None
    scheme, separator, rest = wanted.partition("://")
    if not separator:
        scheme, rest = "tcp", wanted
    if scheme in {"unix", "ipc"}:
        return _of_socket(wanted, rest)
    if scheme == "tcp":
        return _of_tcp(wanted, *parse_host_port(rest, wanted), temp_dir)
    raise ValueError(f"address {wanted!r}: unknown scheme; expected host:port, tcp://, unix://, 'auto' or 'local'")


def parse_host_port(text: str, address: str) -> tuple[str, int]:
    """Split ``host:port`` (``[host]:port`` for IPv6). Raises ValueError."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"address {address!r} is not host:port, tcp://host:port, unix:///path, 'auto' or 'local'")
    return host, int(port)


def _running_cluster(temp_dir: str | None) -> session.NodeRecord | None:
    root = session.root_folder(temp_dir)
    current = session.current_cluster(root)
    if current is not None:
        return current
    return next((record for record in session.list_records(root) if record.public), None)


def public_address(process: str) -> str:
    """Return the endpoint of a process address that people should pass around: tcp if there is one."""
    endpoints = process.split(",")
    return next((each.removeprefix("tcp://") for each in endpoints if each.startswith("tcp://")), endpoints[0])


def _of_record(record: session.NodeRecord) -> ClusterAddress:
    token = explicit_token() or read_session_token(Path(record.session_dir)) or configured_token()
    if token is None:
        raise AuthenticationError(f"no token for the cluster of {record.session_dir} was found")
    return ClusterAddress(
        address=public_address(record.gcs if record.public else record.address),
        gcs=record.gcs,
        raylet=record.address,
        token=token,
        cluster_id=bytes.fromhex(record.cluster_id),
        node_id=bytes.fromhex(record.node_id),
        session_dir=record.session_dir,
    )


def _of_socket(address: str, path: str) -> ClusterAddress:
    if not path.startswith("/"):
        raise ValueError(f"address {address!r} must hold an absolute path")
    folder = Path(path).parent
    try:
        session.check_private(folder)
    except FileNotFoundError as error:
        raise ConnectionError(f"no node listens at {address!r}: {folder} does not exist") from error
    record = session.read_record(folder)
    if record is None or address not in record.address.split(","):
        raise ConnectionError(f"no node listens at {address!r}")
    found = _of_record(record)
    return msgspec.structs.replace(found, address=address)


def _of_tcp(address: str, host: str, port: int, temp_dir: str | None) -> ClusterAddress:
    records = session.list_records(session.root_folder(temp_dir))
    try:
        reached = _connect(host, port)
    except OSError as error:
        raise ConnectionError(f"no cluster answers at {address!r}: {error}") from error
    for record in records:
        for process in (record.address, record.gcs):
            if any(_leads_to(endpoint, reached, port) for endpoint in process.split(",")):
                return msgspec.structs.replace(_of_record(record), address=address)
    token = configured_token()
    if token is None:
        raise AuthenticationError(
            f"the cluster at {address!r} wants a token: copy its token file to this machine and name it in "
            "ACTORRT_AUTH_TOKEN_PATH (or put it at ~/.actorrt/auth_token)"
        )
    endpoint = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    return ClusterAddress(address=address, gcs=endpoint, raylet=endpoint, token=token)


def _connect(host: str, port: int) -> str:
    """Connect and leave; returns the numeric address that answered."""
    with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as sock:
        return str(sock.getpeername()[0])


def _leads_to(endpoint: str, reached: str, port: int) -> bool:
    """Whether a tcp endpoint of a local node is the one that just answered."""
    if not endpoint.startswith("tcp://"):
        return False
    host, its_port = parse_host_port(endpoint.removeprefix("tcp://"), endpoint)
    if its_port != port:
        return False
    if host == reached:
        return True
    try:
        return reached in {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        return False


def driver_endpoints(cluster: ClusterAddress, name: str) -> list[str]:
    """Return where a driver of this cluster listens, best first.

    Beside the node it joins when that is on this machine; and by tcp, at the address that faces the node, when the
    cluster can have other machines (their workers ask the driver for the objects it owns).
    """
    endpoints = []
    for endpoint in cluster.raylet.split(","):
        scheme, _, rest = endpoint.partition("://")
        if scheme == "tcp":
            own = address_towards(*parse_host_port(rest, endpoint))
            endpoints.append(f"tcp://[{own}]:0" if ":" in own else f"tcp://{own}:0")
        elif Path(rest).exists():
            endpoints.append(f"{scheme}://{Path(rest).parent / name}.sock")
    return endpoints


def address_towards(host: str, port: int) -> str:
    """Return the address of ours that ``host`` sees us under (nothing is sent)."""
    family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sock:
        sock.connect(target)
        return str(sock.getsockname()[0])
