"""Who is served when, and where."""

import pytest

from actorrt.kernel.limits import REDIRECT_HOPS_MAX
from actorrt.owner.messages import LeasesRedirected, LeasesRefused
from actorrt.raylet import messages
from actorrt.raylet.placing import RESERVATION_S, STARVED_AFTER_S, UNKNOWN_NODE_GRACE_S
from actorrt.wire.records import Strategy
from tests.unit.raylet.harness import DRIVER, GCS, Node, actor_spec, load, node_info, owner

BIG = node_info("big", {"CPU": 64})
SMALL = node_info("small", {"CPU": 2})
SPREAD = Strategy("SPREAD")


def to(node, *, soft=False):
    return Strategy("NODE_AFFINITY", node.node_id, soft)


# ------------------------------------------------------------------------------------------------------------ fairness
def test_owners_take_turns():
    node = Node({"CPU": 1})
    node.request(src=owner("greedy"), count=60)
    [lease] = node.granted()
    node.request(src=owner("modest"), count=2)
    order = []
    for _ in range(5):
        holder = order[-1] if order else "greedy"
        node.give_back(lease, src=owner(holder))
        [lease] = node.granted()
        order.append(node.machine.grants.table[lease.lease_id].holder.process)
    assert order == ["greedy", "modest", "greedy", "modest", "greedy"] or order[:4] == ["modest", "greedy"] * 2


def test_classes_of_one_owner_take_turns():
    node = Node({"CPU": 4})
    node.request(class_id=1, count=4)
    leases = node.granted()
    node.request(class_id=1, count=9)
    node.request(class_id=2, count=9)
    for lease in leases:
        node.give_back(lease)
    assert sorted(lease.class_id for lease in node.granted()) == [1, 1, 2, 2]


def test_a_small_request_passes_a_large_one():
    node = Node({"CPU": 4})
    node.request(class_id=1, count=3)
    node.granted()
    node.request(class_id=2, resources={"CPU": 4})
    node.request(src=owner("other"), class_id=3)
    assert [lease.class_id for lease in node.granted()] == [3]


def test_a_large_request_does_not_starve():
    node = Node({"CPU": 2})
    node.request(src=owner("stream"), count=2)
    leases = node.granted()
    node.request(src=owner("large"), class_id=7, resources={"CPU": 2})
    served = None
    for round_number in range(20):
        node.request(src=owner("stream"), count=2)
        node.pass_time(0.15)
        lease = leases.pop(0)
        node.give_back(lease, src=owner("stream"))
        for granted in node.granted():
            if granted.class_id == 7:
                served = round_number
            leases.append(granted)
        if served is not None or not leases:
            break
    while leases and served is None:
        node.give_back(leases.pop(), src=owner("stream"))
        served = next((1 for granted in node.granted() if granted.class_id == 7), None)
    assert served is not None


def starve(node):
    """A request for both CPUs waits while one of them is in use."""
    node.request(src=owner("a"), class_id=1)
    [held] = node.granted()
    node.request(src=owner("large"), class_id=7, resources={"CPU": 2})
    node.pass_time(STARVED_AFTER_S + 0.6)
    return held


def test_what_a_starved_request_needs_is_withheld():
    node = Node({"CPU": 2})
    held = starve(node)
    node.request(src=owner("b"))
    assert node.granted() == []
    assert "an older request for {CPU: 2} is served first" in node.reasons()[1]
    node.request(src=owner("c"), resources={})
    assert len(node.granted()) == 1, "who wants nothing of it is not delayed"
    node.give_back(held, src=owner("a"))
    assert [lease.class_id for lease in node.granted()] == [7]


def test_withholding_ends_for_a_while():
    """The holder may wait for the very request that is held back, in a way nobody here can see."""
    node = Node({"CPU": 2})
    starve(node)
    node.request(src=owner("b"))
    node.pass_time(RESERVATION_S + 0.5)
    assert len(node.granted()) == 1


def test_nothing_is_withheld_for_what_actors_hold():
    node = Node({"CPU": 2})
    node.tell(GCS, messages.StartActor(actor_spec(resources={"CPU": 1}), 1))
    node.request(src=owner("large"), class_id=7, resources={"CPU": 2})
    node.pass_time(STARVED_AFTER_S + 0.6)
    node.request(src=owner("b"))
    assert len(node.granted()) == 1


def test_nothing_is_withheld_from_the_children_of_a_blocked_worker():
    node = Node({"CPU": 1, "GPU": 1})
    node.request(src=owner("a"), resources={"GPU": 1})
    [parent] = node.granted()
    node.request(src=owner("large"), class_id=7, resources={"CPU": 1, "GPU": 1})
    node.tell(parent.worker, messages.WorkerBlocked(parent.worker_id))
    node.pass_time(STARVED_AFTER_S + 0.6)
    node.request(src=owner(parent.worker.process), class_id=2)
    assert [lease.class_id for lease in node.granted()] == [2]


# -------------------------------------------------------------------------------------------------------- redirection
def test_what_does_not_fit_goes_where_it_does():
    node = Node({"CPU": 1})
    node.cluster(BIG, loads=[load(BIG, {"CPU": 3})])
    node.request(count=6)
    assert len(node.granted()) == 1
    [redirected] = node.take(LeasesRedirected)
    assert (redirected.count, redirected.raylet, redirected.hops) == (3, BIG.raylet, 1), "no more than is free there"
    assert node.figures.requests_waiting == 2
    node.cluster(loads=[load(BIG, {"CPU": 1}, version=2)])
    [redirected] = node.take(LeasesRedirected)
    assert redirected.count == 1, "the next report corrects the guess"


def test_old_reports_are_ignored():
    node = Node({"CPU": 1})
    node.cluster(BIG, loads=[load(BIG, {}, version=5)])
    node.request(count=2)
    node.cluster(loads=[load(BIG, {"CPU": 9}, version=4)])
    assert node.take(LeasesRedirected) == []


def test_the_infeasible_goes_to_a_busy_node():
    node = Node({"CPU": 1})
    node.cluster(BIG, loads=[load(BIG, {})])
    node.request(resources={"CPU": 8})
    [redirected] = node.take(LeasesRedirected)
    assert redirected.raylet == BIG.raylet


def test_the_infeasible_everywhere_waits_and_says_why():
    node = Node({"CPU": 1})
    node.cluster(SMALL)
    node.request(resources={"CPU": 8})
    assert "the most any has is {CPU: 2}" in node.reasons()[0]
    node.cluster(BIG)
    [redirected] = node.take(LeasesRedirected)
    assert redirected.raylet == BIG.raylet


def test_hops_are_bounded():
    node = Node({"CPU": 1})
    node.cluster(BIG)
    node.request(count=2, hops=REDIRECT_HOPS_MAX)
    assert len(node.granted()) == 1
    assert node.take(LeasesRedirected) == []
    node.pass_time(STARVED_AFTER_S + 0.6)
    [redirected] = node.take(LeasesRedirected)
    assert redirected.hops == 1, "after some waiting it may travel again"


def test_who_came_from_elsewhere_stays_if_it_fits():
    node = Node({"CPU": 4})
    node.cluster(BIG)
    node.request(count=4, hops=1)
    assert len(node.granted()) == 4, "though this node is more than half full"


def test_work_is_packed_before_it_is_spread():
    node = Node({"CPU": 4})
    node.cluster(BIG)
    node.request(count=4)
    assert len(node.granted()) == 3, "up to half of the CPUs in use, and the one that passes it"
    assert sum(message.count for message in node.take(LeasesRedirected)) == 1


def test_a_node_that_is_gone_gets_nothing():
    node = Node({"CPU": 1})
    node.cluster(BIG)
    node.gone(BIG.raylet.process)
    node.request(count=2)
    assert node.take(LeasesRedirected) == []
    node.cluster(node_info("big", {"CPU": 64}, alive=False))
    node.request(class_id=2, resources={"CPU": 8})
    assert node.take(LeasesRedirected) == []


def test_spread():
    node = Node({"CPU": 8})
    others = [node_info(f"n{number}", {"CPU": 8}) for number in range(3)]
    node.cluster(*others)
    node.request(count=8, strategy=SPREAD)
    counts = {message.raylet.process: message.count for message in node.take(LeasesRedirected)}
    assert counts == {"n0": 2, "n1": 2, "n2": 2}
    assert len(node.granted()) == 2


# ----------------------------------------------------------------------------------------------------- affinity, labels
def test_affinity_to_this_node():
    node = Node({"CPU": 1})
    node.cluster(BIG)
    node.request(count=3, strategy=to(node.info))
    assert len(node.granted()) == 1
    assert node.take(LeasesRedirected) == [], "the others wait here"


def test_affinity_to_another_node_waits_there():
    node = Node({"CPU": 1})
    node.cluster(BIG, loads=[load(BIG, {})])
    node.request(count=2, strategy=to(BIG), hops=REDIRECT_HOPS_MAX)
    [redirected] = node.take(LeasesRedirected)
    assert (redirected.raylet, redirected.count) == (BIG.raylet, 2)


def test_hard_affinity_to_a_dead_node_is_refused():
    node = Node()
    node.cluster(BIG)
    node.cluster(node_info("big", alive=False))
    node.request(count=2, strategy=to(BIG))
    [refused] = node.take(LeasesRefused)
    assert (refused.count, refused.kind) == (2, "TaskUnschedulableError")
    assert BIG.node_id.hex() in refused.text


def test_hard_affinity_to_a_node_never_heard_of_waits_a_moment():
    node = Node()
    node.request(strategy=to(BIG))
    assert node.take(LeasesRefused) == []
    node.pass_time(UNKNOWN_NODE_GRACE_S + 0.6)
    assert len(node.take(LeasesRefused)) == 1
    node.request(strategy=to(BIG))
    node.cluster(BIG)
    assert len(node.take(LeasesRedirected)) == 1


def test_soft_affinity_goes_elsewhere():
    node = Node()
    node.request(strategy=to(BIG, soft=True))
    assert len(node.granted()) == 1
    node.cluster(BIG)
    node.request(class_id=2, strategy=to(BIG, soft=True))
    assert len(node.take(LeasesRedirected)) == 1


def test_labels():
    node = Node({"CPU": 4})
    west = node_info("west", {"CPU": 4}, {"zone": "west"})
    node.request(labels=[("zone", "west")])
    assert "none of 1 nodes matches the labels {zone: west}" in node.reasons()[0]
    node.cluster(west)
    [redirected] = node.take(LeasesRedirected)
    assert redirected.raylet == west.raylet
    node.request(class_id=2, labels=[("zone", "!west")])
    assert len(node.granted()) == 1


def test_a_malformed_selector_is_refused():
    node = Node()
    node.request(labels=[("zone", "in(")])
    [refused] = node.take(LeasesRefused)
    assert "label" in refused.text


def test_actors_are_not_redirected():
    node = Node({"CPU": 1})
    node.cluster(BIG)
    node.request()
    node.tell(GCS, messages.StartActor(actor_spec(), 1))
    assert node.take(LeasesRedirected) == []
    assert node.figures.requests_waiting == 1


@pytest.mark.parametrize("count", [1, 64])
def test_every_request_is_answered_once(count):
    node = Node({"CPU": 4})
    node.cluster(BIG, SMALL)
    node.request(count=count)
    redirected = sum(message.count for message in node.take(LeasesRedirected))
    assert len(node.granted()) + redirected + node.figures.requests_waiting == count


def test_an_unknown_owner_can_cancel_nothing():
    node = Node({"CPU": 1})
    node.request(count=3)
    node.tell(owner("other"), messages.CancelLeases(1, 3))
    assert node.figures.requests_waiting == 2
    assert node.machine.queue.demands[0].holder == DRIVER
