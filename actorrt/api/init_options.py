"""Arguments of ``init()``: checked before anything is started or dialled.

Everything Ray's ``init`` takes is known here: supported; accepted without effect (the dashboard's); or refused with
a reason. Errors: TypeError for a value of a wrong type, ValueError for an impossible value, RuntimeError for an unknown
argument and for modes that do not exist (``local_mode``, ``storage``), NotImplementedError for a runtime_env field that
is still to come.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from actorrt.api.environments import parse_environment
from actorrt.api.option_values import (
    parse_built_in_resources,
    parse_custom_resources,
    read_count,
    read_flag,
    read_text,
)
from actorrt.cluster import memory_settings
from actorrt.cluster.config import MemoryMonitorConfig
from actorrt.cluster.spilling import CONFIG_NAMES, Spilling, read_spilling
from actorrt.scheduling import labels
from actorrt.scheduling.resources import QUANTITY_MAX, UNIT
from actorrt.wire.records import Environment

OBJECT_STORE_BYTES_MIN: Final = 75 << 20
LOGGING_LEVELS: Final = {"critical": 50, "error": 40, "warning": 30, "info": 20, "debug": 10, "notset": 0}

LOCAL_ONLY: Final = (
    "num_cpus",
    "num_gpus",
    "resources",
    "labels",
    "object_spilling_directory",
    "object_store_memory",
    "_memory",
    "_node_name",
    "_system_config",
)
"""They shape a node that ``init`` starts, so they are refused when it connects to a running cluster."""


class InitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``init()`` was asked for. Quantities are fixed-point (1/10000) where the text says so; None: not given."""

    address: str | None = None
    num_cpus: int | None = None
    """Fixed-point."""
    num_gpus: int | None = None
    """Fixed-point."""
    memory: int | None = None
    """Fixed-point bytes."""
    resources: dict[str, int] = {}
    """Custom ones, fixed-point, without zeros."""
    object_store_memory_bytes: int | None = None
    labels: dict[str, str] = {}
    namespace: str = ""
    """Empty: one of its own."""
    environment: Environment = Environment()
    """That of the job, where tasks and actors do not say otherwise."""
    ignore_reinit_error: bool = False
    log_to_driver: bool = True
    configure_logging: bool = True
    logging_level: int = LOGGING_LEVELS["info"]
    """A level of the ``logging`` module."""
    logging_format: str | None = None
    node_name: str = ""
    node_ip_address: str = ""
    temp_dir: str = ""
    spilling: Spilling = Spilling()
    """Where objects go when memory is short, of ``object_spilling_directory`` or ``_system_config``."""
    memory_monitor: MemoryMonitorConfig = MemoryMonitorConfig()
    """When workers are ended because memory is short, of ``_system_config`` or the environment."""
    system_config: dict[str, Any] = {}
    explicit: tuple[str, ...] = ()
    """Names of the arguments that were given, sorted."""

    def refuse_local_only(self, address: str) -> None:
        """Raise ValueError if arguments are given that only a node of our own could honour.

        To be called when ``init`` connects to the running cluster at ``address``.
        """
        given = [name for name in self.explicit if name in LOCAL_ONLY]
        if given:
            raise ValueError(
                f"{', '.join(given)} cannot be given when connecting to a running cluster (at {address}); "
                'leave it away, or use address="local" to start a cluster of your own'
            )


_ARGUMENTS: Final = frozenset(
    {
        "address",
        "configure_logging",
        "ignore_reinit_error",
        "labels",
        "log_to_driver",
        "logging_format",
        "logging_level",
        "namespace",
        "num_cpus",
        "num_gpus",
        "object_spilling_directory",
        "object_store_memory",
        "resources",
        "runtime_env",
        "_memory",
        "_node_ip_address",
        "_node_name",
        "_system_config",
        "_temp_dir",
    }
)
_WITHOUT_EFFECT: Final = frozenset(
    {
        "dashboard_host",
        "dashboard_port",
        "include_dashboard",
        "_enable_object_reconstruction",
        "_metrics_export_port",
        "_plasma_directory",
        "_skip_env_hook",
    }
)
# Known, without effect as long as they have one of these values, and refused with any other.
_NOT_YET: Final[dict[str, tuple[object, ...]]] = {
    "cgroup_path": (None,),
    "enable_resource_isolation": (None, False),
    "job_config": (None,),
    "logging_config": (None,),
    "proxy_server_url": (None,),
    "system_reserved_cpu": (None,),
    "system_reserved_memory": (None,),
    "_redis_password": (None,),
    "_redis_username": (None,),
    "_tracing_startup_hook": (None,),
}
_GONE: Final = {
    "local_mode": "local_mode does not exist here; embedded clusters run everything in this process",
    "storage": "storage does not exist any more; give paths to the libraries that store",
}


def init_options(address: str | None = None, **given: Any) -> InitOptions:
    """Check the arguments of ``init()``, those it was given by name. None means the same as not given.

    Raises TypeError, ValueError, RuntimeError or NotImplementedError, see the module.
    """
    given = {name: value for name, value in given.items() if value is not None}
    _refuse_names(given)
    built_in = parse_built_in_resources(given, memory="_memory")
    system_config = _read_system_config(given.get("_system_config", {}))
    return InitOptions(
        address=_read_address(address),
        num_cpus=built_in.get("CPU", 0) if "num_cpus" in given else None,
        num_gpus=built_in.get("GPU", 0) if "num_gpus" in given else None,
        memory=built_in.get("memory", 0) if "_memory" in given else None,
        resources=parse_custom_resources(given.get("resources")),
        object_store_memory_bytes=_read_object_store_memory(given),
        labels=labels.check_labels(given.get("labels", {})),
        namespace=read_text(given, "namespace", may_be_empty=False),
        environment=parse_environment(given.get("runtime_env")),
        ignore_reinit_error=read_flag(given, "ignore_reinit_error", default=False),
        log_to_driver=read_flag(given, "log_to_driver", default=True),
        configure_logging=read_flag(given, "configure_logging", default=True),
        logging_level=_read_logging_level(given.get("logging_level", "info")),
        logging_format=read_text(given, "logging_format") or None,
        node_name=read_text(given, "_node_name", may_be_empty=False),
        node_ip_address=read_text(given, "_node_ip_address", may_be_empty=False),
        temp_dir=read_text(given, "_temp_dir", may_be_empty=False),
        spilling=read_spilling(read_text(given, "object_spilling_directory", may_be_empty=False), system_config),
        memory_monitor=memory_settings.read_memory_settings(system_config),
        system_config=system_config,
        explicit=tuple(sorted(given)),
    )


def _refuse_names(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in _GONE:
            if value:
                raise RuntimeError(_GONE[name])
        elif name in _NOT_YET:
            if value not in _NOT_YET[name]:
                raise ValueError(f"init({name}=...) is not supported yet; leave it away")
        elif name not in _ARGUMENTS and name not in _WITHOUT_EFFECT:
            known = (*_ARGUMENTS, *_WITHOUT_EFFECT)
            public = ", ".join(sorted(argument for argument in known if not argument.startswith("_")))
            raise RuntimeError(f"init() has no argument {name!r}; there are: {public}")


def _read_address(address: object) -> str | None:
    if address is None:
        return None
    if not isinstance(address, str):
        raise TypeError(f"address must be a string, got {address!r} of type {type(address).__name__}")
    if not address:
        raise ValueError('address must not be empty; use None, "auto", "local" or the address of a cluster')
    return address


def _read_object_store_memory(given: Mapping[str, Any]) -> int | None:
    if "object_store_memory" not in given:
        return None
    bytes_wanted = read_count(given, "object_store_memory", 0, least=0, most=QUANTITY_MAX // UNIT)
    if bytes_wanted < OBJECT_STORE_BYTES_MIN:
        raise ValueError(f"object_store_memory must be at least {OBJECT_STORE_BYTES_MIN} bytes, got {bytes_wanted}")
    return bytes_wanted


def _read_logging_level(level: object) -> int:
    if isinstance(level, str):
        if level.lower() not in LOGGING_LEVELS:
            raise ValueError(f"logging_level must be one of {', '.join(LOGGING_LEVELS)} or a number, got {level!r}")
        return LOGGING_LEVELS[level.lower()]
    return read_count({"logging_level": level}, "logging_level", 0, least=0)


def _read_system_config(config: object) -> dict[str, Any]:
    if not isinstance(config, Mapping) or not all(isinstance(name, str) for name in config):
        raise TypeError(f"_system_config must be a dict with strings as keys, got {config!r}")
    known = (*CONFIG_NAMES, *memory_settings.CONFIG_NAMES)
    unknown = sorted(set(config) - set(known))
    if unknown:
        names = ", ".join(unknown)
        warnings.warn(f"_system_config: no effect of {names}; known are {', '.join(known)}", stacklevel=5)
    return dict(config)
