"""A cluster inside this process: workers are threads, so tests share events with what they run there."""

import gc
import tempfile
import threading

import pytest

import actorrt
from actorrt.testing import Cluster

WAIT_S = 30


class Gates:
    """Events by name, for both sides: ``gates.wait("go")`` blocks until ``gates.open("go")``."""

    def __init__(self):
        self._events = {}
        self._lock = threading.Lock()

    def _event(self, name):
        with self._lock:
            return self._events.setdefault(name, threading.Event())

    def wait(self, name, timeout_s=WAIT_S):
        assert self._event(name).wait(timeout_s), f"nobody opened {name!r} within {timeout_s} s"

    def open(self, name):
        self._event(name).set()

    def is_open(self, name):
        return self._event(name).is_set()

    def open_all(self):
        with self._lock:
            for event in self._events.values():
                event.set()

    def __reduce__(self):  # what travels within one process may stay what it is
        return _the_gates, (id(self),)


_living = {}


def _the_gates(number):
    return _living[number]


@pytest.fixture
def gates():
    made = Gates()
    _living[id(made)] = made
    yield made
    made.open_all()


@pytest.fixture(scope="module")
def cluster():
    with tempfile.TemporaryDirectory(prefix="ac-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTORRT_TMPDIR", folder)
        patch.delenv("ACTORRT_ADDRESS", raising=False)
        with Cluster(initialize_head=True, head_node_args={"num_cpus": 4}, in_process=True) as cluster:
            cluster.connect()
            yield cluster


@pytest.fixture
def rt(cluster):
    """The package, connected to a cluster of 4 CPUs inside this process."""
    yield actorrt
    gc.collect()
