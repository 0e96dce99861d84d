"""What tasks and actors print reaches the driver's screen, and files in the session's folder."""

import re
import time
from pathlib import Path

import pytest

HEAD = """
        rt.init(num_cpus=2)
"""
PREFIX = r"\((?P<name>[^()]+) pid=(?P<pid>\d+), node=(?P<node>[^()]+)\) (?P<text>.*)"


def parsed(text):
    """The lines of a driver's screen that a worker wrote: (name, pid, node, text)."""
    found = [re.fullmatch(PREFIX, line) for line in text.splitlines()]
    return [(m["name"], int(m["pid"]), m["node"], m["text"]) for m in found if m]


def texts(text):
    return [line[3] for line in parsed(text)]


def test_stdout_and_stderr_of_tasks_and_actors(drivers):
    ran = drivers.run(
        HEAD
        + """
        @rt.remote
        def task():
            print("from a task")
            print("task error", file=sys.stderr)
            return os.getpid()
        @rt.remote
        class Actor:
            def __init__(self):
                print("from a constructor")
            def m(self):
                print("from a method")
                return os.getpid()
            async def n(self):
                print("from a coroutine")
        a, b = Actor.remote(), Actor.options(name="b").remote()
        say("pids", rt.get(task.remote()), rt.get(a.m.remote()))
        rt.get([b.n.remote(), task.options(name="renamed").remote()])
        say("node", rt.nodes()[0]["NodeManagerAddress"])
        """
    )
    task_pid, actor_pid = re.search(r"pids (\d+) (\d+)", ran.out).groups()
    node = re.search(r"node (\S+)", ran.out)[1]
    out, err = parsed(ran.out), parsed(ran.err)
    assert ("task", int(task_pid), node, "from a task") in out
    assert ("task", int(task_pid), node, "task error") in err
    assert ("Actor", int(actor_pid), node, "from a method") in out
    assert {line[0] for line in out if "coroutine" in line[3]} == {"Actor"}
    assert {line[0] for line in out if "constructor" in line[3]} == {"Actor"}
    assert "error" not in "".join(texts(ran.out))
    assert "from" not in ran.err
    assert any(name == "renamed" for name, *_ in [*out, *err]) or "[repeated" in ran.out


def test_it_appears_within_a_second(drivers):
    process = drivers.start(
        HEAD
        + """
        @rt.remote
        def speak():
            print("now", time.time())
            time.sleep(30)
        ref = speak.remote()
        sys.stdin.readline()
        os._exit(0)
        """
    )
    for line in process.stdout:
        if b"now" in line:
            break
    took_s = time.time() - float(line.split()[-1])
    process.communicate(b"\n", timeout=20)
    assert took_s < 1.0


def test_children_and_partial_lines_and_odd_bytes(drivers):
    ran = drivers.run(
        HEAD
        + r"""
        @rt.remote
        def work():
            import subprocess
            subprocess.run([sys.executable, "-c", "print('from a child')"])
            os.system("echo from a shell")
            os.write(1, b"raw \xff\xfe bytes\n")
            sys.stdout.buffer.write(b"buffered \xc3 bytes\n")
            print("surrogate \udcff text, nul \0 and bell \a")
            print("\u4e2d\u6587 \U0001f600")
            print("no newline", end="")
        rt.get(work.remote())
        time.sleep(0.3)
        @rt.remote
        def more():
            print(" and more", end="", flush=True)
        rt.get(more.remote())
        """
    )
    lines = texts(ran.out)
    assert "from a child" in lines
    assert "from a shell" in lines
    assert "raw \ufffd\ufffd bytes" in lines
    assert any(line.startswith("buffered") for line in lines)
    assert any("surrogate" in line and "text, nul" in line for line in lines)
    assert "\u4e2d\u6587 \U0001f600" in lines
    assert any("no newline" in line for line in lines)
    assert any("and more" in line for line in lines)
    assert "Traceback" not in ran.err


def test_ten_thousand_lines_quickly(drivers):
    ran = drivers.run(
        HEAD
        + """
        @rt.remote
        def flood(tag):
            for i in range(5000):
                print(tag, i)
        began = time.monotonic()
        rt.get([flood.remote("a"), flood.remote("b")])
        rt.shutdown()
        say("took", time.monotonic() - began)
        """
    )
    lines = texts(ran.out)
    for tag in "ab":
        assert [line for line in lines if line.startswith(tag)] == [f"{tag} {i}" for i in range(5000)]
    assert float(ran.out.split("took ")[1]) < 10


def test_repeated_lines_are_folded(drivers):
    source = (
        HEAD
        + """
        @rt.remote
        def same(i):
            print("the same line")
            print(f"another line {i}")
        rt.get([same.remote(i) for i in range(20)])
        """
    )
    folded = texts(drivers.run(source).out)
    assert [line for line in folded if line == "the same line"] == ["the same line"]
    assert [line for line in folded if "repeated" in line] == ["the same line [repeated 19x across cluster]"]
    assert len([line for line in folded if line.startswith("another line")]) == 20
    whole = texts(drivers.run(source, env={"ACTORRT_DEDUP_LOGS": "0"}).out)
    assert [line for line in whole if line == "the same line"] == ["the same line"] * 20
    assert not [line for line in whole if "repeated" in line]


def test_folded_lines_are_told_when_the_window_ends(drivers):
    """Also in a driver whose workers say nothing more."""
    process = drivers.start(
        HEAD
        + """
        @rt.remote
        def same():
            print("again")
        rt.get([same.remote() for _ in range(5)])
        sys.stdin.readline()
        """
    )
    began_s = time.monotonic()
    for line in process.stdout:
        if b"repeated 4x" in line:
            break
    took_s = time.monotonic() - began_s
    process.communicate(b"\n", timeout=20)
    assert took_s < 12


def test_progress_bars(drivers):
    ran = drivers.run(
        HEAD
        + r"""
        @rt.remote
        def work():
            for i in range(101):
                print(f"\rprogress {i}%", end="", flush=True)
                print(f"\rerror {i}%", end="", flush=True, file=sys.stderr)
            print()
            print("done")
        rt.get(work.remote())
        """
    )
    assert "progress 100%" in ran.out
    assert "error 100%" in ran.err
    assert "done" in texts(ran.out)


def test_silence(drivers):
    for source, env in (
        ("rt.init(num_cpus=1, log_to_driver=False)", {}),
        ("rt.init(num_cpus=1)", {"ACTORRT_LOG_TO_DRIVER": "0"}),
    ):
        ran = drivers.run(
            source
            + """
print("driver itself")
f = rt.remote(lambda: print("hidden") or print("hidden", file=sys.stderr) or os.write(1, b"hidden"))
rt.get(f.remote())
""",
            env=env,
        )
        assert ran.out == "driver itself\n"
        assert ran.err == ""


def test_last_words_before_shutdown(drivers):
    """At the end of the driver, by shutdown or without; unfinished lines too."""
    for end in ("rt.shutdown()", "pass", "sys.exit(0)"):
        ran = drivers.run(
            HEAD
            + f"""
        f = rt.remote(lambda i: print("last words", i, end="\\n" if i % 2 else ""))
        rt.get([f.remote(i) for i in range(4)])
        {end}
        """
        )
        assert sorted(re.findall(r"last words (\d)", "\n".join(texts(ran.out)))) == list("0123")


@pytest.mark.parametrize("way", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(1)"])
def test_last_words_of_a_dying_worker(drivers, way):
    ran = drivers.run(
        HEAD
        + f"""
        @rt.remote(max_retries=0)
        def die():
            print("about to die", flush=True)
            {way}
        try:
            rt.get(die.remote())
        except rt.exceptions.WorkerCrashedError:
            say("crashed")
        """
    )
    assert "crashed" in ran.out
    assert "about to die" in texts(ran.out)


def test_per_worker_files(drivers):
    ran = drivers.run(
        HEAD
        + """
        @rt.remote
        def speak():
            print("into the file")
            print("into the error file", file=sys.stderr)
            return os.getpid()
        pid = rt.get(speak.remote())
        context = rt.init(ignore_reinit_error=True)
        say("folder", context.address_info["session_dir"])
        say("worker", pid)
        """
    )
    folder = Path(re.search(r"folder (.+)", ran.out)[1])
    pid = re.search(r"worker (\d+)", ran.out)[1]
    (out,) = (folder / "logs").glob(f"*-{pid}.out")
    (err,) = (folder / "logs").glob(f"*-{pid}.err")
    assert "into the file\n" in out.read_text()
    assert "into the error file\n" in err.read_text()
    assert "into the error" not in out.read_text()


def test_output_goes_to_the_driver_of_the_job_alone(drivers):
    from actorrt.testing import Cluster

    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2}) as cluster:
        source = """
        rt.init(address=$ADDRESS)
        f = rt.remote(lambda: print("says", $WHO))
        say("ready"); sys.stdin.readline()
        rt.get([f.remote() for _ in range(4)])
        say("spoken"); sys.stdin.readline()
        """
        started = {who: drivers.start(source, ADDRESS=cluster.address, WHO=who) for who in ("one", "two")}
        for process in started.values():
            drivers.read_line(process, "ready")
        for process in started.values():
            process.stdin.write(b"\n")
            process.stdin.flush()
        for who, process in started.items():
            out, _ = process.communicate(b"\n", timeout=20)
            said = {line.split(" [")[0] for line in texts(out.decode())}
            assert said == {f"says {who}"}


def test_the_users_logging_works_and_ours_is_quiet(drivers):
    ran = drivers.run(
        HEAD
        + """
        import logging
        @rt.remote
        def work():
            logging.getLogger("mine").info("hidden")
            logging.getLogger("mine").warning("unconfigured")
            logging.basicConfig(level=logging.INFO, format="%(levelname)s:%(message)s", stream=sys.stdout)
            logging.info("configured")
            return len(logging.getLogger().handlers)
        @rt.remote
        class A:
            def die(self):
                os._exit(1)
        a = A.remote()
        try:
            rt.get(rt.remote(lambda: rt.get(a.die.remote())).remote())
        except rt.exceptions.ActorDiedError:
            say("died")
        say("handlers", rt.get(work.remote()))
        """
    )
    assert "handlers 1" in ran.out
    assert "INFO:configured" in texts(ran.out)
    assert "unconfigured" in ran.err
    assert "hidden" not in ran.out + ran.err
    assert "actorrt." not in ran.err, "no log lines of the runtime itself"


def test_a_driver_whose_stdout_is_closed(drivers):
    ran = drivers.run(
        HEAD
        + """
        f = rt.remote(lambda: print("nobody reads this"))
        rt.get(f.remote())
        os.close(1)
        sys.stdout = open(os.devnull, "w")
        rt.get(f.remote())
        rt.shutdown()
        sys.stderr.write("ended well")
        """
    )
    assert ran.err == "ended well"


def test_output_of_a_clean_run_is_silent(drivers):
    ran = drivers.run(
        """
        rt.init(num_cpus=2)
        class A:
            def m(self):
                return 1
            async def n(self):
                return 2
        a = rt.remote(A).remote()
        b = rt.remote(A).options(name="b").remote()
        rt.get([a.m.remote(), b.n.remote()])
        rt.kill(b)
        rt.get(rt.remote(lambda: rt.get(rt.remote(lambda: 1).remote())).remote())
        """
    )
    assert (ran.out, ran.err) == ("", "")
