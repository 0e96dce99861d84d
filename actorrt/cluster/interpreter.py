"""Starting a Python process of ours, and what the operating system lets us say about it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])
"""The folder this very package was imported from; a child must load the same code, installed or not."""
OPEN_FILES_WANTED = 65_536

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def python_command(module: str, title: str, *arguments: str) -> list[str]:
    """Return the command that runs ``main()`` of a module of ours in a fresh interpreter.

    ``-P`` keeps the working directory out of ``sys.path``, where a user's ``types.py`` would be taken for the standard
    library's. ``title`` is only there for people who look at a process list.
    """
    if not sys.executable:
        raise RuntimeError("sys.executable is empty: this program embeds Python, so no process can be started from it")
    code = (
        f"import sys; p = {PACKAGE_PARENT!r}; p in sys.path or sys.path.append(p); "
        f"from {module} import main; sys.exit(main())"
    )
    return [sys.executable, "-P", "-c", code, *arguments, title]


def set_process_name(name: str) -> None:
    """Name this process for ``ps`` and ``top`` (15 bytes; Linux)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def die_with_parent(parent_pid: int) -> bool:
    """Have the kernel kill this process when its parent's thread ends (Linux). False: the parent is dead already."""
    if _libc is not None and _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return os.getppid() == parent_pid


def raise_open_files_limit() -> int:
    """Allow as many open files as we may have, up to ``OPEN_FILES_WANTED``; return the limit now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(OPEN_FILES_WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # a sandbox may forbid it; the old limit then stands
        return soft
    return wanted
