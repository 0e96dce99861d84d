"""Executor: ``concurrent.futures`` on the cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from itertools import islice
from typing import Any

import actorrt
from actorrt.util.crew import Batch, Crew, is_exiting


class Executor(futures.Executor):
    """Runs calls in worker processes of the cluster; behaves as ``concurrent.futures.ProcessPoolExecutor`` does.

    Workers are actors, made as they are needed. Futures can be cancelled until a worker takes them up. What a call
    raises arrives as it was raised, with the worker's traceback as its cause. When a worker dies, or its initializer
    fails, the executor is broken: every call, also each later one, raises ``BrokenProcessPool``. At the end of the
    program what was submitted is done first. Unlike the standard one's, functions and arguments may be whatever
    cloudpickle takes: lambdas, closures, classes of a notebook.

    Args:
        max_workers: None: as many as the cluster has CPUs.
        mp_context: accepted for compatibility; it has no effect.
        initializer: called in each worker, with ``initargs``.
        initargs: its arguments.
        max_tasks_per_child: a worker is replaced after so many tasks (a chunk of ``map`` is one); None: never.
        actor_options: for the workers, as in ``.options()``. They take no CPU by default.

    Raises ValueError or TypeError for arguments that cannot be, and starts a cluster when there is none.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        actor_options: dict[str, Any] | None = None,
    ) -> None:
        del mp_context
        if max_workers is not None and max_workers <= 0:
            raise ValueError(f"max_workers must be greater than 0, got {max_workers}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, got {initializer!r}")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError(f"max_tasks_per_child must be an int, got {max_tasks_per_child!r}")
            if max_tasks_per_child <= 0:
                raise ValueError(f"max_tasks_per_child must be >= 1, got {max_tasks_per_child}")
        if not actorrt.is_initialized():
            actorrt.init()
        self._crew = Crew(
            max_workers or max(1, int(actorrt.cluster_resources().get("CPU", 1))),
            initializer=initializer,
            initargs=initargs,
            jobs_max=max_tasks_per_child,
            actor_options=actor_options,
            remote_traceback=_remote_traceback,
            unsendable=_unsendable,
            broken=_broken,
            finishes_at_exit=True,
        )
        self._is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """Call ``fn(*args, **kwargs)`` in a worker.

        Raises RuntimeError after ``shutdown``, BrokenProcessPool after the death of a worker.
        """
        if self._crew.reason is None:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if is_exiting():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        return self._crew.submit(fn, [(args, kwargs)], is_single=True)

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """Iterate the results of ``fn`` called with the items of the iterables, in their order.

        Args:
            fn: the function.
            iterables: taken whole at once.
            timeout: seconds from now until the last result; then the iterator raises TimeoutError.
            chunksize: so many calls are one task.

        Raises ValueError for a ``chunksize`` below 1.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize must be >= 1, got {chunksize}")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        chunks = super().map(Batch(fn), _chunks(zip(*iterables, strict=False), chunksize), timeout=timeout)
        return _flattened(chunks)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and let the workers go when those submitted are done.

        Args:
            wait: until then.
            cancel_futures: cancel what no worker has taken up yet.
        """
        self._is_shut_down = True
        self._crew.close(cancel_waiting=cancel_futures)
        if wait:
            self._crew.join()

    def __del__(self) -> None:
        crew = getattr(self, "_crew", None)
        if crew is not None:
            crew.abandon()


def _broken(text: str) -> Exception:
    return BrokenProcessPool(f"a worker of the executor ended, so it is not usable anymore: {text}")


def _remote_traceback(text: str) -> BaseException:
    return _RemoteTraceback(f'\n"""\n{text}"""')  # type: ignore[arg-type]  # typeshed names a type it never has


def _unsendable(error: BaseException, text: str) -> BaseException:
    error.__cause__ = _remote_traceback(text)
    return error


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    return iter(functools.partial(_take, iterator, size), [])


def _take(iterator: Iterator[Any], size: int) -> list[Any]:
    return list(islice(iterator, size))


def _flattened(chunks: Iterator[list[Any]]) -> Iterator[Any]:
    """The items, none of which is referred to from here once it is out."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()
