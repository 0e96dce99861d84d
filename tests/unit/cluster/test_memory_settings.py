"""When a node looks after its memory, as users say it."""

import pytest

from actorrt.cluster.config import MemoryMonitorConfig
from actorrt.cluster.memory_settings import REFRESH_MS_MAX, read_memory_settings, variable_of

THRESHOLD = "ACTORRT_MEMORY_USAGE_THRESHOLD"
REFRESH = "ACTORRT_MEMORY_MONITOR_REFRESH_MS"


def test_nothing_given():
    assert read_memory_settings() == read_memory_settings({}, {}) == MemoryMonitorConfig()
    assert read_memory_settings({"other": 1}, {THRESHOLD: ""}) == MemoryMonitorConfig()
    assert (MemoryMonitorConfig().usage_threshold, MemoryMonitorConfig().refresh_s) == (0.95, 0.25)


def test_as_ray_spells_it():
    given = {"memory_usage_threshold": 0.5, "memory_monitor_refresh_ms": 100}
    assert read_memory_settings(given, {}) == MemoryMonitorConfig(usage_threshold=0.5, refresh_s=0.1)
    assert read_memory_settings({"memory_usage_threshold": 1}, {}).usage_threshold == 1.0
    assert read_memory_settings({"memory_monitor_refresh_ms": 0}, {}).refresh_s == 0


def test_the_environment(monkeypatch):
    assert [variable_of(name) for name in ("memory_usage_threshold", "memory_monitor_refresh_ms")] == [
        THRESHOLD,
        REFRESH,
    ]
    said = {THRESHOLD: "0.7", REFRESH: "500"}
    assert read_memory_settings(None, said) == MemoryMonitorConfig(usage_threshold=0.7, refresh_s=0.5)
    told = {"memory_usage_threshold": 0.5}
    assert read_memory_settings(told, said) == MemoryMonitorConfig(usage_threshold=0.5, refresh_s=0.5)
    monkeypatch.setenv(REFRESH, "0")
    assert read_memory_settings().refresh_s == 0


@pytest.mark.parametrize(
    ("system_config", "environment", "error", "text"),
    [
        ({"memory_usage_threshold": 0}, {}, ValueError, "memory_usage_threshold must be above 0 and at most 1, got 0"),
        ({"memory_usage_threshold": 1.1}, {}, ValueError, "at most 1"),
        ({"memory_usage_threshold": float("nan")}, {}, ValueError, "at most 1"),
        ({"memory_usage_threshold": "0.5"}, {}, TypeError, "must be a number"),
        ({"memory_usage_threshold": True}, {}, TypeError, "must be a number"),
        ({"memory_monitor_refresh_ms": -1}, {}, ValueError, "from 0 (off) to"),
        ({"memory_monitor_refresh_ms": REFRESH_MS_MAX + 1}, {}, ValueError, "from 0 (off) to"),
        ({"memory_monitor_refresh_ms": 0.5}, {}, TypeError, "whole number of milliseconds"),
        ({"memory_monitor_refresh_ms": False}, {}, TypeError, "whole number of milliseconds"),
        (None, {THRESHOLD: "much"}, ValueError, f"{THRESHOLD} must be a number, got 'much'"),
        (None, {THRESHOLD: "7"}, ValueError, f"{THRESHOLD} must be above 0"),
        (None, {REFRESH: "-5"}, ValueError, f"{REFRESH} must be from 0"),
        (None, {REFRESH: "0.5"}, TypeError, f"{REFRESH} must be a whole number"),
    ],
    ids=str,
)
def test_mistakes(system_config, environment, error, text):
    with pytest.raises(error) as raised:
        read_memory_settings(system_config, environment)
    assert text in str(raised.value)
