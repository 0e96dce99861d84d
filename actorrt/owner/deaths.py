"""What the refs of tasks and calls raise when something ended that they needed (pure texts)."""

from __future__ import annotations

from actorrt.owner.tasks import LeasedWorker, Task
from actorrt.wire.records import ActorInfo, DeathCause, Failure

UNKNOWN_CAUSE = DeathCause("exit", "its process ended")


def describe_death(cause: DeathCause) -> str:
    """One or more lines on how a process ended."""
    parts = [cause.text]
    if cause.stderr_tail:
        parts.append("last lines of its stderr:")
        parts.extend(f"  {line}" for line in cause.stderr_tail)
    return "\n".join(parts)


def cancelled_failure(task: Task) -> Failure:
    """What a cancelled task's refs raise."""
    return Failure("TaskCancelledError", f"task {task.template.spec.name} was cancelled", subject_id=task.task_id)


def crash_failure(task: Task, worker: LeasedWorker, cause: DeathCause) -> Failure:
    """What the refs of a task raise whose worker died, retries used up."""
    name = task.template.spec.name
    attempts = f" (attempt {task.attempt + 1})" if task.attempt else ""
    if cause.kind == "oom":
        return Failure("OutOfMemoryError", f"task {name}{attempts}: {describe_death(cause)}", subject_id=task.task_id)
    if cause.kind == "node_died":
        return Failure("NodeDiedError", f"task {name}{attempts}: {cause.text}", subject_id=task.task_id)
    text = f"the worker process (pid {worker.pid}) died while running task {name}{attempts}: {describe_death(cause)}"
    return Failure("WorkerCrashedError", text, pid=worker.pid, node_id=worker.node_id, subject_id=task.task_id)


def lost_items_failure(task: Task) -> Failure:
    """How a stream ends of which items were lost on their way, retries used up."""
    text = f"items that task {task.template.spec.name} yielded were lost when the connection to its worker was lost"
    return Failure("ObjectLostError", text, subject_id=task.task_id)


def name_of_actor(actor_id: bytes, info: ActorInfo | None) -> str:
    """How texts call an actor."""
    return f"actor {info.class_name if info is not None else ''}({actor_id.hex()})"


def death_failure(actor_id: bytes, info: ActorInfo | None) -> Failure:
    """What calls to a dead actor raise."""
    cause = (info.death if info is not None else None) or UNKNOWN_CAUSE
    name = name_of_actor(actor_id, info)
    if cause.kind == "init_failed" and cause.failure is not None:
        text = f"{name} died: its constructor raised\n{cause.failure.text}"
    else:
        text = f"{name} is dead: {describe_death(cause)}"
    kind = "ActorUnschedulableError" if cause.kind == "unschedulable" else "ActorDiedError"
    return Failure(kind, text, cause=None, pid=cause.pid, node_id=cause.node_id, subject_id=actor_id)


def unavailable_failure(actor_id: bytes, info: ActorInfo | None, why: str) -> Failure:
    """What calls raise that were in the actor's hands when it, or the connection to it, was lost."""
    text = (
        f"{name_of_actor(actor_id, info)} is unavailable: {why}. "
        "The call may or may not have been executed; max_task_retries would have repeated it."
    )
    return Failure("ActorUnavailableError", text, subject_id=actor_id)
