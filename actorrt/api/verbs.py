"""The verbs of the public API on objects and actors: get, put, wait, cancel, kill, get_actor."""

from __future__ import annotations

import logging
from typing import Any

from actorrt.api.actors import ActorHandle, handle_from
from actorrt.api.connection import ensure_runtime
from actorrt.api.generators import ObjectRefGenerator
from actorrt.api.refs import ObjectRef
from actorrt.api.runtime import Runtime
from actorrt.gcs.messages import GetNamedActor, KillActor, ListActors
from actorrt.kernel.context import current_task
from actorrt.owner.requests import Cancel
from actorrt.owner.state import local

logger = logging.getLogger("actorrt")


# ------------------------------------------------------------------ objects
def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None, got {type(timeout).__name__}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must not be negative, got {timeout}")


def _warn_blocking_in_async(verb: str, runtime: Runtime) -> None:
    task = current_task.get()
    if task is not None and task.is_async and not runtime.warned_blocking:
        runtime.warned_blocking = True
        logger.warning(
            "%s() blocks the event loop of this async actor, and with it all its calls: use `await ref` instead", verb
        )


def get(refs: Any, *, timeout: float | None = None, _use_object_store: bool = False) -> Any:
    """Wait for values and return them.

    Args:
        refs: one ``ObjectRef`` or a list of them (order and duplicates are kept).
        timeout: seconds; 0 polls; None waits for ever.
        _use_object_store: accepted for compatibility.

    Raises:
        GetTimeoutError: not everything was there in time.
        TaskError: user code raised; the error is an instance of the user's class as well.
        ActorrtError: a subclass says why there is no value (see ``actorrt.exceptions``).
    """
    del _use_object_store
    runtime = ensure_runtime()
    _check_timeout(timeout)
    if type(refs) is ObjectRef:
        _warn_blocking_in_async("get", runtime)
        return runtime.get((_ours(refs, runtime),), timeout)[0]
    if not isinstance(refs, list):
        raise ValueError(f"get() takes an ObjectRef or a list of them, not {type(refs).__name__}")  # noqa: TRY004 - as Ray
    for ref in refs:
        if type(ref) is not ObjectRef:
            raise ValueError(f"get() takes a list of ObjectRefs; it holds a {type(ref).__name__}")
    if not refs:
        return []
    _warn_blocking_in_async("get", runtime)
    return runtime.get([_ours(ref, runtime) for ref in refs], timeout)


def _ours(ref: ObjectRef[Any], runtime: Runtime) -> ObjectRef[Any]:
    """The ref as this runtime counts it: one from before a shutdown, or made outside, is adopted first."""
    return ref if ref._runtime is runtime else runtime.adopt_ref(ref._id, ref._owner)


def put(value: Any, *, _owner: Any = None, _tensor_transport: Any = None) -> ObjectRef[Any]:
    """Store a value (a snapshot of it) and return its ref.

    Raises:
        TypeError: the value is an ObjectRef, or cannot be pickled.
    """
    if _owner is not None:
        raise ValueError("put(_owner=...) is not supported")
    del _tensor_transport
    if isinstance(value, ObjectRef):
        raise TypeError("put() of an ObjectRef is not allowed; put it in a list to store the ref itself")
    return ensure_runtime().put(value)


def wait(
    refs: Any, *, num_returns: int = 1, timeout: float | None = None, fetch_local: bool = True
) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
    """Wait until ``num_returns`` of ``refs`` are ready, or the time is up.

    ``fetch_local``: large values of other nodes count as ready when they are on this one; False: when they exist.

    Returns (ready, rest), both in the order given; ready has at most ``num_returns`` entries.

    Raises:
        TypeError: not a list of ObjectRefs.
        ValueError: duplicates, ``num_returns`` out of range, or a negative timeout.
    """
    if isinstance(refs, ObjectRef):
        raise TypeError("wait() takes a list of ObjectRefs, got a single one: use wait([ref])")
    if not isinstance(refs, list):
        raise TypeError(f"wait() takes a list of ObjectRefs, got {type(refs).__name__}")
    for ref in refs:
        if not isinstance(ref, (ObjectRef, ObjectRefGenerator)):
            raise TypeError(f"wait() takes a list of ObjectRefs; it holds a {type(ref).__name__}")
    runtime = ensure_runtime()
    _check_timeout(timeout)
    if not refs:
        return [], []
    if len({ref._id for ref in refs}) != len(refs):
        raise ValueError("wait() takes each ObjectRef once; the list has duplicates")
    if type(num_returns) is not int:
        raise TypeError(f"num_returns must be an int, got {type(num_returns).__name__}")
    if num_returns <= 0 or num_returns > len(refs):
        raise ValueError(f"num_returns must be between 1 and the number of refs ({len(refs)}), got {num_returns}")
    _warn_blocking_in_async("wait", runtime)
    return runtime.wait(refs, num_returns, timeout, fetch_local=fetch_local)


def cancel(ref: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that makes this object.

    Pending: dropped. Running: KeyboardInterrupt is raised in it (``force``: its process is killed); an async actor's
    call gets ``CancelledError``; other actor calls are asked (``is_canceled``). Finished: nothing happens.

    Raises:
        TypeError: not an ObjectRef.
        ValueError: ``force=True`` for an actor call.
    """
    if isinstance(ref, ObjectRefGenerator):
        ref = ref.completed()
    if not isinstance(ref, ObjectRef):
        raise TypeError(f"cancel() takes an ObjectRef, got {type(ref).__name__}")
    runtime = ensure_runtime()
    runtime.flush()
    record = runtime.machine.objects.records.get(ref._id)
    if force and record is not None and record.task is not None and record.task.actor_id:
        raise ValueError("force=True is not allowed for actor calls: use kill(actor) to end the actor")
    runtime.shell.post(local(Cancel(ref._id, ref._owner, force, recursive)))


# ------------------------------------------------------------------ actors
def kill(actor: Any, *, no_restart: bool = True) -> None:
    """End an actor's process at once; calls under way and queued fail. ``no_restart=False`` lets it restart.

    Raises:
        ValueError: not an actor handle.
        ActorHandleNotFoundError: a handle from another session.
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(  # noqa: TRY004 - as Ray
            f"kill() takes an actor handle, got {type(actor).__name__}; for tasks there is cancel()"
        )
    runtime = ensure_runtime()
    runtime.flush()
    runtime.ask(runtime.gcs, KillActor(actor._actor_id, no_restart))


def get_actor(name: str, namespace: str | None = None) -> Any:
    """Handle of a named actor of this namespace.

    Raises:
        ValueError: no actor of this name lives there, or the name is empty.
    """
    if not name or type(name) is not str:
        raise ValueError(f"get_actor() takes the name of an actor, got {name!r}")
    runtime = ensure_runtime()
    runtime.flush()
    answer = runtime.ask(runtime.gcs, GetNamedActor(name, namespace or runtime.job.namespace))
    return handle_from(answer.info.actor_id, answer.info.handle_data)


def list_named_actors(*, all_namespaces: bool = False) -> list[Any]:
    """Names of the living named actors of this namespace, or ``{"name", "namespace"}`` of all."""
    runtime = ensure_runtime()
    runtime.flush()
    actors = [a for a in runtime.ask(runtime.gcs, ListActors(alive_only=True)).actors if a.name]
    if all_namespaces:
        return [{"name": a.name, "namespace": a.namespace} for a in actors]
    return [a.name for a in actors if a.namespace == runtime.job.namespace]
