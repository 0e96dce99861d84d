"""The log collector: carries what workers print to the driver of their job.

Theory of operation
-------------------
Workers write to files of their own, at the operating system's speed and whether or not anybody reads. Every
``POLL_INTERVAL_S``, while there are workers, the collector reads what is new and sends it as ``LogLines``. The file
itself is the buffer: a round reads a bounded amount, the rest waits on disk. Only a reader that is hopelessly behind
skips, and then says how many lines.

Files are bounded too: one that has grown to ``LOG_FILE_BYTES_MAX`` and has been read is emptied (workers append, so
they go on at its new end). The files of dead workers stay for people to read, the oldest going first, empty ones at
once.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from actorrt.cluster.output import MARKER, split_marker, tail_lines
from actorrt.kernel.limits import LOG_FILE_BYTES_MAX, LOG_LINE_BYTES_MAX
from actorrt.kernel.message import Address
from actorrt.owner.messages import LogLines
from actorrt.wire.records import JobConfig

logger = logging.getLogger("actorrt.cluster.logs")

POLL_INTERVAL_S = 0.1
READ_BYTES_MAX = 256 * 1024
"""Read from one file per round."""
BACKLOG_BYTES_MAX = 16 << 20
"""A reader this far behind skips to the newest ``READ_BYTES_MAX``."""
LINES_PER_MESSAGE_MAX = 1000
ENDED_KEPT_MAX = 1000
"""Files of dead workers kept per node."""
ENDED_BYTES_MAX = 1 << 30
"""And how large they may be together."""
CUT = " ... [line cut]"


class Tail:
    """Reads one growing file, line by line, with the name of whoever wrote each line."""

    def __init__(self, path: str, file_bytes_max: int = LOG_FILE_BYTES_MAX) -> None:
        self.path = path
        self.name = ""
        self.dropped = 0
        self._file_bytes_max = file_bytes_max
        self._fd = -1
        self._offset = 0
        self._partial = b""
        self._cutting = False
        """The rest of an over-long line is being skipped."""

    def read(self, bytes_max: int = READ_BYTES_MAX) -> list[tuple[str, str]]:
        """Return the next lines, with their writers; at most ``bytes_max`` bytes are read."""
        if self._fd < 0:
            try:
                self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return []
        size = os.fstat(self._fd).st_size
        if size < self._offset:  # somebody emptied it
            self._offset = 0
        if size - self._offset > BACKLOG_BYTES_MAX:
            self._skip_to(size - READ_BYTES_MAX)
        data = os.pread(self._fd, bytes_max, self._offset)
        self._offset += len(data)
        lines = self._lines(data)
        if self._offset >= self._file_bytes_max:
            self._empty()
        return lines

    def behind_bytes(self) -> int:
        """Bytes written and not read."""
        if self._fd < 0:
            return 0
        return os.fstat(self._fd).st_size - self._offset

    def rest(self) -> list[tuple[str, str]]:
        """Return an unfinished last line."""
        if not self._partial:
            return []
        partial, self._partial = self._partial, b""
        return self._line(partial)

    def close(self) -> None:
        """Read no more (idempotent)."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lines(self, data: bytes) -> list[tuple[str, str]]:
        lines: list[tuple[str, str]] = []
        *whole, self._partial = (self._partial + data).split(b"\n")
        for line in whole:
            if self._cutting:
                self._cutting = False
            else:
                lines += self._line(line)
        if len(self._partial) > LOG_LINE_BYTES_MAX:
            if not self._cutting:
                lines += self._line(self._partial)
                self._cutting = True
            self._partial = b""
        return lines

    def _line(self, line: bytes) -> list[tuple[str, str]]:
        text, name = split_marker(line)
        lines = []
        if text or name is None:
            cut = CUT if len(text) > LOG_LINE_BYTES_MAX else ""
            lines = [(self.name, text[:LOG_LINE_BYTES_MAX].decode("utf-8", "replace") + cut)]
        if name is not None:
            self.name = name
        return lines

    def _skip_to(self, offset: int) -> None:
        self._partial = b""
        while self._offset < offset:
            data = os.pread(self._fd, min(1 << 20, offset - self._offset), self._offset)
            if not data:
                return
            self._offset += len(data)
            self.dropped += data.count(b"\n") - data.count(MARKER)
            position = data.rfind(MARKER)
            if position >= 0:
                name = data[position + len(MARKER) :].split(b"\n", 1)[0]
                self.name = name.decode("utf-8", "replace")
        # What is left of the line we landed in is not a line.
        self._cutting = True
        self.dropped += 1

    def _empty(self) -> None:
        os.ftruncate(self._fd, 0)
        self._offset = 0
        note = f"[the output before this was removed: the file had reached {self._file_bytes_max} bytes]\n".encode()
        with Path(self.path).open("ab") as file:
            file.write(note)
        self._offset = len(note)


class _Worker:
    """The two files of one process."""

    def __init__(self, pid: int, job: JobConfig, out_path: str, error_path: str) -> None:
        self.pid = pid
        self.job_id = job.job_id
        self.driver: Address | None = job.driver if job.log_to_driver else None
        self.tails = (Tail(out_path), Tail(error_path))
        self.ended = False


class LogCollector:
    """See the module's theory of operation. ``send(driver, lines)`` must not block."""

    def __init__(self, send: Callable[[Address, LogLines], None], node: str) -> None:
        self._send = send
        self._node = node
        self._workers: dict[int, _Worker] = {}
        self._ended_files: deque[tuple[str, int]] = deque()
        self._ended_bytes = 0

    def __len__(self) -> int:
        return len(self._workers)

    def add(self, pid: int, job: JobConfig, out_path: str, error_path: str) -> None:
        """Follow a worker's files (they may not exist yet)."""
        self._workers[pid] = _Worker(pid, job, out_path, error_path)

    def ended(self, pid: int) -> None:
        """The process is dead: read the rest, then let go of its files."""
        worker = self._workers.get(pid)
        if worker is not None:
            worker.ended = True

    def forget_driver(self, process: str) -> None:
        """Nobody reads there any more."""
        for worker in self._workers.values():
            if worker.driver is not None and worker.driver.process == process:
                worker.driver = None

    def poll(self) -> None:
        """One round: send what is new, up to the bounds."""
        for worker in list(self._workers.values()):
            self._pump(worker)
            if worker.ended and not any(tail.behind_bytes() for tail in worker.tails):
                self._finish(worker)

    def flush(self, job_id: bytes) -> None:
        """Send everything written so far by workers of this job, unfinished lines too."""
        for worker in list(self._workers.values()):
            if worker.job_id != job_id:
                continue
            for is_stderr, tail in enumerate(worker.tails):
                while True:
                    lines = self._read(worker, tail)
                    self._emit(worker, tail, bool(is_stderr), lines)
                    if not tail.behind_bytes() or not lines:
                        break
                self._emit(worker, tail, bool(is_stderr), tail.rest())
            if worker.ended:
                self._finish(worker)

    def stderr_tail(self, pid: int) -> tuple[str, ...]:
        """Return the last lines a worker wrote to stderr (for the text of ``WorkerCrashedError``)."""
        worker = self._workers.get(pid)
        return () if worker is None else tail_lines(worker.tails[1].path)

    def close(self) -> None:
        """Let go of all files."""
        for worker in self._workers.values():
            for tail in worker.tails:
                tail.close()
        self._workers.clear()

    def _pump(self, worker: _Worker) -> None:
        for is_stderr, tail in enumerate(worker.tails):
            self._emit(worker, tail, bool(is_stderr), self._read(worker, tail))

    def _read(self, worker: _Worker, tail: Tail) -> list[tuple[str, str]]:
        try:
            return tail.read()
        except OSError as error:
            # The folder was removed under us, or the disk is broken: people lose output, nobody loses work.
            logger.warning("cannot read the output of worker %d: %s", worker.pid, error)
            worker.driver = None
            tail.close()
            return []

    def _emit(self, worker: _Worker, tail: Tail, is_stderr: bool, lines: list[tuple[str, str]]) -> None:
        dropped, tail.dropped = tail.dropped, 0
        if worker.driver is None or not (lines or dropped):
            return
        start = 0
        while start < len(lines) or dropped:
            name = lines[start][0] if lines else tail.name
            end = start
            while end < len(lines) and lines[end][0] == name and end - start < LINES_PER_MESSAGE_MAX:
                end += 1
            texts = tuple(text for _, text in lines[start:end])
            self._send(worker.driver, LogLines(name, worker.pid, self._node, is_stderr, texts, dropped))
            dropped = 0
            start = end

    def _finish(self, worker: _Worker) -> None:
        for is_stderr, tail in enumerate(worker.tails):
            self._emit(worker, tail, bool(is_stderr), tail.rest())
            tail.close()
            self._retire(tail.path)
        del self._workers[worker.pid]

    def _retire(self, path: str) -> None:
        file = Path(path)
        try:
            size_bytes = file.stat().st_size
        except FileNotFoundError:
            return
        if not size_bytes:
            file.unlink(missing_ok=True)
            return
        self._ended_files.append((path, size_bytes))
        self._ended_bytes += size_bytes
        while len(self._ended_files) > ENDED_KEPT_MAX or self._ended_bytes > ENDED_BYTES_MAX:
            oldest, size_bytes = self._ended_files.popleft()
            self._ended_bytes -= size_bytes
            Path(oldest).unlink(missing_ok=True)
