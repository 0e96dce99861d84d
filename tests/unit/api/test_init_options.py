"""Arguments of init()."""

import pytest

from actorrt.api.init_options import LOCAL_ONLY, OBJECT_STORE_BYTES_MIN, InitOptions, init_options
from actorrt.cluster.config import MemoryMonitorConfig, SpillTarget
from actorrt.cluster.spilling import Spilling
from actorrt.scheduling.resources import UNIT
from actorrt.wire.records import Environment

MIB = 1 << 20


def test_defaults():
    assert init_options() == InitOptions()
    assert init_options(num_cpus=None, labels=None, dashboard_port=None) == InitOptions()
    assert InitOptions().log_to_driver
    assert InitOptions().num_cpus is None


GIVEN = {
    "num_cpus": 2,
    "num_gpus": 0,
    "resources": {"disk": 2, "none": 0},
    "labels": {"rack": "r1"},
    "object_store_memory": 200 * MIB,
    "ignore_reinit_error": True,
    "include_dashboard": False,
    "configure_logging": False,
    "logging_level": "DEBUG",
    "logging_format": "%(message)s",
    "log_to_driver": False,
    "namespace": "space",
    "runtime_env": {"env_vars": {"A": "1"}},
    "local_mode": False,
    "enable_resource_isolation": False,
    "object_spilling_directory": "/spill",
    "_memory": 1000,
    "_node_name": "n1",
    "_node_ip_address": "127.0.0.1",
    "_temp_dir": "elsewhere",
    "_system_config": {"object_spilling_threshold": 0.8},
}


def test_everything():
    assert init_options("local", **GIVEN) == InitOptions(
        address="local",
        num_cpus=2 * UNIT,
        num_gpus=0,
        memory=1000 * UNIT,
        resources={"disk": 2 * UNIT},
        object_store_memory_bytes=200 * MIB,
        labels={"rack": "r1"},
        namespace="space",
        environment=Environment((("A", "1"),), '{"env_vars":{"A":"1"}}'),
        ignore_reinit_error=True,
        log_to_driver=False,
        configure_logging=False,
        logging_level=10,
        logging_format="%(message)s",
        node_name="n1",
        node_ip_address="127.0.0.1",
        temp_dir="elsewhere",
        spilling=Spilling(targets=(SpillTarget("/spill"),)),
        system_config={"object_spilling_threshold": 0.8},
        explicit=tuple(sorted(GIVEN)),
    )


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"num_cpus": -1}, ValueError, "num_cpus must not be negative"),
        ({"num_cpus": "4"}, TypeError, "num_cpus must be a number"),
        ({"num_gpus": 1.5}, ValueError, "num_gpus"),
        ({"resources": {"CPU": 2}}, ValueError, "use num_cpus="),
        ({"resources": {"GPU": 2}}, ValueError, "use num_gpus="),
        ({"resources": 2}, TypeError, "resources must be a dict"),
        ({"labels": {"a": 1}}, TypeError, "label"),
        ({"labels": {"a": "?"}}, ValueError, "label"),
        ({"labels": "a=b"}, TypeError, "labels must be a dict"),
        ({"object_store_memory": OBJECT_STORE_BYTES_MIN - 1}, ValueError, f"at least {OBJECT_STORE_BYTES_MIN}"),
        ({"object_store_memory": 1e9}, TypeError, "object_store_memory must be an integer"),
        ({"namespace": 5}, TypeError, "namespace must be a string"),
        ({"namespace": ""}, ValueError, "namespace must not be empty"),
        ({"address": 5}, TypeError, "address must be a string"),
        ({"address": ""}, ValueError, "address must not be empty"),
        ({"ignore_reinit_error": "yes"}, TypeError, "ignore_reinit_error"),
        ({"logging_level": "loud"}, ValueError, "critical, error, warning"),
        ({"logging_level": 1.5}, TypeError, "logging_level"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, TypeError, "env_vars"),
        ({"runtime_env": {"working_dir": "."}}, NotImplementedError, "working_dir"),
        ({"no_such_option": 1}, RuntimeError, "no argument 'no_such_option'; there are: address, "),
        ({"local_mode": True}, RuntimeError, "local_mode"),
        ({"storage": "somewhere"}, RuntimeError, "storage"),
        ({"enable_resource_isolation": True}, ValueError, "not supported yet"),
        ({"job_config": object()}, ValueError, "not supported yet"),
        ({"_memory": -1}, ValueError, "_memory"),
        ({"_system_config": "x"}, TypeError, "_system_config"),
        ({"_system_config": {1: 2}}, TypeError, "_system_config"),
        ({"_system_config": {"object_spilling_config": "{"}}, ValueError, "object_spilling_config is not JSON"),
        ({"_system_config": {"object_spilling_threshold": 2}}, ValueError, "object_spilling_threshold"),
        ({"_system_config": {"memory_usage_threshold": 2}}, ValueError, "memory_usage_threshold"),
        ({"_system_config": {"memory_monitor_refresh_ms": "1"}}, TypeError, "memory_monitor_refresh_ms"),
        ({"object_spilling_directory": ""}, ValueError, "object_spilling_directory must not be empty"),
        ({"object_spilling_directory": __file__}, ValueError, "is not a directory"),
        ({"_node_name": 1}, TypeError, "_node_name"),
    ],
    ids=str,
)
def test_bad_arguments(given, error, text):
    with pytest.raises(error) as raised:
        init_options(**given)
    assert text in str(raised.value)


@pytest.mark.parametrize("name", LOCAL_ONLY)
def test_connecting_refuses_what_shapes_a_node(name):
    values = {
        "object_store_memory": 100 * MIB,
        "object_spilling_directory": "/spill",
        "_node_name": "n",
        "_memory": 5,
        "num_cpus": 0,
        "num_gpus": 0,
    }
    options = init_options(**{name: values.get(name, {})})
    with pytest.raises(ValueError, match=f"{name} cannot be given when connecting .*there:1"):
        options.refuse_local_only("there:1")


def test_connecting_accepts_the_rest():
    init_options("auto", namespace="n", log_to_driver=False, include_dashboard=False).refuse_local_only("x")


def test_when_memory_is_short():
    given = init_options("local", _system_config={"memory_usage_threshold": 0.5, "memory_monitor_refresh_ms": 0})
    assert given.memory_monitor == MemoryMonitorConfig(usage_threshold=0.5, refresh_s=0.0)


def test_a_setting_without_effect_is_said_to_have_none():
    with pytest.warns(UserWarning, match=r"no effect of metrics_report_interval_ms; known are .*min_spilling_size"):
        init_options(None, _system_config={"metrics_report_interval_ms": 100})
