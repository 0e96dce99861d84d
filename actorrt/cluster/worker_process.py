"""The first moments of a worker process, forked or spawned, until its entry point takes over; and its last ones."""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from actorrt.cluster import output
from actorrt.cluster.config import WorkerConfig
from actorrt.cluster.interpreter import die_with_parent, set_process_name

OOM_SCORE_ADJUSTMENT = 500
"""When memory runs out the kernel shall take a worker rather than the node process or the driver."""
DEFAULT_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2)

_decode_config = msgspec.msgpack.Decoder(WorkerConfig).decode  # made once, before any fork


def log_paths(log_base: str, pid: int) -> tuple[str, str]:
    """Paths of the files that take a worker's stdout and stderr."""
    return f"{log_base}-{pid}.out", f"{log_base}-{pid}.err"


def load_entry(entry: str) -> Callable[[WorkerConfig], object]:
    """Import ``package.module:function``."""
    module, _, name = entry.partition(":")
    function = getattr(importlib.import_module(module), name)
    if not callable(function):
        raise TypeError(f"{entry} is not callable")
    return function  # type: ignore[no-any-return]


def redirect_output(log_base: str) -> None:
    """Send file descriptors 0, 1 and 2, and Python's streams, where a worker's belong."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    for target, path in zip((1, 2), log_paths(log_base, os.getpid()), strict=True):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        os.dup2(fd, target)
        os.close(fd)
    output.install()


def _reset_signals() -> None:
    # Ignored signals survive exec and fork: a driver started in the background of a shell ignores SIGINT, and its
    # workers could then never be cancelled by KeyboardInterrupt.
    signal.set_wakeup_fd(-1)
    for number in DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _invite_oom_killer() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJUSTMENT), encoding="ascii")
    except OSError:  # not Linux, or not allowed: the kernel then chooses by size alone
        return


def run_worker(data: bytes, log_base: str, parent_pid: int) -> NoReturn:
    """Become the worker that ``data`` (an encoded ``WorkerConfig``) describes; ends the process, whatever happens."""
    exit_code = 1
    try:
        _reset_signals()
        redirect_output(log_base)
        if not die_with_parent(parent_pid):
            os._exit(1)
        exit_code = _run(data)
    except BaseException:  # noqa: BLE001 - nothing above could take it; it is reported and the process ends
        traceback.print_exc()
    os._exit(exit_code)


def _forget_logging() -> None:
    """Undo the node process's logging configuration, which a fork inherits: a worker's root logger is its user's, whose
    ``basicConfig`` would else do nothing; and what we have to say below a warning is not for the driver's screen.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)


def _run(data: bytes) -> int:
    set_process_name("actorrt:worker")
    _forget_logging()
    _invite_oom_killer()
    gc.enable()
    config = _decode_config(data)
    os.environ.update(config.environment.env_vars)
    exit_code = _exit_code_of(lambda: load_entry(config.entry)(config))
    # The interpreter is not torn down: threads of the runtime still run, and finalising inherited objects would only
    # copy the pages shared with the zygote.
    exit_code = _exit_code_of(atexit._run_exitfuncs) or exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    return exit_code


def _exit_code_of(function: Callable[[], Any]) -> int:
    try:
        function()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)  # noqa: T201 - what the interpreter does for sys.exit("text")
        return 1
    except BaseException:  # noqa: BLE001 - as the interpreter does at its top
        traceback.print_exc()
        return 1
    return 0


def main() -> NoReturn:
    """Entry of a spawned worker: arguments are the log base and the parent's pid, the configuration is on stdin."""
    log_base, parent_pid = sys.argv[1], int(sys.argv[2])
    data = sys.stdin.buffer.read()
    run_worker(data, log_base, parent_pid)
