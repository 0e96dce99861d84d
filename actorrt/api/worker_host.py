"""One worker: its machine, its owner (runtime) and its executor, put together; for processes and for threads alike."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from actorrt.api.runtime import Runtime
from actorrt.cluster.config import WorkerConfig
from actorrt.gcs.messages import FunctionFound, GetFunction
from actorrt.kernel.clock import MonotonicClock
from actorrt.kernel.context import current_runtime, current_task, set_process_runtime
from actorrt.kernel.message import Address, Envelope, Message
from actorrt.kernel.shell import Shell
from actorrt.owner.state import local
from actorrt.wire.records import ActorSpec, DeathCause, NodeInfo, RefInfo, Result, Stored, TaskTemplate
from actorrt.wire.router import Router
from actorrt.wire.values import Pickled, Whose
from actorrt.worker.executor import Executor
from actorrt.worker.messages import BlockBegan, BlockEnded, Started
from actorrt.worker.state import WorkerMachine

logger = logging.getLogger("actorrt.worker")

VISIBLE_DEVICES_VARIABLES = {"GPU": "CUDA_VISIBLE_DEVICES"}
NO_VISIBLE_DEVICES_VARIABLE = "ACTORRT_NOSET_CUDA_VISIBLE_DEVICES"


class WorkerHost:
    """What the executor needs (``worker.executor.Host``), made of a runtime and a worker shell.

    Args:
        config: who this worker is.
        loop: the I/O loop; the router belongs to it.
        router: already listening.
        is_process: a process of its own (real signals, ends with ``os._exit``), not a thread of a test cluster.
        on_leave: ends the worker (cause, exit code).
        tell_store: the way to the object manager, when it is in this process; else by the router.
    """

    def __init__(
        self,
        config: WorkerConfig,
        loop: asyncio.AbstractEventLoop,
        router: Router,
        *,
        is_process: bool,
        on_leave: Callable[[DeathCause, int], None],
        tell_store: Callable[[Message], None] | None = None,
    ) -> None:
        self.config = config
        self.loop = loop
        self.router = router
        self.is_process = is_process
        self.pid = os.getpid()
        self.node_id = config.node_id
        self._on_leave = on_leave
        node = NodeInfo(
            node_id=config.node_id,
            raylet=config.raylet,
            hostname=config.node_host,
            address=config.node_host,
            name=config.node_name,
            labels=config.node_labels,
        )
        self.runtime = Runtime(
            router=router,
            loop=loop,
            raylet=config.raylet,
            gcs=config.gcs,
            job=config.job,
            node=node,
            worker_id=config.worker_id,
            is_driver=False,
            session_dir=config.session_dir,
            tell_store=tell_store,
        )
        self.executor = Executor(self, is_process=is_process)
        self.machine = WorkerMachine(config.worker_id, Address(router.process, "worker"), config.raylet, self.pid)
        self.shell = Shell(
            "worker",
            self.machine,
            clock=MonotonicClock(),
            loop=loop,
            outbox=router,
            perform=self.executor.perform,
            on_failure=self._failed,
        )
        self.runtime.on_block(self._block_began, self._block_ended)
        router.attach("worker", self.shell.post)

    def report(self) -> None:
        """Tell the raylet that this worker is ready for work."""
        self.shell.post(local(Started()))

    def _failed(self, error: BaseException) -> None:
        self.leave(DeathCause("exit", f"the worker itself failed: {error!r}", pid=self.pid, exit_code=1), 1)

    def _block_began(self) -> None:
        self.shell.post(local(BlockBegan()))

    def _block_ended(self) -> None:
        self.shell.post(local(BlockEnded()))

    # ------------------------------------------------------------------ worker.executor.Host
    def post(self, envelope: Envelope) -> None:
        """See ``Host``."""
        self.shell.post(envelope)

    def load_function(self, template: TaskTemplate) -> Any:
        """See ``Host``."""
        return self._load(template.function_key, template.function_name)

    def load_class(self, spec: ActorSpec) -> Any:
        """See ``Host``."""
        self.runtime.actor = spec
        self.runtime.actor_incarnation = self.machine.incarnation
        return self._load(spec.class_key, spec.class_name)

    def _load(self, key: bytes, name: str) -> Any:
        found: FunctionFound = self.runtime.ask(self.config.gcs, GetFunction(self.config.job.job_id, key))
        try:
            loaded = pickle.loads(found.pickled)
        except Exception as error:
            error.add_note(f"(while loading {name} in the worker)")
            raise
        if self.is_process:
            try:
                loaded.__actorrt_key__ = key  # so that work it submits under its own name needs no new export
            except (AttributeError, TypeError):
                logger.debug("%s takes no attributes; it is exported again when it is used here", name)
        return loaded

    def lend(self, refs: tuple[RefInfo, ...], borrower: str) -> None:
        """See ``Host``."""
        self.runtime.lend(refs, borrower)

    def still_held(self, refs: tuple[RefInfo, ...]) -> tuple[RefInfo, ...]:
        """See ``Host``."""
        return self.runtime.still_held(refs)

    def keep(self, pickled: Pickled, whose: Whose) -> Stored | None:
        """See ``Host``."""
        return self.runtime.shelf.keep(pickled, whose)

    def load(self, results: Sequence[Result]) -> list[Any]:
        """See ``Host``."""
        return self.runtime.loader.load_all(results, for_arguments=True)

    async def load_async(self, results: Sequence[Result]) -> list[Any]:
        """See ``Host``."""
        return await self.runtime.loader.load_all_async(results)

    def use_accelerators(self, ids: dict[str, tuple[str, ...]]) -> None:
        """See ``Host``. Threads of a test cluster share one environment: they only know their ids."""
        self.runtime.accelerator_ids = ids
        if self.is_process and os.environ.get(NO_VISIBLE_DEVICES_VARIABLE, "0") != "1":
            for resource, variable in VISIBLE_DEVICES_VARIABLES.items():
                if resource in ids:
                    os.environ[variable] = ",".join(ids[resource])

    def cancel_children(self, task_id: bytes) -> None:
        """See ``Host``."""
        self.runtime.cancel_children(task_id)

    def call_soon(self, callback: Callable[[], None], delay_s: float) -> None:
        """See ``Host``."""
        try:
            self.loop.call_soon_threadsafe(self.loop.call_later, delay_s, callback)
        except RuntimeError:
            logger.debug("the loop is closed: the worker ends")

    def enter(self) -> None:
        """See ``Host``."""
        if not self.is_process:
            current_runtime.set(self.runtime)

    def leave(self, cause: DeathCause, exit_code: int) -> None:
        """See ``Host``."""
        self._on_leave(cause, exit_code)

    def current_name(self) -> str:
        """Who prints at the moment (for the log prefix)."""
        actor = self.runtime.actor
        if actor is not None:
            return str(actor.class_name)
        task = current_task.get()
        return task.name if task is not None else ""


def install_process_runtime(host: WorkerHost) -> None:
    """Make the worker's runtime the default of its process."""
    set_process_runtime(host.runtime)
