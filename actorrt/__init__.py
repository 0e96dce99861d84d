"""actorrt: a distributed runtime for Python. Tasks, actors and object references; names and semantics follow Ray's.

    import actorrt

    @actorrt.remote
    def square(x):
        return x * x

    actorrt.get([square.remote(i) for i in range(4)])  # [0, 1, 4, 9]

Importing the package loads nothing: each public name is imported on first use (PEP 562), so that ``actorrt.store`` and
``actorrt.transports``, layers of their own, can be used without the runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actorrt import actor, exceptions, util
    from actorrt.api.actors import ActorClass, ActorHandle, method
    from actorrt.api.cluster_info import available_resources, cluster_resources, nodes
    from actorrt.api.connection import init, is_initialized, shutdown
    from actorrt.api.context import RuntimeContext, get_gpu_ids, get_runtime_context
    from actorrt.api.ids import (
        ActorID,
        ClusterID,
        FunctionID,
        JobID,
        NodeID,
        PlacementGroupID,
        TaskID,
        UniqueID,
        WorkerID,
    )
    from actorrt.api.refs import ObjectRef
    from actorrt.api.refs import ObjectRef as ObjectID
    from actorrt.api.remote import RemoteFunction, remote
    from actorrt.api.session import session
    from actorrt.api.verbs import cancel, get, get_actor, kill, put, wait

__version__ = "0.1.0"

# Where each public name lives.
_HOMES = {
    "ActorClass": "api.actors",
    "ActorHandle": "api.actors",
    "ActorID": "api.ids",
    "ClusterID": "api.ids",
    "FunctionID": "api.ids",
    "JobID": "api.ids",
    "NodeID": "api.ids",
    "ObjectID": "api.refs",
    "ObjectRef": "api.refs",
    "PlacementGroupID": "api.ids",
    "RemoteFunction": "api.remote",
    "RuntimeContext": "api.context",
    "TaskID": "api.ids",
    "UniqueID": "api.ids",
    "WorkerID": "api.ids",
    "available_resources": "api.cluster_info",
    "cancel": "api.verbs",
    "cluster_resources": "api.cluster_info",
    "get": "api.verbs",
    "get_actor": "api.verbs",
    "get_gpu_ids": "api.context",
    "get_runtime_context": "api.context",
    "init": "api.connection",
    "is_initialized": "api.connection",
    "kill": "api.verbs",
    "method": "api.actors",
    "nodes": "api.cluster_info",
    "put": "api.verbs",
    "remote": "api.remote",
    "session": "api.session",
    "shutdown": "api.connection",
    "wait": "api.verbs",
}
_TRUE_NAMES = {"ObjectID": "ObjectRef"}
# Modules that are used as attributes: actorrt.exceptions.TaskError after a plain `import actorrt`.
_MODULES = ("actor", "exceptions", "store", "testing", "transports", "util")

__all__ = [
    "ActorClass",
    "ActorHandle",
    "ActorID",
    "ClusterID",
    "FunctionID",
    "JobID",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "PlacementGroupID",
    "RemoteFunction",
    "RuntimeContext",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "__version__",
    "actor",
    "available_resources",
    "cancel",
    "cluster_resources",
    "exceptions",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "session",
    "shutdown",
    "util",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), _TRUE_NAMES.get(name, name))
        globals()[name] = value
        return value
    if name in _MODULES:
        full_name = f"{__name__}.{name}"
        try:
            return import_module(full_name)
        except ModuleNotFoundError as error:
            if error.name != full_name:
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
