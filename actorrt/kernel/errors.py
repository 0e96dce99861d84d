"""The error taxonomy: what users and peers can meet. The API re-exports it as ``actorrt.exceptions``.

Names follow Ray's with the "Ray" dropped. ``kind`` strings on the wire (``Failure.kind``, ``RequestFailed.kind``) are
the names of these classes, looked up with ``error_class``.
"""

from __future__ import annotations


class ActorrtError(Exception):
    """Root of every error of the runtime."""


class InternalError(ActorrtError):
    """The runtime itself failed (a bug, or a component that is gone)."""


class ProtocolMismatchError(ActorrtError):
    """Two processes of different protocol version, Python minor version or cluster met."""


class AuthenticationError(ActorrtError):
    """A peer could not prove that it knows the cluster's token."""


class CrossLanguageError(ActorrtError):
    """Reserved: an error raised by code of another language."""


class GetTimeoutError(ActorrtError, TimeoutError):
    """``get`` (or a call to the control plane) did not finish within its timeout."""


class TaskCancelledError(ActorrtError):
    """The task was cancelled."""

    def __init__(self, message: str = "the task was cancelled", *, task_id: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id


class WorkerCrashedError(ActorrtError):
    """The worker process died while it ran the task; the text names pid, exit code or signal, and its last stderr
    lines.
    """


class NodeDiedError(ActorrtError):
    """The node that ran the task died."""


class LocalRayletDiedError(ActorrtError):
    """The node process this program is attached to died."""


class OutOfMemoryError(ActorrtError):
    """The memory monitor killed the worker."""


class OutOfDiskError(ActorrtError):
    """The local disk is (almost) full."""


class ObjectStoreFullError(ActorrtError):
    """The object store is full and nothing can be spilled or released."""


class TaskUnschedulableError(ActorrtError):
    """The task can never be placed (for instance hard affinity to a dead node)."""


class ActorUnschedulableError(ActorrtError):
    """The actor can never be placed."""


class TaskPlacementGroupRemoved(ActorrtError):
    """The placement group of the task was removed."""


class ActorPlacementGroupRemoved(ActorrtError):
    """The placement group of the actor was removed."""


class RuntimeEnvSetupError(ActorrtError):
    """The runtime environment of a task or actor could not be set up."""


class UnserializableException(ActorrtError):
    """A remote exception could not be rebuilt here; the text carries its type and traceback."""


class PendingCallsLimitExceeded(ActorrtError):
    """``max_pending_calls`` of this actor handle is reached."""


class AsyncioActorExit(ActorrtError):
    """Raised inside an async actor by ``exit_actor``."""


class ActorError(ActorrtError):
    """An actor call could not be carried out because of its actor. ``actor_id`` is its hex id."""

    def __init__(self, message: str = "the actor failed", *, actor_id: str = "") -> None:
        super().__init__(message)
        self.actor_id = actor_id


class ActorDiedError(ActorError):
    """The actor is dead and will not come back."""


class ActorUnavailableError(ActorError):
    """The actor cannot be reached at the moment; the call may or may not have been executed."""


class ActorAlreadyExistsError(ActorrtError, ValueError):
    """An actor of this name lives in this namespace."""


class ActorHandleNotFoundError(ActorrtError, ValueError):
    """The actor handle belongs to another session."""


class ActorNotFoundError(ActorrtError, ValueError):
    """No actor of this name lives in this namespace."""


class ObjectLostError(ActorrtError):
    """The value of a ref is lost. ``object_id`` is its hex id."""

    def __init__(self, message: str = "the object is lost", *, object_id: str = "") -> None:
        super().__init__(message)
        self.object_id = object_id


class ObjectFetchTimedOutError(ObjectLostError):
    """The value could not be fetched in time."""


class ObjectFreedError(ObjectLostError):
    """The value was freed explicitly."""


class OwnerDiedError(ObjectLostError):
    """The process that owned the ref is dead, and its value with it."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The value was lost and could not be computed again; the text says why."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """A value was released although a ref to it lives (a bug)."""


class ObjectRefStreamEndOfStreamError(ActorrtError):
    """There are no more items in a stream (what ends the iteration of an ``ObjectRefGenerator``)."""


class RequestTimedOut(ActorrtError, TimeoutError):
    """A component did not answer a request in time."""


class Overloaded(ActorrtError):
    """A bounded queue or table of the receiver is full."""


class TaskError(ActorrtError):
    """User code raised. What ``get`` raises is also an instance of the user's exception class (see ``wire.failures``).

    ``cause`` is the user's exception (None when it could not be pickled), ``remote_traceback`` the worker's own
    traceback.
    """

    def __init__(
        self,
        function_name: str = "",
        remote_traceback: str = "",
        cause: BaseException | None = None,
        *,
        pid: int = 0,
        type_name: str = "",
    ) -> None:
        # Not super(): in a dual class the next in line is the user's own __init__, which wants its own arguments.
        Exception.__init__(self, function_name, remote_traceback, cause)
        self.function_name = function_name
        self.remote_traceback = remote_traceback
        self.cause = cause
        self.pid = pid
        self.type_name = type_name

    def __str__(self) -> str:
        return f"{self.function_name} (pid={self.pid}) raised {self.type_name}\n{self.remote_traceback}"


_CLASSES: dict[str, type[ActorrtError]] = {
    name: cls for name, cls in list(globals().items()) if isinstance(cls, type) and issubclass(cls, ActorrtError)
}


def error_class(kind: str) -> type[ActorrtError]:
    """Class of a ``kind`` string from the wire; an unknown one (from a newer peer) is an ``InternalError``.

    Only classes of this module count: users derive their own from these, and may give them the same names.
    """
    return _CLASSES.get(kind, InternalError)
