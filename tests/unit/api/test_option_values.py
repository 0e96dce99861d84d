"""Single options; most are tested through the records in test_options.py."""

from fractions import Fraction

import pytest

from actorrt.api.option_values import (
    COUNT_MAX,
    parse_built_in_resources,
    parse_custom_resources,
    read_count,
    read_flag,
    read_retry_exceptions,
    read_text,
)


class Integer(int):
    """Like NumPy's: an integer that is not exactly int."""


def test_counts():
    assert read_count({}, "n", 7, least=0) == 7
    assert read_count({"n": None}, "n", 7, least=0) == 7
    assert read_count({"n": COUNT_MAX}, "n", 7, least=0) == COUNT_MAX
    assert type(read_count({"n": Integer(5)}, "n", 7, least=0)) is int
    with pytest.raises(ValueError, match=f"n must be between 0 and {COUNT_MAX}, got {COUNT_MAX + 1}"):
        read_count({"n": COUNT_MAX + 1}, "n", 7, least=0)
    with pytest.raises(TypeError, match=r"n must be an integer, got 1\.0 of type float"):
        read_count({"n": 1.0}, "n", 7, least=0)


def test_flags():
    assert read_flag({}, "f", default=None) is None
    assert read_flag({"f": False}, "f", default=True) is False
    with pytest.raises(TypeError, match="f must be True or False, got 0 of type int"):
        read_flag({"f": 0}, "f", default=True)


def test_texts():
    assert read_text({"t": ""}, "t") == ""
    with pytest.raises(ValueError, match="must not be empty"):
        read_text({"t": ""}, "t", may_be_empty=False)


def test_retry_exceptions():
    assert read_retry_exceptions(None) is False
    assert read_retry_exceptions(True) is True
    assert read_retry_exceptions((KeyError,)) == (KeyError,)
    assert read_retry_exceptions([]) == ()


def test_resources():
    assert parse_custom_resources(None) == {}
    assert parse_custom_resources({"a": Fraction(1, 4), "b": 0}) == {"a": 2500}
    assert parse_built_in_resources({"num_cpus": 0, "_memory": 7}, memory="_memory") == {"memory": 70_000}
    with pytest.raises(TypeError, match="resource names must be strings"):
        parse_custom_resources({1: 1})
