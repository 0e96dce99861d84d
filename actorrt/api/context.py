"""``get_runtime_context()``: who and where am I?"""

from __future__ import annotations

import json
from typing import Any

from actorrt.api.actors import handle_from
from actorrt.api.cluster_info import nodes
from actorrt.api.connection import ensure_runtime
from actorrt.api.runtime import Runtime
from actorrt.kernel.context import current_task

FIXED_POINT = 10_000


class RuntimeContext:
    """Facts about the job, node, worker, task and actor that the calling code belongs to. Ids are hex strings."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def get_job_id(self) -> str:
        """Return the job's id."""
        return self._runtime.job.job_id.hex()

    def get_node_id(self) -> str:
        """Return the id of the node this process is on."""
        return self._runtime.node.node_id.hex()

    def get_worker_id(self) -> str:
        """Return the id of this worker (or driver)."""
        return self._runtime.worker_id.hex()

    def get_task_id(self) -> str | None:
        """Return the id of the running task or actor call; None in a driver."""
        task = current_task.get()
        return task.task_id.hex() if task is not None else None

    def get_task_name(self) -> str | None:
        """Return its display name."""
        task = current_task.get()
        return task.name if task is not None else None

    def get_task_function_name(self) -> str | None:
        """Return the name of its function."""
        task = current_task.get()
        return task.function_name if task is not None else None

    def get_actor_id(self) -> str | None:
        """Return the id of the actor this code runs in; None outside."""
        actor = self._runtime.actor
        return actor.actor_id.hex() if actor is not None else None

    def get_actor_name(self) -> str | None:
        """Return its name ("" if it has none); None outside an actor."""
        actor = self._runtime.actor
        return actor.name if actor is not None else None

    def get_placement_group_id(self) -> str | None:
        """Return None: placement groups come later."""
        return None

    def get_assigned_resources(self) -> dict[str, float]:
        """Return what the running task, or the actor, holds."""
        actor = self._runtime.actor
        task = current_task.get()
        held = actor.resources if actor is not None else (task.resources if task is not None else {})
        return {name: amount / FIXED_POINT for name, amount in held.items() if amount}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return ids of the accelerators assigned, by resource name."""
        return {"GPU": [], **{name: list(ids) for name, ids in self._runtime.accelerator_ids.items()}}

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of this node."""
        labels = self._runtime.node.labels
        if labels:
            return dict(labels)
        for row in nodes():
            if row["NodeID"] == self.get_node_id():
                return dict(row["Labels"])
        return {}

    def get_runtime_env_string(self) -> str:
        """Return the runtime environment as JSON."""
        return self._runtime.job.environment.serialized or "{}"

    def get_temp_dir(self) -> str:
        """Return the session's folder."""
        return self._runtime.session_dir

    def get_session_name(self) -> str:
        """Return the name of the session."""
        return self._runtime.session_dir.rstrip("/").rpartition("/")[2]

    def is_canceled(self) -> bool:
        """Return whether ``cancel`` was called on the running task.

        Raises:
            RuntimeError: in a driver or an async actor (there, CancelledError is raised instead).
        """
        task = current_task.get()
        if task is None or task.is_async:
            raise RuntimeError("is_canceled() is for the inside of tasks and of methods of non-async actors")
        return task.cancelled

    @property
    def namespace(self) -> str:
        """The job's namespace."""
        return self._runtime.job.namespace

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor was restarted at least once."""
        return self._runtime.actor is not None and self._runtime.actor_incarnation > 1

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """False: placement groups come later."""
        return False

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The job's runtime environment."""
        loaded: dict[str, Any] = json.loads(self.get_runtime_env_string())
        return loaded

    @property
    def current_actor(self) -> Any:
        """A handle of the actor this code runs in.

        Raises:
            RuntimeError: outside an actor.
        """
        actor = self._runtime.actor
        if actor is None:
            raise RuntimeError("current_actor is for the inside of an actor")
        return handle_from(actor.actor_id, actor.handle_data)

    @property
    def gcs_address(self) -> str:
        """Process address of the head."""
        return self._runtime.gcs.process

    def get(self) -> dict[str, Any]:
        """Return some of it as a dict (deprecated in Ray)."""
        return {"job_id": self.get_job_id(), "node_id": self.get_node_id(), "namespace": self.namespace}

    def __repr__(self) -> str:
        return f"RuntimeContext(job={self.get_job_id()}, node={self.get_node_id()}, task={self.get_task_id()})"


def get_runtime_context() -> RuntimeContext:
    """Facts about where this code runs (connects to a cluster first if need be)."""
    return RuntimeContext(ensure_runtime())


def get_gpu_ids() -> list[str]:
    """Ids of the GPUs assigned to the running task or actor."""
    return get_runtime_context().get_accelerator_ids()["GPU"]
