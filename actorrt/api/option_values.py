"""Single options: each function takes what a user wrote and returns the checked value.

TypeError for a value of a wrong type, ValueError for an impossible one; None is the same as not given.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from actorrt.scheduling import resources
from actorrt.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from actorrt.wire.records import Strategy

COUNT_MAX: Final = 2**31 - 1
"""Largest count an option takes."""
ACCELERATOR_TYPE_PREFIX: Final = "accelerator_type:"
ACCELERATOR_TYPE_QUANTITY: Final = 0.001
"""What ``accelerator_type`` asks of the resource that marks nodes of that type: next to nothing."""
ONE_CPU: Final = {"CPU": resources.UNIT}

RetryExceptions: TypeAlias = bool | tuple[type[BaseException], ...]


# ----------------------------------------------------------------------------------------------------------- resources
_HAVE_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory", "object_store_memory": "object_store_memory"}


def parse_custom_resources(quantities: object) -> dict[str, int]:
    """Return a ``resources=`` dict in fixed point; "CPU" and the like have options of their own.

    Raises TypeError or ValueError.
    """
    if quantities is None:
        return {}
    if not isinstance(quantities, Mapping):
        raise TypeError(f"resources must be a dict of numbers, got {quantities!r} of type {type(quantities).__name__}")
    for name, option in _HAVE_OPTIONS.items():
        if name in quantities:
            raise ValueError(f"resources must not contain {name!r}; use {option}=")
    return resources.parse(quantities)


def parse_built_in_resources(options: Mapping[str, Any], memory: str = "memory") -> dict[str, int]:
    """Return ``num_cpus``, ``num_gpus`` and ``memory`` (bytes) in fixed point, without zeros.

    ``memory`` is what that option is called. Raises TypeError or ValueError.
    """
    parsed: dict[str, int] = {}
    for option, name in (("num_cpus", "CPU"), ("num_gpus", "GPU"), (memory, "memory")):
        quantity = options.get(option)
        if quantity is None:
            continue
        fixed = resources.to_fixed(quantity, option)
        if name in resources.UNIT_INSTANCES and fixed > resources.UNIT and fixed % resources.UNIT:
            raise ValueError(f"{option} above 1 must be a whole number, got {quantity!r}")
        if fixed:
            parsed[name] = fixed
    return parsed


def read_resources(options: Mapping[str, Any]) -> dict[str, int]:
    """What is asked for explicitly, without zeros."""
    demand = parse_built_in_resources(options)
    demand.update(parse_custom_resources(options.get("resources")))
    accelerator_type = read_text(options, "accelerator_type")
    if accelerator_type:
        demand[ACCELERATOR_TYPE_PREFIX + accelerator_type] = resources.to_fixed(ACCELERATOR_TYPE_QUANTITY)
    return demand


def read_actor_resources(options: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """What an actor holds, and what it needs to be placed.

    Nothing but memory given: holds no CPU and needs one at placement, so that a thousand idle actors fit on a node and
    still are not all put on one. Anything given, a zero included: holds (and needs) exactly that and, unless said
    otherwise, one CPU.
    """
    held = read_resources(options)
    if options.get("num_cpus") is not None:
        return held, dict(held)
    named = options.get("num_gpus") is not None or options.get("resources") or options.get("accelerator_type")
    if named:
        held["CPU"] = resources.UNIT
        return held, dict(held)
    return held, {**held, **ONE_CPU}


# ------------------------------------------------------------------------------------------------------- single values
def read_count(options: Mapping[str, Any], name: str, default: int, *, least: int, most: int = COUNT_MAX) -> int:
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}")
    count = int(value)
    if not least <= count <= most:
        unlimited = " (-1: without limit)" if least == -1 else ""
        raise ValueError(f"{name} must be between {least} and {most}{unlimited}, got {value!r}")
    return count


def read_pending_calls(options: Mapping[str, Any]) -> int:
    most = read_count(options, "max_pending_calls", -1, least=-1)
    if most == 0:
        raise ValueError("max_pending_calls must be at least 1, or -1 for no limit, got 0 (no call could ever be made)")
    return most


def read_backpressure(options: Mapping[str, Any], name: str) -> int:
    most = read_count(options, name, -1, least=-1)
    if most == 0:
        raise ValueError(f"{name} must be at least 1, or -1 for no limit, got 0 (the generator could never yield)")
    return most


_Flag = TypeVar("_Flag", bool, bool | None)


def read_flag(options: Mapping[str, Any], name: str, *, default: _Flag) -> bool | _Flag:
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} of type {type(value).__name__}")
    return value


def read_text(options: Mapping[str, Any], name: str, *, may_be_empty: bool = True) -> str:
    value = options.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r} of type {type(value).__name__}")
    if not value and not may_be_empty:
        raise ValueError(f"{name} must not be empty; leave it away for none")
    return value


def read_num_returns(value: object, generator: bool | None, inherited: int | str) -> int | str:
    """``generator``: whether the function is a generator function, None if that is not known here."""
    if value is None:
        if generator is None:
            return inherited
        return "streaming" if generator else 1
    if isinstance(value, str):
        if value not in ("streaming", "dynamic"):
            raise ValueError(f"num_returns must be an integer of at least 0, 'streaming' or 'dynamic', got {value!r}")
        if generator is False:
            raise ValueError(f"num_returns={value!r} needs a generator function (one with yield)")
        if value == "dynamic":
            warnings.warn("num_returns='dynamic' is deprecated; use 'streaming'", DeprecationWarning, stacklevel=5)
        return value
    return read_count({"num_returns": value}, "num_returns", 1, least=0)


def read_retry_exceptions(value: object) -> RetryExceptions:
    if value is None or isinstance(value, bool):
        return bool(value)
    if not isinstance(value, list | tuple):
        raise TypeError(
            "retry_exceptions must be True, False or a list of exception classes, "
            f"got {value!r} of type {type(value).__name__}"
        )
    for kind in value:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise TypeError(f"retry_exceptions must list exception classes, got {kind!r}")
    return tuple(value)


def read_lifetime(value: object) -> bool:
    if value not in (None, "detached", "non_detached"):
        raise ValueError(f"lifetime must be None, 'detached' or 'non_detached', got {value!r}")
    return value == "detached"


def read_concurrency_groups(value: object) -> tuple[tuple[str, int], ...]:
    if value is None:
        return ()
    pairs: Iterable[Any]
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list | tuple) and all(isinstance(item, list | tuple) and len(item) == 2 for item in value):
        pairs = value
    else:
        raise TypeError(
            "concurrency_groups must be a dict from name to greatest concurrency (or a list of such pairs), "
            f"got {value!r}"
        )
    groups: dict[str, int] = {}
    for name, most in pairs:
        if not isinstance(name, str):
            raise TypeError(f"names of concurrency_groups must be strings, got {name!r}")
        if not name or name in groups:
            raise ValueError(f"names of concurrency_groups must be distinct and not empty, got {value!r}")
        what = f"concurrency_groups[{name!r}]"
        groups[name] = read_count({what: most}, what, 0, least=1)
        if not groups[name]:
            raise TypeError(f"{what} must be an integer, got None")
    return tuple(groups.items())


def read_strategy(value: object) -> Strategy:
    if value is None or value == "DEFAULT":
        return Strategy()
    if value == "SPREAD":
        return Strategy(kind="SPREAD")
    if isinstance(value, NodeAffinitySchedulingStrategy):
        return Strategy(kind="NODE_AFFINITY", node_id=value.node_id_bytes(), soft=value.soft)
    raise ValueError(
        "scheduling_strategy must be None, 'DEFAULT', 'SPREAD' or a NodeAffinitySchedulingStrategy "
        f"(placement groups and node label strategies are not supported yet), got {value!r}"
    )
