"""Drivers: how they start, share a cluster, are interrupted, forked and ended."""

import asyncio
import itertools
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import actorrt
from actorrt import exceptions


@pytest.fixture
def alone(sessions, monkeypatch):
    """No runtime in this process before the test, none after it."""
    assert not actorrt.is_initialized()
    yield actorrt
    actorrt.shutdown()


ADD = """
f = rt.remote(lambda x: x + 1)
"""


# ------------------------------------------------------------------ init and shutdown
def test_init_and_shutdown_twice(alone):
    context = alone.init(num_cpus=1, log_to_driver=False)
    assert alone.is_initialized()
    with pytest.raises(RuntimeError):
        alone.init(num_cpus=1)
    assert alone.init(num_cpus=5, ignore_reinit_error=True) is context
    assert alone.cluster_resources()["CPU"] == 1
    ref = alone.put(1)
    actor = alone.remote(Holder).remote()
    alone.get(actor.hold.remote(1), timeout=20)
    alone.shutdown()
    alone.shutdown()
    assert not alone.is_initialized()
    for ask in (alone.nodes, alone.cluster_resources, alone.available_resources):
        with pytest.raises(RuntimeError):
            ask()
    alone.init(num_cpus=1, log_to_driver=False)
    began_s = time.monotonic()
    with pytest.raises(exceptions.ActorrtError):
        alone.get(ref, timeout=20)
    with pytest.raises(exceptions.ActorrtError):
        alone.get(actor.hold.remote(2), timeout=20)
    with pytest.raises(ValueError):
        alone.kill(actor)
    assert time.monotonic() - began_s < 10
    f = alone.remote(lambda x: x + 1)
    with pytest.raises(exceptions.ActorrtError):
        alone.get(f.remote(ref), timeout=20)
    assert alone.get(f.remote(1), timeout=20) == 2


class Holder:
    def hold(self, x):
        self.x = x
        return x


def test_refs_after_shutdown(alone):
    alone.init(num_cpus=1, log_to_driver=False)
    ref = alone.put(1)
    pending = alone.remote(lambda: time.sleep(30)).remote()
    future = pending.future()
    errors = []

    def wait():
        try:
            alone.get(pending)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    alone.shutdown()
    thread.join(10)
    assert not thread.is_alive(), "a get of another thread ends with the runtime"
    assert isinstance(errors[0], exceptions.ActorrtError)
    with pytest.raises(exceptions.ActorrtError):
        future.result(10)
    assert (hash(ref), repr(ref), ref.hex()) == (hash(ref), repr(ref), ref.hex())

    async def wait_for_it():
        await ref

    with pytest.raises(exceptions.ActorrtError):
        asyncio.run(wait_for_it())
    with pytest.raises(exceptions.ActorrtError):
        ref.future().result(10)


def test_context_managers(alone):
    with alone.init(num_cpus=1, log_to_driver=False) as context:
        assert context.address_info["address"]
        assert alone.get(alone.remote(lambda: 1).remote()) == 1
    assert not alone.is_initialized()
    with alone.session(num_cpus=1, log_to_driver=False):
        assert alone.get(alone.put(2)) == 2
    assert not alone.is_initialized()
    with pytest.raises(ZeroDivisionError), alone.session(num_cpus=1, log_to_driver=False):
        1 / 0
    assert not alone.is_initialized()

    async def main():
        ticks = []

        async def tick():
            while True:
                ticks.append(time.monotonic())
                await asyncio.sleep(0.005)

        ticker = asyncio.ensure_future(tick())
        async with alone.session(num_cpus=1, log_to_driver=False):
            value = await alone.remote(lambda: 3).remote()
        ticker.cancel()
        return value, max(b - a for a, b in itertools.pairwise(ticks))

    value, longest_s = asyncio.run(main())
    assert value == 3
    assert longest_s < 0.5, "the loop turned while the cluster started and ended"
    assert not alone.is_initialized()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"num_cpus": -1}, ValueError),
        ({"num_cpus": "2"}, TypeError),
        ({"namespace": 5}, TypeError),
        ({"no_such_option": 1}, RuntimeError),
        ({"local_mode": True}, RuntimeError),
        ({"address": "nonsense"}, ValueError),
        ({"address": 5}, TypeError),
        ({"address": "127.0.0.1:1"}, ConnectionError),
        ({"address": "auto"}, ConnectionError),
        ({"address": "unix:///nowhere/at/all.sock"}, ConnectionError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"runtime_env": {"nonsense": 1}}, ValueError),
        ({"labels": {"a": 5}}, (ValueError, TypeError)),
    ],
    ids=str,
)
def test_bad_arguments_of_init(alone, arguments, kind):
    with pytest.raises(kind):
        alone.init(**arguments)
    assert not alone.is_initialized()


def test_local_arguments_are_refused_when_joining(alone, shared):
    with pytest.raises(ValueError):
        alone.init(address=shared, num_cpus=1)
    with pytest.raises(ValueError):
        alone.init(address=shared, object_store_memory=10**8)
    assert not alone.is_initialized()


def test_auto_init_by_each_verb(drivers):
    for verb in ("rt.put(1)", "rt.wait([])", "rt.get_runtime_context()", "rt.get([])", "rt.remote(lambda: 1).remote()"):
        ran = drivers.run(f"assert not rt.is_initialized(); {verb}; say('up', rt.is_initialized())")
        assert "up True" in ran.out
    ran = drivers.run(
        "try:\n    rt.put(1)\nexcept RuntimeError as error:\n    say('refused')",
        env={"ACTORRT_ENABLE_AUTO_CONNECT": "0"},
    )
    assert "refused" in ran.out
    assert drivers.pids() == []


# ------------------------------------------------------------------ several drivers
def test_two_drivers_race_for_one_name(drivers, shared, unique):
    source = """
    rt.init(address=$ADDRESS, namespace="race", log_to_driver=False)
    @rt.remote(num_cpus=0)
    class Counter:
        def __init__(self):
            self.n = 0
        def inc(self):
            self.n += 1
            return self.n
    say("ready"); sys.stdin.readline()
    seen = []
    for name in $NAMES:
        counter = Counter.options(name=name, get_if_exists=True, lifetime="detached").remote()
        seen.append(rt.get(counter.inc.remote(), timeout=30))
    say("seen", *seen)
    sys.stdin.readline()
    """
    names = [unique() for _ in range(10)]
    started = [drivers.start(source, ADDRESS=shared, NAMES=names) for _ in range(3)]
    for process in started:
        drivers.read_line(process, "ready")
    for process in started:
        process.stdin.write(b"\n")
        process.stdin.flush()
    seen = [[int(n) for n in drivers.read_line(process, "seen").split()] for process in started]
    assert [sorted(each) for each in zip(*seen, strict=True)] == [[1, 2, 3]] * len(names)
    ran = drivers.run(
        """
        rt.init(address=$ADDRESS, namespace="race")
        for name in $NAMES:
            rt.kill(rt.get_actor(name))
        """,
        ADDRESS=shared,
        NAMES=names,
    )
    assert "Traceback" not in ran.err
    for process in started:
        process.communicate(b"\n", timeout=20)


def test_drivers_do_not_see_each_other(alone, drivers, shared, unique):
    name = unique()
    alone.init(address=shared, log_to_driver=False)
    mine = alone.remote(num_cpus=0)(Holder).options(name=name).remote()
    assert alone.get(mine.hold.remote(1), timeout=20) == 1
    ran = drivers.run(
        """
        rt.init(address=$ADDRESS, log_to_driver=False)
        try:
            rt.get_actor($NAME)
        except ValueError:
            say("hidden")
        @rt.remote
        class Holder:
            def hold(self, x):
                return "theirs"
        say(rt.get(Holder.options(name=$NAME).remote().hold.remote(2), timeout=20))
        say(len(rt.nodes()), rt.cluster_resources()["CPU"])
        """,
        ADDRESS=shared,
        NAME=name,
    )
    assert ran.out.split("\n")[:3] == ["hidden", "theirs", "1 2.0"]
    assert alone.get(alone.get_actor(name).hold.remote(3), timeout=20) == 3


def test_an_address_from_the_environment(drivers, shared):
    source = "say('cpus', rt.get(rt.put(1)) and rt.cluster_resources()['CPU'])"
    assert "cpus 2.0" in drivers.run(source, env={"ACTORRT_ADDRESS": shared}).out


# ------------------------------------------------------------------ signals
INTERRUPTED = """
rt.init($INIT, log_to_driver=False)
@rt.remote
def slow():
    time.sleep(60)
@rt.remote
class A:
    async def slow(self):
        import asyncio
        await asyncio.sleep(60)
quick = rt.remote(num_cpus=0)(lambda x: x + 1)
a = A.remote()
rt.get(quick.remote(1))
import asyncio
async def wait():
    await slow.remote()
ways = [
    lambda: rt.get(slow.remote()), lambda: rt.wait([slow.remote()]), lambda: rt.get([a.slow.remote()]),
    lambda: slow.remote().future().result(), lambda: asyncio.run(wait()),
]
for way in ways:
    say("waiting")
    try:
        way()
    except KeyboardInterrupt:
        say("interrupted")
    assert rt.get(quick.remote(1), timeout=20) == 2
say("usable")
"""


def test_ctrl_c_during_get(drivers):
    process = drivers.start(INTERRUPTED.replace("$INIT", "num_cpus=4"))
    for _ in range(5):
        drivers.read_line(process, "waiting")
        time.sleep(0.2)  # into the wait; too early an interrupt is raised as well, only elsewhere
        began_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        drivers.read_line(process, "interrupted")
        assert time.monotonic() - began_s < 2
    out, err = process.communicate(timeout=20)
    assert b"usable" in out
    assert (process.returncode, err) == (0, b"")
    assert drivers.pids() == []


def test_an_uncaught_ctrl_c_ends_the_driver_cleanly(drivers, until):
    process = drivers.start(
        """
        rt.init(num_cpus=1, log_to_driver=False)
        ref = rt.remote(lambda: time.sleep(60)).remote()
        say("waiting")
        rt.get(ref)
        """
    )
    drivers.read_line(process, "waiting")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert err.decode().rstrip().endswith("KeyboardInterrupt")
    assert err.count(b"Traceback") == 1
    until(lambda: drivers.pids() == [])


@pytest.mark.parametrize("in_get", [True, False])
def test_sigterm_ends_the_driver_cleanly(drivers, until, in_get):
    process = drivers.start(
        f"""
        import atexit
        atexit.register(lambda: say("hook"))
        rt.init(num_cpus=1, log_to_driver=False)
        ref = rt.remote(lambda: time.sleep(60)).remote()
        say("waiting")
        {"rt.get(ref)" if in_get else "time.sleep(60)"}
        """
    )
    drivers.read_line(process, "waiting")
    began_s = time.monotonic()
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began_s < 5
    assert process.returncode in {128 + signal.SIGTERM, -signal.SIGTERM}
    assert b"hook" in out
    assert b"Traceback" not in err
    until(lambda: drivers.pids() == [])


def test_handlers_of_the_user_stay(drivers):
    ran = drivers.run(
        """
        mine = lambda *_: say("mine")
        signal.signal(signal.SIGTERM, mine)
        rt.init(num_cpus=1)
        assert signal.getsignal(signal.SIGTERM) is mine
        os.kill(os.getpid(), signal.SIGTERM)
        rt.shutdown()
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        """
    )
    assert "mine" in ran.out


# ------------------------------------------------------------------ where the code comes from
def test_python_c(drivers, tmp_path):
    code = (
        "import actorrt as rt\n"
        "class P:\n    def __init__(self, x): self.x = x\n"
        "@rt.remote\ndef f(p): return P(p.x + 1)\n"
        "print(rt.get(f.remote(P(1))).x)"
    )
    assert drivers.run("", command=[sys.executable, "-c", code]).out.split() == ["2"]


def test_a_program_on_stdin(drivers):
    process = drivers.start("", command=[sys.executable, "-"])
    out, err = process.communicate(
        b"import actorrt as rt\nf = rt.remote(lambda: 5)\nprint(rt.get(f.remote()))\n", timeout=40
    )
    assert (out.split(), err) == ([b"5"], b"")


def test_modules_beside_the_script(drivers, tmp_path):
    folder = tmp_path / "app"
    (folder / "pack").mkdir(parents=True)
    (folder / "helper.py").write_text(
        "class Thing:\n    def __init__(self, x):\n        self.x = x\n\ndef double(x):\n    return 2 * x\n"
    )
    (folder / "pack" / "__init__.py").write_text("from .inner import triple\n")
    (folder / "pack" / "inner.py").write_text(
        "import actorrt as rt\n\ndef triple(x):\n    return 3 * x\n\n"
        "@rt.remote\ndef task(x):\n    return triple(x)\n\n"
        "@rt.remote\nclass Actor:\n    def m(self, x):\n        return triple(x)\n"
    )
    (folder / "main.py").write_text(
        "import os\nimport actorrt as rt\nimport helper\nimport pack\nfrom pack import inner\n"
        "@rt.remote\ndef f(x):\n    import helper as h\n"
        "    return h.Thing(helper.double(x) + pack.triple(x)), os.getcwd()\n"
        "thing, folder = rt.get(f.remote(1))\n"
        "print(type(thing) is helper.Thing, thing.x, folder == os.getcwd())\n"
        "print(rt.get(inner.task.remote(2)), rt.get(inner.Actor.remote().m.remote(3)), end=' ')\n"
        "print(rt.get(rt.remote(helper.double).remote(4)))\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for command, cwd in (
        ([sys.executable, str(folder / "main.py")], elsewhere),
        ([sys.executable, "-m", "main"], folder),
        ([sys.executable, str(Path("..", "app", "main.py"))], elsewhere),
    ):
        ran = drivers.run("", command=command, cwd=cwd)
        assert ran.out.splitlines() == ["True 5 True", "6 9 8"], ran.err


def test_two_jobs_use_modules_of_one_name(drivers, shared, tmp_path):
    for value in (1, 2):
        folder = tmp_path / f"app{value}"
        folder.mkdir()
        (folder / "settings.py").write_text(f"VALUE = {value}\n")
        (folder / "main.py").write_text(
            "import sys\nimport actorrt as rt\nimport settings\nrt.init(address=sys.argv[1], log_to_driver=False)\n"
            "def read():\n    import settings\n    return settings.VALUE\n"
            "print(settings.VALUE, *rt.get([rt.remote(read).remote() for _ in range(3)]))\n"
        )
    for value in (1, 2, 1):
        command = [sys.executable, str(tmp_path / f"app{value}" / "main.py"), shared]
        assert drivers.run("", command=command).out.split() == [str(value)] * 4


def test_an_interactive_driver_leaves_nothing(drivers):
    """A driver that ends without shutdown, by an exception, or by os._exit."""
    for end, code in (("pass", 0), ("raise SystemExit(3)", 3), ("1/0", 1), ("os._exit(5)", 5)):
        ran = drivers.run(
            f"rt.init(num_cpus=1, log_to_driver=False)\nrt.get(rt.remote(lambda: 1).remote())\n{end}", check=False
        )
        assert ran.code == code
        deadline_s = time.monotonic() + 10
        while drivers.pids():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)


def test_many_short_sessions_leak_nothing(alone):
    def figures():
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    counted = []
    for _ in range(4):
        with alone.init(num_cpus=1, log_to_driver=False):
            assert alone.get(alone.remote(lambda: 1).remote()) == 1
        counted.append(figures())
    assert counted[-1] == counted[1], counted


def test_a_subprocess_with_the_drivers_pipes_ends(drivers):
    """Nothing of the cluster holds the driver's own stdout or stderr open (a caller's pipe would never end)."""
    code = (
        "import os; import actorrt as rt; rt.init(num_cpus=1, log_to_driver=False); "
        "rt.get(rt.remote(lambda: 1).remote()); os._exit(0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=20, env=drivers.environment(), check=True
    )
    assert ran.stderr == b""
