"""Results as they come: of refs that exist already, and of a remote function called for many items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import actorrt

CHUNK_SIZE_DEFAULT = 10
BACKPRESSURE_SIZE_DEFAULT = 100


def as_completed(
    refs: Iterable[Any],
    *,
    chunk_size: int = CHUNK_SIZE_DEFAULT,
    yield_obj_refs: bool = False,
    **wait_options: Any,
) -> Iterator[Any]:
    """Yield the values of refs as they become ready, in chunks; within a chunk in the order of ``refs``.

    Args:
        refs: ObjectRefs, each once.
        chunk_size: so many are waited for at a time; 1 yields each as soon as it is there.
        yield_obj_refs: yield the refs and not their values.
        wait_options: for ``wait()``: ``timeout`` (how long each wait takes at most), ``fetch_local``.

    Raises ValueError for a ``chunk_size`` below 1. A failed ref raises when its chunk comes, and ends the iteration.
    """
    _check(chunk_size, wait_options)
    return _yield_chunks(list(refs), chunk_size, yield_obj_refs, wait_options)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = BACKPRESSURE_SIZE_DEFAULT,
    chunk_size: int = CHUNK_SIZE_DEFAULT,
    yield_obj_refs: bool = False,
    **wait_options: Any,
) -> Iterator[Any]:
    """Call a remote function for each item and yield its results as they become ready.

    Args:
        fn: a remote function, or a method of an actor handle, of one argument.
        items: taken one by one, as calls are made.
        backpressure_size: at most so many unfinished calls at a time; None: without limit.
        chunk_size: so many results are waited for at a time.
        yield_obj_refs: yield refs and not values.
        wait_options: for ``wait()``: ``timeout`` (how long each wait takes at most), ``fetch_local``.

    Raises ValueError for sizes below 1, TypeError for a function that is not remote. A failed call raises when its
    chunk comes, and ends the iteration.
    """
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be at least 1, or None, got {backpressure_size}")
    _check(chunk_size, wait_options)
    if not hasattr(fn, "remote"):
        raise TypeError(f"map_unordered() takes a remote function, got {fn!r}: decorate it with @actorrt.remote")
    limit = math.inf if backpressure_size is None else backpressure_size
    return _call_and_yield(fn, items, limit, chunk_size, yield_obj_refs, wait_options)


def _check(chunk_size: int, wait_options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    if "num_returns" in wait_options:
        raise ValueError("num_returns cannot be given: chunk_size is what says how many to wait for")


def _call_and_yield(
    fn: Any, items: Iterable[Any], limit: float, chunk_size: int, yield_obj_refs: bool, wait_options: dict[str, Any]
) -> Iterator[Any]:
    refs: list[Any] = []
    for item in items:
        refs.append(fn.remote(item))
        while len(refs) >= limit:
            chunk, refs = _next_chunk(refs, chunk_size, yield_obj_refs, wait_options)
            yield from chunk
    yield from _yield_chunks(refs, chunk_size, yield_obj_refs, wait_options)


def _yield_chunks(
    refs: list[Any], chunk_size: int, yield_obj_refs: bool, wait_options: dict[str, Any]
) -> Iterator[Any]:
    while refs:
        chunk, refs = _next_chunk(refs, chunk_size, yield_obj_refs, wait_options)
        yield from chunk


def _next_chunk(
    refs: list[Any], chunk_size: int, yield_obj_refs: bool, wait_options: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    """What is ready (with a ``timeout`` perhaps less than a chunk), and the refs that remain."""
    ready, rest = actorrt.wait(refs, num_returns=min(chunk_size, len(refs)), **wait_options)
    return ready if yield_obj_refs else actorrt.get(ready), rest
