"""get, put, wait, cancel, kill, get_actor: what they refuse, and the plain cases."""

import threading

import pytest


def test_get(rt):
    one = rt.put(1)
    assert rt.get(one) == 1
    assert rt.get([one, one]) == [1, 1]
    assert rt.get([]) == []
    assert rt.get(one, timeout=0) == 1
    for bad in (1, None, "x", (one,), {one}, [one, 1]):
        with pytest.raises(ValueError):
            rt.get(bad)
    with pytest.raises(ValueError, match="negative"):
        rt.get(one, timeout=-1)
    with pytest.raises(TypeError, match="number of seconds"):
        rt.get(one, timeout="1")


def test_put(rt):
    with pytest.raises(TypeError):
        rt.put(rt.put(1))
    with pytest.raises(TypeError):
        rt.put(threading.Lock())
    with pytest.raises(ValueError, match="_owner"):
        rt.put(1, _owner=5)


def test_wait(rt):
    refs = [rt.put(i) for i in range(3)]
    assert rt.wait(refs) == (refs[:1], refs[1:])
    assert rt.wait(refs, num_returns=3, timeout=0, fetch_local=False) == (refs, [])
    for bad, kind in (
        ({"num_returns": 0}, ValueError),
        ({"num_returns": 4}, ValueError),
        ({"num_returns": True}, TypeError),
        ({"num_returns": "1"}, TypeError),
        ({"timeout": -1}, ValueError),
    ):
        with pytest.raises(kind):
            rt.wait(refs, **bad)
    for bad, kind in ((refs[0], TypeError), (tuple(refs), TypeError), ([1], TypeError), (refs + refs[:1], ValueError)):
        with pytest.raises(kind):
            rt.wait(bad)


def test_cancel_and_kill_refuse_what_they_cannot(rt):
    @rt.remote(num_cpus=0)
    class A:
        def m(self):
            return 1

    a = A.remote()
    for bad in (1, None, a, [rt.put(1)]):
        with pytest.raises(TypeError):
            rt.cancel(bad)
    for bad in (1, None, A, a.m, rt.put(1)):
        with pytest.raises(ValueError):
            rt.kill(bad)
    pending = rt.remote(num_cpus=64)(lambda: 1).remote()
    rt.cancel(pending)
    with pytest.raises(rt.exceptions.TaskCancelledError):
        rt.get(pending, timeout=20)


def test_names(rt):
    @rt.remote(num_cpus=0)
    class A:
        pass

    a = A.options(name="one").remote()
    assert rt.get_actor("one") == a
    assert rt.util.list_named_actors() == ["one"]
    for bad in ("", None, 5, "two"):
        with pytest.raises(ValueError):
            rt.get_actor(bad)


def test_everything_needs_a_cluster(alone):
    ref = alone.ObjectRef.from_random()
    for ask in (
        lambda: alone.get([]),
        lambda: alone.put(1),
        lambda: alone.wait([]),
        lambda: alone.cancel(ref),
        lambda: alone.get_actor("x"),
        alone.nodes,
        alone.cluster_resources,
        alone.available_resources,
    ):
        with pytest.raises(RuntimeError, match="not connected"):
            ask()
