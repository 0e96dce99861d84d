"""Actors: classes whose instances live in a worker of their own; handles call their methods."""

from __future__ import annotations

import inspect
import pickle
from typing import Any, NoReturn

import msgspec

from actorrt.api.arguments import Shape, pack, shape_of
from actorrt.api.connection import ensure_runtime
from actorrt.api.generators import ObjectRefGenerator, returns_of
from actorrt.api.ids import ActorID
from actorrt.api.options import ActorOptions, MethodOptions, actor_options, method_options
from actorrt.api.refs import ObjectRef
from actorrt.api.runtime import Runtime
from actorrt.gcs.messages import ActorRegistered, CreateActor
from actorrt.kernel.context import current_task, find_runtime
from actorrt.kernel.errors import ActorrtError, PendingCallsLimitExceeded
from actorrt.owner.objects import ACTOR_HANDLE_SUFFIX
from actorrt.owner.requests import StartActor
from actorrt.owner.state import local
from actorrt.owner.tasks import Task, Template
from actorrt.wire import values
from actorrt.wire.records import ActorSpec, TaskTemplate, Value
from actorrt.worker.executor import ActorExit

RUNTIME_METHODS = ("__ray_ready__", "__ray_call__", "__ray_terminate__")


class ActorClassInheritanceError(TypeError, ActorrtError):
    """A class was derived from an actor class; derive from the plain class and decorate the result."""


class MethodInfo(msgspec.Struct, frozen=True):
    """What a handle must know of one method."""

    parameters: tuple[tuple[str, int, bool], ...] | None
    """(name, kind, has a default) of each parameter without self; None: anything goes."""
    options: dict[str, Any] = {}
    """``@method`` options as given."""
    is_generator: bool = False


class ActorMeta(msgspec.Struct, frozen=True):
    """Everything a handle must know of its actor; it travels (pickled by value) and sits in the directory."""

    class_name: str
    class_key: bytes
    methods: dict[str, MethodInfo]
    resources: dict[str, int]
    max_task_retries: int
    max_pending_calls: int


def method(**options: Any) -> Any:
    """Set options of one actor method: num_returns, concurrency_group, max_task_retries, retry_exceptions, ...

    Raises:
        ValueError: an unknown option, or a value out of range.
    """
    if not options:
        raise ValueError("@method needs at least one option")
    method_options(options)

    def decorate(function: Any) -> Any:
        function.__actorrt_method_options__ = options
        return function

    return decorate


def exit_actor() -> NoReturn:
    """End the current actor by intent: this call, and all later ones, raise ``ActorDiedError`` at their callers.

    Raises:
        TypeError: called outside an actor.
    """
    runtime = find_runtime()
    if runtime is None or runtime.actor is None or current_task.get() is None:
        raise TypeError("exit_actor() is for the inside of an actor's method")
    raise ActorExit(0)


class ActorMethod:
    """``handle.method``: call it with ``.remote(...)``."""

    __slots__ = ("_handle", "_name", "_options")

    def __init__(self, handle: ActorHandle, name: str, options: MethodOptions | None = None) -> None:
        self._handle = handle
        self._name = name
        self._options = options

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: methods of actors are called with ``.remote()``."""
        raise TypeError(f"actor method {self._name} cannot be called directly: use .{self._name}.remote()")

    def options(self, **options: Any) -> ActorMethod:
        """Return this method with other options for the call."""
        base = self._options or self._handle._method_options(self._name)
        return ActorMethod(self._handle, self._name, method_options(options, base))

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submit one call. Calls of one process to one actor run in submission order (unless the actor is concurrent).

        Returns an ``ObjectRef``, a list of them for ``num_returns > 1``, None for ``num_returns=0``.
        """
        handle = self._handle
        runtime = find_runtime() or ensure_runtime()
        if handle._runtime is not runtime:
            handle._templates = {}
            handle._runtime = runtime
        known = handle._templates.get(self._name) if self._options is None else None
        if known is None:
            known = handle._prepare(runtime, self._name, self._options)
        template, shape = known
        shape.check(args, kwargs, template.spec.function_name)
        if handle._meta.max_pending_calls >= 0:
            handle._check_pending(runtime)
        name = template.spec.function_name
        data, buffers, dependencies, refs, held = pack(args, kwargs, name, runtime.put_pickled)
        parent = current_task.get()
        parent_id = b"" if parent is None else parent.task_id
        actor_id = handle._actor_id
        task = Task(runtime.new_task_id(), template, data, buffers, dependencies, refs, actor_id, parent_id)
        submitted = runtime.submit(task)
        del held
        return ObjectRefGenerator(task, runtime) if template.spec.is_streaming else submitted

    def __repr__(self) -> str:
        return f"ActorMethod({self._handle._meta.class_name}.{self._name})"


class ActorHandle:
    """A handle of an actor: picklable, comparable; its attributes are the actor's methods.

    The handle made by ``.remote()`` and its copies keep the actor alive; one from ``get_actor`` does not.
    """

    def __init__(self, actor_id: bytes, meta: ActorMeta, ref: ObjectRef[Any] | None) -> None:
        self._actor_id = actor_id
        self._meta = meta
        self._ref = ref
        self._runtime: Runtime | None = None
        self._templates: dict[str, tuple[Template, Shape]] = {}
        self._submitted_count = 0

    @property
    def _ray_actor_id(self) -> Any:
        return ActorID(self._actor_id)

    _actorrt_actor_id = _ray_actor_id

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("_") and name not in RUNTIME_METHODS and name not in self.__dict__["_meta"].methods:
            raise AttributeError(name)
        meta = self._meta
        if name not in meta.methods and name not in RUNTIME_METHODS:
            raise AttributeError(f"{meta.class_name} has no method {name!r}; it has {sorted(meta.methods)}")
        return ActorMethod(self, name)

    def __dir__(self) -> list[str]:
        return sorted(self._meta.methods)

    def _method_options(self, name: str) -> MethodOptions:
        info = self._meta.methods.get(name)
        if info is None:
            return method_options({})
        options = method_options(info.options)
        if info.is_generator and "num_returns" not in info.options:
            return msgspec.structs.replace(options, num_returns="streaming")
        return options

    def _prepare(self, runtime: Runtime, name: str, options: MethodOptions | None) -> tuple[Template, Shape]:
        meta = self._meta
        chosen = options or self._method_options(name)
        num_returns, is_streaming = returns_of(chosen, f"{meta.class_name}.{name}")
        function_name = f"{meta.class_name}.{name}"
        retries = meta.max_task_retries if chosen.max_task_retries is None else chosen.max_task_retries
        spec = TaskTemplate(
            number=0,
            function_key=meta.class_key,
            function_name=function_name,
            name=chosen.name or function_name,
            job_id=runtime.job.job_id,
            num_returns=num_returns,
            is_streaming=is_streaming,
            resources=meta.resources,
            max_retries=retries,
            method_name=name,
            concurrency_group=chosen.concurrency_group,
            retry_exceptions=values.inline(chosen.retry_exceptions) if chosen.retry_exceptions else None,
        )
        info = meta.methods.get(name)
        prepared = (runtime.exports.template(spec, None), _shape_from(info))
        if options is None:
            self._templates[name] = prepared
        return prepared

    def _check_pending(self, runtime: Runtime) -> None:
        client = runtime.actor_clients.get(self._actor_id)
        finished = client.finished_count if client is not None else 0
        limit = self._meta.max_pending_calls
        pending = self._submitted_count - finished
        if pending >= limit > 0:
            raise PendingCallsLimitExceeded(
                f"{pending} calls to {self._meta.class_name}({self._actor_id.hex()}) are unfinished; "
                f"max_pending_calls={limit}"
            )
        self._submitted_count += 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._actor_id == other._actor_id

    def __hash__(self) -> int:
        return hash(self._actor_id)

    def __reduce__(self) -> Any:
        return _rebuild_handle, (self._actor_id, pickle_meta(self._meta), self._ref)

    def __repr__(self) -> str:
        return f"Actor({self._meta.class_name}, {self._actor_id.hex()})"


def pickle_meta(meta: ActorMeta) -> bytes:
    """By value: ``@method(retry_exceptions=[...])`` may name classes of the user's script."""
    import cloudpickle

    return cloudpickle.dumps(meta, 5)  # type: ignore[no-any-return]


def _rebuild_handle(actor_id: bytes, meta: bytes, ref: ObjectRef[Any] | None) -> ActorHandle:
    return ActorHandle(actor_id, pickle.loads(meta), ref)


def handle_from(actor_id: bytes, handle_data: bytes) -> ActorHandle:
    """A handle made from the directory's record (it does not keep the actor alive)."""
    return ActorHandle(actor_id, pickle.loads(handle_data), None)


class _PreparedClass(msgspec.Struct, frozen=True):
    """An actor class ready to be created in one runtime; ``spec`` lacks id and arguments."""

    runtime: Any
    spec: ActorSpec
    meta: ActorMeta


class ActorClass:
    """A class whose instances are actors: ``C.remote(...)`` creates one and returns its handle at once."""

    def __init__(self, cls: type, options: ActorOptions) -> None:
        self._class = cls
        self._options = options
        self._prepared: _PreparedClass | None = None
        self._name = cls.__qualname__
        constructor = getattr(cls, "__init__")  # noqa: B009 - mypy thinks of instances when it is spelled out
        self._shape = shape_of(_no_arguments if constructor is object.__init__ else constructor, skip_self=True)
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: actors are created with ``.remote()``."""
        raise TypeError(f"actor class {self._name} cannot be instantiated directly: use {self._name}.remote()")

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> NoReturn:
        raise ActorClassInheritanceError(
            f"a class cannot derive from the actor class {self._name}: derive from the plain class and decorate the "
            f"result"
        )

    def options(self, **options: Any) -> ActorClass:
        """Return this class with other options."""
        return ActorClass(self._class, actor_options(options, self._options, in_options_call=True))

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Create an actor. Returns at once; its constructor runs when a node has room.

        Raises:
            TypeError: the arguments do not fit ``__init__`` or cannot be pickled.
            ActorAlreadyExistsError: an actor of this name lives (and ``get_if_exists`` is not set).
        """
        runtime = ensure_runtime()
        self._shape.check(args, kwargs, self._name)
        options = self._options
        prepared = self._prepared
        if prepared is None or prepared.runtime is not runtime:
            prepared = self._prepared = self._prepare(runtime)
        # Inline, however large: the actor may be made again when its creator is gone.
        data, buffers, dependencies, refs, _ = pack(args, kwargs, self._name)
        spec = msgspec.structs.replace(
            prepared.spec,
            actor_id=runtime.new_task_id(),
            arguments=Value(data, buffers, refs),
        )
        if options.name:
            answer: ActorRegistered = runtime.ask(runtime.gcs, CreateActor(spec, options.get_if_exists, ready=False))
            if not answer.created:
                return handle_from(answer.info.actor_id, answer.info.handle_data)
        runtime.flush()
        runtime.shell.post(local(StartActor(spec, dependencies, refs)))
        handle_ref: ObjectRef[Any] | None = ObjectRef(spec.actor_id + ACTOR_HANDLE_SUFFIX, runtime.me.process, runtime)
        if options.detached:
            runtime.keep(handle_ref)  # a detached actor never goes out of scope
            handle_ref = None
        return ActorHandle(spec.actor_id, prepared.meta, handle_ref)

    def _prepare(self, runtime: Runtime) -> _PreparedClass:
        """What all actors made from this class and these options share."""
        options = self._options
        methods = _methods_of(self._class)
        is_async = any(_is_async(getattr(self._class, name, None)) for name in methods)
        concurrency, out_of_order = options.concurrency(is_async=is_async)
        key = runtime.exports.export(self._class, self._name)
        meta = ActorMeta(
            class_name=self._name,
            class_key=key,
            methods=methods,
            resources=options.resources,
            max_task_retries=options.max_task_retries,
            max_pending_calls=options.max_pending_calls,
        )
        spec = ActorSpec(
            actor_id=b"",
            job_id=runtime.job.job_id,
            owner=runtime.me,
            class_key=key,
            class_name=self._name,
            arguments=values.NONE_VALUE,
            name=options.name,
            namespace=options.namespace or runtime.job.namespace,
            detached=options.detached,
            max_restarts=options.max_restarts,
            max_task_retries=options.max_task_retries,
            max_concurrency=concurrency,
            concurrency_groups=options.concurrency_groups,
            is_async=is_async,
            out_of_order=out_of_order,
            resources=options.resources,
            placement_resources=options.placement_resources,
            strategy=options.strategy,
            label_selector=options.label_selector,
            environment=runtime.environment_of(options.environment),
            handle_data=pickle_meta(meta),
        )
        return _PreparedClass(runtime, spec, meta)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_prepared"] = None
        return state

    def __repr__(self) -> str:
        return f"ActorClass({self._name})"


def make_actor_class(cls: type, options: dict[str, Any]) -> ActorClass:
    """Used by ``@remote``."""
    return ActorClass(cls, actor_options(options))


def _no_arguments(self: Any) -> None:
    """Signature of a class without ``__init__``."""


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _methods_of(cls: type) -> dict[str, MethodInfo]:
    methods: dict[str, MethodInfo] = {}
    for name, function in inspect.getmembers(cls, callable):
        if (name.startswith("__") and name != "__call__") or isinstance(function, type):
            continue
        if getattr(object, name, None) is function or (name == "__call__" and "__call__" not in dir(cls)):
            continue
        is_static = isinstance(inspect.getattr_static(cls, name), (staticmethod, classmethod))
        methods[name] = MethodInfo(
            _parameters_of(function, is_static=is_static),
            dict(getattr(function, "__actorrt_method_options__", {})),
            inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function),
        )
    return methods


def _parameters_of(function: Any, *, is_static: bool) -> tuple[tuple[str, int, bool], ...] | None:
    shape = shape_of(function, skip_self=not is_static)
    if shape.signature is None:
        return None
    return tuple((p.name, int(p.kind), p.default is not p.empty) for p in shape.signature.parameters.values())


def _shape_from(info: MethodInfo | None) -> Shape:
    if info is None or info.parameters is None:
        return Shape(None)
    kinds = {
        int(kind): kind
        for kind in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.KEYWORD_ONLY,
            inspect.Parameter.VAR_KEYWORD,
        )
    }
    parameters = [
        inspect.Parameter(name, kinds[kind], default=... if has_default else inspect.Parameter.empty)
        for name, kind, has_default in info.parameters
    ]
    return Shape(inspect.Signature(parameters))
