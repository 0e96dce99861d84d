"""Helpers around the core. Each is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actorrt.api.cluster_info import get_node_ip_address
    from actorrt.api.verbs import list_named_actors
    from actorrt.util import actor_pool, multiprocessing, queue, scheduling_strategies
    from actorrt.util.actor_pool import ActorPool
    from actorrt.util.check_serialize import inspect_serializability
    from actorrt.util.completion import as_completed, map_unordered
    from actorrt.util.executor import Executor
    from actorrt.util.serialization import deregister_serializer, register_serializer

# Where each public name lives.
_HOMES = {
    "ActorPool": "actorrt.util.actor_pool",
    "Executor": "actorrt.util.executor",
    "as_completed": "actorrt.util.completion",
    "deregister_serializer": "actorrt.util.serialization",
    "get_node_ip_address": "actorrt.api.cluster_info",
    "inspect_serializability": "actorrt.util.check_serialize",
    "list_named_actors": "actorrt.api.verbs",
    "map_unordered": "actorrt.util.completion",
    "register_serializer": "actorrt.util.serialization",
}
_MODULES = ("actor_pool", "multiprocessing", "queue", "scheduling_strategies")

__all__ = [
    "ActorPool",
    "Executor",
    "actor_pool",
    "as_completed",
    "deregister_serializer",
    "get_node_ip_address",
    "inspect_serializability",
    "list_named_actors",
    "map_unordered",
    "multiprocessing",
    "queue",
    "register_serializer",
    "scheduling_strategies",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
