"""What the executor gets from the worker around it (here: of an in-process cluster)."""

import pytest

from actorrt.testing import Cluster
from actorrt.wire.records import DeathCause, TaskTemplate


@pytest.fixture
def host():
    import actorrt

    with Cluster(initialize_head=True, connect=True, in_process=True) as cluster:
        actorrt.get(actorrt.remote(lambda: 1).remote(), timeout=20)
        (worker,) = cluster.head_node.workers.values()
        yield worker.host


def template(key):
    return TaskTemplate(
        number=1, function_key=key, function_name="f", name="f", job_id=b"", num_returns=1, resources={}, max_retries=0
    )


def test_functions_are_fetched_by_key(host):
    import actorrt
    from actorrt.kernel.context import find_runtime

    key = find_runtime().exports.export(lambda: "fetched", "f")
    actorrt.get(actorrt.put(1))
    assert host.load_function(template(key))() == "fetched"


def test_what_cannot_be_loaded_says_so(host):
    from actorrt.kernel.context import find_runtime

    class Bad:
        def __reduce__(self):
            return int, ("no number",)

    key = find_runtime().exports.export(Bad(), "bad")
    with pytest.raises(ValueError) as caught:
        host.load_function(template(key))
    assert any("while loading f in the worker" in note for note in caught.value.__notes__)


def test_who_speaks(host):
    assert host.current_name() == ""
    host.runtime.actor = type("Spec", (), {"class_name": "Actor"})
    assert host.current_name() == "Actor"


def test_a_broken_worker_leaves(host):
    left = []
    host._on_leave = lambda cause, code: left.append((cause, code))
    host._failed(KeyError("bug"))
    ((cause, code),) = left
    assert isinstance(cause, DeathCause)
    assert "KeyError('bug')" in cause.text
    assert code == 1
