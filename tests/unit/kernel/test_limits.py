import pathlib
import re

from actorrt.kernel import limits

UNITS = ("_MAX", "_MIN", "_WARN", "_S", "_START", "_BYTES", "_CONCURRENCY", "_LINES")


def test_every_bound_is_a_positive_number_with_a_unit():
    bounds = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert bounds
    for name, value in bounds.items():
        assert isinstance(value, int | float), name
        assert value > 0, name
        assert name.endswith(UNITS), name


def test_bounds_agree_with_each_other():
    assert limits.HEARTBEAT_INTERVAL_S * 3 < limits.NODE_DEAD_AFTER_S
    assert limits.FUNCTION_BYTES_WARN <= limits.FUNCTION_BYTES_MAX <= limits.FUNCTIONS_BYTES_MAX
    assert limits.KV_KEY_BYTES_MAX < limits.KV_VALUE_BYTES_MAX <= limits.KV_BYTES_MAX
    assert limits.HELLO_BYTES_MAX < limits.BUFFER_OUT_OF_BAND_BYTES_MIN


def test_every_bound_is_used():
    """A bound nobody enforces is a promise nobody keeps."""
    root = pathlib.Path(limits.__file__).parents[1]
    sources = "".join(p.read_text() for p in root.rglob("*.py") if p != pathlib.Path(limits.__file__))
    names = [name for name in vars(limits) if name.isupper()]
    assert names
    assert [name for name in names if not re.search(rf"\b{name}\b", sources)] == []
