"""Which pull may begin."""

from actorrt.objects.admission import Admission
from actorrt.objects.clients import ARGUMENTS, HINTS, READS


def admitted(admission):
    found = []
    while (key := admission.admit()) is not None:
        found.append(key)
        admission.check()
    return found


def test_arguments_before_reads_before_hints_and_each_in_order():
    admission = Admission()
    for key, urgency in ((b"h", HINTS), (b"r", READS), (b"a1", ARGUMENTS), (b"a2", ARGUMENTS)):
        admission.wait(key, 1, urgency)
    assert len(admission) == 4
    assert admitted(admission) == [b"a1", b"a2", b"r", b"h"]
    assert len(admission) == 0


def test_number_and_bytes_are_bounded():
    admission = Admission(inflight_max=2, inflight_bytes_max=100)
    for key, size_bytes in ((b"1", 60), (b"2", 50), (b"3", 1), (b"4", 1), (b"5", 1)):
        admission.wait(key, size_bytes, READS)
    assert admitted(admission) == [b"1"], "the second waits for room and is not overtaken"
    admission.end(b"1")
    assert admitted(admission) == [b"2", b"3"]
    admission.end(b"2")
    assert admitted(admission) == [b"4"]
    assert admission.inflight_bytes == 2


def test_what_is_larger_than_the_bound_goes_alone():
    admission = Admission(inflight_bytes_max=100)
    admission.wait(b"1", 1000, READS)
    admission.wait(b"2", 0, READS)
    assert admitted(admission) == [b"1"]
    admission.end(b"1")
    assert admitted(admission) == [b"2"]


def test_what_is_wanted_more_urgently_moves_up():
    admission = Admission(inflight_max=1)
    admission.wait(b"1", 1, READS)
    admission.wait(b"2", 1, HINTS)
    admission.wait(b"3", 1, HINTS)
    admission.hurry(b"3", ARGUMENTS)
    admission.hurry(b"3", ARGUMENTS)
    admission.hurry(b"unknown", ARGUMENTS)
    admission.check()
    assert admitted(admission) == [b"3"]
    admission.leave(b"1")
    admission.check()
    admission.end(b"3")
    assert admitted(admission) == [b"2"]
