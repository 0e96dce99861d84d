"""Forks of drivers and workers, and children beside them: they are no part of the cluster and do it no harm."""

import os
import signal

import pytest


def test_a_fork_of_a_driver_does_no_harm(drivers):
    ran = drivers.run(
        """
        rt.init(num_cpus=1, log_to_driver=False)
        f = rt.remote(lambda x: x + 1)
        refs = [f.remote(i) for i in range(10)]
        pid = os.fork()
        if pid == 0:
            del refs
            import gc; gc.collect()
            say("child")
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert rt.get(refs, timeout=20) == list(range(1, 11))
        assert rt.get(f.remote(1), timeout=20) == 2
        rt.shutdown()
        say("parent")
        """
    )
    assert "child" in ran.out
    assert "parent" in ran.out
    assert ran.err == ""
    assert drivers.pids() == []


def test_a_forked_child_does_not_keep_a_killed_drivers_job_alive(shared, drivers, until, alive):
    process = drivers.start(
        """
        rt.init(address=$ADDRESS, log_to_driver=False)
        @rt.remote
        class Mine:
            def pid(self):
                return os.getpid()
        mine = Mine.remote()
        pid = rt.get(mine.pid.remote())
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        say("pids", pid, child)
        time.sleep(60)
        """,
        ADDRESS=shared,
    )
    actor, child = map(int, drivers.read_line(process, "pids").split())
    process.kill()
    try:
        until(lambda: not alive(actor))
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)  # it holds the driver's pipes


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_beside_a_driver(drivers, method):
    ran = drivers.run(
        """
        import multiprocessing
        def work(x):
            return x * x
        def main():
            rt.init(num_cpus=1, log_to_driver=False)
            f = rt.remote(lambda x: x + 1)
            assert rt.get(f.remote(1), timeout=20) == 2
            with multiprocessing.get_context($METHOD).Pool(2) as pool:
                assert pool.map(work, range(5)) == [0, 1, 4, 9, 16]
            process = multiprocessing.get_context($METHOD).Process(target=work, args=(1,))
            process.start(); process.join(20)
            assert process.exitcode == 0
            assert rt.get(f.remote(2), timeout=20) == 3
            say("fine")
        if __name__ == "__main__":
            main()
        """,
        METHOD=method,
    )
    assert "fine" in ran.out
    assert drivers.pids() == []


def test_a_forked_child_is_no_driver_but_can_become_one(drivers, shared):
    ran = drivers.run(
        """
        rt.init(address=$ADDRESS, log_to_driver=False)
        f = rt.remote(num_cpus=0)(lambda x: x + 1)
        assert rt.get(f.remote(1), timeout=20) == 2
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            assert not rt.is_initialized()
            try:
                f.remote(1)
            except RuntimeError as error:
                say(error)
            rt.init(address=$ADDRESS, log_to_driver=False)
            say("child", rt.get(f.remote(5), timeout=20))
            rt.shutdown()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        say("parent", rt.get(f.remote(2), timeout=20))
        """,
        ADDRESS=shared,
    )
    assert "child 6" in ran.out
    assert "is a fork of a driver" in ran.out
    assert "parent 3" in ran.out


def test_multiprocessing_inside_a_task(drivers):
    ran = drivers.run(
        """
        import multiprocessing
        def work(x):
            return x * x
        rt.init(num_cpus=1, log_to_driver=False)
        @rt.remote
        def outer():
            import concurrent.futures
            with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
                return list(pool.map(abs, [-1, -2]))
        say(rt.get([outer.remote(), outer.remote()], timeout=30))
        """
    )
    assert "[[1, 2], [1, 2]]" in ran.out
    assert drivers.pids() == []


@pytest.mark.parametrize("end", ["return 'child'", "sys.exit(3)", "raise KeyError('child')", "os._exit(0)"])
def test_a_fork_inside_a_task(drivers, end):
    """However the child ends, it does not speak for the worker."""
    ran = drivers.run(
        f"""
        rt.init(num_cpus=1, log_to_driver=False)
        @rt.remote(max_retries=0)
        def forker():
            pid = os.fork()
            if pid == 0:
                {end}
            return "parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        class A:
            def forker(self):
                return forker._function()
        a = rt.remote(num_cpus=0)(A).remote()
        for _ in range(3):
            say(rt.get(forker.remote(), timeout=20))
            say(rt.get(a.forker.remote(), timeout=20))
        """
    )
    code = {"sys": 3, "rai": 1}.get(end[:3], 0)
    assert ran.out.splitlines() == [f"('parent', {code})"] * 6
    assert drivers.pids() == []
