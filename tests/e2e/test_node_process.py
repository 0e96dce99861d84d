"""Node processes: started, joined, ended in every way there is; nothing may be left of them."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from actorrt.cluster import bootstrap, session
from actorrt.cluster.addresses import resolve_address
from actorrt.cluster.bootstrap import NodeStartError, begin_node, start_node, stop_node
from actorrt.cluster.interpreter import PACKAGE_PARENT

GONE_WITHIN_S = 5.0
MARK = "ACTORRT_TEST_MARK"


@pytest.fixture
def place(monkeypatch):
    """A temporary directory of this test's own; whatever is still held there at the end is an error."""
    with tempfile.TemporaryDirectory(prefix="ac-") as folder:
        monkeypatch.setenv(session.TEMP_VARIABLE, folder)
        monkeypatch.setenv(MARK, folder)
        monkeypatch.delenv("ACTORRT_ADDRESS", raising=False)
        yield Path(folder)
        deadline_s = time.monotonic() + GONE_WITHIN_S
        while (left := processes(folder)) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        names = [(process.pid, process.name(), process.cmdline()[-1:]) for process in left]
        for process in left:
            process.kill()
        assert names == []


def processes(mark) -> list[psutil.Process]:
    """Living processes that descend from this test (they inherited its mark), this one excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(mark) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [process for process in found if process.pid != os.getpid()]


def named(mark, name) -> list[psutil.Process]:
    return [process for process in processes(mark) if process.name() == f"actorrt:{name}"]


def wait_for(condition, timeout_s=10.0):
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.02)
    return value


def nothing_left(place) -> bool:
    sockets = session.root_folder(str(place)) / "s"
    return not processes(place) and not list(sockets.iterdir())


def shared_memory() -> set[str]:
    folder = Path("/dev/shm")
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


DRIVER = """
import os, subprocess, sys, time
import actorrt
actorrt.init(num_cpus=2, include_dashboard=False)

@actorrt.remote(num_cpus=0)
class A:
    def start(self):
        self.child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        return os.getpid(), self.child.pid

actors = [A.remote() for _ in range(2)]
pids = actorrt.get([a.start.remote() for a in actors])
print("up", *[pid for pair in pids for pid in pair], flush=True)
"""


class Driver:
    def __init__(self, code=DRIVER + "time.sleep(60)"):
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=PACKAGE_PARENT,
        )
        line = self.process.stdout.readline()
        if not line.startswith("up"):
            self.close()
            pytest.fail(f"the driver did not get so far: {line!r}")
        self.pids = [int(word) for word in line.split()[1:]]

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def driver(place):
    made = Driver()
    assert len(named(place, "head")) == len(named(place, "zygote")) == 1
    yield made
    made.close()


# ---------------------------------------------------------------------------------------------------------- start, stop
def test_a_head(place):
    node = start_node(num_cpus=1)
    assert node.alive()
    assert resolve_address(node.cluster.address).cluster_id == node.cluster_id
    assert resolve_address(None) is None
    assert node.token.decode() not in " ".join(str(process.as_dict()) for process in processes(place))
    stop_node(node)
    assert not node.alive()
    assert nothing_left(place)
    stop_node(node)


def test_further_nodes(place):
    head = start_node(num_cpus=1)
    nodes = [begin_node(join=head.cluster, num_cpus=1, name=f"n{number}") for number in range(2)]
    nodes = [node.wait() for node in nodes]
    assert {node.session_dir for node in nodes} == {head.session_dir}
    assert {node.gcs for node in nodes} == {head.address}
    nodes[0].stop()
    assert head.alive()
    assert nodes[1].alive()
    head.stop()
    wait_for(lambda: nothing_left(place), GONE_WITHIN_S)
    nodes[1].stop()


def test_surviving_nodes_stay(place):
    head = start_node(num_cpus=1)
    nodes = [start_node(join=head.cluster, num_cpus=1) for _ in range(2)]
    nodes[0].kill()
    assert len(named(place, "zygote")) == 2
    assert head.alive()
    assert nodes[1].alive()
    head.stop()
    nodes[1].stop()
    nodes[0].stop()


def test_killed_head_takes_all_nodes_along(place):
    head = start_node(num_cpus=1)
    node = start_node(join=head.cluster, num_cpus=1)
    head.kill()
    wait_for(lambda: nothing_left(place), GONE_WITHIN_S)
    node.stop()


def test_a_node_that_cannot_start_says_why(place):
    head = start_node(num_cpus=1, host="127.0.0.1", port=0)
    port = int(head.cluster.address.rpartition(":")[2])
    with pytest.raises(NodeStartError, match=f"(?s)could not start: BadAddress.*{port}"):
        start_node(num_cpus=1, host="127.0.0.1", port=port)
    head.stop()


def test_a_node_that_joins_nothing(place):
    head = start_node(num_cpus=1)
    cluster = head.cluster
    head.stop()
    with pytest.raises(NodeStartError, match="could not start"):
        start_node(join=cluster, num_cpus=1)
    assert nothing_left(place)


def test_a_wrong_token_does_not_join(place, monkeypatch):
    head = start_node(num_cpus=1)
    monkeypatch.setenv("ACTORRT_AUTH_TOKEN", "guessed")
    with pytest.raises(NodeStartError, match="AuthenticationError"):
        start_node(join=resolve_address(head.cluster.address), num_cpus=1)
    head.stop()


def test_a_node_that_is_too_slow(place):
    starting = begin_node(num_cpus=1)
    with pytest.raises(NodeStartError, match=r"not ready within 0\.001 s"):
        starting.wait(0.001)
    wait_for(lambda: nothing_left(place))


def test_leftovers_of_a_power_cut_are_swept(place):
    root = session.root_folder()
    folder, fd = session.create_sockets_folder(root)
    (folder / "node.sock").touch()
    os.close(fd)
    node = start_node(num_cpus=1)
    wait_for(lambda: not folder.exists())
    node.stop()


def test_several_nodes_over_zeromq(place, monkeypatch):
    monkeypatch.setenv(bootstrap.TRANSPORT_VARIABLE, "ipc")
    head = start_node(num_cpus=1)
    assert head.address.startswith("ipc://")
    node = start_node(join=head.cluster, num_cpus=1)
    node.stop()
    head.stop()
    assert nothing_left(place)


# --------------------------------------------------------------------------------------------------------- fate sharing
def test_driver_killed(place, driver):
    before = shared_memory()
    driver.process.kill()
    wait_for(lambda: nothing_left(place), GONE_WITHIN_S)
    assert shared_memory() <= before


def test_driver_killed_whose_child_lives_on(place):
    """A forked child inherits the pipe's end; the pidfd tells nevertheless."""
    code = (
        DRIVER
        + "pid = os.fork()\nif pid == 0:\n    time.sleep(60)\n    os._exit(0)\nprint(pid, flush=True)\ntime.sleep(60)"
    )
    driver = Driver(code.replace("import os", "import os, warnings; warnings.simplefilter('ignore')\nimport os", 1))
    child = int(driver.process.stdout.readline())
    driver.process.kill()
    wait_for(lambda: {process.pid for process in processes(place)} <= {child}, GONE_WITHIN_S)
    os.kill(child, signal.SIGKILL)
    driver.close()


@pytest.mark.parametrize("name", ["head", "zygote"])
def test_node_process_killed(place, driver, name):
    (process,) = named(place, name)
    process.kill()
    wait_for(lambda: {process.pid for process in processes(place)} == {driver.process.pid}, GONE_WITHIN_S)
    assert not list((session.root_folder() / "s").iterdir())


def test_node_process_stopped_in_order(place, driver):
    (process,) = named(place, "head")
    process.terminate()
    wait_for(lambda: {process.pid for process in processes(place)} == {driver.process.pid}, GONE_WITHIN_S)
    assert not list((session.root_folder() / "s").iterdir())


def test_interrupt_at_the_terminal_spares_the_node(place, driver):
    """Ctrl-C reaches the terminal's foreground group; the node has left it."""
    (head,) = named(place, "head")
    assert os.getsid(head.pid) == head.pid
    assert os.getpgid(driver.pids[0]) == driver.pids[0]


def test_exit_of_the_driver(place):
    driver = Driver(DRIVER)
    assert driver.process.wait(10) == 0
    wait_for(lambda: nothing_left(place), 1.0)
    driver.close()


# ------------------------------------------------------------------------------------------------------------ with work
WORK = """
import os, sys
import actorrt
actorrt.init(num_cpus=2)

@actorrt.remote
def speak(text):
    print(text, flush=True)
    print("whispered", text, file=sys.stderr, flush=True)
    os.write(1, b"below Python\\n")
    return os.environ.get("ACTORRT_AUTH_TOKEN")

assert actorrt.get([speak.remote("good morning"), speak.remote("good night")]) == [None, None]
actorrt.shutdown()
"""


@pytest.mark.parametrize(
    "variables", [{}, {bootstrap.SPAWN_VARIABLE: "1"}, {bootstrap.TRANSPORT_VARIABLE: "ipc"}], ids="".join
)
def test_output_reaches_the_driver(place, monkeypatch, variables):
    monkeypatch.setenv("ACTORRT_AUTH_TOKEN", "chosen")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ended = subprocess.run(
        [sys.executable, "-c", WORK], capture_output=True, text=True, check=False, timeout=50, cwd=PACKAGE_PARENT
    )
    assert ended.returncode == 0, ended.stderr
    for text in ("good morning", "good night", "below Python"):
        assert text in ended.stdout
    assert "(speak pid=" in ended.stdout
    assert "whispered good night" in ended.stderr
    assert "\x1e" not in ended.stdout + ended.stderr
    assert nothing_left(place)


# ---------------------------------------------------------------------------------------------------------------- speed
def test_start_and_stop_are_quick(place):
    """Generous to a loaded machine; the figures to hold are in bench."""
    best_start_s = best_stop_s = 60.0
    for _ in range(3):
        began_s = time.monotonic()
        node = start_node(num_cpus=1)
        best_start_s = min(best_start_s, time.monotonic() - began_s)
        began_s = time.monotonic()
        node.stop()
        best_stop_s = min(best_stop_s, time.monotonic() - began_s)
    assert best_start_s < 1.0
    assert best_stop_s < 0.4
