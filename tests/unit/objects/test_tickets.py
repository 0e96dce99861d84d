"""What the store was asked."""

from actorrt.objects.tickets import CopyAsked, PullAsked, ReportAsked, SlabAsked, Tickets
from tests.unit.objects.harness import ALICE, BOB, Bench


def test_numbers_are_never_used_again():
    tickets = Tickets()
    first = tickets.take(CopyAsked(b"k"))
    tickets.answered(first)
    second = tickets.take(PullAsked(b"k"))
    assert second != first
    assert tickets.get(first) is None
    assert type(tickets.get(second)) is PullAsked
    assert len(tickets) == 1


def test_with_a_client_goes_what_was_asked_for_it():
    bench = Bench()
    alice, bob = bench.client(ALICE), bench.client(BOB)
    first = bench.tickets.take(SlabAsked(ALICE, 1), alice)
    second = bench.tickets.take(SlabAsked(ALICE, 2), alice)
    other = bench.tickets.take(SlabAsked(BOB, 1), bob)
    bench.tickets.answered(first, alice)
    assert list(alice.tickets) == [second]
    bench.tickets.drop(alice)
    assert list(bench.tickets.table) == [other]
    assert not alice.tickets


def test_who_is_gone_waits_for_nothing():
    bench = Bench()
    alice = bench.client(ALICE)
    slab = SlabAsked(ALICE, 1)
    reports = [ReportAsked(ALICE, 2), ReportAsked(BOB, 2)]
    bench.tickets.take(slab, alice)
    for report in reports:
        bench.tickets.take(report)
    bench.tickets.peer_gone("alice")
    assert [slab.is_open, *(report.is_open for report in reports)] == [False, False, True]
    assert len(bench.tickets) == 3, "the store still answers"
