"""One object from several sources at once: chunks in a queue that the connections of a pull share.

Whoever is free takes the next chunk, so a slow source gets few. A source that fails puts its chunks back and one that
was kept in reserve takes its place. A pull ends when all bytes are written, or when bytes are missing and no source is
left; in both cases no thread of ours touches the memory any more.

Threads are made when there is work and end when there is none. Connections are kept a while for the next pull.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from actorrt.cluster.bulk import BulkLimits, ConnectionLost, Source

logger = logging.getLogger("actorrt.cluster.bulk")

Connect = Callable[[str, Callable[[], bool]], Source]
"""Make a connection to an endpoint (blocks; raises BulkError); asks now and then whether it is still wanted."""
REASONS_MAX = 8
"""Of failed sources, in the text of a failed pull."""


class Outcome(NamedTuple):
    """How a pull ended: ``error`` is empty when all bytes are written."""

    failed: tuple[str, ...]
    error: str


Ended = Callable[[Outcome], None]


class _Origin(NamedTuple):
    process: str
    endpoint: str


class Pull:
    """One object being filled. Everything below ``_changed`` is touched with it held."""

    def __init__(self, key: bytes, target: memoryview, limits: BulkLimits, ended: Ended) -> None:
        self.key = key
        self.target = target
        self.ended = False
        self._tell = ended
        self._sources_max = limits.sources_per_pull_max
        self._changed = threading.Condition()
        size_bytes = target.nbytes
        self._todo = collections.deque(
            (start, min(limits.chunk_bytes, size_bytes - start)) for start in range(0, size_bytes, limits.chunk_bytes)
        )
        self._missing = len(self._todo)
        self._known: dict[str, None] = {}
        self._reserve: collections.deque[_Origin] = collections.deque()
        self._queued = 0  # recruited, but no thread has taken it up yet
        self._active = 0  # may write
        self._failed: dict[str, str] = {}
        self._cancelled = ""

    def __repr__(self) -> str:
        return f"Pull({self.key.hex()}, {self.target.nbytes} bytes, missing={self._missing}, active={self._active})"

    # ---- sources come
    def offer(self, origin: _Origin) -> None:
        """One more source; one that is known already (or has failed) is not asked again."""
        with self._changed:
            if not self.ended and origin.process not in self._known:
                self._known[origin.process] = None
                self._reserve.append(origin)

    def recruit(self) -> list[_Origin]:
        """Sources that are to be put to work now."""
        recruits = []
        with self._changed:
            useful = min(self._sources_max, self._missing)
            while self._reserve and self._queued + self._active < useful and not self._cancelled:
                recruits.append(self._reserve.popleft())
                self._queued += 1
        return recruits

    def enter(self) -> bool:
        """A recruited source begins; False when it is not needed any more."""
        with self._changed:
            self._queued -= 1
            if not self.ended and self._missing and not self._cancelled:
                self._active += 1
                return True
        self.settle()
        return False

    # ---- a source at work
    def take(self, *, wait: bool) -> tuple[int, int] | None:
        """Return the next chunk; None: there is none. ``wait``: a chunk that another source has may still come back."""
        with self._changed:
            while not self._cancelled and self._missing:
                if self._todo:
                    return self._todo.popleft()
                if not wait:
                    break
                self._changed.wait()
        return None

    def written(self) -> None:
        """A chunk is complete."""
        with self._changed:
            self._missing -= 1
            if not self._missing:
                self._changed.notify_all()

    def give_back(self, chunks: Sequence[tuple[int, int]]) -> None:
        """These will not come from the source that took them."""
        with self._changed:
            self._todo.extendleft(reversed(chunks))
            self._changed.notify_all()

    def leave(self, origin: _Origin, error: str) -> None:
        """A source is done with its work, or failed."""
        with self._changed:
            self._active -= 1
            if error:
                self._failed[origin.process] = error

    # ---- the end
    def cancel(self, reason: str) -> None:
        """Let it end as soon as its threads can; it fails, unless it is complete."""
        with self._changed:
            self._cancelled = reason
            self._changed.notify_all()
        self.settle()

    def settle(self) -> None:
        """Tell the end if this is it (without holding anything)."""
        with self._changed:
            is_over = not self._missing or self._cancelled or not (self._queued or self._reserve)
            if self.ended or self._active or not is_over:
                return
            self.ended = True
            outcome = Outcome(tuple(self._failed), self._why() if self._missing else "")
            self.target = memoryview(b"")
        self._tell(outcome)

    def _why(self) -> str:
        if self._cancelled:
            return self._cancelled
        reasons = [f"{process}: {error}" for process, error in list(self._failed.items())[:REASONS_MAX]]
        return "; ".join(reasons) or "there is no source"


class Puller:
    """Fills objects from sources; ``connect`` says how one is reached. Methods may be called from any thread."""

    def __init__(self, connect: Connect, limits: BulkLimits | None = None) -> None:
        self.limits = limits or BulkLimits()
        self._connect = connect
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, None] = {}
        self._waiting: collections.deque[tuple[Pull, _Origin]] = collections.deque()
        self._pulls: dict[Pull, None] = {}
        self._in_use: dict[Source, None] = {}
        self._idle: collections.deque[tuple[str, Source, float]] = collections.deque()
        self._closing = False
        self._made = 0

    def __repr__(self) -> str:
        return f"Puller(pulls={len(self._pulls)}, threads={len(self._threads)}, idle={len(self._idle)})"

    @property
    def idle(self) -> int:
        """Connections that are kept for the next pull."""
        return len(self._idle)

    def pull(self, key: bytes, target: memoryview, sources: Sequence[tuple[str, str]], ended: Ended) -> Pull:
        """Fill the target from these sources, (name, endpoint) each; ``ended`` is called once, from any thread."""
        pull = Pull(key, target, self.limits, lambda outcome: self._ended(pull, outcome, ended))
        with self._lock:
            is_closing = self._closing
            self._pulls[pull] = None
        if is_closing:
            pull.cancel("this node is ending")
            return pull
        for source in sources:
            pull.offer(_Origin(*source))
        self._recruit(pull)
        pull.settle()  # nothing to do, or nobody to ask
        return pull

    def add_source(self, pull: Pull, source: tuple[str, str]) -> None:
        """One more source (nothing happens when the pull has ended)."""
        pull.offer(_Origin(*source))
        self._recruit(pull)

    def _ended(self, pull: Pull, outcome: Outcome, ended: Ended) -> None:
        with self._lock:
            self._pulls.pop(pull, None)
        ended(outcome)

    def _recruit(self, pull: Pull) -> None:
        recruits = pull.recruit()
        with self._lock:
            self._waiting.extend((pull, origin) for origin in recruits)
            new = min(len(recruits), self.limits.pull_threads_max - len(self._threads))
            for _ in range(new):
                self._made += 1
                thread = threading.Thread(target=self._run, name=f"actorrt-bulk-pull-{self._made}", daemon=True)
                self._threads[thread] = None
                thread.start()

    # ---- threads
    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    del self._threads[threading.current_thread()]
                    return
                pull, origin = self._waiting.popleft()
            if pull.enter():
                self._work(pull, origin)

    def _work(self, pull: Pull, origin: _Origin) -> None:
        error = ""
        try:
            self._drain(pull, origin)
        except OSError as failure:
            error = str(failure) or type(failure).__name__
            logger.info("pulling %s from %s: %s", pull.key.hex(), origin.process, error)
        except BaseException as failure:
            error = repr(failure)
            logger.exception("pulling %s from %s", pull.key.hex(), origin.process)
        finally:
            pull.leave(origin, error)
            self._recruit(pull)
            pull.settle()

    def _drain(self, pull: Pull, origin: _Origin) -> None:
        source, may_be_stale = self._take(origin.endpoint)
        while True:
            try:
                self._transfer(pull, source)
                break
            except ConnectionLost:
                self._drop(source)
                if not may_be_stale:
                    raise
                # It had been idle; its server may have ended it, which says nothing about the object.
                source, may_be_stale = self._make(origin.endpoint), False
            except BaseException:
                self._drop(source)
                raise
        try:
            source.rest()
        except OSError as error:
            logger.info("the connection to %s cannot be kept: %s", origin.process, error)
            self._drop(source)
        else:
            self._keep(origin.endpoint, source)

    def _transfer(self, pull: Pull, source: Source) -> None:
        asked: collections.deque[tuple[int, int]] = collections.deque()
        target = pull.target
        try:
            while True:
                while len(asked) < self.limits.window_chunks:
                    chunk = pull.take(wait=not asked)
                    if chunk is None:
                        break
                    asked.append(chunk)
                    source.request(pull.key, *chunk)
                if not asked:
                    return
                offset, length = asked[0]
                source.receive_into(target[offset : offset + length])
                asked.popleft()
                pull.written()
        except (BrokenPipeError, ConnectionResetError):
            pull.give_back(asked)
            raise ConnectionLost("the connection ended") from None
        except BaseException:
            pull.give_back(asked)
            raise

    # ---- connections
    def _take(self, endpoint: str) -> tuple[Source, bool]:
        """A connection, and whether it has been used before."""
        with self._lock:
            for position, (its_endpoint, source, _) in enumerate(self._idle):
                if its_endpoint == endpoint:
                    del self._idle[position]
                    self._in_use[source] = None
                    return source, True
        return self._make(endpoint), False

    def _make(self, endpoint: str) -> Source:
        source = self._connect(endpoint, lambda: not self._closing)
        with self._lock:
            self._in_use[source] = None
            if self._closing:
                source.abort()
        return source

    def _keep(self, endpoint: str, source: Source) -> None:
        with self._lock:
            del self._in_use[source]
            self._idle.append((endpoint, source, time.monotonic()))
        self.purge()

    def _drop(self, source: Source) -> None:
        with self._lock:
            self._in_use.pop(source, None)
        source.close()

    def purge(self) -> None:
        """Close connections that are idle for too long, or too many. To be called now and then while there are some."""
        until_s = time.monotonic() - self.limits.idle_timeout_s
        closing = []
        with self._lock:
            while self._idle and (
                self._closing or len(self._idle) > self.limits.idle_connections_max or self._idle[0][2] <= until_s
            ):
                closing.append(self._idle.popleft()[1])
        for source in closing:
            source.close()

    # ---- the end
    def stop(self) -> None:
        """Let all pulls fail, soon (does not wait, idempotent)."""
        with self._lock:
            self._closing = True
            for source in self._in_use:
                source.abort()
            pulls = list(self._pulls)
        for pull in pulls:
            pull.cancel("this node is ending")
        self.purge()

    def join(self) -> None:
        """Wait, after ``stop``, until no thread of ours is left."""
        while True:
            with self._lock:
                thread = next(iter(self._threads), None)
            if thread is None:
                return
            thread.join()
