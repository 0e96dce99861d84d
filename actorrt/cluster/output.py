r"""A worker's stdout and stderr: text streams that note in the file who is printing.

The log collector must tell the driver which task or actor wrote a line, but many of them write to one file. So the
stream puts a *marker line* before the first line of a new writer::

    \x1e:name:<name>\\n

The collector strips markers and keeps the name for what follows. Output written below Python (C libraries, child
processes) goes to the writer named last.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from actorrt.kernel.limits import STDERR_TAIL_LINES

MARKER = b"\x1e:name:"
NAME_CHARACTERS_MAX = 200
TAIL_BYTES_MAX = 64 * 1024


def marker(name: str) -> str:
    """Return the line that says whose output follows."""
    return f"{MARKER.decode()}{name[:NAME_CHARACTERS_MAX].replace(chr(10), ' ')}\n"


def split_marker(line: bytes) -> tuple[bytes, str | None]:
    """Split one line (without its newline) into output and, if it ends in a marker, the name in it."""
    text, found, name = line.partition(MARKER)
    return (text, name.decode("utf-8", "replace")) if found else (line, None)


def tail_lines(path: str, lines_max: int = STDERR_TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines of a file, without markers; none when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES_MAX))
            data = file.read(TAIL_BYTES_MAX)
    except OSError:
        return ()
    texts = [split_marker(line) for line in data.removesuffix(b"\n").split(b"\n")]
    lines = [text.decode("utf-8", "replace") for text, name in texts if text or name is None]
    return tuple(lines[-lines_max:]) if data else ()


class NamedOutput(io.TextIOWrapper):
    """Line-buffered text stream over a file descriptor that writes a marker when ``current_name()`` has changed.

    A name changes between prints, so it is looked up per ``write``; in the middle of a line the line is ended first.
    Threads that print at the same moment may end up under each other's name, as their lines may be mixed on any stream.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(
            io.BufferedWriter(io.FileIO(fd, "wb", closefd=False)),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
            write_through=False,
        )
        self._name = ""
        self._in_line = False

    def write(self, text: str, /) -> int:
        """Write text, after a marker if somebody else wrote last."""
        if not text:
            return 0
        name = _current_name()
        if name != self._name:
            self._name = name
            super().write(f"\n{marker(name)}" if self._in_line else marker(name))
        written = super().write(text)
        self._in_line = not text.endswith("\n")
        if self._in_line:  # a worker may be ended at any moment, and then nobody is left to write what waits here
            self.flush()
        return written


def _nobody() -> str:
    return ""


_current_name: Callable[[], str] = _nobody


def set_name_source(current_name: Callable[[], str]) -> None:
    """Have ``current_name`` (any thread, cheap, must not raise) say which task or actor prints at the moment."""
    global _current_name
    _current_name = current_name


def install() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` of this process."""
    sys.stdout = NamedOutput(1)
    sys.stderr = NamedOutput(2)
