"""Runtime environments: equal ones become equal records, everything else is refused with a reason."""

import pytest

from actorrt.api.environments import merged_environment, parse_environment
from actorrt.wire.records import Environment


def env(**variables):
    return parse_environment({"env_vars": variables})


@pytest.mark.parametrize("nothing", [None, {}, {"env_vars": {}}, {"env_vars": None}, {"pip": None}], ids=str)
def test_nothing(nothing):
    assert parse_environment(nothing) == Environment()


def test_order_does_not_matter():
    assert env(B="2", A="1") == env(A="1", B="2")
    assert env(B="2", A="1").env_vars == (("A", "1"), ("B", "2"))
    assert env(B="2", A='"').serialized == '{"env_vars":{"A":"\\"","B":"2"}}'


@pytest.mark.parametrize(
    ("runtime_env", "error", "text"),
    [
        ("A=1", TypeError, "runtime_env must be a dict"),
        ({"env_vars": {"A": 1}}, TypeError, "'A': 1"),
        ({"env_vars": {1: "a"}}, TypeError, "1: 'a'"),
        ({"env_vars": "A=1"}, TypeError, "must be a dict of strings"),
        ({"env_vars": {"": "x"}}, ValueError, "impossible"),
        ({"env_vars": {"A=B": "x"}}, ValueError, "impossible"),
        ({"env_vars": {"A": "x\0y"}}, ValueError, "impossible"),
        ({"enviroment": {}}, ValueError, "no field 'enviroment'"),
        ({1: {}}, ValueError, "no field 1"),
        ({"working_dir": "."}, NotImplementedError, "'working_dir' is not supported yet"),
        ({"pip": ["x"]}, NotImplementedError, "'pip' is not supported yet"),
    ],
    ids=str,
)
def test_bad(runtime_env, error, text):
    with pytest.raises(error) as raised:
        parse_environment(runtime_env)
    assert text in str(raised.value)


def test_merging():
    outer, inner = env(A="1", B="2"), env(B="3", C="4")
    assert merged_environment(outer, inner) == env(A="1", B="3", C="4")
    assert merged_environment(outer, Environment()) is outer
    assert merged_environment(Environment(), inner) is inner
    assert merged_environment(outer, env(A="1")) == outer
