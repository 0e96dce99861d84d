import pytest

from actorrt.cluster import logs
from actorrt.cluster.logs import LogCollector, Tail
from actorrt.kernel.limits import LOG_LINE_BYTES_MAX
from actorrt.kernel.message import Address
from actorrt.wire.records import JobConfig

DRIVER = Address("unix:///driver", "owner")


def job(number: int = 1, *, log_to_driver: bool = True) -> JobConfig:
    return JobConfig(number.to_bytes(4, "big"), DRIVER, "", log_to_driver=log_to_driver)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "worker.out"
    path.touch()
    return path


def append(path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


# ----------------------------------------------------------------------------------------------------------------- tail
def test_lines_as_they_come(file):
    tail = Tail(str(file))
    assert tail.read() == []
    append(file, "one\ntw")
    assert tail.read() == [("", "one")]
    append(file, "o\n")
    assert tail.read() == [("", "two")]
    assert tail.behind_bytes() == 0
    tail.close()


def test_a_file_that_is_not_there_yet(tmp_path):
    path = tmp_path / "later"
    tail = Tail(str(path))
    assert tail.read() == []
    append(path, "one\n")
    assert tail.read() == [("", "one")]
    tail.close()


def test_names(file):
    tail = Tail(str(file))
    append(file, "a\n\x1e:name:f\nb\nhalf\x1e:name:g\nc\n\x1e:name:\nd\n\n")
    assert tail.read() == [("", "a"), ("f", "b"), ("f", "half"), ("g", "c"), ("", "d"), ("", "")]
    tail.close()


def test_unfinished_line(file):
    tail = Tail(str(file))
    append(file, "no newline")
    assert tail.read() == []
    assert tail.rest() == [("", "no newline")]
    assert tail.rest() == []
    tail.close()


def test_long_lines_are_cut(file):
    tail = Tail(str(file))
    append(file, "x" * (3 * LOG_LINE_BYTES_MAX) + "\nshort\n")
    lines = []
    while tail.behind_bytes() or not lines:
        lines += tail.read(LOG_LINE_BYTES_MAX)
    assert lines == [("", "x" * LOG_LINE_BYTES_MAX + logs.CUT), ("", "short")]
    tail.close()


def test_a_round_is_bounded(file):
    tail = Tail(str(file))
    append(file, "0123456789\n" * 100)
    assert len(tail.read(55)) == 5
    assert tail.behind_bytes() == 1045
    tail.close()


def test_hopelessly_behind(file, monkeypatch):
    monkeypatch.setattr(logs, "BACKLOG_BYTES_MAX", 1000)
    monkeypatch.setattr(logs, "READ_BYTES_MAX", 100)
    tail = Tail(str(file))
    tail.read()
    append(file, "\x1e:name:f\n" + "0123456789\n" * 200)
    lines = tail.read()
    assert set(lines) == {("f", "0123456789")}
    assert len(lines) + tail.dropped == 200
    tail.close()


def test_files_are_bounded(file):
    tail = Tail(str(file), file_bytes_max=1000)
    append(file, "0123456789\n" * 95)
    assert len(tail.read()) == 95
    assert file.stat().st_size < 200
    assert "removed" in file.read_text()
    append(file, "more\n")
    assert tail.read() == [("", "more")]
    tail.close()


def test_emptied_by_somebody_else(file):
    tail = Tail(str(file))
    append(file, "one\ntwo\n")
    tail.read()
    file.write_text("new\n")
    assert tail.read() == [("", "new")]
    tail.close()


# ------------------------------------------------------------------------------------------------------------ collector
@pytest.fixture
def collector(tmp_path):
    """A collector, what it has sent, and a way to add a worker (returns its two files)."""
    sent = []
    made = LogCollector(lambda driver, lines: sent.append((driver, lines)), "node1")

    def add(pid, config):
        files = tmp_path / f"{pid}.out", tmp_path / f"{pid}.err"
        for path in files:
            path.touch()
        made.add(pid, config, *map(str, files))
        return files

    yield made, sent, add
    made.close()


def test_lines_reach_the_driver(collector):
    made, sent, add = collector
    out, err = add(7, job())
    append(out, "a\n\x1e:name:f\nb\nc\n")
    append(err, "oops\n")
    made.poll()
    assert [(d, m.name, m.pid, m.node, m.is_stderr, m.lines) for d, m in sent] == [
        (DRIVER, "", 7, "node1", False, ("a",)),
        (DRIVER, "f", 7, "node1", False, ("b", "c")),
        (DRIVER, "", 7, "node1", True, ("oops",)),
    ]
    made.poll()
    assert len(sent) == 3


def test_messages_are_bounded(collector):
    made, sent, add = collector
    out, _ = add(7, job())
    append(out, "x\n" * (logs.LINES_PER_MESSAGE_MAX + 1))
    made.poll()
    assert [len(lines.lines) for _, lines in sent] == [logs.LINES_PER_MESSAGE_MAX, 1]


def test_dropped_lines_are_told(collector, monkeypatch):
    made, sent, add = collector
    out, _ = add(7, job())
    made.poll()
    monkeypatch.setattr(logs, "BACKLOG_BYTES_MAX", 100)
    monkeypatch.setattr(logs, "READ_BYTES_MAX", 50)
    append(out, "0123456789\n" * 100)
    made.poll()
    (message,) = [lines for _, lines in sent]
    assert message.dropped + len(message.lines) == 100


def test_a_job_that_wants_no_output(collector):
    made, sent, add = collector
    out, _ = add(7, job(log_to_driver=False))
    append(out, "a\n")
    made.poll()
    made.flush(job().job_id)
    assert sent == []


def test_a_driver_that_is_gone(collector):
    made, sent, add = collector
    out, _ = add(7, job())
    made.forget_driver(DRIVER.process)
    append(out, "a\n")
    made.poll()
    assert sent == []


def test_flush_is_one_job_and_everything(collector, monkeypatch):
    monkeypatch.setattr(logs, "READ_BYTES_MAX", 10)
    made, sent, add = collector
    mine, _ = add(7, job(1))
    other, _ = add(8, job(2))
    append(mine, "line\n" * 50 + "half")
    append(other, "not yet\n")
    made.flush(job(1).job_id)
    assert {lines.pid for _, lines in sent} == {7}
    assert [line for _, lines in sent for line in lines.lines] == ["line"] * 50 + ["half"]


def test_last_words_of_a_dead_worker(collector):
    made, sent, add = collector
    out, err = add(7, job())
    append(out, "bye\nhalf")
    made.ended(7)
    made.poll()
    assert [line for _, lines in sent for line in lines.lines] == ["bye", "half"]
    assert len(made) == 0
    assert out.exists()
    assert not err.exists(), "empty files of the dead are removed"


def test_files_of_the_dead_are_bounded(collector, monkeypatch):
    monkeypatch.setattr(logs, "ENDED_KEPT_MAX", 2)
    made, _, add = collector
    outs = [add(pid, job())[0] for pid in range(1, 5)]
    for pid, out in enumerate(outs, 1):
        append(out, "x\n")
        made.ended(pid)
        made.poll()
    assert [out.exists() for out in outs] == [False, False, True, True]


def test_bytes_of_the_dead_are_bounded(collector, monkeypatch):
    monkeypatch.setattr(logs, "ENDED_BYTES_MAX", 10)
    made, _, add = collector
    outs = [add(pid, job())[0] for pid in range(1, 4)]
    for pid, out in enumerate(outs, 1):
        append(out, "1234\n")
        made.ended(pid)
        made.poll()
    assert [out.exists() for out in outs] == [False, True, True]


def test_stderr_tail(collector):
    made, _, add = collector
    _, err = add(7, job())
    append(err, "\x1e:name:f\nTraceback\nboom\n")
    assert made.stderr_tail(7) == ("Traceback", "boom")
    assert made.stderr_tail(8) == ()
