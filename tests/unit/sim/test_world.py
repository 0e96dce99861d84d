import pytest

from actorrt.gcs.messages import GetJob, JobList
from actorrt.kernel.effects import CancelTimer, Do, Fail, Reply, SetTimer
from actorrt.kernel.message import NOWHERE, Address, Done, Envelope, PeerGone, RequestFailed
from actorrt.owner.messages import GetObjects
from actorrt.sim.world import SimulationError, World
from actorrt.transports.fabric import Link
from actorrt.worker.messages import CancelTask


class Recorder:
    """A machine that remembers what it was told and answers with what ``react`` says."""

    def __init__(self, react=lambda _envelope: []):
        self.seen = []
        self.times = []
        self.checks = 0
        self.react = react

    def handle(self, envelope, now):
        self.seen.append(envelope)
        self.times.append(now)
        return self.react(envelope)

    def check(self):
        self.checks += 1

    def statistics(self):
        return None

    @property
    def bodies(self):
        return [envelope.body for envelope in self.seen]


def number(value):
    return GetObjects((value.to_bytes(2, "big"),))


def pair(world, react=lambda _envelope: []):
    """Two processes with a recorder each."""
    found = []
    for name in ("one", "two"):
        machine = Recorder(react if name == "two" else lambda _envelope: [])
        world.spawn(name).attach("owner", machine, machine.seen.append)
        found.append(machine)
    return found


def send(world, body, src="one", dst="two"):
    world.send(world.processes[src], "owner", Address(dst, "owner"), body)


def test_messages_arrive_late_in_order_and_through_the_codec():
    world = World(1, link=Link(latency_s=0.001, jitter_s=0.01))
    _, two = pair(world)
    sent = [number(value) for value in range(50)]
    for body in sent:
        send(world, body)
    world.run_for(1)
    assert two.bodies == sent
    assert not any(got is body for got, body in zip(two.bodies, sent, strict=True))
    assert two.seen[0].src == Address("one", "owner")
    assert two.times[0] >= 0.001
    assert two.times == sorted(two.times)


def test_what_cannot_travel_fails_in_the_sender():
    world = World(1)
    pair(world)
    with pytest.raises(TypeError, match="cannot travel"):
        send(world, GetObjects((object(),)))


def test_a_busy_machine_takes_control_messages_first():
    world = World(1)
    machine = Recorder()
    cell = world.spawn("one").attach("owner", machine, machine.seen.append)
    for body in (number(1), number(2), CancelTask(b"t")):
        world.post(cell, Envelope(NOWHERE, body))
    world.run_for(1)
    assert machine.bodies == [CancelTask(b"t"), number(1), number(2)]
    assert len(dict.fromkeys(machine.times)) == 3, "each step takes time"


def test_timers_fire_once_are_replaced_and_cancelled():
    world = World(1)
    effects = {
        number(0): [SetTimer("a", 1.0, number(1)), SetTimer("b", 2.0, number(2)), SetTimer("c", 3.0, number(3))],
        number(1): [SetTimer("b", 4.0, number(4)), CancelTimer("c")],
    }
    machine = Recorder(lambda envelope: effects.get(envelope.body, []))
    world.post(world.spawn("one").attach("owner", machine, print), Envelope(NOWHERE, number(0)))
    world.run_for(10)
    assert machine.bodies == [number(0), number(1), number(4)]
    assert machine.times[1:] == pytest.approx([1.0, 4.0], abs=1e-3)


def test_effects_are_carried_out_in_order_and_stop_with_the_process():
    world = World(1)
    done = []
    process = world.spawn("one")

    def perform(operation):
        done.append(operation)
        if operation == "end":
            world.end(process, "asked to", orderly=True)

    machine = Recorder(lambda _envelope: [Do("first"), Do("end"), Do("never")])
    world.post(process.attach("owner", machine, perform), Envelope(NOWHERE, number(0)))
    world.run_for(1)
    assert done == ["first", "end"]


def test_a_peer_hears_of_an_end_after_the_last_message():
    for seed in range(20):
        world = World(seed)
        _, two = pair(world)
        for value in range(5):
            send(world, number(value))
        world.end(world.processes["one"], "left", orderly=True)
        world.run_for(1)
        assert two.bodies == [*map(number, range(5)), PeerGone("one", "left")]


def test_a_crash_may_lose_the_last_messages_but_none_in_between():
    lengths = {}
    for seed in range(40):
        world = World(seed, link=Link(latency_s=0.001, jitter_s=0.002))
        _, two = pair(world)
        for value in range(5):
            send(world, number(value))
        world.end(world.processes["one"], "killed", orderly=False)
        world.run_for(1)
        assert two.bodies[-1] == PeerGone("one", "killed")
        assert two.bodies[:-1] == [number(value) for value in range(len(two.bodies) - 1)]
        lengths[len(two.bodies)] = None
    assert len(lengths) > 1, "some seeds lose messages, others do not"


def test_who_had_no_channel_hears_nothing():
    world = World(1)
    _, two = pair(world)
    world.end(world.processes["one"], "left", orderly=True)
    world.run_for(1)
    assert two.seen == []


def test_sending_to_nobody_is_a_dial_that_fails_and_later_ones_fail_again():
    world = World(1)
    one, _ = pair(world)
    send(world, number(1), dst="nowhere")
    send(world, number(2), dst="nowhere")
    world.run_for(1)
    assert one.bodies == [PeerGone("nowhere", "nobody answers there")]
    send(world, number(3), dst="nowhere")
    world.run_for(1)
    assert len(one.bodies) == 2


def test_a_broken_connection_is_told_to_both_and_can_be_made_again():
    world = World(1)
    one, two = pair(world)
    send(world, number(1))
    world.run_for(1)
    world.disconnect("one", "two", "reset")
    send(world, number(2))
    world.run_for(1)
    assert one.bodies == [PeerGone("two", "reset")]
    assert two.bodies == [number(1), PeerGone("one", "reset")]
    send(world, number(3))
    world.run_for(1)
    assert two.bodies[-1] == number(3)


def test_who_dials_again_before_the_other_noticed_is_told_again():
    for seed in range(20):
        world = World(seed)
        one, two = pair(world)
        send(world, number(1))
        world.run_for(1)
        world.disconnect("one", "two", "reset")
        world.run(lambda: one.bodies or two.bodies[1:], 2)
        first, other = (one, two) if one.bodies else (two, one)
        told, heard = len(first.bodies), list(other.bodies)
        send(world, number(2), *(("one", "two") if first is one else ("two", "one")))
        world.run_for(1)
        assert isinstance(first.bodies[-1], PeerGone)
        assert len(first.bodies) == told + 1
        assert other.bodies == [*heard, PeerGone("two" if other is one else "one", "reset")], "the message is lost"
        assert not world.channels


def test_requests_are_answered_refused_and_fail_with_their_process():
    def react(envelope):
        if isinstance(envelope.body, PeerGone):
            return []
        if envelope.body == GetJob(b"no"):
            return [Fail(envelope.src, envelope.request_id, "Overloaded", "no")]
        return [] if envelope.body == GetJob(b"never") else [Reply(envelope.src, envelope.request_id, JobList(()))]

    world = World(1)
    pair(world, react)
    answers = []
    one, two = world.processes["one"], Address("two", "owner")
    for job_id in (b"yes", b"no", b"never"):
        one.request(two, GetJob(job_id), answers.append)
    one.request(Address("two", "nobody"), GetJob(), answers.append)
    world.run_for(1)
    refused = RequestFailed("InternalError", "GetJob: there is no actor 'nobody' at two")
    assert sorted(map(repr, answers)) == sorted(map(repr, [JobList(()), RequestFailed("Overloaded", "no"), refused]))
    assert list(world.processes["two"].cells["owner"].open.values()) == ["GetJob"]
    world.end(world.processes["two"], "died", orderly=True)
    world.run_for(1)
    assert isinstance(answers[-1], RequestFailed)
    assert "the peer is gone: died" in answers[-1].text
    assert not one.requests


def test_an_answer_nobody_asked_for_is_a_bug():
    world = World(1)
    pair(world, lambda envelope: [Reply(envelope.src, 7, Done())])
    send(world, number(1))
    with pytest.raises(SimulationError, match="which is not open"):
        world.run_for(1)


def test_requests_of_a_lost_process_are_forgotten():
    world = World(1)
    pair(world)
    world.processes["one"].request(Address("two", "owner"), GetJob(), print)
    world.run_for(1)
    world.end(world.processes["one"], "died", orderly=True)
    world.run_for(1)
    assert not world.processes["two"].cells["owner"].open


def test_what_raises_in_a_machine_says_how_to_see_it_again():
    world = World(42)

    def react(_envelope):
        raise KeyError("state")

    pair(world, react)
    send(world, number(1))
    with pytest.raises(SimulationError, match=r"seed 42, t=0\.\d+, step \d+: owner@two handled .*KeyError: 'state'"):
        world.run_for(1)


@pytest.mark.parametrize(("check_steps", "checks"), [(1, 10), (5, 2), (0, 0)])
def test_invariants_are_checked_as_often_as_asked(check_steps, checks):
    world = World(1, check_steps=check_steps)
    _, two = pair(world)
    for value in range(10):
        send(world, number(value))
    world.run_for(1)
    assert two.checks == checks


def test_waiting_for_what_never_comes_ends():
    world = World(1)
    with pytest.raises(SimulationError, match="nothing happens any more"):
        world.run(lambda: False, 10)
    world.after(20, lambda: None)
    with pytest.raises(SimulationError, match="it is 10 s"):
        world.run(lambda: False, 10)


def test_streams_depend_on_seed_and_purpose_alone():
    assert World(1).rng("a").random() == World(1).rng("a").random()
    assert World(1).rng("a").random() != World(1).rng("b").random()
    assert World(1).rng("a").random() != World(2).rng("a").random()
