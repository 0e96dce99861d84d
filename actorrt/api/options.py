"""Options of tasks, actors and methods: from what users write to checked, frozen records.

Parsing happens once per decorator and once per ``.options()`` call; since the latter may stand in front of every
``.remote()``, the records of recent calls are kept (``_Recent``).

Each record keeps what was given in ``explicit``: ``.options()`` lays its own over it and reads the sum again, because
defaults depend on each other (an actor that names any resource holds a CPU, one that names none does not).

Errors are raised where the option is given: TypeError for a value of a wrong type, ValueError for an impossible value
and for an unknown option, NotImplementedError for a runtime_env field that Ray has and we do not have yet.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from actorrt.api.environments import parse_environment
from actorrt.api.option_values import (
    ONE_CPU,
    RetryExceptions,
    read_actor_resources,
    read_backpressure,
    read_concurrency_groups,
    read_count,
    read_flag,
    read_lifetime,
    read_num_returns,
    read_pending_calls,
    read_resources,
    read_retry_exceptions,
    read_strategy,
    read_text,
)
from actorrt.scheduling import labels, resources
from actorrt.wire.records import Environment, Strategy

MAX_RETRIES_DEFAULT: Final = 3
ASYNC_CONCURRENCY_DEFAULT: Final = 1000
"""Calls of an async actor that run at once; 1 for any other."""
RECENT_RECORDS_MAX: Final = 1024

Selector: TypeAlias = labels.Selector

_GENERATOR_FLAGS = 0x20 | 0x200  # inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


# ------------------------------------------------------------------------------------------------------------- records
class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a remote function is run. Resources are fixed-point (1/10000; memory in 1/10000 bytes), without zeros."""

    resources: dict[str, int] = msgspec.field(default_factory=ONE_CPU.copy)
    num_returns: int | str = 1
    """A number of refs, or ``"streaming"`` or ``"dynamic"``."""
    max_retries: int = MAX_RETRIES_DEFAULT
    """Repetitions after a crash of worker or node; -1: without limit."""
    retry_exceptions: RetryExceptions = False
    """Which exceptions of the function also use a retry: none, all, or these."""
    max_calls: int = 0
    """The worker process ends after this many calls; 0: never."""
    name: str = ""
    strategy: Strategy = Strategy()
    label_selector: Selector = ()
    environment: Environment = Environment()
    generator_backpressure: int = -1
    """Yielded and not yet consumed values that pause a generator; -1: never paused."""
    enable_task_events: bool = True
    explicit: dict[str, Any] = {}
    """The options as they were given."""


class ActorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How an actor is made and run. Resources are fixed-point (1/10000; memory in 1/10000 bytes), without zeros."""

    resources: dict[str, int] = {}
    """Held for the actor's life."""
    placement_resources: dict[str, int] = msgspec.field(default_factory=ONE_CPU.copy)
    """Needed on the node where it is placed."""
    name: str = ""
    namespace: str = ""
    """Empty: that of the job."""
    detached: bool = False
    """It outlives its job."""
    get_if_exists: bool = False
    max_restarts: int = 0
    """-1: without limit."""
    max_task_retries: int = 0
    """Repetitions of a call that a crash of the actor cut short; -1: as long as it is restarted."""
    max_pending_calls: int = -1
    """Unfinished calls of one handle beyond which ``.remote()`` raises; -1: without limit."""
    max_concurrency: int | None = None
    """None: see ``concurrency``."""
    concurrency_groups: tuple[tuple[str, int], ...] = ()
    """Name and greatest number of concurrent calls."""
    allow_out_of_order_execution: bool | None = None
    """None: see ``concurrency``."""
    strategy: Strategy = Strategy()
    label_selector: Selector = ()
    environment: Environment = Environment()
    generator_backpressure: int = -1
    """For all its generators together; see ``TaskOptions``."""
    enable_task_events: bool = True
    explicit: dict[str, Any] = {}
    """The options as they were given."""

    def concurrency(self, *, is_async: bool) -> tuple[int, bool]:
        """Return the greatest number of concurrent calls, and whether calls may overtake each other.

        Without ``max_concurrency`` it is 1, or 1000 for an async actor. Overtaking goes with any concurrency, that of
        ``concurrency_groups`` included.

        Raises ValueError when order is asked of an actor that cannot keep it.
        """
        most = self.max_concurrency or (ASYNC_CONCURRENCY_DEFAULT if is_async else 1)
        out_of_order = is_async or most > 1 or bool(self.concurrency_groups)
        if out_of_order and self.allow_out_of_order_execution is False:
            why = "async methods" if is_async else f"max_concurrency={most}" if most > 1 else "concurrency_groups"
            raise ValueError(
                f"allow_out_of_order_execution=False is impossible for an actor with {why}; "
                "leave the option away or set it to True"
            )
        return most, out_of_order or bool(self.allow_out_of_order_execution)


class MethodOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How calls of one method are run, from ``@method`` and from ``handle.method.options()``."""

    num_returns: int | str = 1
    """A number of refs, or ``"streaming"`` or ``"dynamic"``."""
    name: str = ""
    max_task_retries: int | None = None
    """None: the actor's."""
    retry_exceptions: RetryExceptions = False
    concurrency_group: str = ""
    """Empty: the default group."""
    generator_backpressure: int = -1
    enable_task_events: bool = True
    explicit: dict[str, Any] = {}
    """The options as they were given."""


Options = TypeVar("Options", TaskOptions, ActorOptions, MethodOptions)


class _Recent(Generic[Options]):
    """Records of recent ``.options()`` calls; at most ``RECENT_RECORDS_MAX``, then it starts anew."""

    def __init__(self) -> None:
        self._records: dict[Any, tuple[Options | None, Options]] = {}

    @staticmethod
    def key(given: Mapping[str, Any], base: Options | None, *more: object) -> Any:
        """Hashable exactly when all values are. Types matter: True and 1 are equal, but not both an option's value."""
        return (id(base), *more, *given, *given.values(), *map(type, given.values()))

    def find(self, key: Any, base: Options | None) -> Options | None:
        found = self._records.get(key)
        # The entry keeps its base alive, so an equal id means the same object; the comparison is a seat belt.
        return found[1] if found is not None and found[0] is base else None

    def keep(self, key: Any, base: Options | None, record: Options) -> Options:
        if len(self._records) >= RECENT_RECORDS_MAX:
            self._records.clear()
        self._records[key] = (base, record)
        return record


_recent_tasks: _Recent[TaskOptions] = _Recent()
_recent_actors: _Recent[ActorOptions] = _Recent()
_recent_methods: _Recent[MethodOptions] = _Recent()


# ----------------------------------------------------------------------------------------------------------- functions
def task_options(
    given: Mapping[str, Any],
    base: TaskOptions | None = None,
    *,
    in_options_call: bool = False,
    function: Callable[..., Any] | None = None,
) -> TaskOptions:
    """Check the options of a remote function.

    ``base`` holds those of the decorator, over which ``given`` is laid. ``function`` is the user's, if known: a
    generator function streams unless told otherwise, and only a generator function can.

    Raises TypeError, ValueError or NotImplementedError, see the module.
    """
    if base is not None and not given and function is None:
        return base
    generator = None if function is None else is_generator_function(function)
    try:
        key = _recent_tasks.key(given, base, in_options_call, generator)
        found = _recent_tasks.find(key, base)
    except TypeError:  # a dict among the values
        return _read_task(given, base, generator, in_options_call=in_options_call)
    if found is not None:
        return found
    record = _read_task(given, base, generator, in_options_call=in_options_call)
    return _recent_tasks.keep(key, base, record)


def actor_options(
    given: Mapping[str, Any], base: ActorOptions | None = None, *, in_options_call: bool = False
) -> ActorOptions:
    """Check the options of an actor class; ``base`` holds those of the decorator, over which ``given`` is laid.

    Raises TypeError, ValueError or NotImplementedError, see the module.
    """
    if base is not None and not given:
        return base
    try:
        key = _recent_actors.key(given, base, in_options_call)
        found = _recent_actors.find(key, base)
    except TypeError:  # a dict among the values
        return _read_actor(given, base, in_options_call=in_options_call)
    if found is not None:
        return found
    return _recent_actors.keep(key, base, _read_actor(given, base, in_options_call=in_options_call))


def method_options(
    given: Mapping[str, Any], base: MethodOptions | None = None, *, function: Callable[..., Any] | None = None
) -> MethodOptions:
    """Check the options of ``@method``, or of ``handle.method.options()`` with those of ``@method`` as ``base``.

    ``function`` as in ``task_options``. Raises TypeError, ValueError or NotImplementedError, see the module.
    """
    if base is not None and not given and function is None:
        return base
    generator = None if function is None else is_generator_function(function)
    try:
        key = _recent_methods.key(given, base, generator)
        found = _recent_methods.find(key, base)
    except TypeError:  # a value without hash
        return _read_method(given, base, generator)
    if found is not None:
        return found
    return _recent_methods.keep(key, base, _read_method(given, base, generator))


def is_generator_function(function: Callable[..., Any]) -> bool:
    """Whether calling it makes a generator or an async generator; looks through ``functools.partial`` and methods."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    code = getattr(getattr(inner, "__func__", inner), "__code__", None)
    return code is not None and bool(code.co_flags & _GENERATOR_FLAGS)


# ------------------------------------------------------------------------------------------------------------- reading
_COMMON = (
    "accelerator_type",
    "enable_task_events",
    "fallback_strategy",
    "label_selector",
    "memory",
    "name",
    "num_cpus",
    "num_gpus",
    "placement_group",
    "placement_group_bundle_index",
    "placement_group_capture_child_tasks",
    "resources",
    "runtime_env",
    "scheduling_strategy",
    "_labels",
)
_GENERATOR = ("_generator_backpressure_num_objects", "_num_objects_per_yield")
TASK_OPTIONS: Final = frozenset(
    {*_COMMON, *_GENERATOR, "max_calls", "max_retries", "num_returns", "retry_exceptions"},
)
ACTOR_OPTIONS: Final = frozenset(
    {
        *_COMMON,
        "_actor_generator_backpressure_num_objects",
        "allow_out_of_order_execution",
        "concurrency_groups",
        "enable_tensor_transport",
        "get_if_exists",
        "lifetime",
        "max_concurrency",
        "max_pending_calls",
        "max_restarts",
        "max_task_retries",
        "namespace",
        "object_store_memory",
    }
)
METHOD_OPTIONS: Final = frozenset(
    {
        *_GENERATOR,
        "_labels",
        "concurrency_group",
        "enable_task_events",
        "max_task_retries",
        "name",
        "num_returns",
        "retry_exceptions",
        "tensor_transport",
    }
)
_DECORATOR_ONLY = ("max_calls", "concurrency_groups")
# Known, without effect as long as they have one of these values, and refused with any other.
_NOT_YET: dict[str, tuple[object, ...]] = {
    "fallback_strategy": (None, []),
    "placement_group": (None, "default"),
    "placement_group_bundle_index": (None, -1),
    "placement_group_capture_child_tasks": (None,),
    "_labels": (None, {}),
    "_num_objects_per_yield": (None, 1),
    "enable_tensor_transport": (None, False),
    "tensor_transport": (None,),
}


def _merge(
    given: Mapping[str, Any], base: Mapping[str, Any], kind: str, allowed: frozenset[str], *, in_options_call: bool
) -> dict[str, Any]:
    """Return all options in force; refuse names that are no options here."""
    for name, value in given.items():
        if name not in allowed:
            raise ValueError(_unknown(name, kind, allowed))
        if in_options_call and name in _DECORATOR_ONLY:
            raise ValueError(f"{name} cannot be changed by .options(); give it to the @remote decorator")
        harmless = _NOT_YET.get(name)
        if harmless is not None and value not in harmless:
            raise ValueError(f"{name}={value!r} is not supported yet; leave it away")
    return {**base, **given}


def _unknown(name: object, kind: str, allowed: frozenset[str]) -> str:
    owners = {"a task": TASK_OPTIONS, "an actor": ACTOR_OPTIONS, "a method": METHOD_OPTIONS}
    elsewhere = [owner for owner, names in owners.items() if name in names]
    hint = f" (it is one of {' and '.join(elsewhere)})" if elsewhere else ""
    public = ", ".join(sorted(option for option in allowed if not option.startswith("_")))
    return f"{name!r} is no option of {kind}{hint}; allowed are: {public}"


def _read_task(
    given: Mapping[str, Any], base: TaskOptions | None, generator: bool | None, *, in_options_call: bool
) -> TaskOptions:
    if given.get("object_store_memory") is not None:
        raise ValueError("object_store_memory is no option of a task; use memory= for admission by memory")
    before = base.explicit if base is not None else {}
    options = _merge(given, before, "a task", TASK_OPTIONS, in_options_call=in_options_call)
    inherited = base.num_returns if base is not None else 1
    demand = read_resources(options)
    if options.get("num_cpus") is None:
        demand["CPU"] = resources.UNIT
    return TaskOptions(
        resources=demand,
        num_returns=read_num_returns(options.get("num_returns"), generator, inherited),
        max_retries=read_count(options, "max_retries", MAX_RETRIES_DEFAULT, least=-1),
        retry_exceptions=read_retry_exceptions(options.get("retry_exceptions")),
        max_calls=read_count(options, "max_calls", 0, least=0),
        name=read_text(options, "name"),
        strategy=read_strategy(options.get("scheduling_strategy")),
        label_selector=labels.parse_selector(options.get("label_selector")),
        environment=parse_environment(options.get("runtime_env")),
        generator_backpressure=read_backpressure(options, "_generator_backpressure_num_objects"),
        enable_task_events=read_flag(options, "enable_task_events", default=True),
        explicit=options,
    )


def _read_actor(given: Mapping[str, Any], base: ActorOptions | None, *, in_options_call: bool) -> ActorOptions:
    before = base.explicit if base is not None else {}
    options = _merge(given, before, "an actor", ACTOR_OPTIONS, in_options_call=in_options_call)
    if options.get("object_store_memory") is not None:
        read_count(options, "object_store_memory", 0, least=0, most=resources.QUANTITY_MAX)
        warnings.warn("object_store_memory has no effect on an actor", DeprecationWarning, stacklevel=4)
    held, placement = read_actor_resources(options)
    name = read_text(options, "name", may_be_empty=False)
    get_if_exists = read_flag(options, "get_if_exists", default=False)
    if get_if_exists and not name:
        raise ValueError("get_if_exists=True needs the name of the actor: .options(name=..., get_if_exists=True)")
    record = ActorOptions(
        resources=held,
        placement_resources=placement,
        name=name,
        namespace=read_text(options, "namespace", may_be_empty=False),
        detached=read_lifetime(options.get("lifetime")),
        get_if_exists=get_if_exists,
        max_restarts=read_count(options, "max_restarts", 0, least=-1),
        max_task_retries=read_count(options, "max_task_retries", 0, least=-1),
        max_pending_calls=read_pending_calls(options),
        max_concurrency=read_count(options, "max_concurrency", 0, least=1) or None,
        concurrency_groups=read_concurrency_groups(options.get("concurrency_groups")),
        allow_out_of_order_execution=read_flag(options, "allow_out_of_order_execution", default=None),
        strategy=read_strategy(options.get("scheduling_strategy")),
        label_selector=labels.parse_selector(options.get("label_selector")),
        environment=parse_environment(options.get("runtime_env")),
        generator_backpressure=read_backpressure(options, "_actor_generator_backpressure_num_objects"),
        enable_task_events=read_flag(options, "enable_task_events", default=True),
        explicit=options,
    )
    record.concurrency(is_async=False)  # what can be refused without knowing the class
    return record


def _read_method(given: Mapping[str, Any], base: MethodOptions | None, generator: bool | None) -> MethodOptions:
    before = base.explicit if base is not None else {}
    options = _merge(given, before, "a method", METHOD_OPTIONS, in_options_call=False)
    inherited = base.num_returns if base is not None else 1
    retries = options.get("max_task_retries")
    return MethodOptions(
        num_returns=read_num_returns(options.get("num_returns"), generator, inherited),
        name=read_text(options, "name"),
        max_task_retries=None if retries is None else read_count(options, "max_task_retries", 0, least=-1),
        retry_exceptions=read_retry_exceptions(options.get("retry_exceptions")),
        concurrency_group=read_text(options, "concurrency_group"),
        generator_backpressure=read_backpressure(options, "_generator_backpressure_num_objects"),
        enable_task_events=read_flag(options, "enable_task_events", default=True),
        explicit=options,
    )
