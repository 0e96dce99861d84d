"""Who is attached, and what each waits for."""

import pytest

from actorrt.kernel.limits import CLIENT_LAST_WORDS_S
from actorrt.objects.clients import READS, Client, Clients, Request
from tests.unit.objects.harness import ALICE, BOB, Bench, place, wanted


def test_attaching_again_is_no_news():
    clients = Clients()
    assert clients.attach("alice", 1)
    assert not clients.attach("alice", 1)
    assert clients.attach("alice", 2), "another process to be watched"
    assert clients.of(ALICE).pid == 2
    assert clients.of(BOB) is None
    assert clients.of(ALICE).name == b"alice"


def test_a_request_is_done_with_its_last_wish():
    bench = Bench()
    client = bench.client()
    first, second = bench.wish(wanted(1), wanted(1))
    assert bench.clients.wishes_count == 2
    assert not bench.clients.settle(second, place(2))
    bench.clients.check()
    assert bench.clients.settle(first, place(1))
    assert first.request.found == [place(1), place(2)]
    assert (bench.clients.wishes_count, client.requests) == (0, {})
    bench.clients.check()


def test_who_stops_waiting_has_no_wishes():
    bench = Bench()
    client = bench.client()
    first, _ = bench.wish(wanted(1), wanted(2))
    bench.clients.settle(first, place(1))
    [request] = client.requests
    bench.clients.cancel(client, [request])
    assert not request.is_open
    assert list(request.wishes) == [1], "to be taken from where they wait"
    assert (bench.clients.wishes_count, client.requests) == (0, {})
    bench.clients.check()


def test_the_dead_are_buried_a_moment_later():
    clients = Clients()
    for process in ("alice", "bob"):
        clients.attach(process, 1)
    clients.died("bob", 10.0)
    clients.died("alice", 10.1)
    clients.died("bob", 10.1)
    clients.check()
    assert clients.due_s == 10.0 + CLIENT_LAST_WORDS_S
    assert clients.is_dying("bob")
    assert clients.the_dead(10.1) == []
    [bob] = clients.the_dead(clients.due_s)
    assert bob.process == "bob"
    clients.remove(bob)
    assert not clients.is_dying("bob")
    for client in clients.the_dead(11.0):
        clients.remove(client)
    assert (len(clients), clients.due_s) == (0, float("inf"))


def test_requests_with_a_ticket_are_found_while_they_are_open():
    bench = Bench()
    client = bench.client()
    [first] = bench.wish(wanted(1), ticket=5)
    [second] = bench.wish(wanted(1), ticket=5)
    [third] = bench.wish(wanted(1), ticket=6)
    bench.wish(wanted(1))
    bench.clients.check()
    assert client.withdrawable == {5: second.request, 6: third.request}
    bench.clients.settle(first, None)
    bench.clients.cancel(client, [third.request])
    assert client.withdrawable == {5: second.request}
    bench.clients.check()


def test_pins_are_counted():
    client = Bench().client()
    client.pinned([place(3), place(3)])
    number = place(3).number
    assert [client.unpin(number), client.unpin(number), client.unpin(number)] == [True, True, False]
    assert client.pins == {}


@pytest.mark.parametrize(
    ("process", "pid", "is_watched"),
    [
        ("ipc:///run/a,tcp://10.0.0.5:7", 5, True),
        ("inproc://x", 5, True),
        ("tcp://10.0.0.5:7", 5, False),
        ("tcp://10.0.0.5:7,tcp://[fe80::1]:7", 5, False),
        ("inproc://x", 0, False),
    ],
)
def test_whose_end_can_be_seen(process, pid, is_watched):
    assert Client(process, pid).is_watched == is_watched


def test_check_sees_a_request_that_was_forgotten():
    bench = Bench()
    client = bench.client()
    client.requests[Request(ALICE, 1, 1, READS, pins=True)] = None
    with pytest.raises(AssertionError, match="was not answered"):
        bench.clients.check()
