import signal

import pytest

from actorrt.cluster import cli
from actorrt.gcs.messages import Status
from actorrt.kernel.message import Address
from actorrt.objects.messages import StoreReport
from actorrt.scheduling.resources import UNIT
from actorrt.wire.records import ActorInfo, DeathCause, JobConfig, NodeInfo, NodeLoad, PendingDemand


# ----------------------------------------------------------------------------------------------------------- arguments
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["start"],
        ["start", "--head", "--address=h:1"],
        ["start", "--head", "--num-cpus=-1"],
        ["start", "--head", "--num-cpus=many"],
        ["start", "--head", "--port=70000"],
        ["start", "--head", "--resources=[1]"],
        ["start", "--head", "--resources={"],
        ["start", "--head", "--labels=x"],
        ["stop", "-g", "soon"],
        ["memory", "--limit=0"],
        ["memory", "--limit=10001"],
        ["memory", "--limit=x"],
        ["memory", "--sort-by=age"],
    ],
)
def test_bad_command_lines(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: actorrt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in ("start", "stop", "status", "memory"))]
)
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    assert "usage: actorrt" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("actorrt ")


def test_values():
    spilling = ["--object-spilling-directory=a", "--object-spilling-directory=b"]
    resources = ["--num-cpus=2", "--num-gpus=0.5", '--resources={"disk": 2}', "--labels=a=1, b=x=y,"]
    options = cli.make_parser().parse_args(["start", "--head", *resources, *spilling])
    assert options.object_spilling_directory == ["a", "b"]
    assert (options.num_cpus, options.num_gpus) == (2, 0.5)
    assert options.resources == {"disk": 2}
    assert options.labels == {"a": "1", "b": "x=y"}


# ------------------------------------------------------------------------------------------------------------- commands
@pytest.mark.usefixtures("root")
def test_nothing_to_stop(capsys):
    assert cli.main(["stop"]) == 0
    assert "No node" in capsys.readouterr().out


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--address=nonsense"],
        ["memory"],
        ["memory", "--address=nonsense"],
        ["memory", "--address=local"],
        ["start", "--address=nonsense"],
        ["start", "--address=local"],
        ["start", "--head", '--resources={"CPU": 1}'],
        ["start", "--head", '--resources={"disk": "x"}'],
        ["start", "--head", "--object-store-memory=5"],
        ["start", "--head", "--object-store-memory=1e18"],
        ["start", "--head", "--object-spilling-directory=a", "--object-spilling-directory=a"],
    ],
)
def test_mistakes_have_no_traceback(arguments, capsys):
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("actorrt: ")
    assert "Traceback" not in error


def test_interrupted(monkeypatch, capsys):
    def interrupt(_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "stop_nodes", interrupt)
    assert cli.main(["stop"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_other_processes_are_never_signalled(monkeypatch):
    """A pid that belongs to another process by now."""
    monkeypatch.setattr(cli.os, "kill", lambda *_: pytest.fail("signalled"))
    record = cli.session.NodeRecord(
        pid=1,
        start_mark="another",
        node_id="",
        cluster_id="",
        address="",
        gcs="",
        session_dir="",
        sockets_dir="none",
        is_head=True,
        public=True,
    )
    cli._signal(record, signal.SIGKILL)
    assert cli._wait_gone([record], 0.0) == []


# --------------------------------------------------------------------------------------------------------------- status
HEAD = NodeInfo(
    b"\x0a",
    Address("unix:///h", "raylet"),
    "host",
    "10.0.0.1",
    name="first",
    resources={"CPU": 4 * UNIT, "memory": 2048 * UNIT, "node:10.0.0.1": UNIT},
    labels={"zone": "a"},
    is_head=True,
    pid=7,
)
OTHER = NodeInfo(b"\x0b", Address("tcp://o", "raylet"), "o", "10.0.0.2", resources={"CPU": 2 * UNIT}, pid=8)
DEAD = NodeInfo(
    b"\x0d", Address("tcp://d", "raylet"), "d", "10.0.0.3", alive=False, death=DeathCause("node_died", "silent")
)
STATUS = Status(
    b"\xcc",
    nodes=(DEAD, HEAD, OTHER),
    loads=(
        NodeLoad(b"\x0a", {"CPU": UNIT, "memory": 1024 * UNIT}, 1, (PendingDemand({"GPU": UNIT}, 3, "no GPU", "f"),)),
    ),
    jobs=(JobConfig(b"\x01", Address("", ""), "", driver_pid=99, entrypoint="main.py"),),
    actors={"ALIVE": 2},
    uptime_s=3700.0,
    pending_actors=(ActorInfo(b"\xab", b"\x01", "PENDING_CREATION", class_name="A", pending_reason="no room"),),
)


def test_status():
    text = "\n".join(cli.status_lines(STATUS, "10.0.0.1:1"))
    assert "Cluster cc at 10.0.0.1:1, up 1 h 1 min" in text
    assert "0a first (head) 10.0.0.1 pid=7" in text
    assert "0d 10.0.0.3 pid=0 DEAD: silent" in text
    assert "3 / 6 CPU" in text
    assert "1 KiB / 2 KiB memory" in text
    assert "3 x {GPU: 1} (f): no GPU" in text
    assert "actor A ab: no room" in text
    assert "node:10.0.0.1" not in text
    assert "main.py" not in text


def test_verbose_status():
    text = "\n".join(cli.status_lines(STATUS, "x", verbose=True))
    assert "labels: zone=a" in text
    assert "01 pid=99 main.py" in text
    assert "2 ALIVE" in text


def test_idle_status():
    status = Status(b"\xcc", nodes=(OTHER,), loads=(), jobs=(), actors={}, uptime_s=5.0)
    lines = cli.status_lines(status, "x")
    assert lines[0].endswith("up 5 s")
    assert lines[-2:] == ["Demand", "  none"]
    assert "  0 / 2 CPU" in lines


STORES = {
    b"\x0a": StoreReport({"capacity_bytes": 4096, "used_bytes": 2048, "leased_bytes": 1024, "objects": 3}),
    b"\x0b": "it did not answer",
}


def test_stores_in_the_status():
    text = "\n".join(cli.status_lines(STATUS, "x", stores=STORES))
    assert text.count("object store") == 1
    assert "  1 KiB / 4 KiB object store, 3 objects, 0 B spilled" in text


def test_stores_in_the_verbose_status():
    lines = cli.status_lines(STATUS, "x", verbose=True, stores=STORES)
    assert lines.count("    1 KiB / 4 KiB object store, 3 objects, 0 B spilled") == 1
    assert "    object store: no answer (it did not answer)" in lines
