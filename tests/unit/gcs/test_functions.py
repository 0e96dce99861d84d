import pytest

from actorrt.gcs import functions as functions_module
from actorrt.gcs.functions import Functions
from actorrt.gcs.messages import ExportFunction, FunctionFound, GetFunction
from actorrt.kernel.effects import Fail, Reply
from actorrt.kernel.message import Address, Envelope

JOB, JOB2 = b"\0\0\0\1", b"\0\0\0\2"
A, B = Address("a", "owner"), Address("b", "owner")


@pytest.fixture
def functions():
    table = Functions()
    yield table
    table.check()


def export(functions, key=b"k", pickled=b"code", job=JOB):
    out = []
    functions.export(ExportFunction(job, key, "f", pickled), out)
    return out


def get(functions, src=A, request_id=1, key=b"k", job=JOB, job_text=""):
    out = []
    message = GetFunction(job, key)
    functions.get(Envelope(src, message, request_id), message, out, job_text=job_text)
    return out


def test_found(functions):
    assert export(functions) == []
    assert get(functions) == [Reply(A, 1, FunctionFound("f", b"code"))]
    assert export(functions, pickled=b"other") == []
    assert get(functions) == [Reply(A, 1, FunctionFound("f", b"code"))]
    assert functions.bytes_used == 4


def test_a_request_waits_for_the_export(functions):
    assert get(functions, A, 1) == get(functions, B, 2) == get(functions, B, 2) == []
    assert functions.parked_count == 2
    found = FunctionFound("f", b"code")
    assert export(functions, job=JOB2) == []
    assert export(functions) == [Reply(A, 1, found), Reply(B, 2, found)]
    assert functions.parked_count == 0


def test_the_end_of_the_job_fails_who_waits(functions):
    get(functions)
    get(functions, B, 2, job=JOB2)
    out = []
    functions.end_job(JOB, "it ended", out)
    assert out == [Fail(A, 1, "InternalError", "no such function: it ended")]
    assert functions.parked_count == 1


def test_no_function_of_a_job_that_is_over(functions):
    (fail,) = get(functions, job_text="job 1 has ended")
    assert fail == Fail(A, 1, "InternalError", "no such function: job 1 has ended")
    export(functions)
    assert isinstance(get(functions, job_text="job 1 has ended")[0], Reply)


def test_dropping(functions):
    export(functions)
    export(functions, b"l", job=JOB2)
    functions.drop_job(JOB)
    functions.drop_job(JOB)
    assert (functions.count(), functions.bytes_used) == (1, 4)
    get(functions, A, 1)
    get(functions, B, 2)
    functions.drop_process("a")
    assert [effect.dst for effect in export(functions)] == [B]


def test_what_does_not_fit_is_refused_with_the_reason(functions, monkeypatch):
    monkeypatch.setattr(functions_module, "FUNCTION_BYTES_MAX", 8)
    monkeypatch.setattr(functions_module, "FUNCTIONS_BYTES_MAX", 12)
    get(functions)
    (fail,) = export(functions, pickled=b"123456789")
    assert (fail.kind, fail.request_id) == ("Overloaded", 1)
    assert "9 bytes, at most 8" in fail.text
    assert get(functions, request_id=2)[0].kind == "Overloaded"
    export(functions, b"a", b"12345678")
    export(functions, b"b", b"12345678")
    assert "at most 12" in get(functions, key=b"b")[0].text
    assert functions.bytes_used == 8


def test_parked_requests_are_bounded(functions, monkeypatch):
    monkeypatch.setattr(functions_module, "PARKED_REQUESTS_MAX", 1)
    get(functions)
    assert get(functions, B, 2)[0].kind == "Overloaded"


def test_who_asks_without_a_number_gets_no_answer(functions):
    export(functions)
    assert get(functions, request_id=0) == []
