"""Who is attached, and what each waits for."""

import pytest

from actorrt.kernel.limits import CLIENT_LAST_WORDS_S
from actorrt.objects.clients import READS, Clients, Request
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
    [request] = bench.clients.cancel(client)
    assert not request.is_open
    assert list(request.wishes) == [1], "to be taken from where they wait"
    assert (bench.clients.wishes_count, bench.clients.cancel(client)) == (0, [])
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
    assert clients.take_dead(10.1) == []
    assert [client.process for client in clients.take_dead(clients.due_s)] == ["bob"]
    assert [client.process for client in clients.take_dead(11.0)] == ["alice"]
    assert (len(clients), clients.due_s) == (0, float("inf"))


def test_check_sees_a_request_that_was_forgotten():
    bench = Bench()
    client = bench.client()
    client.requests[Request(ALICE, 1, 1, READS, pins=True)] = None
    with pytest.raises(AssertionError, match="was not answered"):
        bench.clients.check()
