import typing

from actorrt.kernel.message import Address
from actorrt.wire.records import ActorSpec, TaskCall, TaskTemplate, Value
from actorrt.worker import operations
from actorrt.worker.operations import Work

OWNER = Address("o", "owner")
SPEC = ActorSpec(b"a" * 16, b"job", OWNER, b"key", "C", Value(b""))


def test_the_union_is_closed_and_ends_need_no_exit_code():
    examples = [
        operations.Run([]),
        operations.UseAccelerators({"GPU": ("0",)}),
        operations.Create(SPEC, 1),
        operations.Return(1),
        operations.Interrupt(b"t", force=False, recursive=True),
        operations.Exit(graceful=True, cause=None),
    ]
    assert {type(example) for example in examples} == set(typing.get_args(operations.Operation))
    assert examples[-1].exit_code == 0
    assert examples[3].src is None


def test_works_say_what_they_are():
    work = Work(TaskCall(b"\x01" * 16, 1, b""), TaskTemplate(1, b"k", "f", "name of f", b"job"), OWNER)
    assert repr(work) == f"Work({'01' * 16}, name of f, from owner@o)"
