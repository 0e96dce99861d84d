"""``@remote`` for functions; classes go to ``api.actors``."""

from __future__ import annotations

import inspect
from typing import Any

from actorrt.api.actors import make_actor_class
from actorrt.api.arguments import Shape, pack, shape_of
from actorrt.api.connection import ensure_runtime
from actorrt.api.generators import ObjectRefGenerator, returns_of
from actorrt.api.options import TaskOptions, task_options
from actorrt.api.runtime import Runtime
from actorrt.kernel.context import current_task
from actorrt.owner.tasks import Task, Template
from actorrt.wire import values
from actorrt.wire.records import LeaseSpec, TaskTemplate


class RemoteFunction:
    """A function that runs elsewhere: ``f.remote(...)`` returns a ref at once, ``f.options(...)`` a variant."""

    def __init__(self, function: Any, options: TaskOptions, shape: Shape | None = None) -> None:
        self._function = function
        self._options = options
        self._name = getattr(function, "__qualname__", type(function).__name__)
        self._shape = shape or shape_of(function)
        self._runtime: Runtime | None = None
        self._template: Template | None = None
        for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
            if hasattr(function, attribute):
                setattr(self, attribute, getattr(function, attribute))

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse: a remote function is called with ``.remote()``."""
        raise TypeError(f"remote function {self._name} cannot be called directly: use {self._name}.remote()")

    def options(self, **options: Any) -> RemoteFunction:
        """Return this function with other options (all of ``@remote``'s but ``max_calls``)."""
        merged = task_options(options, self._options, in_options_call=True, function=self._function)
        return RemoteFunction(self._function, merged, self._shape)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submit one task.

        Returns an ``ObjectRef``, a list of them for ``num_returns > 1``, None for ``num_returns=0``, an
        ``ObjectRefGenerator`` for a generator function.

        Raises:
            TypeError: the arguments do not fit the signature or cannot be pickled.
        """
        runtime = ensure_runtime()
        if runtime is not self._runtime:
            self._prepare(runtime)
        self._shape.check(args, kwargs, self._name)
        data, buffers, dependencies, refs, held = pack(args, kwargs, self._name, runtime.put_pickled)
        parent = current_task.get()
        parent_id = b"" if parent is None else parent.task_id
        template = self._template
        assert template is not None
        task = Task(runtime.new_task_id(), template, data, buffers, dependencies, refs, b"", parent_id)
        submitted = runtime.submit(task)
        del held
        return ObjectRefGenerator(task, runtime) if template.spec.is_streaming else submitted

    def _prepare(self, runtime: Runtime) -> None:
        options = self._options
        num_returns, is_streaming = returns_of(options, self._name)
        runtime.check_room()
        key = runtime.exports.export(self._function, self._name)
        environment = runtime.environment_of(options.environment)
        lease_spec = LeaseSpec(
            runtime.job.job_id,
            options.resources,
            options.strategy,
            options.label_selector,
            environment,
            options.name or self._name,
            retriable=options.max_retries != 0,
        )
        retry_exceptions = values.inline(options.retry_exceptions) if options.retry_exceptions else None
        spec = TaskTemplate(
            number=0,
            function_key=key,
            function_name=self._name,
            name=options.name or self._name,
            job_id=runtime.job.job_id,
            num_returns=num_returns,
            resources=options.resources,
            max_retries=options.max_retries,
            retry_exceptions=retry_exceptions,
            environment=environment,
            max_calls=options.max_calls,
            is_streaming=is_streaming,
        )
        self._template = runtime.exports.template(spec, lease_spec)
        self._runtime = runtime

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_runtime"] = state["_template"] = state["_shape"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shape = _LazyShape(self)  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RemoteFunction({self._name})"


class _LazyShape:
    """Shape of an unpickled remote function: its function may not be whole yet while the pickle is being read."""

    def __init__(self, remote_function: RemoteFunction) -> None:
        self._remote_function = remote_function

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> None:
        shape = shape_of(self._remote_function._function)
        self._remote_function._shape = shape
        shape.check(args, kwargs, name)


def remote(*args: Any, **options: Any) -> Any:
    """Make a function or class remote: ``@remote`` bare, or ``@remote(num_cpus=2, ...)`` with options.

    A function becomes a ``RemoteFunction``, a class an ``ActorClass``.

    Raises:
        TypeError: neither a function nor a class was given.
        ValueError: an unknown option, a value out of range, or an ``async def`` function.
    """
    if len(args) == 1 and not options:
        return _make(args[0], {})
    if args:
        raise TypeError("@remote takes keyword options only, for example @remote(num_cpus=2)")
    if not options:
        raise TypeError("@remote() needs at least one option; use it bare: @remote")

    def decorate(thing: Any) -> Any:
        return _make(thing, options)

    return decorate


def _make(thing: Any, options: dict[str, Any]) -> Any:
    if inspect.isclass(thing):
        return make_actor_class(thing, options)
    if inspect.iscoroutinefunction(thing) or inspect.isasyncgenfunction(thing):
        raise ValueError(
            f"{thing.__qualname__} is an `async def`, which cannot be a task: call asyncio.run() in a plain function, "
            "or make it a method of an actor"
        )
    if inspect.isfunction(thing) or inspect.isbuiltin(thing) or type(thing).__name__ == "cython_function_or_method":
        return RemoteFunction(thing, task_options(options, function=thing))
    raise TypeError(f"@remote takes a function or a class, not {type(thing).__name__}")
