"""Operations are values: comparable, hashable, printable."""

from typing import get_args

import pytest

from actorrt.raylet.operations import SIGNAL_KILL, FlushLogs, KillWorker, Operation, StartWorker, StopProcess
from actorrt.wire.records import Environment
from tests.unit.raylet.harness import JOB, job

MADE = [StartWorker(b"w", job(), Environment()), KillWorker(b"w"), FlushLogs(JOB, 1), StopProcess("bye")]


@pytest.mark.parametrize("operation", MADE, ids=lambda operation: type(operation).__name__)
def test_values(operation):
    assert isinstance(operation, Operation)
    assert type(operation).__name__ in repr(operation)
    assert {operation: 1}[operation] == 1
    with pytest.raises(AttributeError):
        operation.worker_id = b"x"


def test_the_set_is_closed():
    assert sorted(type(made).__name__ for made in MADE) == sorted(kind.__name__ for kind in get_args(Operation))


def test_killing_means_the_whole_group_at_once():
    assert (KillWorker(b"w").signal_number, KillWorker(b"w").group) == (SIGNAL_KILL, True)
