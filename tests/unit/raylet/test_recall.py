"""Which leases are recalled for whom."""

from actorrt.owner.messages import LeaseRecalled
from actorrt.raylet import messages
from actorrt.raylet.placing import STARVED_AFTER_S
from tests.unit.raylet.harness import DRIVER, GCS, Node, actor_spec, owner, owner_of


def busy(cpus=4, **options):
    """All CPUs are leased to one owner. Returns its leases, oldest first."""
    node = Node({"CPU": cpus}, **options)
    node.request(src=owner("first"), count=cpus)
    return node, node.granted()


def recalled(node):
    return [message.lease_id for message in node.take(LeaseRecalled)]


def test_nobody_waits_nobody_is_recalled():
    node, _ = busy()
    assert recalled(node) == []


def test_the_oldest_first_and_as_many_as_needed():
    node, leases = busy()
    node.request(src=owner("second"))
    assert recalled(node) == [leases[0].lease_id]
    node.request(src=owner("second"), class_id=2)
    assert recalled(node) == [leases[1].lease_id]


def test_once_per_lease():
    node, _ = busy()
    node.request(src=owner("second"))
    recalled(node)
    node.pass_time(0.9)
    assert recalled(node) == []


def test_shares_become_equal_not_reversed():
    node, leases = busy()
    node.request(src=owner("second"), count=50)
    assert recalled(node) == [lease.lease_id for lease in leases[:2]]


def test_own_leases_are_not_recalled():
    node, _ = busy()
    node.request(src=owner("first"), count=50)
    node.pass_time(5)
    assert recalled(node) == []


def test_another_class_of_the_same_owner_counts():
    node, leases = busy()
    node.request(src=owner("first"), class_id=2)
    assert recalled(node) == [leases[0].lease_id]


def test_a_large_request_recalls_all_it_needs():
    node, leases = busy()
    node.request(src=owner("second"), resources={"CPU": 3})
    assert recalled(node) == [lease.lease_id for lease in leases[:3]]


def test_none_if_it_would_not_help():
    node = Node({"CPU": 4})
    node.tell(GCS, messages.StartActor(actor_spec(1, {"CPU": 2}), 1))
    node.request(src=owner("first"), count=2)
    node.request(src=owner("second"), resources={"CPU": 4})
    assert recalled(node) == []


def test_only_leases_that_hold_what_is_missing():
    node = Node({"CPU": 2, "GPU": 1})
    node.request(src=owner("first"))
    node.request(src=owner("first"), class_id=2, resources={"GPU": 1})
    _, gpu = node.granted()
    node.request(src=owner("second"), resources={"GPU": 1})
    assert recalled(node) == [gpu.lease_id]


def test_actors_recall_too():
    node, leases = busy()
    node.tell(GCS, messages.StartActor(actor_spec(), 1))
    assert recalled(node) == [leases[0].lease_id]


def test_children_of_a_blocked_worker_are_left_to_it():
    node = Node({"CPU": 1})
    node.request(src=DRIVER)
    [parent] = node.granted()
    node.request(src=owner_of(parent), count=2)
    node.tell(parent.worker, messages.WorkerBlocked(parent.worker_id))
    [child] = node.granted()
    recalled(node)
    node.request(src=owner("other"))
    assert recalled(node) == []
    node.pass_time(STARVED_AFTER_S + 0.6)
    assert recalled(node) == [child.lease_id], "but not for ever"


def test_blocked_leases_are_not_recalled():
    node, leases = busy(1)
    node.tell(leases[0].worker, messages.WorkerBlocked(leases[0].worker_id))
    node.request(src=owner("second"))
    node.granted()
    node.request(src=owner("third"))
    assert leases[0].lease_id not in recalled(node)
