"""Worker output at the driver: ``(name pid=..., node) line``, with repeated lines folded."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from actorrt.owner.messages import LogLines

FOLD_WINDOW_S = 5.0
FOLDED_LINES_MAX = 1000
DEDUP_VARIABLE = "ACTORRT_DEDUP_LOGS"


class _Fold:
    __slots__ = ("count", "prefix", "since_s", "stream")

    def __init__(self, prefix: str, since_s: float, stream: TextIO) -> None:
        self.prefix = prefix
        self.since_s = since_s
        self.count = 0
        self.stream = stream


class LogPrinter:
    """Prints ``LogLines``. The same line again within 5 s is only counted, and told once when the window ends.

    Args:
        fold: whether to; None: as the environment says.
        call_later: runs a function after so many seconds (any thread); without it, folds are told with the next output.

    Bounded: at most ``FOLDED_LINES_MAX`` different lines are remembered.
    """

    def __init__(
        self, *, fold: bool | None = None, call_later: Callable[[float, Callable[[], None]], object] | None = None
    ) -> None:
        self._fold = os.environ.get(DEDUP_VARIABLE, "1") != "0" if fold is None else fold
        self._call_later = call_later
        self._timer_set = False
        self._seen: dict[tuple[bool, str], _Fold] = {}
        self._lock = threading.Lock()

    def show(self, lines: LogLines) -> None:
        """Print some lines of one worker (any thread)."""
        stream = sys.stderr if lines.is_stderr else sys.stdout
        prefix = f"({lines.name or 'worker'} pid={lines.pid}, node={lines.node})"
        now = time.monotonic()
        out: list[tuple[TextIO, str]] = []
        with self._lock:
            self._expire(now, out)
            for line in lines.lines:
                known = self._seen.get((lines.is_stderr, line)) if self._fold and line.strip() else None
                if known is not None:
                    known.count += 1
                    known.prefix = prefix
                    self._set_timer(known.since_s + FOLD_WINDOW_S - now)
                    continue
                out.append((stream, f"{prefix} {line}"))
                if self._fold and line.strip():
                    self._seen[lines.is_stderr, line] = _Fold(prefix, now, stream)
                    if len(self._seen) > FOLDED_LINES_MAX:
                        oldest = next(iter(self._seen))
                        self._tell(oldest[1], self._seen.pop(oldest), out)
            if lines.dropped:
                out.append((stream, f"{prefix} ... {lines.dropped} lines left out: the output came too fast"))
        _write(out)

    def flush(self, *, everything: bool = False) -> None:
        """Tell about folds whose window has ended (all of them with ``everything``)."""
        out: list[tuple[TextIO, str]] = []
        with self._lock:
            self._expire(float("inf") if everything else time.monotonic(), out)
        _write(out)

    def _set_timer(self, delay_s: float) -> None:
        """Have the oldest fold told when its window ends, should no more output come by then (under the lock)."""
        if self._call_later is not None and not self._timer_set:
            self._timer_set = True
            self._call_later(max(0.0, delay_s), self._ring)

    def _ring(self) -> None:
        with self._lock:
            self._timer_set = False
        self.flush()
        with self._lock:
            since_s = min((fold.since_s for fold in self._seen.values() if fold.count), default=None)
            if since_s is not None:
                self._set_timer(since_s + FOLD_WINDOW_S - time.monotonic())

    def _expire(self, now: float, out: list[tuple[TextIO, str]]) -> None:
        for key in [key for key, fold in self._seen.items() if now - fold.since_s >= FOLD_WINDOW_S]:
            self._tell(key[1], self._seen.pop(key), out)

    def _tell(self, line: str, fold: _Fold, out: list[tuple[TextIO, str]]) -> None:
        if fold.count:
            out.append((fold.stream, f"{fold.prefix} {line} [repeated {fold.count}x across cluster]"))


def _write(out: list[tuple[TextIO, str]]) -> None:
    for stream, text in out:
        try:
            print(text, file=stream, flush=True)
        except (OSError, ValueError):
            return  # the user's stream is closed: there is nobody to show it to
