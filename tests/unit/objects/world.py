"""The world around one object manager, with enough memory to know what it may expect.

``Port`` has a store without bytes: it refuses to carry out what no sane manager would ask for. ``World`` plays clients,
owners and other nodes, keeps what it was told, and raises when a promise is broken.
"""

from actorrt.kernel.effects import Do, Fail, Reply, Send, SetTimer
from actorrt.kernel.message import NOWHERE, Address, Envelope, PeerGone
from actorrt.objects import messages, operations
from actorrt.objects.messages import ObjectWanted, Place, StoreAnswered
from actorrt.objects.puller import MANAGER
from actorrt.objects.state import ObjectManagerMachine
from actorrt.owner.messages import CopiesAdded, CopiesRemoved, LocateObject, NodeChanged, VerifyObjects
from actorrt.wire.records import Failure
from tests.unit.objects.harness import FACTS, HERE, ME, RAYLET

CLIENTS = ("alice", "bob", "carol", "tcp://far")
PIDS = {"alice": 1, "bob": 1, "carol": 2, "tcp://far": 1}
"""The first two are one process, which has called ``init`` again. The last is nobody's whose end could be seen."""
OWNERS = ("alice", "bob", "owner1", "owner2")
NODES = ("there", "far", "third")
SIZE_BYTES = 100


class Port:
    """Operations wait in ``pending`` until ``work`` carries one out; answers wait in ``box`` for the machine."""

    def __init__(self, world):
        self.world = world
        self.is_open = False
        self.pending = []
        self.box = []
        self.numbers = 0
        self.creating = {}  # number -> (key, client)
        self.sealed = {}  # key -> number
        self.copies = {}  # key -> number, of those the secondary ones
        self.lingering = {}  # number -> key, deleted and pinned
        self.pins = {}  # (client, number) -> count
        self.slabs = {}  # number -> client
        self.added = {}  # ticket -> sources
        self.watched = {}
        self.done = {}

    def perform(self, operation):
        kind = type(operation)
        self.done[kind] = self.done.get(kind, 0) + 1
        if kind not in {operations.Open, operations.Watch, operations.Unwatch}:
            assert self.is_open, f"{operation!r} of a store that is not made"
        if kind is operations.AddSource:
            self.added.setdefault(operation.ticket, []).append(operation.source)
        elif kind in {operations.Create, operations.Lease, operations.Pin, operations.Pull, operations.Open}:
            self.pending.append(operation)
        elif kind is operations.Report:
            self.box.append(messages.StoreReported(operation.ticket, {"objects": len(self.sealed)}))
        elif kind is operations.Watch:
            self.watched[operation.process] = None
        else:
            getattr(self, f"_{kind.__name__.lower()}")(operation)

    # ---- carried out at once
    def _seal(self, operation):
        for number in operation.created:
            key, client = self.creating.pop(number)
            assert client == operation.client
            self.sealed[key] = number
            if client == MANAGER:
                self.copies[key] = number
        for item in operation.carved:
            assert self.slabs[item.slab] == operation.client
            assert item.key not in self.sealed, f"{item.key.hex()} is here already"
            self.sealed[item.key] = item.number
        for number in operation.done_slabs:
            assert self.slabs.pop(number) == operation.client

    def _unwatch(self, operation):
        del self.watched[operation.process]

    def _abort(self, operation):
        del self.creating[operation.number]

    def _release(self, operation):
        for number in operation.numbers:
            self._unpin(operation.client, number)

    def _unpin(self, client, number):
        self.pins[client, number] -= 1
        if not self.pins[client, number]:
            del self.pins[client, number]

    def _delete(self, operation):
        for key in operation.keys:
            self.sealed.pop(key, None)
            self.copies.pop(key, None)

    def _dropclient(self, operation):
        client = operation.client
        self.pending = [item for item in self.pending if getattr(item, "client", None) != client]
        for pin in [pin for pin in self.pins if pin[0] == client]:
            del self.pins[pin]
        for number in [number for number, (_, of) in self.creating.items() if of == client]:
            del self.creating[number]
        for number in [number for number, of in self.slabs.items() if of == client]:
            del self.slabs[number]

    # ---- carried out in its time
    def work(self, index, *, fails=False):
        operation = self.pending.pop(index)
        kind = type(operation)
        if kind is operations.Pull:
            self._pull(operation, fails=fails)
            return
        place = slab = failure = None
        if fails:
            failure = Failure("ObjectStoreFullError", "no room")
        elif kind is operations.Open:
            self.is_open = True
        elif kind is operations.Create:
            self.numbers += 1
            taken = [key for key, _ in self.creating.values()]
            assert operation.key not in self.sealed, f"{operation!r}: it is here already"
            assert operation.key not in taken, f"{operation!r}: it is being created"
            self.creating[self.numbers] = (operation.key, operation.client)
            place = Place(0, 64 * self.numbers, operation.size_bytes, self.numbers)
        elif kind is operations.Lease:
            self.numbers += 100
            self.slabs[self.numbers] = operation.client
            slab = messages.SlabLeased(self.numbers, 0, 0, operation.length_bytes, self.numbers + 1)
        elif operation.key in self.sealed:
            number = self.sealed[operation.key]
            self.pins[operation.client, number] = self.pins.get((operation.client, number), 0) + 1
            place = Place(0, 64 * number, SIZE_BYTES, number)
        else:
            failure = Failure("ObjectLostError", "no such object")
        self.box.append(StoreAnswered(operation.ticket, place, slab, failure))

    def _pull(self, operation, *, fails):
        sources = [*operation.sources, *self.added.pop(operation.ticket, [])]
        having = [process for process, _ in sources if operation.key in self.world.elsewhere.get(process, {})]
        if operation.place.number not in self.creating:
            failure = Failure("ObjectLostError", "it was given up")
            self.box.append(messages.PullEnded(operation.ticket, (), failure))
        elif having and not fails:
            failed = tuple(process for process, _ in sources if process not in having)
            self.box.append(messages.PullEnded(operation.ticket, failed))
        else:
            failure = Failure("ObjectLostError", "no source is left")
            named = tuple(process for process, _ in sources)
            self.box.append(messages.PullEnded(operation.ticket, named, failure))

    def drop(self, key):
        """Pressure: an unpinned copy goes."""
        number = self.copies[key]
        if not any(pin[1] == number for pin in self.pins):
            del self.copies[key], self.sealed[key]
            self.box.append(messages.CopiesDropped((key,)))


class World:
    """See the module."""

    def __init__(self):
        self.machine = ObjectManagerMachine(ME, RAYLET, FACTS, "bulk")
        self.port = Port(self)
        self.now = 100.0
        self.timers = {}
        self.keys = 0
        self.objects = {}  # key -> owner, of all that were ever made
        self.freed = {}
        self.told = {}  # the keys among them that the machine was told of
        self.elsewhere = {name: {} for name in NODES}  # node -> keys it has
        self.known = {}  # key -> holders, as its owner knows
        self.reports = {}  # client -> carved objects not reported yet
        self.attached = {}
        self.asks = []  # (node, key)
        self.locates = []  # (owner, key)
        self.requests = {}  # (client, number) -> body
        self.request_count = 0
        self.held = {}  # client -> list of numbers
        self.left = {}  # client that has left -> list of numbers it still looks at
        self.writing = {}  # client -> list of places
        self.slabs = {}  # client -> list of slabs
        self.seen = {}
        self.answers = []

    # ---- the machine
    def tell(self, src, body, request_id=0):
        for effect in self.machine.handle(Envelope(src, body, request_id), self.now):
            self._take(effect)
        self.machine.check()

    def _take(self, effect):
        if isinstance(effect, Do):
            self.port.perform(effect.operation)
        elif isinstance(effect, SetTimer):
            self.timers[effect.key] = effect
        elif isinstance(effect, (Reply, Fail)):
            self._answered(effect)
        else:
            assert isinstance(effect, Send)
            self._sent(effect.dst, effect.body)

    def _answered(self, effect):
        request = self.requests.pop((effect.dst.process, effect.request_id), None)
        assert request is not None, f"{effect!r} answers what nobody asks (any more)"
        body = effect.body if isinstance(effect, Reply) else effect
        self._saw(type(body))
        client = effect.dst.process
        if isinstance(body, messages.Attached):
            self.attached[client] = None
        elif isinstance(body, messages.ObjectsPinned):
            assert len(body.found) == len(request.wanted)
            self.held.setdefault(client, []).extend(f.number for f in body.found if isinstance(f, Place))
            for wish, found in zip(request.wanted, body.found, strict=True):
                if isinstance(found, Failure):
                    self._saw(found.kind)
                    assert found.subject_id == wish.key[:20]
        elif isinstance(body, messages.ObjectsFetched):
            assert all(at < len(request.wanted) for at, _ in body.failed)
        elif isinstance(body, messages.ObjectCreated):
            self.writing.setdefault(client, []).append((request, body.place))
        elif isinstance(body, messages.SlabLeased):
            self.slabs.setdefault(client, []).append([body, 0])

    def _sent(self, dst, body):
        self._saw(type(body))
        if isinstance(body, messages.AskForObject):
            self.asks.append((dst.process, body.key))
        elif isinstance(body, LocateObject):
            self.locates.append((dst.process, body.key))
        elif isinstance(body, CopiesAdded):
            for key in body.keys:
                if key in self.freed:
                    self.free(key)
                else:
                    self.known.setdefault(key, {})[HERE] = None
        elif isinstance(body, CopiesRemoved):
            for key in body.keys:
                self.known.get(key, {}).pop(HERE, None)
        elif isinstance(body, VerifyObjects):
            for key in body.keys:
                if key in self.freed:
                    self.free(key)

    def _saw(self, what):
        name = what if isinstance(what, str) else what.__name__
        self.seen[name] = self.seen.get(name, 0) + 1

    def ask(self, client, body):
        self.request_count += 1
        self.requests[client, self.request_count] = body
        self.tell(Address(client, "owner"), body, self.request_count)

    def new_key(self, owner):
        self.keys += 1
        key = self.keys.to_bytes(4, "big") * 7
        self.objects[key] = owner
        return key

    def wanted(self, key):
        holders = tuple(self.known.get(key, {}))
        return ObjectWanted(key, SIZE_BYTES, self.objects[key], holders)

    # ---- what happens around it
    def free(self, key):
        self.freed[key] = self.told[key] = None
        self.known.pop(key, None)
        for keys in self.elsewhere.values():
            keys.pop(key, None)
        self.tell(Address(self.objects[key], "owner"), messages.FreeObjects((key,)))

    def carve(self, client, owner):
        """An object in a slab; its owner knows of it before its report is sent."""
        slabs = [slab for slab in self.slabs.get(client, []) if slab[1] < 50]
        if not slabs:
            self.ask(client, messages.LeaseSlab(4096))
            return
        slab = slabs[0]
        slab[1] += 1
        key = self.new_key(owner)
        self.known[key] = {HERE: None}
        number = slab[0].first_object + slab[1]
        item = messages.CarvedObject(key, owner, slab[0].number, 0, 64 * number, SIZE_BYTES, number)
        self.reports.setdefault(client, []).append(item)

    def report(self, client):
        """Seal what is written, and give used slabs back."""
        created = []
        for request, place in self.writing.pop(client, []):
            created.append(place.number)
            self.known[request.key] = {HERE: None}
        done = tuple(slab[0].number for slab in self.slabs.get(client, []) if slab[1] > 2)
        self.slabs[client] = [slab for slab in self.slabs.get(client, []) if slab[1] <= 2]
        sealed = messages.ObjectsSealed(tuple(created), tuple(self.reports.pop(client, [])), done)
        self.tell(Address(client, "owner"), sealed)
        kept = [key for key in self.told if key in self.port.sealed]
        assert not kept, f"{kept} were freed"

    def make_elsewhere(self, node, owner):
        key = self.new_key(owner)
        self.elsewhere[node][key] = None
        self.known[key] = {node: None}
        return key

    def answer_ask(self, index):
        node, key = self.asks.pop(index)
        found = key in self.elsewhere[node]
        body = messages.ObjectOffered(key, f"bulk://{node}", SIZE_BYTES) if found else messages.ObjectMissing(key)
        self.tell(Address(node, "objects"), body)

    def answer_locate(self, index):
        owner, key = self.locates.pop(index)
        holders = tuple(self.known.get(key, {}))
        failure = None if holders else Failure("ObjectLostError", "released")
        self.tell(Address(owner, "owner"), messages.ObjectLocated(key, holders, failure))

    def lose_node(self, node):
        """The node's process ends; another takes its name."""
        self.elsewhere[node] = {}
        for holders in self.known.values():
            holders.pop(node, None)
        self.asks = [item for item in self.asks if item[0] != node]
        self.tell(NOWHERE, PeerGone(node, "test"))

    def give_up(self, node):
        """The cluster gives up a node that hangs."""
        self.elsewhere[node] = {}
        for holders in self.known.values():
            holders.pop(node, None)
        self.tell(RAYLET, NodeChanged(b"n", Address(node, "raylet"), alive=False))
        self.asks = [item for item in self.asks if item[0] != node]

    def lose_connection(self, client):
        """Of a client: it waits for no answers."""
        for request in [request for request in self.requests if request[0] == client]:
            del self.requests[request]
        self.locates = [item for item in self.locates if item[0] != client]
        self.tell(NOWHERE, PeerGone(client, "test"))

    def lose_owner(self, owner):
        """An owner elsewhere is dead: nobody can dial it any more (and another takes its name)."""
        self._forget_owned(owner)
        for _ in range(2):
            self.tell(NOWHERE, PeerGone(owner, "test"))
            self.pass_time(1.1)

    def _forget_owned(self, owner):
        for key in [key for key, of in self.objects.items() if of == owner]:
            self.freed[key] = None
            self.known.pop(key, None)
        self.locates = [item for item in self.locates if item[0] != owner]

    def kill(self, client):
        """A client's process ends, and another one of this name may attach."""
        self._forget_owned(client)
        for item in self.reports.pop(client, []):
            self.known.pop(item.key, None)
            self.freed[item.key] = None
        for request, _ in self.writing.pop(client, []):
            self.freed[request.key] = None
        self.lose_connection(client)
        for table in (self.held, self.slabs, self.attached, self.left):
            table.pop(client, None)
        if client.startswith("tcp"):
            self.pass_time(1.1)
            self.tell(NOWHERE, PeerGone(client, "test"))
        else:
            self.port.watched.pop(client, None)
            self.tell(NOWHERE, messages.ClientDied(client))
            self.pass_time(0.3)

    def attach(self, client):
        self.ask(client, messages.Attach(PIDS[client]))

    def withdraw(self, client, ticket):
        self.tell(Address(client, "owner"), messages.WithdrawRequest(ticket))
        assert (client, ticket) not in self.requests, "it is not wanted any more"

    def detach(self, client, kept):
        """A client leaves in order; some of its views live on."""
        self._forget_owned(client)
        for item in self.reports.pop(client, []):
            self.freed[item.key] = None
            self.known.pop(item.key, None)
        for request, _ in self.writing.pop(client, []):
            self.freed[request.key] = None
        for request in [body for (of, _), body in self.requests.items() if of == client]:
            if isinstance(request, messages.CreateObject):
                self.freed[request.key] = None
        held = self.held.pop(client, [])
        for table in (self.slabs, self.attached):
            table.pop(client, None)
        pinned = tuple(held[:kept])
        if pinned and not client.startswith("tcp"):
            self.left.setdefault(client, []).extend(pinned)
        self.tell(Address(client, "owner"), messages.Detach((*pinned, 10**9)))
        assert not [of for of, _ in self.requests if of == client and of != "operator"], "it waits no more"
        slabs = [number for number, of in self.port.slabs.items() if of == client.encode()]
        assert set(slabs) <= {answer.slab.number for answer in self.port.box if getattr(answer, "slab", None)}
        writing = [number for number, (_, of) in self.port.creating.items() if of == client.encode()]
        granted = [answer.place.number for answer in self.port.box if getattr(answer, "place", None)]
        assert set(writing) <= set(granted), "nobody completes these"

    def release_left(self, client, by):
        """A view of a process that left is gone; another client of the same process says so."""
        number = self.left[client][-1]
        if number in self.held.get(by, []):
            self.held[by].remove(number)  # its own first: only the number of pins counts
        else:
            self.left[client].pop()
            if not self.left[client]:
                del self.left[client]
        self.tell(Address(by, "owner"), messages.PinsReleased((number,)))

    def release(self, client, index):
        number = self.held[client].pop(index)
        self.tell(Address(client, "owner"), messages.PinsReleased((number,)))

    def deliver(self):
        self.tell(NOWHERE, self.port.box.pop(0))

    def pass_time(self, seconds):
        self.now += seconds
        for key in list(self.timers):
            if self.timers[key].at_s <= self.now:
                self.tell(NOWHERE, self.timers.pop(key).body)

    # ---- the end
    def settle(self, failing=-1):
        """Everything that is under way arrives; the store's work number ``failing`` fails."""
        works = 0
        for step in range(10_000):
            turn = step % 3
            if self.port.box:
                self.deliver()
            elif self.port.pending and (turn or not self.asks):
                self.port.work(0, fails=works == failing)
                works += 1
            elif self.asks:
                self.answer_ask(0)
            elif self.locates:
                self.answer_locate(0)
            elif self.requests:
                self.pass_time(1.1)
            else:
                return
        raise AssertionError(f"no end: {self.requests}")

    def check_pins(self):
        """A client that waits for nothing has the pins it was told of, no more and no less."""
        held = {}
        for client, numbers in (*self.held.items(), *self.left.items()):
            for number in numbers:
                held[client.encode(), number] = held.get((client.encode(), number), 0) + 1
        assert self.port.pins == held
        seen = [client for client in self.attached if not client.startswith("tcp")]
        assert set(self.port.watched) == {*seen, *self.left}, "watched in vain, or not watched"
