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
    first = bench.tickets.take(SlabAsked(alice, ALICE, 1))
    bench.tickets.take(SlabAsked(alice, ALICE, 2))
    others = [bench.tickets.take(SlabAsked(bob, BOB, 1)), bench.tickets.take(CopyAsked(b"k"))]
    bench.tickets.answered(first)
    bench.tickets.drop(b"alice")
    assert list(bench.tickets.table) == others


def test_who_leaves_is_told_what_it_waits_for():
    bench = Bench()
    alice = bench.client(ALICE)
    waiting, cut_off = SlabAsked(alice, ALICE, 1), SlabAsked(alice, ALICE, 2)
    for asked in (waiting, cut_off, SlabAsked(bench.client(BOB), BOB, 1)):
        bench.tickets.take(asked)
    cut_off.is_open = False
    assert bench.tickets.withdraw(alice) == [waiting]
    assert not waiting.is_open
    assert bench.tickets.withdraw(alice) == []
    assert len(bench.tickets) == 3, "the store still answers"


def test_who_is_gone_waits_for_nothing():
    bench = Bench()
    alice = bench.client(ALICE)
    slab = SlabAsked(alice, ALICE, 1)
    reports = [ReportAsked(ALICE, 2), ReportAsked(BOB, 2)]
    bench.tickets.take(slab)
    for report in reports:
        bench.tickets.take(report)
    bench.tickets.peer_gone("alice")
    assert [slab.is_open, *(report.is_open for report in reports)] == [False, False, True]
    assert len(bench.tickets) == 3, "the store still answers"
