from actorrt.kernel.message import Address
from actorrt.owner.tasks import LeasedWorker, ObjectRecord, SchedulingClass, Task, Template
from actorrt.wire.records import DeathCause, LeaseSpec, TaskTemplate

SPEC = TaskTemplate(1, b"k", "f", "name of f", b"job", max_retries=3)
LEASE = LeaseSpec(b"job", {"CPU": 10_000})
RAYLET = Address("r", "raylet")


def make_worker():
    scheduling_class = SchedulingClass(1, b"cpu", LEASE, RAYLET)
    return LeasedWorker(1, Address("w", "worker"), Address("r", "raylet"), b"node", 77, scheduling_class, 5.0)


def test_a_task_starts_waiting_with_the_retries_of_its_template():
    task = Task(b"t" * 16, Template(SPEC, LEASE, b"cpu"), b"")
    assert task.retries_left == 3
    assert repr(task) == f"Task({(b't' * 16).hex()}, name of f, WAITING)"
    assert not hasattr(task, "__dict__")  # there may be hundreds of thousands
    assert not hasattr(ObjectRecord(), "__dict__")


def test_a_worker_is_usable_until_something_speaks_against_it():
    assert make_worker().usable
    against = {"recalled": True, "taken_back": True, "alone": True, "lost_s": 0.0, "death": DeathCause("exit", "x")}
    for name, value in against.items():
        worker = make_worker()
        setattr(worker, name, value)
        assert not worker.usable, name


def test_an_idle_worker_starts_over():
    worker = make_worker()
    worker.expected_s, worker.taken_back, worker.alone = 3.0, True, True
    worker.became_idle(9.0)
    assert (worker.expected_s, worker.idle_since_s, worker.usable) == (0.0, 9.0, True)
