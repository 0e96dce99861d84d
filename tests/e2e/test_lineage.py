"""Lost values are made again: whole nodes end, with everything that lay on them."""

import numpy as np
import pytest

import actorrt
from actorrt import exceptions
from actorrt.testing import Cluster

LARGE = 1 << 18


@pytest.fixture(params=["processes", "in_process"])
def cluster(request):
    with Cluster(
        initialize_head=True, connect=True, in_process=request.param == "in_process", head_node_args={"num_cpus": 2}
    ) as made:
        yield made


def lose(cluster, node):
    """The node ends as if its power was cut."""
    cluster.remove_node(node, allow_graceful=False)


def on(place):
    return {"resources": {place: 0.01}, "num_cpus": 0}


def test_a_chain_of_five_is_made_again_after_its_only_holder_died(cluster, tally):
    node = cluster.add_node(num_cpus=2, resources={"there": 1})

    @actorrt.remote
    def start():
        tally.hit("start")
        return np.zeros(LARGE)

    @actorrt.remote
    def add(array, by):
        tally.hit(f"add {by}")
        return array + by

    ref = start.options(**on("there")).remote()
    for by in range(1, 6):
        ref = add.options(**on("there")).remote(ref, by)
    actorrt.wait([ref], fetch_local=False)
    assert len(tally.lines()) == 6
    lose(cluster, node)
    cluster.add_node(num_cpus=2, resources={"there": 1})
    assert actorrt.get(ref, timeout=30)[7] == 15
    assert sorted(tally.lines()) == sorted(2 * ["start", *(f"add {by}" for by in range(1, 6))])


def test_a_copy_elsewhere_is_used_instead(cluster, tally):
    node = cluster.add_node(num_cpus=2, resources={"there": 1})

    @actorrt.remote
    def make():
        tally.hit()
        return np.full(LARGE, 3)

    ref = make.options(**on("there")).remote()
    assert actorrt.get(ref, timeout=30)[0] == 3
    lose(cluster, node)
    assert actorrt.get(ref, timeout=30)[0] == 3
    assert len(tally.lines()) == 1


def test_arguments_of_a_waiting_task_are_made_again(cluster, tally, until):
    node = cluster.add_node(num_cpus=2, resources={"there": 1})

    @actorrt.remote
    def make():
        tally.hit("make")
        return np.full(LARGE, 3)

    @actorrt.remote
    def total(array, box):
        return int(array.sum()) + int(actorrt.get(box[0]).sum())

    ref = make.options(**on("there")).remote()
    other = make.options(**on("there")).remote()
    actorrt.wait([ref, other], num_returns=2, fetch_local=False)
    lose(cluster, node)
    cluster.add_node(num_cpus=2, resources={"there": 1})
    assert actorrt.get(total.remote(ref, [other]), timeout=30) == 6 * LARGE
    assert len(tally.lines()) == 4


def test_what_cannot_be_made_again_says_why(cluster):
    node = cluster.add_node(num_cpus=2, resources={"there": 1})

    @actorrt.remote
    class Actor:
        def make(self):
            return np.zeros(LARGE)

    @actorrt.remote(max_retries=0)
    def once():
        return np.zeros(LARGE)

    actor = Actor.options(**on("there")).remote()
    result = actor.make.remote()
    single = once.options(**on("there")).remote()
    actorrt.wait([result, single], num_returns=2, fetch_local=False)
    lose(cluster, node)
    with pytest.raises(exceptions.ObjectReconstructionFailedError, match="result of an actor"):
        actorrt.get(result, timeout=20)
    with pytest.raises(exceptions.ObjectReconstructionFailedError, match="max_retries=0"):
        actorrt.get(single, timeout=20)


def test_a_value_a_worker_owns_is_made_again_too(cluster, tally):
    """The owner is a task's or actor's process, which no GCS tells of the death of nodes."""
    node = cluster.add_node(num_cpus=2, resources={"there": 1})

    @actorrt.remote
    def make():
        tally.hit()
        return np.full(LARGE, 2)

    @actorrt.remote(num_cpus=1)
    class Owner:
        def begin(self):
            self.ref = make.options(**on("there")).remote()
            actorrt.wait([self.ref], fetch_local=False)
            return [self.ref]

        def read(self):
            return int(actorrt.get(self.ref, timeout=25)[0])

    owner = Owner.remote()
    box = actorrt.get(owner.begin.remote(), timeout=30)
    lose(cluster, node)
    cluster.add_node(num_cpus=2, resources={"there": 1})
    assert int(actorrt.get(box[0], timeout=30)[0]) == 2  # we borrow it
    assert actorrt.get(owner.read.remote(), timeout=30) == 2
    assert len(tally.lines()) == 2
