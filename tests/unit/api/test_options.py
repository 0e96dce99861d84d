"""Options of tasks, actors and methods: defaults, merging, refusals, and the memory of recent calls."""

import functools

import pytest

from actorrt.api import options
from actorrt.api.options import ActorOptions, MethodOptions, TaskOptions, actor_options, method_options, task_options
from actorrt.scheduling.resources import UNIT
from actorrt.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from actorrt.wire.records import Environment, Strategy

NODE = "ab" * 16
CPU = {"CPU": UNIT}


def plain():
    return 1


def generator():
    yield 1


async def async_generator():
    yield 1


async def coroutine():
    return 1


# --------------------------------------------------------------------------------------------------------------- tasks
def test_task_defaults():
    assert task_options({}) == TaskOptions()
    assert TaskOptions().resources == CPU
    assert TaskOptions().max_retries == 3


def test_task_everything():
    given = {
        "num_cpus": 0.5,
        "num_gpus": 2,
        "memory": 1000,
        "resources": {"disk": 0.25},
        "accelerator_type": "H100",
        "num_returns": 2,
        "max_retries": -1,
        "retry_exceptions": [KeyError, OSError],
        "max_calls": 5,
        "name": "mine",
        "scheduling_strategy": "SPREAD",
        "label_selector": {"zone": "in(a,b)"},
        "runtime_env": {"env_vars": {"B": "2", "A": "1"}},
        "_generator_backpressure_num_objects": 4,
        "enable_task_events": False,
    }
    assert task_options(given) == TaskOptions(
        resources={"CPU": 5000, "GPU": 20000, "memory": 1000 * UNIT, "disk": 2500, "accelerator_type:H100": 10},
        num_returns=2,
        max_retries=-1,
        retry_exceptions=(KeyError, OSError),
        max_calls=5,
        name="mine",
        strategy=Strategy(kind="SPREAD"),
        label_selector=(("zone", "in(a,b)"),),
        environment=Environment((("A", "1"), ("B", "2")), '{"env_vars":{"A":"1","B":"2"}}'),
        generator_backpressure=4,
        enable_task_events=False,
        explicit=given,
    )


def test_none_is_not_given():
    record = task_options(dict.fromkeys(options.TASK_OPTIONS))
    assert record == TaskOptions(explicit=record.explicit)
    record = actor_options(dict.fromkeys(options.ACTOR_OPTIONS))
    assert record == ActorOptions(explicit=record.explicit)
    record = method_options(dict.fromkeys(options.METHOD_OPTIONS))
    assert record == MethodOptions(explicit=record.explicit)


@pytest.mark.parametrize(
    ("num_cpus", "resources"), [(0, {}), (0.0, {}), (2, {"CPU": 2 * UNIT}), (0.0001, {"CPU": 1}), (None, CPU)]
)
def test_task_cpus(num_cpus, resources):
    assert task_options({"num_cpus": num_cpus}).resources == resources


def test_options_are_laid_over_the_decorator():
    base = task_options({"num_cpus": 1, "resources": {"a": 1}, "max_calls": 3, "name": "x"})
    record = task_options({"num_cpus": 2, "name": None}, base, in_options_call=True)
    assert record.resources == {"CPU": 2 * UNIT, "a": UNIT}
    assert (record.max_calls, record.name) == (3, "")
    assert record.explicit == {"num_cpus": 2, "resources": {"a": 1}, "max_calls": 3, "name": None}
    assert base.resources == {"CPU": UNIT, "a": UNIT}


def test_nothing_given_keeps_the_record():
    base = task_options({"num_cpus": 2})
    assert task_options({}, base, in_options_call=True) is base
    actor = actor_options({"num_cpus": 2})
    assert actor_options({}, actor, in_options_call=True) is actor
    method = method_options({"num_returns": 2})
    assert method_options({}, method) is method


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"no_such": 1}, ValueError, "'no_such' is no option of a task; allowed are: accelerator_type, "),
        ({"max_restarts": 1}, ValueError, "it is one of an actor"),
        ({"num_cpus": -1}, ValueError, "num_cpus must not be negative"),
        ({"num_cpus": "two"}, TypeError, "num_cpus must be a number"),
        ({"num_gpus": 1.5}, ValueError, "num_gpus above 1 must be a whole number"),
        ({"memory": -5}, ValueError, "memory"),
        ({"resources": {"CPU": 1}}, ValueError, "use num_cpus="),
        ({"resources": {"GPU": 1}}, ValueError, "use num_gpus="),
        ({"resources": {"memory": 1}}, ValueError, "use memory="),
        ({"resources": [("a", 1)]}, TypeError, "resources must be a dict"),
        ({"resources": {"a": -1}}, ValueError, "a must not be negative"),
        ({"object_store_memory": 100}, ValueError, "use memory="),
        ({"num_returns": -1}, ValueError, "num_returns must be between 0 and"),
        ({"num_returns": "many"}, ValueError, "'streaming'"),
        ({"num_returns": 1.0}, TypeError, "num_returns must be an integer"),
        ({"max_retries": -2}, ValueError, "-1: without limit"),
        ({"max_retries": True}, TypeError, "max_retries must be an integer"),
        ({"max_retries": 2**40}, ValueError, "max_retries"),
        ({"retry_exceptions": KeyError}, TypeError, "list of exception classes"),
        ({"retry_exceptions": [1]}, TypeError, "list exception classes"),
        ({"max_calls": -1}, ValueError, "max_calls"),
        ({"name": 5}, TypeError, "name must be a string"),
        ({"scheduling_strategy": "RANDOM"}, ValueError, "'SPREAD'"),
        ({"scheduling_strategy": object()}, ValueError, "not supported yet"),
        ({"label_selector": ["zone"]}, TypeError, "label_selector must be a dict"),
        ({"label_selector": {"zone": "in()"}}, ValueError, "label_selector"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, TypeError, "env_vars"),
        ({"runtime_env": {"nope": 1}}, ValueError, "nope"),
        ({"_generator_backpressure_num_objects": 0}, ValueError, "at least 1"),
        ({"_generator_backpressure_num_objects": -2}, ValueError, "_generator_backpressure_num_objects"),
        ({"enable_task_events": 1}, TypeError, "True or False"),
        ({"fallback_strategy": [{"label_selector": {"a": "b"}}]}, ValueError, "not supported yet"),
        ({"placement_group": object()}, ValueError, "not supported yet"),
        ({"_labels": {"a": "b"}}, ValueError, "not supported yet"),
    ],
    ids=str,
)
def test_bad_task_options(given, error, text):
    with pytest.raises(error) as raised:
        task_options(given)
    assert text in str(raised.value)


def test_max_calls_only_in_the_decorator():
    with pytest.raises(ValueError, match=r"max_calls cannot be changed by \.options\(\)"):
        task_options({"max_calls": 1}, TaskOptions(), in_options_call=True)


@pytest.mark.parametrize("function", [generator, async_generator, functools.partial(generator)])
def test_generator_functions_stream(function):
    assert options.is_generator_function(function)
    assert task_options({}, function=function).num_returns == "streaming"
    assert task_options({"num_returns": 3}, function=function).num_returns == 3
    base = task_options({}, function=function)
    assert task_options({"num_cpus": 2}, base, in_options_call=True, function=function).num_returns == "streaming"
    assert task_options({"num_cpus": 2}, base, in_options_call=True).num_returns == "streaming"


@pytest.mark.parametrize("function", [plain, coroutine, len, functools.partial(plain)])
def test_streaming_needs_a_generator_function(function):
    assert task_options({}, function=function).num_returns == 1
    with pytest.raises(ValueError, match="needs a generator function"):
        task_options({"num_returns": "streaming"}, function=function)


def test_dynamic_is_deprecated():
    with pytest.warns(DeprecationWarning, match="use 'streaming'"):
        assert task_options({"num_returns": "dynamic"}, function=generator).num_returns == "dynamic"


def test_node_affinity():
    record = task_options({"scheduling_strategy": NodeAffinitySchedulingStrategy(NODE, soft=True)})
    assert record.strategy == Strategy(kind="NODE_AFFINITY", node_id=bytes.fromhex(NODE), soft=True)


# -------------------------------------------------------------------------------------------------------------- actors
@pytest.mark.parametrize(
    ("given", "held", "placement"),
    [
        ({}, {}, CPU),
        ({"memory": 10}, {"memory": 10 * UNIT}, {"memory": 10 * UNIT, **CPU}),
        ({"num_cpus": 0}, {}, {}),
        ({"num_cpus": 2}, {"CPU": 2 * UNIT}, {"CPU": 2 * UNIT}),
        ({"num_gpus": 1}, {"GPU": UNIT, **CPU}, {"GPU": UNIT, **CPU}),
        ({"num_gpus": 0}, CPU, CPU),
        ({"num_gpus": 1, "num_cpus": 0}, {"GPU": UNIT}, {"GPU": UNIT}),
        ({"resources": {"a": 1}}, {"a": UNIT, **CPU}, {"a": UNIT, **CPU}),
        ({"resources": {}}, {}, CPU),
        ({"accelerator_type": "T4"}, {"accelerator_type:T4": 10, **CPU}, {"accelerator_type:T4": 10, **CPU}),
    ],
    ids=str,
)
def test_actor_cpu_rule(given, held, placement):
    record = actor_options(given)
    assert (record.resources, record.placement_resources) == (held, placement)


def test_actor_cpu_rule_is_applied_to_the_sum():
    base = actor_options({"memory": 10})
    record = actor_options({"resources": {"a": 1}}, base, in_options_call=True)
    assert record.resources == {"memory": 10 * UNIT, "a": UNIT, **CPU}


def test_actor_everything():
    given = {
        "num_cpus": 1,
        "name": "n",
        "namespace": "space",
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 2,
        "max_pending_calls": 10,
        "max_concurrency": 4,
        "concurrency_groups": {"io": 2, "compute": 1},
        "allow_out_of_order_execution": True,
        "scheduling_strategy": "DEFAULT",
        "label_selector": {"zone": "!a"},
        "runtime_env": {"env_vars": {"A": "1"}},
        "_actor_generator_backpressure_num_objects": 3,
        "enable_task_events": False,
    }
    assert actor_options(given) == ActorOptions(
        resources=CPU,
        placement_resources=CPU,
        name="n",
        namespace="space",
        detached=True,
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=2,
        max_pending_calls=10,
        max_concurrency=4,
        concurrency_groups=(("io", 2), ("compute", 1)),
        allow_out_of_order_execution=True,
        label_selector=(("zone", "!a"),),
        environment=Environment((("A", "1"),), '{"env_vars":{"A":"1"}}'),
        generator_backpressure=3,
        enable_task_events=False,
        explicit=given,
    )


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"get_if_exists": True}, ValueError, "needs the name"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": 1}, TypeError, "name must be a string"),
        ({"namespace": ""}, ValueError, "namespace must not be empty"),
        ({"lifetime": "forever"}, ValueError, "'detached' or 'non_detached'"),
        ({"lifetime": ["detached"]}, ValueError, "lifetime"),
        ({"max_restarts": -2}, ValueError, "max_restarts must be between -1"),
        ({"num_returns": 2}, ValueError, "it is one of a task and a method"),
        ({"max_retries": 1}, ValueError, "it is one of a task"),
        ({"no_such": 1}, ValueError, "allowed are"),
        ({"num_cpus": -1}, ValueError, "num_cpus"),
        ({"resources": {"CPU": 1}}, ValueError, "use num_cpus="),
        ({"max_concurrency": 0}, ValueError, "max_concurrency must be between 1"),
        ({"max_pending_calls": 0}, ValueError, "at least 1"),
        ({"concurrency_groups": "io"}, TypeError, "concurrency_groups must be a dict"),
        ({"concurrency_groups": {"io": 0}}, ValueError, "concurrency_groups['io']"),
        ({"concurrency_groups": {"io": None}}, TypeError, "got None"),
        ({"concurrency_groups": {1: 1}}, TypeError, "must be strings"),
        ({"concurrency_groups": [("a", 1), ("a", 2)]}, ValueError, "distinct"),
        ({"max_concurrency": 2, "allow_out_of_order_execution": False}, ValueError, "with max_concurrency=2"),
        (
            {"concurrency_groups": {"a": 1}, "allow_out_of_order_execution": False},
            ValueError,
            "with concurrency_groups",
        ),
        ({"enable_tensor_transport": True}, ValueError, "not supported yet"),
    ],
    ids=str,
)
def test_bad_actor_options(given, error, text):
    with pytest.raises(error) as raised:
        actor_options(given)
    assert text in str(raised.value)


def test_concurrency_groups_only_in_the_decorator():
    with pytest.raises(ValueError, match="concurrency_groups cannot be changed"):
        actor_options({"concurrency_groups": {"a": 1}}, ActorOptions(), in_options_call=True)
    assert actor_options({"concurrency_groups": [("a", 1)]}).concurrency_groups == (("a", 1),)


def test_name_may_come_from_the_decorator():
    base = actor_options({"name": "n"})
    assert actor_options({"get_if_exists": True}, base, in_options_call=True).name == "n"


def test_object_store_memory_of_an_actor():
    with pytest.warns(DeprecationWarning, match="no effect"):
        record = actor_options({"object_store_memory": 100})
    assert (record.resources, record.placement_resources) == ({}, CPU)


@pytest.mark.parametrize(
    ("given", "is_async", "result"),
    [
        ({}, False, (1, False)),
        ({}, True, (1000, True)),
        ({"max_concurrency": 1}, True, (1, True)),
        ({"max_concurrency": 3}, False, (3, True)),
        ({"concurrency_groups": {"io": 2}}, False, (1, True)),
        ({"allow_out_of_order_execution": True}, False, (1, True)),
        ({"allow_out_of_order_execution": False}, False, (1, False)),
    ],
    ids=str,
)
def test_concurrency(given, is_async, result):
    assert actor_options(given).concurrency(is_async=is_async) == result


def test_async_actors_cannot_keep_order():
    with pytest.raises(ValueError, match="with async methods"):
        actor_options({"allow_out_of_order_execution": False}).concurrency(is_async=True)


# ------------------------------------------------------------------------------------------------------------- methods
def test_method_options():
    assert method_options({}) == MethodOptions()
    base = method_options({"num_returns": 2, "concurrency_group": "io"})
    record = method_options({"name": "call", "max_task_retries": -1, "retry_exceptions": True}, base)
    assert (record.num_returns, record.concurrency_group, record.name) == (2, "io", "call")
    assert (record.max_task_retries, record.retry_exceptions) == (-1, True)
    assert base.max_task_retries is None
    assert method_options({}, function=generator).num_returns == "streaming"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"no_such_option": 1}, ValueError),
        ({"num_cpus": 1}, ValueError),
        ({"num_returns": -1}, ValueError),
        ({"max_task_retries": -2}, ValueError),
        ({"concurrency_group": 1}, TypeError),
        ({"tensor_transport": "nccl"}, ValueError),
        ({"_num_objects_per_yield": 2}, ValueError),
    ],
    ids=str,
)
def test_bad_method_options(given, error):
    with pytest.raises(error, match=next(iter(given))):
        method_options(given)


# -------------------------------------------------------------------------------------------------------------- recent
def test_equal_calls_share_a_record():
    base = task_options({"num_cpus": 1})
    first = task_options({"num_cpus": 2, "name": "a"}, base, in_options_call=True, function=plain)
    assert task_options({"num_cpus": 2, "name": "a"}, base, in_options_call=True, function=plain) is first
    assert task_options({"num_cpus": 2, "name": "b"}, base, in_options_call=True, function=plain) is not first


def test_equal_values_of_other_types_are_told_apart():
    assert task_options({"enable_task_events": True}).enable_task_events
    with pytest.raises(TypeError):
        task_options({"enable_task_events": 1})


def test_a_base_is_recognised_by_identity():
    one, two = task_options({"resources": {"a": 1}}), task_options({"resources": {"b": 1}})
    assert task_options({"name": "x"}, one).resources == {"a": UNIT, **CPU}
    assert task_options({"name": "x"}, two).resources == {"b": UNIT, **CPU}


def test_recent_records_are_bounded(monkeypatch):
    monkeypatch.setattr(options, "RECENT_RECORDS_MAX", 4)
    recent = options._Recent()
    for number in range(10):
        key = recent.key({"name": str(number)}, None)
        recent.keep(key, None, TaskOptions())
        assert recent.find(key, None) is not None
        assert len(recent._records) <= 4
