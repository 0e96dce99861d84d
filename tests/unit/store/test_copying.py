import os
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


def test_a_failure_in_one_part_is_raised_when_all_have_ended():
    ended = []

    def work(start, length):
        if start == 0:
            raise OSError("no")
        ended.append(length)

    with pytest.raises(OSError, match="no"):
        copying._pool.share(work, 1, 1)


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
