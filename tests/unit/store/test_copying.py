import os
import signal
import threading

import pytest

from actorrt.store import copying


@pytest.mark.parametrize("size_bytes", [0, 1, 1 << 20, (20 << 20) + 13])
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_all_bytes_arrive(size_bytes, threads):
    source = os.urandom(min(size_bytes, 100_003)) * (size_bytes // 100_003 + 1)
    target = bytearray(size_bytes + 2)
    copying.copy(memoryview(target)[1:-1], source[:size_bytes], threads=threads)
    assert target[1:-1] == source[:size_bytes]
    assert (target[0], target[-1]) == (0, 0)


@pytest.mark.parametrize("size_bytes", [10, 2 << 20])
def test_what_cannot_be_copied_is_refused(size_bytes):
    source = bytes(size_bytes)
    with pytest.raises(ValueError):
        copying.copy(memoryview(bytearray(size_bytes)), source[1:])
    with pytest.raises((TypeError, BufferError)):
        copying.copy(memoryview(source), source)
    with pytest.raises((BufferError, TypeError, ValueError)):
        copying.copy(memoryview(bytearray(size_bytes // 2)), memoryview(source)[::2])


def test_an_address_is_where_the_bytes_are():
    data = bytearray(b"abc")
    with copying.pinned_address(data, writable=True) as (address, size_bytes):
        assert (copying.ctypes.string_at(address, size_bytes)) == b"abc"
        with pytest.raises(BufferError):
            data.append(1)  # it stays where it is
    data.append(1)


class Parts:
    """Work whose parts in helpers take a while; tells whether anybody was at one when ``share`` had ended."""

    def __init__(self, here):
        self.here = here
        self.me = threading.current_thread()
        self.begun = threading.Event()
        self.left = threading.Event()
        self.late = []

    def __call__(self, start, length):
        if threading.current_thread() is self.me:
            self.begun.wait(10)  # a helper has a part
            self.here()
            return
        self.begun.set()
        self.late.append(self.left.wait(0.2))

    def share(self, error):
        with pytest.raises(error):
            copying._pool.share(self, 20 * copying.PART_BYTES, 2)
        self.left.set()


def fail(error):
    raise error


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_a_failure_nobody_works_on_any_part(error):
    parts = Parts(lambda: fail(error))
    parts.share(error)
    assert parts.late == [False], "one part was under way and was waited for; no other was begun"


def test_a_failure_in_a_helper_is_raised():
    me = threading.current_thread()
    failed = threading.Event()

    def work(start, length):
        if threading.current_thread() is me:
            failed.wait(10)
        else:
            failed.set()
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        copying._pool.share(work, 3 * copying.PART_BYTES, 2)


def test_an_interrupt_of_the_waiting_does_not_end_it(monkeypatch):
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        parts = Parts(lambda: fail(KeyboardInterrupt))
        real = parts.left.wait

        def wait(timeout_s):
            signal.pthread_kill(parts.me.ident, signal.SIGINT)
            return real(timeout_s)

        monkeypatch.setattr(parts.left, "wait", wait)
        parts.share(KeyboardInterrupt)
    finally:
        signal.signal(signal.SIGINT, old)
    assert parts.late == [False]


def test_a_failed_copy_leaves_no_hold_on_its_buffers(monkeypatch):
    monkeypatch.setattr(copying, "_memcpy", lambda *_: fail(KeyboardInterrupt))
    target = bytearray(copying.GIL_FREE_BYTES_MIN)
    with pytest.raises(KeyboardInterrupt):
        copying.copy(memoryview(target), bytes(len(target)))
    target.append(1)


def test_the_interpreter_is_free_meanwhile():
    """While one thread copies, another runs: it would not, between two bytecodes, if the copy held the GIL."""
    source, target = bytes(64 << 20), bytearray(64 << 20)
    inside, seen = threading.Event(), []
    original = copying._memcpy

    def memcpy(*arguments):
        inside.set()
        return original(*arguments)

    thread = threading.Thread(target=lambda: seen.append(inside.wait(10)))
    thread.start()
    copying._memcpy = memcpy
    try:
        copying.copy(memoryview(target), source)
    finally:
        copying._memcpy = original
    thread.join()
    assert seen == [True]
    assert not original._flags_ & 0x4, "FUNCFLAG_PYTHONAPI would hold the GIL"
