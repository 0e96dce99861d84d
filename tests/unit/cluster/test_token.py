import os
import stat

import pytest

from actorrt.cluster import token
from actorrt.kernel.errors import AuthenticationError


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path, monkeypatch):
    monkeypatch.delenv(token.TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(token.TOKEN_PATH_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def files(tmp_path):
    home = tmp_path / "home" / ".actorrt"
    home.mkdir(parents=True)
    (home / "auth_token").write_text("from home\n")
    (tmp_path / "named").write_text("  from a named file\n")
    return tmp_path


def test_random_tokens_differ():
    assert len(token.make_token()) == 64
    assert token.make_token() != token.make_token()


def test_nothing_configured():
    assert token.configured_token() is None
    assert token.explicit_token() is None


def test_order_of_sources(files, monkeypatch):
    assert token.configured_token() == b"from home"
    assert token.explicit_token() is None
    monkeypatch.setenv(token.TOKEN_PATH_VARIABLE, str(files / "named"))
    assert token.configured_token() == token.explicit_token() == b"from a named file"
    monkeypatch.setenv(token.TOKEN_VARIABLE, "from the variable")
    assert token.configured_token() == b"from the variable"


def test_a_named_file_must_be_readable(files, monkeypatch):
    monkeypatch.setenv(token.TOKEN_PATH_VARIABLE, str(files / "missing"))
    with pytest.raises(AuthenticationError, match=f"{token.TOKEN_PATH_VARIABLE} names .*missing.* cannot be read"):
        token.configured_token()


@pytest.mark.parametrize(("text", "complaint"), [("\n", "is empty"), ("x" * 1025, "more than 1024 bytes")])
def test_useless_files(tmp_path, text, complaint):
    (tmp_path / "t").write_text(text)
    with pytest.raises(AuthenticationError, match=complaint):
        token.read_token(tmp_path / "t")


def test_session_token(tmp_path):
    assert token.read_session_token(tmp_path) is None
    path = token.write_session_token(tmp_path, b"abc")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token.read_session_token(tmp_path) == b"abc"


def test_children_do_not_inherit_it(monkeypatch):
    monkeypatch.setenv(token.TOKEN_VARIABLE, "secret")
    monkeypatch.setenv("OTHER", "1")
    environment = token.child_environment()
    assert "secret" not in environment.values()
    assert environment["OTHER"] == os.environ["OTHER"]
