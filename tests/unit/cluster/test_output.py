import os

import pytest

from actorrt.cluster import output


@pytest.fixture
def stream(tmp_path):
    """A NamedOutput, what it has written, and a way to change the writer's name."""
    path = tmp_path / "out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    named = output.NamedOutput(fd)
    yield named, path.read_text, output.set_name_source
    output.set_name_source(lambda: "")
    named.close()
    os.close(fd)


def test_marker_before_a_new_writer(stream):
    out, text, name_source = stream
    print("nobody", file=out)
    name_source(lambda: "f")
    print("one", file=out)
    print("two", file=out)
    name_source(lambda: "g")
    print("three", file=out)
    assert text() == "nobody\n\x1e:name:f\none\ntwo\n\x1e:name:g\nthree\n"


def test_a_line_is_ended_before_the_marker(stream):
    out, text, name_source = stream
    print("half", end="", file=out)
    name_source(lambda: "f")
    print("rest", file=out)
    assert text() == "half\n\x1e:name:f\nrest\n"


def test_lines_are_written_at_once(stream):
    out, text, _ = stream
    print("now", file=out)
    assert text() == "now\n"


def test_odd_text(stream):
    out, text, _ = stream
    print("\udcff", file=out)
    assert text() == "\\udcff\n"


def test_names_cannot_break_the_format():
    assert output.marker("a\nb" + "c" * 300).count("\n") == 1
    assert len(output.marker("c" * 300)) < 220


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"plain", (b"plain", None)),
        (b"\x1e:name:f", (b"", "f")),
        (b"half\x1e:name:", (b"half", "")),
    ],
)
def test_split(line, parts):
    assert output.split_marker(line) == parts


def test_tail(tmp_path):
    path = tmp_path / "err"
    assert output.tail_lines(str(path)) == ()
    path.write_text("")
    assert output.tail_lines(str(path)) == ()
    path.write_text("\x1e:name:f\n" + "".join(f"line {n}\n" for n in range(50)) + "\x1e:name:g\nlast")
    assert output.tail_lines(str(path), 3) == ("line 48", "line 49", "last")
