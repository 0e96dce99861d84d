"""Exports of functions and templates."""

import logging
import threading

import pytest

from actorrt.api import exports
from actorrt.api.exports import Exports
from actorrt.kernel.message import Address
from actorrt.wire.records import JobConfig, LeaseSpec, TaskTemplate


@pytest.fixture
def made():
    sent = []
    job = JobConfig(job_id=b"j" * 4, driver=Address("p", "owner"), namespace="n")
    return Exports(job, sent.append), sent


def spec(**changes):
    known = {"function_key": b"k", "function_name": "f", "name": "f", "job_id": b"j" * 4, "num_returns": 1}
    return TaskTemplate(number=0, resources={"CPU": 10_000}, max_retries=3, **{**known, **changes})


def test_equal_content_is_sent_once(made):
    export, sent = made
    first = export.export(lambda: 1, "f")
    assert export.export(lambda: 2, "g") != first
    function = lambda: 3
    assert export.export(function, "h") == export.export(function, "h")
    assert len(sent) == 3
    assert sent[0].job_id == b"j" * 4


def test_what_was_loaded_here_has_its_key(made):
    export, sent = made
    function = lambda: 1
    function.__actorrt_key__ = b"known"
    assert export.export(function, "f") == b"known"
    assert sent == []


def test_sizes(made, monkeypatch, caplog):
    export, _ = made
    big = b"x" * 1000
    monkeypatch.setattr(exports, "FUNCTION_BYTES_WARN", 500)
    with caplog.at_level(logging.WARNING, logger="actorrt"):
        export.export(lambda: big, "heavy")
    assert "heavy" in caplog.text
    monkeypatch.setattr(exports, "FUNCTION_BYTES_MAX", 900)
    with pytest.raises(ValueError, match=r"heavy is .* bytes"):
        export.export(lambda: big, "heavy")
    lock = threading.Lock()
    with pytest.raises(TypeError, match="locked cannot be pickled"):
        export.export(lambda: lock, "locked")


def test_templates_are_numbered_and_shared(made):
    export, _ = made
    lease = LeaseSpec(b"j" * 4, {"CPU": 10_000})
    one, same, other = (
        export.template(spec(), lease),
        export.template(spec(), lease),
        export.template(spec(name="g"), lease),
    )
    assert one is same
    assert one.spec.number != other.spec.number
    assert one.lease_key == other.lease_key, "a name alone asks for no other worker"
