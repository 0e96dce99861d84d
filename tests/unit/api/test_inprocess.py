"""A cluster inside this process."""

import gc
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest

import actorrt
from actorrt import exceptions
from actorrt.api.inprocess import InProcessCluster
from actorrt.cluster import session
from actorrt.cluster.bulk import BulkError
from actorrt.kernel.context import find_runtime
from actorrt.kernel.message import Address
from actorrt.objects.messages import GetStoreReport
from actorrt.objects.operations import Open
from actorrt.testing import Cluster


def worker_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("actorrt")]


def test_it_starts_works_and_ends_quickly():
    """Three nodes, a task on each, and the end: 0.3 s are promised; best of five, the machine may be busy."""
    best_s = float("inf")
    for _ in range(5):
        began_s = time.perf_counter()
        with Cluster(initialize_head=True, connect=True, in_process=True) as cluster:
            nodes = [cluster.head_node, cluster.add_node(resources={"b": 1}), cluster.add_node(resources={"c": 1})]
            here = actorrt.remote(lambda: actorrt.get_runtime_context().get_node_id())
            refs = [here.options(resources=each).remote() for each in ({}, {"b": 1}, {"c": 1})]
            assert set(actorrt.get(refs, timeout=20)[1:]) == {nodes[1].node_id, nodes[2].node_id}
        best_s = min(best_s, time.perf_counter() - began_s)
    assert best_s < 0.3


def test_nothing_is_left():
    before = set(worker_threads())
    with Cluster(initialize_head=True, connect=True, in_process=True):
        assert actorrt.get(actorrt.remote(os.getpid).remote(), timeout=20) == os.getpid()
        assert set(worker_threads()) > before
    gc.collect()
    for thread in set(worker_threads()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_workers_are_threads_with_runtimes_of_their_own(rt):
    @rt.remote
    def tell():
        return threading.current_thread().name, rt.get_runtime_context().get_worker_id()

    name, worker_id = rt.get(tell.remote(), timeout=20)
    assert name.startswith("actorrt-worker")
    assert worker_id != rt.get_runtime_context().get_worker_id()


def test_a_lost_node_takes_its_work_along():
    with Cluster(initialize_head=True, connect=True, in_process=True) as cluster:
        node = cluster.add_node(resources={"b": 1})
        actor = actorrt.remote(num_cpus=0, resources={"b": 1})(type("A", (), {"m": lambda self: 1})).remote()
        assert actorrt.get(actor.m.remote(), timeout=20) == 1
        cluster.remove_node(node)
        with pytest.raises(exceptions.ActorError):
            actorrt.get(actor.m.remote(), timeout=20)
        assert actorrt.get(actorrt.remote(lambda: 2).remote(), timeout=20) == 2


def test_two_clusters_side_by_side():
    one, two = InProcessCluster(), InProcessCluster()
    try:
        for cluster in (one, two):
            cluster.add_node(num_cpus=1)
        assert one.address.gcs != two.address.gcs
        assert one.cluster_id != two.cluster_id
        assert one.token not in repr(one.address).encode()
        driver = one.driver("n")
        assert driver.runtime.job.namespace == "n"
        driver.leave()
    finally:
        one.stop()
        two.stop()
        two.stop()


@pytest.fixture
def place(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="ac-") as folder:
        monkeypatch.setenv(session.TEMP_VARIABLE, folder)
        yield Path(folder)


def test_files_of_a_node_go_with_it(place):
    shared, sockets = Path(session.SHARED_MEMORY), place / f"actorrt-{os.getuid()}" / "s"
    with Cluster(initialize_head=True, connect=True, in_process=True) as cluster:
        node = cluster.add_node(resources={"b": 1}, object_store_memory=5 << 20)
        make = actorrt.remote(num_cpus=0, resources={"b": 1})(lambda: bytes(1 << 20))
        assert actorrt.get(make.remote(), timeout=20) == bytes(1 << 20)
        of_node = f"actorrt-{node.node_id[:16]}-*"
        assert len(list(shared.glob(of_node))) == 1
        assert len(list(sockets.iterdir())) == 2  # it was copied to the head
        cluster.remove_node(node)
        assert list(shared.glob(of_node)) == []
        assert len(list(sockets.iterdir())) == 1
        with pytest.raises(BulkError, match="has ended"):
            cluster._embedded.connect(node.storage.endpoint, lambda: True)
    assert list(sockets.iterdir()) == []


def test_a_node_that_ends_by_itself_removes_its_files():
    cluster = InProcessCluster()
    try:
        node = cluster.add_node(num_cpus=1)
        opened = threading.Event()
        node.storage.bind(lambda _envelope: opened.set())
        node.storage.perform(Open(1))
        assert opened.wait(10)
        node._failed(RuntimeError("a bug"))
        files = list(Path(session.SHARED_MEMORY).glob(f"{node.storage.prefix}*"))
        deadline_s = time.monotonic() + 10
        while any(file.exists() for file in files):
            assert time.monotonic() < deadline_s
            threading.Event().wait(0.005)
    finally:
        cluster.stop()


def test_what_a_killed_worker_had_in_the_store_goes(rt):
    """Its "process" is ours, and never ends: it leaves by saying so."""

    class Maker:
        def make(self, view):
            self.ref, self.view = actorrt.put(bytes(1 << 20)), view

    runtime = find_runtime()
    manager = Address(runtime.raylet.process, "objects")

    def figures(*names):
        report = runtime.ask(manager, GetStoreReport())
        return tuple(report.figures.get(name, 0) for name in names)

    before = figures("clients", "leftover_pins", "objects")
    shared = actorrt.put(bytes(1 << 20))
    actorrt.get(shared)
    makers = [actorrt.remote(num_cpus=0)(Maker).remote() for _ in range(3)]
    actorrt.get([maker.make.remote(shared) for maker in makers], timeout=20)
    assert figures("objects")[0] == before[2] + 1 + len(makers)
    for maker in makers:
        actorrt.kill(maker)
    del maker, makers, shared
    deadline_s = time.monotonic() + 10
    while figures("clients", "leftover_pins", "objects") != (max(before[0], 1), before[1], before[2]):
        assert time.monotonic() < deadline_s, figures("clients", "leftover_pins", "objects")
        gc.collect()
        threading.Event().wait(0.01)
