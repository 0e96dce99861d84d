"""Notice the end of processes that are not our children: by a pidfd where there is one, else by looking."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

logger = logging.getLogger("actorrt.cluster")

LOOK_INTERVAL_S = 1.0
"""Where there is no pidfd. (A number that was given to another process meanwhile is then taken for the old one.)"""
WATCHED_MAX = 16_384


class ProcessWatch:
    """Runs on the loop's thread. ``ended`` is called once for each name whose process has ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Callable[[str], None]) -> None:
        self._loop = loop
        self._ended = ended
        self._pids: dict[str, int] = {}
        self._pidfds: dict[str, int] = {}
        self._looked_at: dict[str, int] = {}
        self._look_timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._pids)

    def watch(self, name: str, pid: int) -> None:
        """Watch a process, under a name (that of an earlier one is forgotten).

        Our own never ends for us, nor does one without a number (it is on another machine).
        """
        if self._pids.get(name) == pid:
            return
        self.forget(name)
        if pid <= 0 or pid == os.getpid():
            return
        if len(self) >= WATCHED_MAX:
            logger.error("process %d is not watched: %d are already", pid, WATCHED_MAX)
            return
        if hasattr(os, "pidfd_open"):
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._ended(name)
                return
            except OSError as error:
                logger.info("no pidfd of process %d (%s): it is looked at now and then", pid, error)
            else:
                self._pids[name] = pid
                self._pidfds[name] = pidfd
                self._loop.add_reader(pidfd, self._readable, name)
                return
        self._pids[name] = pid
        self._looked_at[name] = pid
        self._look()

    def _readable(self, name: str) -> None:
        self.forget(name)
        self._ended(name)

    def forget(self, name: str) -> None:
        """Watch it no longer (nothing happens if it is not watched)."""
        self._pids.pop(name, None)
        self._looked_at.pop(name, None)
        pidfd = self._pidfds.pop(name, -1)
        if pidfd >= 0:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)

    def _look(self) -> None:
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None
        for name, pid in list(self._looked_at.items()):
            if not _exists(pid):
                self.forget(name)
                self._ended(name)
        if self._looked_at:
            self._look_timer = self._loop.call_later(LOOK_INTERVAL_S, self._look)

    def close(self) -> None:
        """Watch nothing any more (idempotent)."""
        for name in list(self._pids):
            self.forget(name)
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
