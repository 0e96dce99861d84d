"""Where objects go when memory is short, as the user says it: checked where it is said, before a node is started.

``object_spilling_directory`` is one directory (or several). ``_system_config`` speaks Ray's language::

    {"object_spilling_config": json.dumps({"type": "filesystem", "params": {"directory_path": ["/a", "/b"]}}),
     "object_spilling_threshold": 0.8,       the share of the store above which objects are written ahead of need
     "min_spilling_size": 104857600}         small objects are written together until a file has this size

``params`` may have ``spill_quota_bytes`` as well, one figure or one per directory. Type ``smart_open`` takes ``uri``,
anything that pyarrow.fs can open, one or several. A directory may be a URI in both types.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from actorrt.cluster.config import FUSE_BYTES, SPILL_THRESHOLD, SpillTarget

DIRECTORIES_MAX = 64
CONFIG_NAMES = ("object_spilling_config", "object_spilling_threshold", "min_spilling_size")
"""What ``_system_config`` may have for us."""

_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.+)")
_PLACES = {"filesystem": "directory_path", "smart_open": "uri"}
_WITHOUT_EFFECT = {"buffer_size"}
"""Ours are written from memory, whole."""


class Spilling(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    targets: tuple[SpillTarget, ...] = ()
    """Empty: a folder of the session."""
    threshold: float = SPILL_THRESHOLD
    fuse_bytes: int = FUSE_BYTES


def read_spilling(directory: object = None, system_config: Mapping[str, Any] | None = None) -> Spilling:
    """Check what was given. Raises TypeError and ValueError, which say where the mistake is."""
    config = system_config or {}
    targets: tuple[SpillTarget, ...] = ()
    given = config.get("object_spilling_config")
    if directory and given:
        raise ValueError("give object_spilling_directory or _system_config's object_spilling_config, not both")
    if directory:
        targets = _targets(directory, None, "object_spilling_directory")
    elif given:
        targets = _read_config(given)
    return Spilling(
        targets=targets,
        threshold=_read_threshold(config.get("object_spilling_threshold", SPILL_THRESHOLD)),
        fuse_bytes=_read_bytes(config.get("min_spilling_size", FUSE_BYTES), "min_spilling_size", least=0),
    )


def prepare(spilling: Spilling) -> None:
    """Make the local directories. Raises ValueError for one that cannot be written to."""
    for target in spilling.targets:
        path = _local(target.uri)
        if path is None:
            continue
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"objects cannot be spilled to {path}: {error}") from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise ValueError(f"objects cannot be spilled to {path}: it may not be written to")


def _read_config(given: object) -> tuple[SpillTarget, ...]:
    name = "object_spilling_config"
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except msgspec.DecodeError as error:
            raise ValueError(f"{name} is not JSON: {error}") from None
    if not isinstance(given, Mapping) or not isinstance(given.get("params", {}), Mapping):
        raise TypeError(f"{name} must be a JSON object with 'type' and 'params', got {given!r}")
    kind = given.get("type")
    if kind not in _PLACES:
        raise ValueError(f"{name}: type must be one of {', '.join(_PLACES)}, got {kind!r}")
    params = given.get("params", {})
    unknown = set(params) - {_PLACES[kind], "spill_quota_bytes"} - _WITHOUT_EFFECT
    if unknown or set(given) - {"type", "params"}:
        names = sorted(unknown | (set(given) - {"type", "params"}))
        raise ValueError(
            f"{name} of type {kind} has no {', '.join(names)}; it takes {_PLACES[kind]}, spill_quota_bytes"
        )
    return _targets(params.get(_PLACES[kind]), params.get("spill_quota_bytes"), f"{name}: {_PLACES[kind]}")


def _targets(given: object, quota: object, name: str) -> tuple[SpillTarget, ...]:
    places: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if not all(isinstance(place, str | os.PathLike) and os.fspath(place) for place in places) or not places:
        raise TypeError(f"{name} must be a directory or a list of directories, got {given!r}")
    uris = [_normal(os.fspath(place), name) for place in places]
    if len(uris) > DIRECTORIES_MAX:
        raise ValueError(f"{name}: {len(uris)} directories, at most {DIRECTORIES_MAX} are allowed")
    if len(set(uris)) < len(uris):
        raise ValueError(f"{name} names a directory twice: {', '.join(uris)}")
    quotas = list(quota) if isinstance(quota, list | tuple) else [quota] * len(uris)
    if len(quotas) != len(uris):
        raise ValueError(f"spill_quota_bytes has {len(quotas)} entries for {len(uris)} directories")
    limits = [None if each is None else _read_bytes(each, "spill_quota_bytes", least=1) for each in quotas]
    return tuple(SpillTarget(uri, limit) for uri, limit in zip(uris, limits, strict=True))


def _normal(place: str, name: str) -> str:
    """A local path absolute, for the node has another working directory; a URI as it is."""
    if "://" in place and _URI.fullmatch(place) is None:
        raise ValueError(f"{name}: {place!r} is neither a path nor a URI like s3://bucket/folder")
    path = _local(place)
    if path is None:
        return place
    if path.exists() and not path.is_dir():
        raise ValueError(f"{name}: {path} is not a directory")
    return str(path)


def _local(place: str) -> Path | None:
    if place.startswith("file://"):
        return Path(place.removeprefix("file://")).absolute()
    return None if "://" in place else Path(place).expanduser().absolute()


def _read_threshold(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"object_spilling_threshold must be a number, got {value!r}")
    if not 0 < value <= 1:
        raise ValueError(f"object_spilling_threshold must be above 0 and at most 1, got {value}")
    return float(value)


def _read_bytes(value: object, name: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a number of bytes, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least} bytes, got {value}")
    return value
