"""Items of generators on their way out of a worker: the batches, and the executor that runs the generator."""

import threading

import pytest

from actorrt.kernel.context import current_task
from actorrt.owner.messages import ItemsYielded, TasksDone
from actorrt.wire import values
from actorrt.wire.records import RefInfo, Stored, Value
from actorrt.worker import streaming
from actorrt.worker.streaming import ITEMS_BYTES_HELD_MAX, ITEMS_HELD_MAX, ITEMS_TIMER_S, ItemSender
from tests.unit.worker.host import PATIENCE_S, Host


class Wire:
    """What a sender hands over, with a clock that stands still (all items are quick) until it is told to go on."""

    def __init__(self, monkeypatch):
        self.now = 1.0
        self.posted = []
        self.timers = []
        self.lent = []
        monkeypatch.setattr(streaming.time, "perf_counter", lambda: self.now)
        self.sender = ItemSender(b"t", "owner", self, self.posted.append)

    def lend(self, refs, borrower):
        self.lent.append((refs, borrower))

    def keep(self, pickled, whose):
        return Stored(b"key", pickled.size_bytes(), whose[2], ("node",))

    def call_soon(self, *timer):
        self.timers.append(timer)

    def send(self, count=1, data=b"v"):
        for _ in range(count):
            self.sender.send(Value(data))

    def indices(self):
        return [[index for index, _ in message.items] for message in self.posted]


@pytest.fixture
def wire(monkeypatch):
    return Wire(monkeypatch)


def test_a_slow_item_goes_out_at_once(wire):
    for _ in range(3):
        wire.now += 1.0
        wire.send()
    assert wire.indices() == [[0], [1], [2]]
    assert not wire.timers


def test_quick_ones_go_out_in_batches_and_the_rest_by_a_timer(wire):
    wire.send(1 + ITEMS_HELD_MAX + 2)
    assert wire.indices() == [[0], list(range(1, 1 + ITEMS_HELD_MAX))]
    assert [delay_s for _, delay_s in wire.timers] == [ITEMS_TIMER_S]  # one at a time
    wire.timers[0][0]()
    assert wire.indices()[-1] == [1 + ITEMS_HELD_MAX, 2 + ITEMS_HELD_MAX]
    wire.send()
    assert len(wire.timers) == 2
    wire.sender.flush()
    wire.timers[1][0]()  # nothing is left for it
    assert [index for batch in wire.indices() for index in batch] == list(range(wire.sender.count))


def test_what_is_big_does_not_wait_for_company(wire):
    wire.send(2)
    wire.send(data=bytes(ITEMS_BYTES_HELD_MAX))
    assert wire.indices() == [[0], [1, 2]]


def test_refs_are_lent_before_the_item_goes_out(wire):
    refs = (RefInfo(b"o" * 20, "me"),)
    order = []
    wire.lend = lambda *lent: order.append(lent)
    wire.sender._post = lambda message: order.append(("posted", len(message.items)))
    wire.sender.send(Value(b"v", refs=refs))
    assert order == [(refs, "owner"), ("posted", 1)]


def test_large_items_are_kept_and_weigh_nothing_here(wire):
    for _ in range(3):
        item = wire.sender.pack(bytes(2 * ITEMS_BYTES_HELD_MAX))
        assert item == Stored(b"key", item.size_bytes, "owner", ("node",))
        wire.sender.send(item)
    assert wire.indices() == [[0]]
    assert values.loads(wire.sender.pack("small")) == "small"


def test_a_timer_and_the_generator_never_swap_batches(monkeypatch):
    wire = Wire(monkeypatch)
    inside, go_on = threading.Event(), threading.Event()

    def post(message):
        if message.items[0][0] == 1:
            inside.set()
            assert go_on.wait(PATIENCE_S)
        wire.posted.append(message)

    wire.sender._post = post
    wire.send(2)
    loop = threading.Thread(target=wire.timers[0][0])
    loop.start()
    assert inside.wait(PATIENCE_S)
    wire.now += 1.0
    generator = threading.Thread(target=wire.send)
    generator.start()
    go_on.set()
    loop.join(PATIENCE_S)
    generator.join(PATIENCE_S)
    assert wire.indices() == [[0], [1], [2]]


# ---------------------------------------------------------------------------------------------- in the executor
@pytest.fixture
def host():
    with Host() as made:
        yield made


def stream(host, function, *args, **options):
    return host.run(function, *args, num_returns=0, is_streaming=True, **options)


def items(host, task_id):
    found = [i for m in host.messages(ItemsYielded) if m.task_id == task_id for i in m.items]
    assert [index for index, _ in found] == list(range(len(found)))
    return [values.loads(value) for _, value in found]


def test_all_items_come_before_the_outcome_which_counts_them(host):
    task_id = stream(host, range, 200)
    outcome = host.outcome(task_id)
    assert outcome.results == ()
    assert outcome.item_count == 200
    assert items(host, task_id) == list(range(200))
    kinds = [type(e.body) for e in host.sent]
    assert kinds.index(TasksDone) == len(kinds) - 1


def test_an_item_is_there_while_the_next_one_is_made(host):
    go_on = threading.Event()

    def two():
        yield 1
        assert go_on.wait(PATIENCE_S)
        yield 2

    task_id = stream(host, two)
    host.until(lambda: items(host, task_id) == [1])
    assert task_id not in host.outcomes()
    go_on.set()
    host.outcome(task_id)
    assert items(host, task_id) == [1, 2]


def test_what_it_raises_comes_after_the_items(host):
    def broken():
        yield 1
        raise KeyError("x")

    task_id = stream(host, broken)
    assert host.failure(task_id).kind == "TaskError"
    assert host.outcome(task_id).item_count == 1
    assert items(host, task_id) == [1]


def test_an_item_that_cannot_be_pickled_ends_the_generator(host):
    closed = []

    def bad():
        try:
            yield 1
            yield threading.Lock()
            yield 3
        finally:
            closed.append(current_task.get().task_id)

    task_id = stream(host, bad)
    assert "pickle" in host.failure(task_id).text
    assert items(host, task_id) == [1]
    assert closed == [task_id]  # it was still the task that ran


def test_no_generator_at_all(host):
    assert "not iterable" in host.failure(stream(host, lambda: 5)).text


def test_retries_are_asked_for_like_those_of_plain_tasks(host):
    def broken():
        yield 1
        raise KeyError("x")

    assert host.outcome(stream(host, broken, retry_exceptions=values.dumps((KeyError,)))).retry_wanted


def test_a_generator_that_runs_is_interrupted(host):
    reached = threading.Event()

    def spin():
        yield 1
        reached.set()
        while True:
            pass

    task_id = stream(host, spin)
    assert reached.wait(PATIENCE_S)
    host.cancel(task_id)
    assert host.failure(task_id).kind == "TaskCancelledError"
    assert items(host, task_id) == [1]
    assert host.value(host.run(lambda: "and after")) == "and after"


def test_a_cancel_while_an_item_is_sent_waits_for_the_end_of_sending(host):
    """An interrupt in there would leave half a step behind."""
    cancelled, sent = [], []
    lend = host.lend

    def lend_and_cancel(refs, borrower):
        task_id = current_task.get().task_id
        host.cancel(task_id)
        cancelled.append(task_id)
        for _ in range(10_000):  # an interrupt would come in here
            pass
        sent.append(task_id)
        lend(refs, borrower)

    host.lend = lend_and_cancel

    def endless():
        while True:
            yield Reffing()

    task_id = stream(host, endless)
    assert host.failure(task_id).kind == "TaskCancelledError"
    assert cancelled == sent == [task_id]
    assert len(items_of(host, task_id)) == host.outcome(task_id).item_count == 1


class Reffing:
    """Pickles as something with a ref inside."""

    def __reduce__(self):
        values._collector.refs.append(RefInfo(b"o" * 20, "elsewhere"))
        return int, (0,)


def items_of(host, task_id):
    return [i for m in host.messages(ItemsYielded) if m.task_id == task_id for i in m.items]


def test_the_end_of_the_process_takes_no_item_along(host):
    def leave():
        yield from range(10)
        raise SystemExit(3)

    task_id = stream(host, leave)
    host.until(lambda: host.left)
    assert items(host, task_id) == list(range(10))


class Plain:
    def numbers(self, count):
        yield from range(count)


class Async:
    async def numbers(self, count):
        for i in range(count):
            yield i

    def plain(self, count):
        return range(count)

    async def broken(self):
        yield 1
        raise KeyError("x")


@pytest.mark.parametrize("spec", [{}, {"max_concurrency": 3}], ids=["plain", "threaded"])
def test_methods_of_plain_and_threaded_actors_stream(host, spec):
    host.become(Plain, **spec)
    calls = [host.call("numbers", 100, num_returns=0, is_streaming=True) for _ in range(3)]
    for call in calls:
        assert host.outcome(call).item_count == 100
        assert items(host, call) == list(range(100))


@pytest.mark.parametrize("method", ["numbers", "plain"])
def test_methods_of_async_actors_stream(host, method):
    host.become(Async, is_async=True, max_concurrency=10)
    calls = [host.call(method, 100, num_returns=0, is_streaming=True) for _ in range(3)]
    for call in calls:
        assert host.outcome(call).item_count == 100
        assert items(host, call) == list(range(100))


def test_async_generators_raise_after_their_items(host):
    host.become(Async, is_async=True, max_concurrency=10)
    call = host.call("broken", num_returns=0, is_streaming=True)
    assert host.failure(call).kind == "TaskError"
    assert host.outcome(call).item_count == 1
    assert items(host, call) == [1]
