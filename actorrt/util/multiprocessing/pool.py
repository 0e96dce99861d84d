"""Pool: ``multiprocessing.Pool`` on the cluster."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import ProcessError
from multiprocessing import pool as standard
from types import TracebackType
from typing import Any, NoReturn, Self

import actorrt
from actorrt.util.crew import Call, Crew
from actorrt.util.multiprocessing.results import AsyncResult, Callback, IMapIterator

logger = logging.getLogger("actorrt")

CHUNKS_PER_PROCESS = 4
"""``map`` cuts its items into so many chunks per process when it is not told how large they are."""
IMAP_AHEAD_PER_PROCESS = 4
"""``imap`` takes items from its iterable this many chunks (per process) ahead of the results."""
ADDRESS_VARIABLE = "ACTORRT_ADDRESS"

_RUNNING, _CLOSED, _TERMINATED = "RUN", "CLOSE", "TERMINATE"


class Pool:
    """Has functions called by a fixed number of worker processes anywhere in the cluster.

    Methods, arguments and errors are those of ``multiprocessing.Pool``. What is better: functions and arguments may be
    whatever cloudpickle takes; a worker that dies is replaced and the job it did raises ``ActorDiedError`` (and is not
    waited for in vain); results that are outstanding at ``terminate()`` raise ``ProcessError``; ``imap`` does not read
    its iterable further than a few chunks ahead of the results.

    Args:
        processes: None: as many as the cluster has CPUs.
        initializer: called in each worker with ``initargs``; if it raises, so does the pool.
        initargs: its arguments.
        maxtasksperchild: a worker is replaced after so many tasks (a chunk is one); None: never.
        context: accepted for compatibility; it has no effect.
        ray_address: the cluster to connect to if this process is not connected; None: the one that
            ``ACTORRT_ADDRESS`` names, or else a new one with ``processes`` CPUs.
        ray_remote_args: options of the workers, as in ``.options()``. They take no CPU by default, so there may be
            more of them than CPUs.

    Raises ValueError or TypeError for arguments that cannot be, ActorDiedError when the initializer fails.
    """

    _state = ""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError(f"the number of processes must be at least 1, got {processes}")
        _check_positive(maxtasksperchild)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, got {initializer!r}")
        if context is not None:
            logger.warning("Pool(context=...) has no effect: the processes are the cluster's")
        _connect(processes, ray_address)
        cpus = actorrt.cluster_resources().get("CPU", 0)
        self._processes = processes or max(1, int(cpus))
        options = ray_remote_args or {}
        if self._processes * options.get("num_cpus", 0) > cpus:
            raise ValueError(
                f"{self._processes} processes with num_cpus={options['num_cpus']} each do not fit on the cluster's "
                f"{cpus:g} CPUs"
            )
        self._callback_lock = threading.Lock()
        self._feeders: list[threading.Thread] = []
        self._crew = Crew(
            self._processes,
            initializer=initializer,
            initargs=initargs or (),
            jobs_max=maxtasksperchild,
            actor_options=options,
            remote_traceback=_remote_traceback,
            unsendable=_unsendable,
        )
        self._crew.start_all()
        self._state = _RUNNING

    # ------------------------------------------------------------------ one call
    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] | None = None, kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func(*args, **kwds)`` in a worker and return what it returns."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult:
        """Do as ``apply`` does, without waiting; one of the callbacks is called with the result, or with the error."""
        self._check_running()
        result = AsyncResult(callback, error_callback, self._callback_lock)
        call: Call = (tuple(args or ()), dict(kwds or {}))
        result.follow([self._crew.submit(func, [call], is_single=True)], is_single=True)
        return result

    # ------------------------------------------------------------------ many calls, one list
    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """Return the list of ``func(item)`` for each item."""
        return list(self._map_async(func, iterable, chunksize).get())

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult:
        """Do as ``map`` does, without waiting; one of the callbacks is called with the list, or the first error."""
        return self._map_async(func, iterable, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Return the list of ``func(*item)`` for each item."""
        return list(self._map_async(func, iterable, chunksize, is_star=True).get())

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult:
        """Do as ``starmap`` does, without waiting."""
        return self._map_async(func, iterable, chunksize, callback, error_callback, is_star=True)

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
        *,
        is_star: bool = False,
    ) -> AsyncResult:
        self._check_running()
        result = AsyncResult(callback, error_callback, self._callback_lock)
        is_sized = hasattr(iterable, "__len__")
        try:
            items = list(iterable)
        except Exception as error:
            if not is_sized:
                raise
            result.fail(error)  # as the standard one, which does not look at what has a length until later
            return result
        size = chunksize or max(1, -(-len(items) // (self._processes * CHUNKS_PER_PROCESS)))
        chunks = (items[start : start + size] for start in range(0, len(items), size))
        result.follow([self._crew.submit(func, _calls(chunk, is_star=is_star)) for chunk in chunks])
        return result

    # ------------------------------------------------------------------ many calls, one after the other
    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """Iterate the results of ``func(item)`` for each item, in the order of the items."""
        return self._imap(func, iterable, chunksize, IMapIterator(is_ordered=True))

    def imap_unordered(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """Iterate the results of ``func(item)`` for each item, as they become ready."""
        return self._imap(func, iterable, chunksize, IMapIterator(is_ordered=False))

    def _imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int, results: IMapIterator
    ) -> IMapIterator:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, got {chunksize}")
        items = iter(iterable)
        ahead = threading.Semaphore(self._processes * IMAP_AHEAD_PER_PROCESS)
        feed = functools.partial(_feed, self._crew, func, items, chunksize, results, ahead)
        feeder = threading.Thread(target=feed, name="actorrt-pool-imap", daemon=True)
        self._feeders = [thread for thread in self._feeders if thread.is_alive()]
        self._feeders.append(feeder)
        feeder.start()
        return results

    # ------------------------------------------------------------------ the end
    def close(self) -> None:
        """Take no more calls; the workers leave when all is done."""
        if self._state != _RUNNING:
            return
        self._state = _CLOSED
        feeders = [feeder for feeder in self._feeders if feeder.is_alive()]
        if not feeders:
            self._crew.close()
            return
        closer = threading.Thread(target=_close_when_fed, args=(self._crew, feeders), name="actorrt-pool-close")
        closer.daemon = True
        self._feeders.append(closer)
        closer.start()

    def terminate(self) -> None:
        """Kill the workers. What is not done raises ``multiprocessing.ProcessError``."""
        self._state = _TERMINATED
        self._crew.end(ProcessError("the pool was terminated"))

    def join(self) -> None:
        """Wait until everything is done and the workers have left.

        Raises ValueError before ``close`` or ``terminate``.
        """
        if self._state == _RUNNING:
            raise ValueError("Pool is still running")
        if self._state == _CLOSED:
            for feeder in self._feeders:
                feeder.join()
        self._crew.join()

    def _check_running(self) -> None:
        if self._state != _RUNNING:
            raise ValueError("Pool not running")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def __del__(self) -> None:
        if self._state == _RUNNING:
            self._crew.abandon()
            warnings.warn(f"unclosed running pool {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} state={self._state} pool_size={self._processes}>"


def _check_positive(maxtasksperchild: object) -> None:
    if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
        raise ValueError(f"maxtasksperchild must be a positive int or None, got {maxtasksperchild!r}")


def _connect(processes: int | None, address: str | None) -> None:
    if actorrt.is_initialized():
        return
    if address is not None:
        actorrt.init(address=address)
    elif ADDRESS_VARIABLE in os.environ:
        actorrt.init()
    else:
        actorrt.init(num_cpus=processes)


def _close_when_fed(crew: Crew, feeders: list[threading.Thread]) -> None:
    for feeder in feeders:
        feeder.join()
    crew.close()


def _calls(items: Iterable[Any], *, is_star: bool = False) -> list[Call]:
    return [(tuple(item) if is_star else (item,), {}) for item in items]


def _feed(
    crew: Crew,
    func: Callable[[Any], Any],
    items: Iterable[Any],
    chunksize: int,
    results: IMapIterator,
    ahead: threading.Semaphore,
) -> None:
    """Submit an ``imap``'s chunks. Iterating is the user's code, which may take its time: it has this thread."""
    iterator = iter(items)
    index = 0
    try:
        while crew.reason is None:
            ahead.acquire()
            chunk = list(itertools.islice(iterator, chunksize))
            if not chunk:
                break
            future = crew.submit(func, _calls(chunk))
            future.add_done_callback(functools.partial(_fed, results, index, ahead))
            index += 1
    except Exception as error:  # noqa: BLE001 - of the iterable, or the pool's end: for whoever iterates the results
        results.add(index, [], error)
        index += 1
    results.set_length(index)


def _fed(results: IMapIterator, index: int, ahead: threading.Semaphore, future: Any) -> None:
    results.take(index, future)
    ahead.release()


def _remote_traceback(text: str) -> BaseException:
    cause: BaseException = standard.RemoteTraceback(f'\n"""\n{text}"""')  # type: ignore[attr-defined]
    return cause


def _unsendable(error: BaseException, text: str) -> BaseException:
    found: BaseException = standard.MaybeEncodingError(error, text)  # type: ignore[attr-defined]
    return found
