"""Runtime environments: from a user's ``runtime_env`` to the record that decides which tasks may share a process."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

import msgspec

from actorrt.wire.records import Environment

RECENT_ENVIRONMENTS_MAX: Final = 1024

_ENVIRONMENT_LATER = frozenset(
    {
        "conda",
        "config",
        "container",
        "excludes",
        "image_uri",
        "java_jars",
        "nsight",
        "pip",
        "py_executable",
        "py_modules",
        "uv",
        "worker_process_setup_hook",
        "working_dir",
        "_nsight",
        "_rocprof_sys",
    }
)
_NO_ENVIRONMENT: Final = Environment()


def parse_environment(runtime_env: object) -> Environment:
    """Return a user's ``runtime_env``; equal ones, however written, become equal records.

    Raises TypeError (no dict, or environment variables that are not text), ValueError (unknown field, impossible name)
    or NotImplementedError (a field that will come).
    """
    if runtime_env is None:
        return _NO_ENVIRONMENT
    if not isinstance(runtime_env, Mapping):
        raise TypeError(f"runtime_env must be a dict, got {runtime_env!r} of type {type(runtime_env).__name__}")
    for field, value in runtime_env.items():
        if field == "env_vars":
            continue
        if field not in _ENVIRONMENT_LATER:
            raise ValueError(f"runtime_env has no field {field!r}; supported is: env_vars")
        if value is not None:
            raise NotImplementedError(f"runtime_env field {field!r} is not supported yet; supported is: env_vars")
    return _environment(_read_env_vars(runtime_env.get("env_vars")))


def merged_environment(outer: Environment, inner: Environment) -> Environment:
    """Return ``inner`` (of a task or actor) on top of ``outer`` (of the job): variables are merged, the inner win."""
    if not inner.env_vars or inner.env_vars == outer.env_vars:
        return outer
    if not outer.env_vars:
        return inner
    return _environment(tuple(sorted({**dict(outer.env_vars), **dict(inner.env_vars)}.items())))


@functools.lru_cache(maxsize=RECENT_ENVIRONMENTS_MAX)
def _environment(env_vars: tuple[tuple[str, str], ...]) -> Environment:
    if not env_vars:
        return _NO_ENVIRONMENT
    serialized = msgspec.json.encode({"env_vars": dict(env_vars)}).decode()
    return Environment(env_vars=env_vars, serialized=serialized)


def _read_env_vars(env_vars: object) -> tuple[tuple[str, str], ...]:
    if env_vars is None:
        return ()
    if not isinstance(env_vars, Mapping):
        raise TypeError(
            f"runtime_env['env_vars'] must be a dict of strings, got {env_vars!r} of type {type(env_vars).__name__}"
        )
    for name, value in env_vars.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"runtime_env['env_vars'] must map strings to strings, got {name!r}: {value!r}")
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(
                f"runtime_env['env_vars'] has an impossible entry {name!r}: {value!r} "
                "(names must not be empty or contain '=', and neither part may contain a zero byte)"
            )
    return tuple(sorted(env_vars.items()))
