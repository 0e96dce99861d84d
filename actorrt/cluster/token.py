"""The cluster's token: whoever knows it is in, so it is made, kept and found with care.

A token given by the user (``ACTORRT_AUTH_TOKEN``, then the file ``ACTORRT_AUTH_TOKEN_PATH``, then
``~/.actorrt/auth_token``) serves every cluster of that user. Without one each cluster has a random token of its own in
its session folder, readable by its user only. Children get it over an inherited pipe; it never stands on a command
line, and ``child_environment`` takes it out of what node and worker processes inherit.
"""

from __future__ import annotations

import os
from pathlib import Path

from actorrt.cluster.session import write_private
from actorrt.kernel.errors import AuthenticationError

TOKEN_VARIABLE = "ACTORRT_AUTH_TOKEN"  # noqa: S105 - a name, not a secret
TOKEN_PATH_VARIABLE = "ACTORRT_AUTH_TOKEN_PATH"  # noqa: S105 - a name, not a secret
TOKEN_BYTES_MAX = 1024
TOKEN_RANDOM_BYTES = 32

_FILE = "token"


def make_token() -> bytes:
    """Return a fresh random token (printable, so that it can be copied to other machines)."""
    return os.urandom(TOKEN_RANDOM_BYTES).hex().encode()


def explicit_token() -> bytes | None:
    """Return the token the environment names, if it names one. Raises AuthenticationError when its file is no use."""
    text = os.environ.get(TOKEN_VARIABLE)
    if text is not None and text.strip():
        return _checked(text.encode(), f"the variable {TOKEN_VARIABLE}")
    path = os.environ.get(TOKEN_PATH_VARIABLE)
    if path:
        return read_token(Path(path), f"{TOKEN_PATH_VARIABLE} names {path}, which")
    return None


def configured_token() -> bytes | None:
    """Return the user's token: from the environment, else from ``~/.actorrt/auth_token``, else None."""
    token = explicit_token()
    if token is None:
        try:
            home = Path.home() / ".actorrt" / "auth_token"
        except RuntimeError:  # a user without a home
            return None
        if home.exists():
            token = read_token(home, f"the token file {home}")
    return token


def read_token(path: Path, what: str = "") -> bytes:
    """Return the token in a file. Raises AuthenticationError, beginning with ``what``, when there is none."""
    what = what or f"the token file {path}"
    try:
        with path.open("rb") as file:
            data = file.read(TOKEN_BYTES_MAX + 1)
    except OSError as error:
        raise AuthenticationError(f"{what} cannot be read: {error.strerror or error}") from error
    return _checked(data, what)


def _checked(data: bytes, what: str) -> bytes:
    token = data.strip()
    if not token:
        raise AuthenticationError(f"{what} is empty")
    if len(token) > TOKEN_BYTES_MAX:
        raise AuthenticationError(f"{what} holds more than {TOKEN_BYTES_MAX} bytes")
    return token


def write_session_token(session_dir: Path, token: bytes) -> Path:
    """Keep the cluster's token in its session folder (mode 0600), where drivers of the same user find it."""
    path = session_dir / _FILE
    write_private(path, token + b"\n")
    return path


def read_session_token(session_dir: Path) -> bytes | None:
    """Return the token of a session on this machine; None when the folder is not here."""
    path = session_dir / _FILE
    return read_token(path) if path.exists() else None


def child_environment() -> dict[str, str]:
    """Return our environment without the token: user code and its children need not know it."""
    return {key: value for key, value in os.environ.items() if key != TOKEN_VARIABLE}
