import threading

from actorrt.wire import values
from actorrt.wire.records import Stored, TaskCall
from tests.unit.worker.host import PATIENCE_S, Host


def test_a_task_that_waits_for_its_arguments_can_be_cancelled():
    with Host() as host:
        wait_and_cancel(host)


def wait_and_cancel(host):
    fetching, never = threading.Event(), threading.Event()

    def load(_results):
        fetching.set()
        for _ in range(10_000):
            never.wait(0.001)  # an argument on its way from another node
        raise AssertionError("nobody interrupted it")

    host.load = load
    template = host.template(lambda array: array)
    stored = Stored(b"k" * 28, 1_000_000, "owner", ("elsewhere",))
    packed = values.dumps(((values.Slot(0),), {})).data
    call = TaskCall(b"t" * 16, template.number, packed, dependencies=(stored,))
    host.push(call)
    assert fetching.wait(PATIENCE_S)
    host.cancel(call.task_id)
    assert host.failure(call.task_id).kind == "TaskCancelledError"
