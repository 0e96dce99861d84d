"""The printer of worker output."""

import pytest

from actorrt.api import output
from actorrt.api.output import FOLD_WINDOW_S, FOLDED_LINES_MAX, LogPrinter
from actorrt.owner.messages import LogLines


def lines(*texts, name="f", is_stderr=False, dropped=0, pid=7):
    return LogLines(name, pid, "host", is_stderr, texts, dropped)


@pytest.fixture
def clock(monkeypatch):
    """The printer's time: ``clock.now_s``."""

    class Clock:
        now_s = 100.0

        def monotonic(self):
            return self.now_s

    made = Clock()
    monkeypatch.setattr(output, "time", made)
    return made


def test_prefix_and_streams(capsys):
    printer = LogPrinter()
    printer.show(lines("one", "", "two"))
    printer.show(lines("bad", name="", is_stderr=True))
    out, err = capsys.readouterr()
    assert out == "(f pid=7, node=host) one\n(f pid=7, node=host) \n(f pid=7, node=host) two\n"
    assert err == "(worker pid=7, node=host) bad\n"


def test_repeated_lines_are_counted_and_told_once(capsys, clock):
    printer = LogPrinter(fold=True)
    printer.show(lines("same", "same", "", ""))
    printer.show(lines("same", pid=8))
    assert capsys.readouterr().out.count("same") == 1
    clock.now_s += FOLD_WINDOW_S - 0.1
    printer.flush()
    assert capsys.readouterr().out == ""
    clock.now_s += 0.2
    printer.flush()
    assert capsys.readouterr().out == "(f pid=8, node=host) same [repeated 2x across cluster]\n"
    printer.show(lines("same"))
    assert capsys.readouterr().out == "(f pid=7, node=host) same\n"


def test_a_line_seen_once_is_not_told_again(capsys, clock):
    printer = LogPrinter(fold=True)
    printer.show(lines("once"))
    printer.flush(everything=True)
    assert capsys.readouterr().out == "(f pid=7, node=host) once\n"


def test_the_end_tells_all_folds(capsys):
    printer = LogPrinter(fold=True)
    printer.show(lines("a", "a", "b", "b", "b"))
    capsys.readouterr()
    printer.flush(everything=True)
    assert [line.split(") ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "a [repeated 1x across cluster]",
        "b [repeated 2x across cluster]",
    ]


def test_a_timer_tells_folds_without_more_output(capsys, clock):
    timers = []
    printer = LogPrinter(fold=True, call_later=lambda delay_s, ring: timers.append((delay_s, ring)))
    printer.show(lines("a"))
    assert timers == [], "nothing to tell yet"
    clock.now_s += 1
    printer.show(lines("a", "b"))
    clock.now_s += 1
    printer.show(lines("b", "a"))
    ((delay_s, ring),) = timers
    assert delay_s == pytest.approx(FOLD_WINDOW_S - 1)
    capsys.readouterr()
    clock.now_s += FOLD_WINDOW_S - 2
    ring()
    assert "a [repeated 2x" in capsys.readouterr().out
    assert len(timers) == 2, "set again for the younger fold"
    clock.now_s += timers[1][0]
    timers[1][1]()
    assert "b [repeated 1x" in capsys.readouterr().out
    assert len(timers) == 2


def test_folding_is_bounded(capsys):
    printer = LogPrinter(fold=True)
    printer.show(lines("first", "first", *[f"line {number}" for number in range(FOLDED_LINES_MAX)]))
    assert "first [repeated 1x" in capsys.readouterr().out
    assert len(printer._seen) <= FOLDED_LINES_MAX


@pytest.mark.parametrize(("value", "count"), [("0", 2), ("1", 1)])
def test_the_environment_decides(capsys, monkeypatch, value, count):
    monkeypatch.setenv(output.DEDUP_VARIABLE, value)
    LogPrinter().show(lines("x", "x"))
    assert capsys.readouterr().out.count(" x\n") == count


def test_left_out_lines_are_told(capsys):
    LogPrinter().show(lines("x", dropped=12))
    assert "12 lines left out" in capsys.readouterr().out


def test_a_closed_stream_is_no_error(monkeypatch, tmp_path):
    with (tmp_path / "out").open("w") as file:
        pass
    monkeypatch.setattr("sys.stdout", file)
    LogPrinter().show(lines("nobody hears"))
