"""The command line: ``actorrt start``, ``stop``, ``status``, ``memory``.

Exit codes: 0 done, 1 it could not be done (the text on stderr says why), 2 the command line makes no sense.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from actorrt.cluster import session
from actorrt.cluster.addresses import ClusterAddress, address_towards, public_address, resolve_address
from actorrt.cluster.bootstrap import NodeHandle, NodeStartError, begin_node
from actorrt.cluster.hardware import HEAD_RESOURCE
from actorrt.cluster.memory_report import OBJECTS_ASKED_MAX, ask_stores, collect, node_memory
from actorrt.cluster.memory_text import memory_lines, report_json, size_text, total_of, usage_text
from actorrt.cluster.network import make_router
from actorrt.cluster.spilling import read_spilling
from actorrt.gcs.messages import GetStatus, Status
from actorrt.kernel.errors import ActorrtError
from actorrt.kernel.message import Address
from actorrt.objects.messages import StoreReport
from actorrt.scheduling.resources import UNIT, describe
from actorrt.wire.records import NodeInfo, NodeLoad
from actorrt.wire.router import Router

PORT_DEFAULT = 6391
GRACE_PERIOD_S = 5.0
STATUS_TIMEOUT_S = 5.0
KILLED_WAIT_S = 3.0
MEMORY_OBJECTS_SHOWN = 100
"""``actorrt memory`` without ``--limit``."""
NO_STORES: Final[Mapping[bytes, StoreReport | str]] = {}
LOOPBACK = ("127.0.0.1", "::1", "localhost")


T = TypeVar("T")


class UserError(Exception):
    """Something the user can mend; shown without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (UserError, ActorrtError, NodeStartError, OSError, ValueError, TypeError) as error:
        print(f"actorrt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("actorrt: interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="actorrt", description="Start, stop and look at clusters of actorrt.")
    parser.add_argument("--version", action="version", version=f"actorrt {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_start(commands.add_parser("start", help="start a node on this machine"))

    stop = commands.add_parser("stop", help="end the nodes that `actorrt start` started on this machine")
    stop.description = "End every node of yours on this machine that `actorrt start` has started, with all its workers."
    stop.add_argument("-f", "--force", action="store_true", help="kill at once")
    stop.add_argument(
        "-g",
        "--grace-period",
        type=_seconds,
        default=GRACE_PERIOD_S,
        metavar="SECONDS",
        help=f"kill what has not ended by itself after this time (default {GRACE_PERIOD_S:g})",
    )
    stop.add_argument("--temp-dir", help="where the nodes were started with --temp-dir")
    stop.set_defaults(run=stop_nodes)

    status = commands.add_parser("status", help="show nodes, resources and what waits for them")
    _add_cluster(status)
    status.add_argument("-v", "--verbose", action="store_true", help="resources of every node, jobs, actors")
    status.set_defaults(run=show_status)
    _add_memory(commands.add_parser("memory", help="show what fills the object stores, and who holds it"))
    return parser


def _add_cluster(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--address", help="the cluster: host:port, unix:///...; default: ACTORRT_ADDRESS, else the one running here"
    )
    command.add_argument("--temp-dir", help="where the cluster was started with --temp-dir")


def _add_memory(memory: argparse.ArgumentParser) -> None:
    memory.description = (
        "Show the object store of every node, and the largest objects: where they lie, who owns them, why they are "
        "still held, and who has them mapped. Processes that do not answer are listed as such."
    )
    _add_cluster(memory)
    memory.add_argument("--sort-by", choices=("size", "node", "owner"), default="size", help="default: size")
    memory.add_argument(
        "--limit",
        type=_count,
        default=MEMORY_OBJECTS_SHOWN,
        metavar="N",
        help=f"show the N largest objects (default {MEMORY_OBJECTS_SHOWN}, at most {OBJECTS_ASKED_MAX})",
    )
    memory.add_argument("--stats-only", action="store_true", help="the nodes only, no objects")
    memory.add_argument("--json", action="store_true", help="for programs")
    memory.set_defaults(run=show_memory)


def _add_start(start: argparse.ArgumentParser) -> None:
    start.description = (
        "Start a node on this machine: the head of a new cluster, or a further node of a cluster that runs already. "
        "It lives until `actorrt stop`."
    )
    role = start.add_mutually_exclusive_group(required=True)
    role.add_argument("--head", action="store_true", help="start a new cluster with this node as its head")
    role.add_argument("--address", metavar="HOST:PORT", help="join the cluster whose head listens there")
    start.add_argument(
        "--port",
        type=_port,
        help=f"TCP port other machines reach this node at; 0 picks one (default {PORT_DEFAULT} for a head, else 0)",
    )
    start.add_argument(
        "--host",
        help="address other machines reach this one by, and the interface that is listened on "
        "(default for a head: 127.0.0.1, this machine only; else: the address that faces the head)",
    )
    start.add_argument("--num-cpus", type=_number, metavar="N", help="default: the CPUs this process may use")
    start.add_argument("--num-gpus", type=_number, metavar="N", help="default: the NVIDIA devices that are visible")
    start.add_argument("--memory", type=_number, metavar="BYTES", help="memory tasks may ask for")
    start.add_argument("--object-store-memory", type=_number, metavar="BYTES", help="size of the object store")
    start.add_argument(
        "--object-spilling-directory",
        action="append",
        metavar="DIR",
        help="where objects go when memory is short: a directory or a URI; may be given several times "
        "(default: the session's folder)",
    )
    start.add_argument("--resources", type=_resources, metavar="JSON", help="custom resources, e.g. '{\"disk\": 2}'")
    start.add_argument("--labels", type=_labels, metavar="K=V,...", help="labels of the node")
    start.add_argument("--node-name", default="", help="a name for people")
    start.add_argument("--temp-dir", help="where the session folder goes (default: ACTORRT_TMPDIR, else the system's)")
    start.add_argument("--block", action="store_true", help="stay in the foreground; Ctrl-C ends the node")
    start.set_defaults(run=start_node)


def _version() -> str:
    try:
        return importlib.metadata.version("actorrt")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


# ----------------------------------------------------------------------------------------------------------- arguments
def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 up")
    return int(number) if number == int(number) else number


def _seconds(text: str) -> float:
    return float(_number(text))


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= OBJECTS_ASKED_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {OBJECTS_ASKED_MAX}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _resources(text: str) -> dict[str, float]:
    try:
        resources = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(resources, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object like {{"disk": 2}}, got {text!r}')
    return resources


def _labels(text: str) -> dict[str, str]:
    labels = {}
    for item in filter(None, text.split(",")):
        key, separator, value = item.partition("=")
        if not separator or not key.strip():
            raise argparse.ArgumentTypeError(f"{item!r} is not key=value")
        labels[key.strip()] = value.strip()
    return labels


# --------------------------------------------------------------------------------------------------------------- start
def start_node(options: argparse.Namespace) -> int:
    """``actorrt start``."""
    root = session.root_folder(options.temp_dir)
    join: ClusterAddress | None = None
    host, port = options.host, options.port
    if options.head:
        running = session.current_cluster(root)
        if running is not None:
            raise UserError(
                f"a head of yours runs already at {public_address(running.address)} (pid {running.pid}): "
                "end it with `actorrt stop`, or join it with --address"
            )
        host = host or LOOPBACK[0]
        port = PORT_DEFAULT if port is None else port
    else:
        join = resolve_address(options.address, options.temp_dir)
        if join is None:
            raise UserError("--address local makes no sense here: use --head to start a new cluster")
        host = host or _own_address(public_address(join.gcs))
        port = 0 if port is None else port
    handle = begin_node(
        join=join,
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
        memory=options.memory,
        object_store_memory=options.object_store_memory,
        spilling=read_spilling(options.object_spilling_directory),
        resources=options.resources,
        labels=options.labels,
        name=options.node_name,
        host=host,
        port=port,
        public=True,
        temp_dir=options.temp_dir,
    ).wait()
    if options.block:
        return _block(handle, host)
    handle.detach()
    _greet(handle, host)
    return 0


def _own_address(head: str) -> str:
    if head.startswith(("unix://", "ipc://")):
        return LOOPBACK[0]
    host, _, port = head.rpartition(":")
    return address_towards(host.strip("[]"), int(port))


def _greet(handle: NodeHandle, host: str) -> None:
    address = public_address(handle.address)
    print(f"Started {'the head' if handle.is_head else 'node'} {handle.node_id.hex()} (pid {handle.pid}) at {address}")
    print(f"  logs:    {handle.session_dir}/logs")
    if not handle.is_head:
        return
    print("  connect: actorrt.init() on this machine")
    if host not in LOOPBACK:
        print(f'           actorrt.init(address="{address}") on others, with the token below')
        print(f"  add:     actorrt start --address={address}")
        print(f"  token:   copy {handle.session_dir}/token there and name it in ACTORRT_AUTH_TOKEN_PATH")
    print("  stop:    actorrt stop")


def _block(handle: NodeHandle, host: str) -> int:
    def ask_to_end(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask_to_end)
        _greet(handle, host)
        sys.stdout.flush()
        while not handle.wait_gone(3600.0):
            continue
    except KeyboardInterrupt:
        print("ending the node ...")
        handle.stop()
        return 0
    print("actorrt: the node has ended; its log says why", file=sys.stderr)
    return 1


# ---------------------------------------------------------------------------------------------------------------- stop
def stop_nodes(options: argparse.Namespace) -> int:
    """``actorrt stop``."""
    root = session.root_folder(options.temp_dir)
    records = [record for record in session.list_records(root) if record.public]
    if not records:
        print("No node of yours that `actorrt start` has started runs on this machine.")
        return 0
    for record in records:
        _signal(record, signal.SIGKILL if options.force else signal.SIGTERM)
    left = _wait_gone(records, KILLED_WAIT_S if options.force else options.grace_period)
    if left and not options.force:
        for record in left:
            _signal(record, signal.SIGKILL)
        left = _wait_gone(left, KILLED_WAIT_S)
    if left:
        raise UserError(f"could not end pid {', '.join(str(record.pid) for record in left)}")
    print(f"Stopped {len(records)} node{'s' if len(records) > 1 else ''}.")
    return 0


def _signal(record: session.NodeRecord, number: int) -> None:
    # The record is read from a folder whose lock its process holds, and the start time is compared once more: a later
    # process of the same number is never hit.
    if session.start_mark(record.pid) != record.start_mark:
        return
    try:
        os.kill(record.pid, number)
    except ProcessLookupError:
        return


def _wait_gone(records: list[session.NodeRecord], timeout_s: float) -> list[session.NodeRecord]:
    """Wait until these nodes and their socket folders are gone; returns those that are not."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        left = [
            record
            for record in records
            if session.start_mark(record.pid) == record.start_mark or Path(record.sockets_dir).exists()
        ]
        if not left or time.monotonic() >= deadline_s:
            return left
        time.sleep(0.02)


# -------------------------------------------------------------------------------------------------------------- status
def show_status(options: argparse.Namespace) -> int:
    """``actorrt status``."""
    cluster = _cluster_of(options)
    status, stores = asyncio.run(_with_router(cluster, "status", lambda router: _get_status(router, cluster)))
    print("\n".join(status_lines(status, cluster.address, verbose=options.verbose, stores=stores)))
    return 0


def _cluster_of(options: argparse.Namespace) -> ClusterAddress:
    cluster = resolve_address(options.address or "auto", options.temp_dir)
    if cluster is None:
        raise UserError("'local' is not the address of a cluster")
    return cluster


async def _with_router(cluster: ClusterAddress, description: str, ask: Callable[[Router], Awaitable[T]]) -> T:
    router = make_router(
        asyncio.get_running_loop(),
        description=description,
        cluster_id=cluster.cluster_id,
        token=cluster.token,
        dial=(cluster.gcs,),
    )
    try:
        return await ask(router)
    finally:
        router.close()


async def _get_status(router: Router, cluster: ClusterAddress) -> tuple[Status, dict[bytes, StoreReport | str]]:
    answer = await asyncio.wrap_future(router.request(Address(cluster.gcs, "gcs"), GetStatus(), STATUS_TIMEOUT_S))
    assert isinstance(answer, Status)
    return answer, await ask_stores(router, answer.nodes)


def status_lines(
    status: Status,
    address: str,
    *,
    verbose: bool = False,
    stores: Mapping[bytes, StoreReport | str] = NO_STORES,
) -> list[str]:
    """Return what ``actorrt status`` prints. ``stores``: by node id, as ``memory_report.ask_stores`` finds them."""
    loads = {load.node_id: load for load in status.loads}
    alive = [node for node in status.nodes if node.alive]
    dead = [node for node in status.nodes if not node.alive]
    lines = [f"Cluster {status.cluster_id.hex()} at {address}, up {_duration(status.uptime_s)}", "", "Nodes"]
    for node in [*alive, *dead]:
        lines += _node_lines(node, loads.get(node.node_id), verbose=verbose)
        if verbose and node.node_id in stores:
            lines.append(f"    {usage_text(node_memory(node, stores[node.node_id]))}")
    lines += ["", "Resources (used / total)"]
    total: dict[str, int] = {}
    free: dict[str, int] = {}
    for node in alive:
        load = loads.get(node.node_id)
        for name, quantity in node.resources.items():
            total[name] = total.get(name, 0) + quantity
            free[name] = free.get(name, 0) + (quantity if load is None else load.available.get(name, 0))
    lines += [f"  {line}" for line in _usage(total, free)]
    if stores:
        lines.append(f"  {usage_text(total_of([node_memory(node, stores.get(node.node_id)) for node in alive]))}")
    lines += ["", "Demand", *_demand_lines(status)]
    if verbose:
        lines += ["", "Jobs"]
        lines += [f"  {job.job_id.hex()} pid={job.driver_pid} {job.entrypoint}".rstrip() for job in status.jobs]
        lines += ["", "Actors", *(f"  {count} {state}" for state, count in sorted(status.actors.items()))]
    return lines


def _node_lines(node: NodeInfo, load: NodeLoad | None, *, verbose: bool) -> list[str]:
    role = " (head)" if node.is_head else ""
    name = f" {node.name}" if node.name else ""
    line = f"  {node.node_id.hex()}{name}{role} {node.address} pid={node.pid}"
    if not node.alive:
        return [f"{line} DEAD: {node.death.text if node.death is not None else 'unknown reason'}"]
    lines = [line]
    if verbose:
        free = dict(node.resources) if load is None else load.available
        lines += [f"    {line}" for line in _usage(node.resources, free)]
        if node.labels:
            lines.append(f"    labels: {', '.join(f'{key}={value}' for key, value in sorted(node.labels.items()))}")
    return lines


def _usage(total: dict[str, int], free: dict[str, int]) -> list[str]:
    lines = []
    for name, quantity in sorted(total.items()):
        if name.startswith("node:") or name == HEAD_RESOURCE:
            continue
        used = quantity - free.get(name, 0)
        if name.endswith("memory"):
            lines.append(f"{size_text(used / UNIT)} / {size_text(quantity / UNIT)} {name}")
        else:
            lines.append(f"{used / UNIT:g} / {quantity / UNIT:g} {name}")
    return lines


def _demand_lines(status: Status) -> list[str]:
    lines = []
    for load in status.loads:
        for demand in load.pending:
            what = f"{demand.count} x {describe(demand.resources)}"
            lines.append(f"  {what}{f' ({demand.name})' if demand.name else ''}: {demand.reason}")
    for actor in status.pending_actors:
        lines.append(f"  actor {actor.class_name} {actor.actor_id.hex()[:8]}: {actor.pending_reason or actor.state}")
    return lines or ["  none"]


def _duration(duration_s: float) -> str:
    minutes, seconds = divmod(int(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


# -------------------------------------------------------------------------------------------------------------- memory
def show_memory(options: argparse.Namespace) -> int:
    """``actorrt memory``."""
    cluster = _cluster_of(options)
    gcs = Address(cluster.gcs, "gcs")
    report = asyncio.run(
        _with_router(
            cluster,
            "memory",
            lambda router: collect(router, gcs, objects_max=options.limit, stats_only=options.stats_only),
        )
    )
    if options.json:
        print(report_json(report))
    else:
        print("\n".join(memory_lines(report, sort_by=options.sort_by, stats_only=options.stats_only)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
