import subprocess
import sys

from actorrt.kernel.effects import CancelTimer, Do, Fail, Reply, Send, SetTimer
from actorrt.kernel.message import Address, Done, Envelope, RequestFailed
from actorrt.kernel.trace import Trace

PEER = Address("unix:///peer", "owner")


class Opaque:
    pass


class Described:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"Described({self.text})"


def record(trace, *effects, now=1.0, request_id=0):
    trace.record("owner", now, Envelope(PEER, Done(), request_id), list(effects))


def test_events():
    trace = Trace()
    record(
        trace,
        Send(PEER, Done()),
        Reply(PEER, 1, Done()),
        Fail(PEER, 1, "InternalError", "x"),
        SetTimer("k", 1.0, Done()),
        CancelTimer("k"),
        Do(Opaque()),
        request_id=9,
    )
    (event,) = trace.events
    assert event.effects == ("Send(Done)", "Reply(Done)", "Fail", "SetTimer(Done)", "CancelTimer", "Do(Opaque)")
    assert (event.number, event.actor, event.body, event.request_id) == (1, "owner", "Done", 9)
    assert event.src == "owner@unix:///peer"
    assert trace.digest.startswith(event.digest)
    assert "1 events" in repr(trace)


def test_the_buffer_is_bounded_and_the_hash_is_not():
    short, long = Trace(events_kept_max=2), Trace()
    for trace in (short, long):
        for number in range(5):
            record(trace, now=float(number))
    assert [event.number for event in short.events] == [4, 5]
    assert short.count == long.count == 5
    assert short.digest == long.digest


def test_every_difference_shows():
    digests = set()
    variants = [
        record,
        lambda t: record(t, now=2.0),
        lambda t: record(t, request_id=1),
        lambda t: record(t, Send(PEER, Done())),
        lambda t: record(t, Send(Address("x", "owner"), Done())),
        lambda t: record(t, Send(PEER, RequestFailed("a", "b"))),
        lambda t: record(t, Do(Described("a"))),
        lambda t: record(t, Do(Described("b"))),
        lambda t: record(t, Do(Opaque())),
        lambda t: record(t, Do({"b", "a"})),
        lambda t: t.record("gcs", 1.0, Envelope(PEER, Done()), []),
    ]
    for variant in variants:
        trace = Trace()
        variant(trace)
        digests.add(trace.digest)
    assert len(digests) == len(variants)


def test_addresses_and_hash_seeds_do_not_show():
    one, two = Trace(), Trace()
    record(one, Do(Opaque()))
    record(two, Do(Opaque()))
    assert one.digest == two.digest
    code = """
from actorrt.kernel.effects import Do
from actorrt.kernel.message import NOWHERE, Done, Envelope
from actorrt.kernel.trace import Trace
trace = Trace()
trace.record("owner", 1.0, Envelope(NOWHERE, Done()), [Do({"alpha", "beta", "gamma"}), Do({"b": 1, "a": 2})])
print(trace.digest)
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1
