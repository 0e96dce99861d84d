from actorrt.kernel.effects import Send
from actorrt.kernel.machine import Machine
from actorrt.kernel.message import Address, Done, Envelope


class Echo:
    def __init__(self) -> None:
        self.count = 0

    def handle(self, envelope, now):
        self.count += 1
        return [Send(envelope.src, envelope.body)]

    def check(self):
        assert self.count >= 0

    def statistics(self):
        return Done()


def test_a_plain_object_is_a_machine():
    machine: Machine = Echo()
    peer = Address("unix:///x", "owner")
    assert machine.handle(Envelope(peer, Done()), 0.0) == [Send(peer, Done())]
    machine.check()
    assert machine.statistics() == Done()
