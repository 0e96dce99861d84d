"""When a node looks after its memory, as the user says it: checked where it is said, before a node is started.

``_system_config`` and the environment speak Ray's language; the first wins::

    {"memory_usage_threshold": 0.95,        ACTORRT_MEMORY_USAGE_THRESHOLD: the share of the memory in use above which
                                            workers are ended
     "memory_monitor_refresh_ms": 250}      ACTORRT_MEMORY_MONITOR_REFRESH_MS: how often the node looks; 0: never
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from actorrt.cluster.config import MemoryMonitorConfig

THRESHOLD: Final = "memory_usage_threshold"
REFRESH: Final = "memory_monitor_refresh_ms"
CONFIG_NAMES: Final = (THRESHOLD, REFRESH)
"""What ``_system_config`` may have for us."""
REFRESH_MS_MAX: Final = 3_600_000


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return f"ACTORRT_{name.upper()}"


def read_memory_settings(
    system_config: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> MemoryMonitorConfig:
    """Check what was given. Raises TypeError and ValueError, which say where the mistake is."""
    given: dict[str, tuple[object, str]] = {}
    for name in CONFIG_NAMES:
        variable = variable_of(name)
        text = (os.environ if environment is None else environment).get(variable, "")
        if system_config and name in system_config:
            given[name] = (system_config[name], name)
        elif text:
            given[name] = (_number(text, variable), variable)
    defaults = MemoryMonitorConfig()
    return MemoryMonitorConfig(
        usage_threshold=_read_threshold(*given[THRESHOLD]) if THRESHOLD in given else defaults.usage_threshold,
        refresh_s=_read_refresh_ms(*given[REFRESH]) / 1000 if REFRESH in given else defaults.refresh_s,
    )


def _number(text: str, name: str) -> int | float:
    try:
        return int(text) if text.strip().lstrip("-").isdecimal() else float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}") from None


def _read_threshold(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value}")
    return float(value)


def _read_refresh_ms(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number of milliseconds, got {value!r}")
    if not 0 <= value <= REFRESH_MS_MAX:
        raise ValueError(f"{name} must be from 0 (off) to {REFRESH_MS_MAX} milliseconds, got {value}")
    return value
