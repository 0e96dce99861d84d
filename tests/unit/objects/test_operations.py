"""Operations are values: printable, comparable, and all of them are in the union."""

import typing

from actorrt.objects import operations


def test_every_operation_is_in_the_union():
    ours = [v for v in vars(operations).values() if isinstance(v, type) and v.__module__ == operations.__name__]
    assert list(typing.get_args(operations.Operation)) == ours
    assert len(ours) == 14


def test_they_compare_and_print():
    assert operations.Pin(1, b"k", b"c") == operations.Pin(1, b"k", b"c")
    assert operations.Pin(1, b"k", b"c") != operations.Pin(2, b"k", b"c")
    assert repr(operations.Abort(7)) == "Abort(number=7)"
