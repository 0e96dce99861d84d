"""Any events in any order: invariants hold, every request is answered once, and in the end nothing is left."""

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from actorrt.kernel.message import NOWHERE, Address
from actorrt.objects import messages, operations
from tests.unit.objects.world import CLIENTS, NODES, OWNERS, PIDS, SIZE_BYTES, World

SEEN = {}
"""What the machine said and did in all runs, by name."""
PICK = st.integers(0, 1000)


class Manager(RuleBasedStateMachine):
    """Rules are what the world does; the promises are kept by ``World``."""

    @initialize(count=st.integers(1, 4))
    def begin(self, count):
        self.world = World()
        for client in CLIENTS[:count]:
            self.world.attach(client)
        self.world.settle()

    def recent(self):
        """Keys of which something may be known."""
        return list(self.world.objects)[-5:]

    def client(self, pick):
        clients = list(self.world.attached)
        return clients[pick % len(clients)]

    # ---- clients
    @rule(name=st.sampled_from(CLIENTS))
    def attaches(self, name):
        self.world.attach(name)

    @precondition(lambda self: self.world.attached)
    @rule(pick=PICK, owner=st.sampled_from(OWNERS))
    def carves(self, pick, owner):
        self.world.carve(self.client(pick), owner)

    @precondition(lambda self: self.world.attached)
    @rule(pick=PICK, owner=st.sampled_from(OWNERS))
    def creates(self, pick, owner):
        key = self.world.new_key(owner)
        self.world.ask(self.client(pick), messages.CreateObject(key, SIZE_BYTES, owner))

    @precondition(lambda self: self.world.attached)
    @rule(pick=PICK)
    def reports(self, pick):
        self.world.report(self.client(pick))

    @precondition(lambda self: any(self.world.writing.values()))
    @rule(pick=PICK)
    def aborts(self, pick):
        clients = [client for client, places in self.world.writing.items() if places]
        client = clients[pick % len(clients)]
        request, place = self.world.writing[client].pop()
        self.world.freed[request.key] = None
        self.world.tell(Address(client, "owner"), messages.CreateAborted(place.number))

    @precondition(lambda self: self.world.attached and self.world.objects)
    @rule(pick=PICK, count=st.integers(0, 4), data=st.data(), for_arguments=st.booleans())
    def pins(self, pick, count, data, for_arguments):
        keys = data.draw(st.lists(st.sampled_from(self.recent()), min_size=count, max_size=count))
        wanted = tuple(map(self.world.wanted, keys))
        self.world.ask(self.client(pick), messages.PinObjects(wanted, for_arguments, self.world.request_count + 1))

    @precondition(lambda self: self.world.attached and self.world.objects)
    @rule(pick=PICK, data=st.data())
    def fetches(self, pick, data):
        key = data.draw(st.sampled_from(self.recent()))
        self.world.ask(
            self.client(pick), messages.FetchObjects((self.world.wanted(key),), self.world.request_count + 1)
        )

    @precondition(lambda self: self.world.requests)
    @rule(pick=PICK)
    def withdraws(self, pick):
        kinds = (messages.PinObjects, messages.FetchObjects)
        requests = [at for at, body in self.world.requests.items() if isinstance(body, kinds) and body.ticket]
        if requests:
            self.world.withdraw(*requests[pick % len(requests)])

    @precondition(lambda self: self.world.attached)
    @rule(pick=PICK, kept=st.integers(0, 3), joke=st.integers(0, 3))
    def leaves(self, pick, kept, joke):
        if not joke:
            self.world.detach(self.client(pick), kept)

    @precondition(lambda self: self.world.left)
    @rule(pick=PICK, by_itself=st.booleans())
    def what_was_left_is_released(self, pick, by_itself):
        gone = list(self.world.left)[pick % len(self.world.left)]
        others = [client for client in self.world.attached if PIDS[client] == PIDS[gone] and "tcp" not in client]
        if by_itself or others:
            self.world.release_left(gone, gone if by_itself else others[pick % len(others)])

    @precondition(lambda self: any(self.world.held.values()))
    @rule(pick=PICK)
    def releases(self, pick):
        clients = [client for client, numbers in self.world.held.items() if numbers]
        self.world.release(clients[pick % len(clients)], 0)

    @precondition(lambda self: self.world.attached)
    @rule(pick=PICK, owner=st.sampled_from(OWNERS), count=st.integers(1, 3), steps=st.integers(0, 6))
    def reads_from_elsewhere(self, pick, owner, count, steps):
        """A pull that gets somewhere."""
        key = self.world.make_elsewhere(NODES[0], owner)
        for node in NODES[:count]:
            self.world.elsewhere[node][key] = None
            self.world.known[key][node] = None
        keys = [key, *list(self.world.port.sealed)[:1]]
        self.world.ask(self.client(pick), messages.PinObjects(tuple(map(self.world.wanted, keys))))
        for step in range(steps):
            if step % 2 == 0 and self.world.asks:
                self.world.answer_ask(len(self.world.asks) - 1)
            elif self.world.port.box:
                self.world.deliver()
            elif self.world.port.pending:
                self.world.port.work(len(self.world.port.pending) - 1)

    @precondition(lambda self: self.world.attached)
    @rule(pick=PICK, owner=st.sampled_from(OWNERS), is_freed=st.booleans(), waits=st.booleans())
    def is_known_before_it_is_reported(self, pick, owner, is_freed, waits):
        """Others hear of an object, want it, perhaps free it, before we hear of it."""
        writer, reader = self.client(pick), self.client(pick + 1)
        self.world.carve(writer, owner)
        for item in self.world.reports.get(writer, [])[-1:]:
            if item.key in self.world.freed:
                continue
            self.world.tell(Address(NODES[0], "objects"), messages.AskForObject(item.key))
            self.world.ask(reader, messages.PinObjects((self.world.wanted(item.key),)))
            if is_freed:
                self.world.free(item.key)
            elif waits:
                self.world.pass_time(1.1)
            self.world.report(writer)

    # ---- owners and nodes
    @rule(node=st.sampled_from(NODES), owner=st.sampled_from(OWNERS))
    def made_elsewhere(self, node, owner):
        self.world.make_elsewhere(node, owner)

    @precondition(lambda self: self.world.known)
    @rule(data=st.data(), node=st.sampled_from(NODES))
    def copied_elsewhere(self, data, node):
        key = data.draw(st.sampled_from(list(self.world.known)[-3:]))
        self.world.elsewhere[node][key] = None
        self.world.known[key][node] = None

    @precondition(lambda self: any(self.world.elsewhere.values()))
    @rule(data=st.data())
    def dropped_elsewhere(self, data):
        node = data.draw(st.sampled_from([node for node, keys in self.world.elsewhere.items() if keys]))
        self.world.elsewhere[node].popitem()  # its owner has not heard

    @precondition(lambda self: self.world.objects)
    @rule(data=st.data())
    def hinted(self, data):
        key = data.draw(st.sampled_from(self.recent()))
        wanted = self.world.wanted(key)
        self.world.tell(Address(wanted.owner, "owner"), messages.PrefetchObjects((wanted,)))

    @precondition(lambda self: self.world.known)
    @rule(data=st.data())
    def freed(self, data):
        self.world.free(data.draw(st.sampled_from(list(self.world.known))))

    @precondition(lambda self: self.world.objects)
    @rule(data=st.data(), node=st.sampled_from(NODES))
    def asked(self, data, node):
        key = data.draw(st.sampled_from(self.recent()))
        self.world.tell(Address(node, "objects"), messages.AskForObject(key))

    @precondition(lambda self: self.world.asks)
    @rule(pick=PICK)
    def holder_answers(self, pick):
        self.world.answer_ask(pick % len(self.world.asks))

    @precondition(lambda self: self.world.locates)
    @rule(pick=PICK)
    def owner_answers(self, pick):
        self.world.answer_locate(pick % len(self.world.locates))

    # ---- the port
    @precondition(lambda self: self.world.port.pending)
    @rule(pick=PICK, fails=st.sampled_from([False, False, False, True]))
    def store_works(self, pick, fails):
        pending = self.world.port.pending
        self.world.port.work(pick % len(pending), fails=fails)

    @precondition(lambda self: self.world.port.box)
    @rule()
    def answer_arrives(self):
        self.world.deliver()

    @precondition(lambda self: self.world.port.pending or self.world.port.box or self.world.asks)
    @rule(failing=st.integers(-1, 8))
    def things_go_on(self, failing):
        self.world.settle(failing)

    @precondition(lambda self: self.world.port.copies)
    @rule()
    def store_drops(self):
        for key in list(self.world.port.copies):
            self.world.port.drop(key)

    @rule()
    def operator_asks(self):
        if not self.world.port.box:
            self.world.ask("operator", messages.GetStoreReport(10))

    # ---- losses and time
    @rule(node=st.sampled_from(NODES), joke=st.integers(0, 4))
    def node_is_lost(self, node, joke):
        if joke == 0:
            self.world.lose_node(node)
        elif joke == 1:
            self.world.give_up(node)

    @rule(owner=st.sampled_from(("owner1", "owner2")), joke=st.integers(0, 3))
    def owner_is_lost(self, owner, joke):
        if not joke:
            self.world.lose_owner(owner)

    @precondition(lambda self: self.world.locates)
    @rule()
    def owner_is_lost_when_asked(self):
        owner = self.world.locates[0][0]
        if owner not in CLIENTS:
            self.world.lose_owner(owner)

    @precondition(lambda self: self.world.requests)
    @rule(pick=PICK)
    def connection_is_lost(self, pick):
        requests = list(self.world.requests)
        client = requests[pick % len(requests)][0]
        if "tcp" not in client:  # twice would be its death
            self.world.lose_connection(client)

    @rule(name=st.sampled_from(CLIENTS), joke=st.integers(0, 5))
    def client_dies(self, name, joke):
        if not joke:
            self.world.kill(name)

    @rule(seconds=st.sampled_from([0.1, 1.1, 11.0]))
    def time_passes(self, seconds):
        self.world.pass_time(seconds)

    # ---- the end
    def teardown(self):
        if not hasattr(self, "world"):
            return
        world, port = self.world, self.world.port
        world.settle()
        world.check_pins()
        for client in list(world.attached):
            world.report(client)
            for slab, _ in world.slabs.pop(client, []):
                world.tell(Address(client, "owner"), messages.ObjectsSealed(done_slabs=(slab.number,)))
            while world.held.get(client):
                world.release(client, 0)
        while world.left:
            name = next(iter(world.left))
            world.release_left(name, name)
        world.tell(NOWHERE, messages.CopiesDropped(()))
        for key in world.objects:
            world.free(key)
        world.settle()
        machine = world.machine
        assert not machine.catalog.entries, machine.catalog.entries
        assert not machine.puller.pulls.table
        assert not machine.tickets.table, machine.tickets.table
        assert not port.pins, port.pins
        assert not len(machine.leftovers)
        assert not port.sealed, port.sealed
        assert not port.creating, port.creating
        leased = {client for client in port.slabs.values() if client.decode() in world.attached}
        assert not leased, port.slabs
        world.pass_time(2.0)
        assert len(machine.offers) == 0
        assert len(machine.puller.asks) == 0
        for name, count in {**world.seen, **{kind.__name__: n for kind, n in port.done.items()}}.items():
            SEEN[name] = SEEN.get(name, 0) + count


def test_random_events():
    """The same events every time; ``ACTORRT_EXAMPLES=5000`` looks for new ones."""
    examples = int(os.environ.get("ACTORRT_EXAMPLES", "0"))
    SEEN.clear()
    run_state_machine_as_test(
        Manager,
        settings=settings(
            max_examples=examples or 80, stateful_step_count=100, derandomize=not examples, database=None
        ),
    )
    # A fuzz in which nothing ever succeeds proves nothing.
    expected = [kind.__name__ for kind in operations.Operation.__args__] + [
        "Attached",
        "SlabLeased",
        "ObjectCreated",
        "ObjectsPinned",
        "ObjectsFetched",
        "AskForObject",
        "ObjectOffered",
        "ObjectMissing",
        "LocateObject",
        "CopiesAdded",
        "CopiesRemoved",
        "VerifyObjects",
        "StoreReport",
        "ObjectLostError",
        "ObjectStoreFullError",
        "OwnerDiedError",
    ]
    assert not [name for name in expected if not SEEN.get(name)], SEEN
