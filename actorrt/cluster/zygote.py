"""The fork server: a single-threaded, preloaded interpreter that makes workers and reaps them.

Theory of operation
-------------------
The node process forks the zygote before it has any thread, so fork is safe here for good: nothing in this process ever
starts one. They talk over a socket pair in length-prefixed msgpack. The zygote imports the worker's entry module once;
a fork then takes a millisecond or two, and workers share the pages.

One ``poll`` waits for requests and, through a wakeup descriptor, for SIGCHLD. A dead child is looked at without reaping
it first (``WNOWAIT``): while it is a zombie its number cannot be given to another process, so killing what is left of
its process group cannot hit a stranger. Then it is reaped and reported, exactly once.

End of file on the socket means the node process is dead: kill every group, reap, remove the node's objects and sockets
folder, end.
A request that makes no sense is reported and forgotten; the zygote outlives all of them.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import msgspec

from actorrt.cluster.interpreter import python_command, set_process_name
from actorrt.cluster.session import remove_sockets_folder
from actorrt.cluster.worker_process import load_entry, run_worker
from actorrt.kernel.limits import WORKERS_MAX

logger = logging.getLogger("actorrt.cluster.zygote")

FRAME_BYTES_MAX = 64 << 20
"""One request: a worker's configuration, with whatever its runtime environment holds."""
READ_BYTES = 1 << 18
REAP_TIMEOUT_S = 2.0
"""At the end: killed processes are waited for at most this long (one stuck in the kernel must not keep us)."""

_LENGTH = struct.Struct("<I")


class _Record(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What the node process and the zygote say to each other."""


class Fork(_Record, frozen=True):
    """Make a worker of ``config`` (an encoded ``WorkerConfig``). Answered by ``Forked`` or ``ForkFailed`` of this
    number.
    """

    number: int
    config: bytes
    log_base: str


class Signal(_Record, frozen=True):
    """Signal a child, or its whole process group. Dead and unknown ones are ignored."""

    pid: int
    signal_number: int
    group: bool


class Stop(_Record, frozen=True):
    """Kill every group, reap, end."""


class Preloaded(_Record, frozen=True):
    """The entry module is imported, or could not be (each worker will then fail by itself, and say why)."""

    error: str = ""


class Forked(_Record, frozen=True):
    """The process exists."""

    number: int
    pid: int


class ForkFailed(_Record, frozen=True):
    """No process could be made."""

    number: int
    text: str


class Exited(_Record, frozen=True):
    """The process ended and was reaped; what was left of its group is killed."""

    pid: int
    exit_code: int
    signal_number: int


class Refused(_Record, frozen=True):
    """A request made no sense."""

    text: str


Request: TypeAlias = Fork | Signal | Stop
Report: TypeAlias = Preloaded | Forked | ForkFailed | Exited | Refused

_encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_report = msgspec.msgpack.Decoder(Report).decode


def frame(record: Request | Report) -> bytes:
    """Return a record as it travels. Raises ValueError when it is too large."""
    data = _encode(record)
    if len(data) > FRAME_BYTES_MAX:
        raise ValueError(f"a {type(record).__name__} of {len(data)} bytes, at most {FRAME_BYTES_MAX} can travel")
    return _LENGTH.pack(len(data)) + data


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the frames they complete. Raises ValueError when the stream cannot be ours."""
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if size > FRAME_BYTES_MAX:
                raise ValueError(f"a frame of {size} bytes, at most {FRAME_BYTES_MAX} are expected")
            end = start + _LENGTH.size + size
            if len(buffer) < end:
                break
            frames.append(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]
        return frames


class Zygote:
    """The server. ``run`` returns when the node process is gone or wants it."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        entry: str,
        sockets_dir: Path | None = None,
        spawn: bool = False,
        ready_fd: int = -1,
    ) -> None:
        self._sock = sock
        self._entry = entry
        self._sockets_dir = sockets_dir
        self._spawn = spawn
        self._ready_fd = ready_fd
        self._reader = FrameReader()
        self._children: dict[int, None] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._ending = False

    # ---- the loop
    def run(self) -> None:
        """Serve until the end."""
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, _noticed)  # the wakeup descriptor tells; without a handler it would not
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._report(Preloaded("" if self._spawn else self._preload()))
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._ending:
            for fd, _ in poll.poll():
                if fd == self._wake_read:
                    self._woken()
                else:
                    self._read()
        self._end()

    def _preload(self) -> str:
        error = ""
        try:
            load_entry(self._entry)
        except Exception as failure:
            logger.exception("cannot preload %s", self._entry)
            error = f"{type(failure).__name__}: {failure}"
        # What is there now stays: keep the collector from touching (and so copying) the pages workers share.
        gc.collect()
        gc.freeze()
        gc.disable()
        return error

    def _woken(self) -> None:
        try:
            numbers = os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        if signal.SIGTERM in numbers:
            self._ending = True
        self._reap()

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES, socket.MSG_DONTWAIT)
            frames = self._reader.feed(data)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            logger.error("lost the node process: %s", error)  # noqa: TRY400 - no bug of ours
            self._ending = True
            return
        if not data:
            self._ending = True
        for item in frames:
            self._handle(item)

    def _handle(self, data: bytes) -> None:
        try:
            request = decode_request(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._report(Refused(f"cannot decode a request: {error}"))
            return
        match request:
            case Fork():
                self._report(self._fork(request))
            case Signal(pid, signal_number, group):
                self._signal(pid, signal_number, group)
            case Stop():
                self._ending = True

    def _report(self, report: Report) -> None:
        try:
            self._sock.sendall(frame(report))
        except OSError as error:
            logger.info("the node process is gone: %s", error)
            self._ending = True

    # ---- making
    def _fork(self, request: Fork) -> Forked | ForkFailed:
        if len(self._children) >= WORKERS_MAX:
            return ForkFailed(request.number, f"{WORKERS_MAX} worker processes exist already")
        try:
            pid = self._spawn_process(request) if self._spawn else self._fork_process(request)
        except (OSError, ValueError) as error:
            return ForkFailed(request.number, f"cannot make a process: {error}")
        self._children[pid] = None
        return Forked(request.number, pid)

    def _fork_process(self, request: Fork) -> int:
        zygote_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(request, zygote_pid)
        # Both sides do it: whoever comes first, the group exists before anybody may want to kill it.
        try:
            os.setpgid(pid, pid)
        except (PermissionError, ProcessLookupError):  # the child has ended already
            logger.debug("worker %d ended before it had a group", pid)
        return pid

    def _become(self, request: Fork, zygote_pid: int) -> NoReturn:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._sock.close()
        run_worker(request.config, request.log_base, zygote_pid)

    def _spawn_process(self, request: Fork) -> int:
        command = python_command("actorrt.cluster.worker_process", "actorrt-worker", request.log_base, str(os.getpid()))
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            process_group=0,
            pass_fds=() if self._ready_fd < 0 else (self._ready_fd,),
        )
        assert process.stdin is not None
        try:
            with process.stdin as stdin:
                stdin.write(request.config)
        except BrokenPipeError:
            logger.info("worker %d ended before it was configured", process.pid)
        process.returncode = 0  # ours to reap, not Popen's
        return process.pid

    # ---- ending
    def _signal(self, pid: int, signal_number: int, group: bool) -> None:
        if pid not in self._children:
            return
        try:
            if group:
                os.killpg(pid, signal_number)
            else:
                os.kill(pid, signal_number)
        except (ProcessLookupError, PermissionError) as error:
            logger.debug("cannot signal worker %d: %s", pid, error)
        except (OSError, ValueError, OverflowError) as error:
            self._report(Refused(f"signal {signal_number}: {error}"))

    def _reap(self) -> None:
        while (ended := _wait_for_any(self._children)) is not None:
            pid, exit_code, signal_number = ended
            if pid in self._children:
                del self._children[pid]
                self._report(Exited(pid, exit_code, signal_number))

    def _end(self) -> None:
        for pid in list(self._children):
            _kill_group(pid)
        deadline_s = time.monotonic() + REAP_TIMEOUT_S
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        self._reap()
        while self._children and time.monotonic() < deadline_s:
            poll.poll(50)
            self._woken()
        if self._children:
            logger.error("workers %s could not be ended", sorted(self._children))
        if self._sockets_dir is not None:
            remove_sockets_folder(self._sockets_dir)
        self._sock.close()


def _noticed(signal_number: int, stack: Any) -> None:
    del signal_number, stack


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # empty, or only a zombie is left of it (macOS)
        return


def _wait_for_any(children: dict[int, None]) -> tuple[int, int, int] | None:
    """Reap one dead child after killing the rest of its group; (pid, exit code, signal), or None."""
    try:
        if hasattr(os, "waitid"):
            state = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if state is None:
                return None
            if state.si_pid in children:
                _kill_group(state.si_pid)
            pid, status = os.waitpid(state.si_pid, 0)
        else:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return None
            if pid in children:
                _kill_group(pid)
    except ChildProcessError:
        return None
    if os.WIFSIGNALED(status):
        return pid, 0, os.WTERMSIG(status)
    return pid, os.WEXITSTATUS(status), 0


def start_zygote(
    *,
    entry: str,
    sockets_dir: Path | None = None,
    spawn: bool = False,
    ready_fd: int = -1,
    close_fds: tuple[int, ...] = (),
) -> tuple[int, socket.socket]:
    """Fork the zygote from this process, which must be single-threaded. Returns its pid and our end of the socket.

    ``close_fds`` are descriptors the zygote must not keep (locks, and the pipe that tells whether our parent lives).
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        its.close()
        return pid, ours
    exit_code = 1
    try:
        ours.close()
        for fd in close_fds:
            os.close(fd)
        set_process_name("actorrt:zygote")
        Zygote(its, entry=entry, sockets_dir=sockets_dir, spawn=spawn, ready_fd=ready_fd).run()
        exit_code = 0
    except BaseException:
        logger.exception("the zygote failed")
    os._exit(exit_code)
