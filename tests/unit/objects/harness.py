"""A node under test: an object manager, its clock, what it sent, and a port that is answered by hand.

Every step checks the machine's invariants. ``Bench`` holds the parts below the machine, wired as the machine wires
them.
"""

from actorrt.kernel.effects import Do, Fail, Reply, Send, SetTimer
from actorrt.kernel.message import NOWHERE, Address, Envelope, PeerGone
from actorrt.objects import messages
from actorrt.objects.catalog import Catalog, Entry
from actorrt.objects.clients import READS, Clients, Request, StoreFacts
from actorrt.objects.leftovers import Leftovers
from actorrt.objects.messages import CarvedObject, ObjectWanted, Place, StoreAnswered
from actorrt.objects.operations import Create, Delete, Pin, Pull, Seal, Watch
from actorrt.objects.puller import Puller
from actorrt.objects.state import ObjectManagerMachine
from actorrt.objects.tickets import Tickets
from actorrt.wire.records import Failure

HERE, THERE, FAR = "here", "there", "far"
ME = Address(HERE, "objects")
RAYLET = Address(HERE, "raylet")
OWNER = Address("owner1", "owner")
FACTS = StoreFacts("shm", "prefix", 4096, 1 << 20)
ALICE, BOB = Address("alice", "owner"), Address("bob", "owner")
LOST = Failure("ObjectLostError", "the store does not know it")
FULL = Failure("ObjectStoreFullError", "no room")


def key(number):
    """20 bytes of an object's id, 8 of its own."""
    return number.to_bytes(2, "big") * 10 + b"\0" * 8


def manager(process):
    return Address(process, "objects")


def wanted(number, *holders, size_bytes=100, owner=OWNER.process):
    return ObjectWanted(key(number), size_bytes, owner, holders or (THERE,))


def carved(number, slab=1, owner=OWNER.process, size_bytes=100):
    return CarvedObject(key(number), owner, slab, 0, 64 * number, size_bytes, 1000 + number)


def place(number, size_bytes=100):
    return Place(0, 64 * number, size_bytes, 1000 + number)


class Node:
    """Drives one machine. The port's answers are given by the test."""

    def __init__(self, *clients, bulk_endpoint="bulk://here"):
        self.machine = ObjectManagerMachine(ME, RAYLET, FACTS, bulk_endpoint)
        self.now = 100.0
        self.effects = []
        self.timers = {}
        for pid, client in enumerate(clients, 1):
            self.attach(client, pid)
        self.effects.clear()

    # ---- in
    def tell(self, src, body, request_id=0):
        effects = self.machine.handle(Envelope(src, body, request_id), self.now)
        self.machine.check()
        self.effects += effects
        for effect in effects:
            if isinstance(effect, SetTimer):
                self.timers[effect.key] = effect
        return effects

    def attach(self, client, pid=1):
        for effect in self.tell(client, messages.Attach(pid), 1):
            if isinstance(effect, Do) and not isinstance(effect.operation, Watch):
                self.answer(effect.operation)

    def answer(self, operation, place=None, slab=None, failure=None):
        return self.tell(NOWHERE, StoreAnswered(operation.ticket, place, slab, failure))

    def ended(self, operation, *failed, failure=None):
        return self.tell(NOWHERE, messages.PullEnded(operation.ticket, failed, failure))

    def pin(self, client, *wishes, request_id=7, for_arguments=False, ticket=0):
        return self.tell(client, messages.PinObjects(tuple(wishes), for_arguments, ticket), request_id)

    def fetch(self, client, *wishes, request_id=8, ticket=0):
        return self.tell(client, messages.FetchObjects(tuple(wishes), ticket), request_id)

    def pinned(self, client, number):
        """A client that has this object pinned."""
        self.pin(client, wanted(number, HERE))
        [pin] = self.take(Pin)
        self.answer(pin, place(number))
        self.replies()

    def seal(self, client, *numbers, **details):
        reports = tuple(carved(number, **details) for number in numbers)
        return self.tell(client, messages.ObjectsSealed(carved=reports))

    def free(self, *numbers, src=OWNER):
        return self.tell(src, messages.FreeObjects(tuple(map(key, numbers))))

    def offer(self, number, process=THERE, size_bytes=100):
        return self.tell(manager(process), messages.ObjectOffered(key(number), f"bulk://{process}", size_bytes))

    def miss(self, number, process=THERE):
        return self.tell(manager(process), messages.ObjectMissing(key(number)))

    def located(self, number, *holders, failure=None, src=OWNER):
        return self.tell(src, messages.ObjectLocated(key(number), holders, failure))

    def gone(self, process):
        return self.tell(NOWHERE, PeerGone(process, "test"))

    def die(self, client):
        """A client's process ends, and its last words have come."""
        self.gone(client.process)
        self.tell(NOWHERE, messages.ClientDied(client.process))
        return self.pass_time(1.0)

    def pull(self, number, *, process=THERE):
        """Bring an object whose pull has asked this holder all the way here."""
        self.offer(number, process)
        [create] = self.take(Create)
        self.answer(create, place(number))
        [fetch] = self.take(Pull)
        return self.ended(fetch)

    def pass_time(self, seconds):
        end_s, effects = self.now + seconds, []
        while self.timers:
            first = min(self.timers, key=lambda key: self.timers[key].at_s)
            if self.timers[first].at_s > end_s:
                break
            timer = self.timers.pop(first)
            self.now = max(self.now, timer.at_s)
            effects += self.tell(NOWHERE, timer.body)
        self.now = end_s
        return effects

    # ---- out
    def take(self, kind):
        """Messages sent, answers given or operations asked for, of one kind; each is seen once."""
        taken = [effect for effect in self.effects if isinstance(content(effect), kind)]
        self.effects = [effect for effect in self.effects if effect not in taken]
        return [content(effect) for effect in taken]

    def sent(self, kind):
        """(destination, message) of one kind; each is seen once."""
        taken = [effect for effect in self.effects if isinstance(effect, Send) and isinstance(effect.body, kind)]
        self.effects = [effect for effect in self.effects if effect not in taken]
        return [(effect.dst, effect.body) for effect in taken]

    def replies(self):
        """(source, request id, answer or Fail) of what was answered; each is seen once."""
        taken = [effect for effect in self.effects if isinstance(effect, (Reply, Fail))]
        self.effects = [effect for effect in self.effects if effect not in taken]
        return [(e.dst, e.request_id, e.body if isinstance(e, Reply) else (e.kind, e.text)) for e in taken]

    @property
    def states(self):
        return {pull.key: pull.state for pull in self.machine.puller.pulls.table.values()}

    @property
    def figures(self):
        return self.machine.statistics().figures()


def content(effect):
    if isinstance(effect, (Send, Reply)):
        return effect.body
    return effect.operation if isinstance(effect, Do) else effect


class Bench:
    """The parts below the machine."""

    def __init__(self, **options):
        self.effects = []
        self.clients = Clients()
        self.leftovers = Leftovers()
        self.catalog = Catalog()
        self.tickets = Tickets()
        self.puller = Puller(self.effects, HERE, self.catalog, self.tickets, **options)

    def client(self, address=ALICE, pid=1):
        self.clients.attach(address.process, pid)
        return self.clients.table[address.process]

    def wish(self, *items, client=None, urgency=READS, request_id=7, pins=True, ticket=0):
        client = client or self.client()
        request = Request(Address(client.process, "owner"), request_id, len(items), urgency, pins=pins, ticket=ticket)
        return self.clients.open(client, request, items)

    def entry(self, number, owner=OWNER.process, writer="", now=0.0, size_bytes=100):
        entry = Entry(key(number), size_bytes, owner, writer, now, is_copy=not writer)
        self.catalog.add(entry)
        return entry

    def take(self, kind=object):
        taken = [content(effect) for effect in self.effects if isinstance(content(effect), kind)]
        self.effects[:] = [effect for effect in self.effects if not isinstance(content(effect), kind)]
        return taken


__all__ = ["Delete", "Do", "Fail", "Pin", "Reply", "Seal", "Send"]
