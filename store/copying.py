"""Copy bytes without holding the interpreter: libc's memcpy through ctypes, in several threads when there is much.

Why not the obvious ways: assigning to a memoryview slice holds the GIL for the whole copy (measured: another thread
gets a tenth of its usual turns), so a node would miss heartbeats while it copies 800 MB. pyarrow's and NumPy's copies
release it and are as fast, but cost every process that writes one large object an import of 0.1 to 0.3 s.
"""

from __future__ import annotations

import collections
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

Buffer = Any
"""Whatever has a contiguous buffer. (collections.abc.Buffer is of Python 3.12.)"""

GIL_FREE_BYTES_MIN: Final = 1 << 20
"""Below, taking the GIL back can cost more than the copy."""
PARALLEL_BYTES_MIN: Final = 16 << 20
THREADS_MAX: Final = 4
PART_BYTES: Final = 4 << 20


class _PyBuffer(ctypes.Structure):
    """Py_buffer; part of the stable ABI since Python 3.11."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_SIMPLE: Final = 0
_WRITABLE: Final = 1
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_get_buffer.restype = ctypes.c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None
# Functions of a CDLL run without the GIL (those of pythonapi with it).
_libc = ctypes.CDLL(None, use_errno=True)
_memcpy = _libc.memcpy
_memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_memcpy.restype = ctypes.c_void_p
_madvise = _libc.madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_madvise.restype = ctypes.c_int
_POPULATE_READ: Final = 22
"""MADV_POPULATE_READ, Linux 5.14. In a shared mapping of shared memory this maps the pages for writing too."""


@contextmanager
def pinned_address(buffer: Buffer, *, writable: bool = False) -> Iterator[tuple[int, int]]:
    """(address, bytes) of a contiguous buffer, which stays where it is inside the block."""
    view = _PyBuffer()
    try:
        _get_buffer(buffer, ctypes.byref(view), _WRITABLE if writable else _SIMPLE)  # raises what the object raises
        yield view.buf or 0, view.len
    finally:
        _release_buffer(ctypes.byref(view))  # nothing, if it was not had


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Shared:
    """Work in parts. Whoever is free takes the next one, so a helper that gets no processor delays nobody.

    Made for callers that are interrupted (Ctrl-C raises between any two steps): what the threads agree on are single
    steps of C, and ``end`` may be left by an exception and called again.
    """

    def __init__(self, work: Callable[[int, int], object], size_bytes: int) -> None:
        self._work = work
        self._parts = collections.deque(
            (start, min(PART_BYTES, size_bytes - start)) for start in range(0, size_bytes, PART_BYTES)
        )
        self._helping: list[threading.Lock] = []
        """One for each helper that came; held while it may be at a part."""
        self.error: BaseException | None = None
        """What a helper met."""

    def run(self) -> None:
        """Parts, until none is left."""
        while True:
            try:
                start, length = self._parts.popleft()
            except IndexError:
                return
            self._work(start, length)

    def help(self) -> None:
        """The same in a helper thread."""
        busy = threading.Lock()
        with busy:
            self._helping.append(busy)  # before it takes a part: ``end`` empties the parts, then looks who came
            try:
                self.run()
            except BaseException as error:  # noqa: BLE001 - raised by ``share``
                self.error = error

    def end(self) -> None:
        """No further part is begun; wait for those under way."""
        self._parts.clear()
        for busy in tuple(self._helping):
            with busy:
                pass


class _Pool:
    """Threads for copying, started with the first large copy; none survives a fork."""

    def __init__(self) -> None:
        self.threads = min(THREADS_MAX, _processors())
        self._executor: ThreadPoolExecutor | None = None
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._executor = None

    def share(self, work: Callable[[int, int], object], size_bytes: int, threads: int) -> None:
        """``work(start, length)`` for all parts, by this thread and helpers. However it ends, nobody works on a part
        afterwards: the caller may give the memory to somebody else then.
        """
        shared = _Shared(work, size_bytes)
        failure: BaseException | None = None
        try:
            if threads > 1:
                if self._executor is None:
                    self._executor = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="actorrt-copy")
                for _ in range(threads - 1):
                    self._executor.submit(shared.help)
            shared.run()
        except BaseException as error:  # noqa: BLE001 - raised below, when all have ended
            failure = error
        while True:
            try:
                shared.end()
                break
            except BaseException as error:  # noqa: BLE001 - an interrupt (another one): it has to wait for a part
                failure = error
        failure = shared.error if failure is None else failure
        if failure is not None:
            try:
                raise failure
            finally:
                del failure, shared  # its traceback holds this frame, and the buffers of our callers


_pool = _Pool()


def _threads(size_bytes: int, threads: int | None) -> int:
    return threads or (_pool.threads if size_bytes >= PARALLEL_BYTES_MIN else 1)


def copy(target: memoryview, source: Buffer, *, threads: int | None = None) -> None:
    """Copy all of ``source`` (contiguous) over ``target`` (bytes, writable, of the same size)."""
    size_bytes = target.nbytes
    if size_bytes < GIL_FREE_BYTES_MIN:
        target[:] = memoryview(source).cast("B")
        return
    with pinned_address(target, writable=True) as (to, _), pinned_address(source) as (origin, given_bytes):
        if given_bytes != size_bytes:
            raise ValueError(f"{given_bytes} bytes to copy into {size_bytes}")
        _pool.share(
            lambda start, length: _memcpy(to + start, origin + start, length),
            size_bytes,
            _threads(size_bytes, threads),
        )


def populate(address: int, size_bytes: int, *, threads: int | None = None) -> None:
    """Enter pages that exist already into this process's page table, in bulk: 4 to 5 times as fast as one fault each.

    The address is of a page. A kernel that cannot do it leaves the faults to the copy.
    """
    _pool.share(
        lambda start, length: _madvise(address + start, length, _POPULATE_READ),
        size_bytes,
        _threads(size_bytes, threads),
    )
