"""``get_runtime_context``."""

import pytest


def test_of_a_driver(rt):
    context = rt.get_runtime_context()
    for number in (context.get_job_id(), context.get_node_id(), context.get_worker_id()):
        assert int(number, 16) >= 0
    assert context.get_node_id() == rt.nodes()[0]["NodeID"]
    for nothing in (
        context.get_task_id,
        context.get_task_name,
        context.get_task_function_name,
        context.get_actor_id,
        context.get_actor_name,
        context.get_placement_group_id,
    ):
        assert nothing() is None
    assert context.get_assigned_resources() == {}
    assert context.get_accelerator_ids() == {"GPU": []}
    assert context.runtime_env == {}
    assert context.was_current_actor_reconstructed is False
    assert context.should_capture_child_tasks_in_placement_group is False
    assert context.get()["namespace"] == context.namespace
    assert context.gcs_address
    with pytest.raises(RuntimeError, match="inside of an actor"):
        _ = context.current_actor
    with pytest.raises(RuntimeError, match="inside of tasks"):
        context.is_canceled()
    assert rt.get_gpu_ids() == []


def test_of_a_task(rt):
    @rt.remote(num_cpus=0.25, name="special")
    def tell():
        c = rt.get_runtime_context()
        return c.get_task_name(), c.get_task_function_name(), c.get_assigned_resources(), c.is_canceled(), repr(c)

    name, function, resources, cancelled, text = rt.get(tell.remote(), timeout=20)
    assert name == "special"
    assert function.endswith("tell")
    assert (resources, cancelled) == ({"CPU": 0.25}, False)
    assert "RuntimeContext(job=" in text


def test_of_an_actor(rt):
    @rt.remote(num_cpus=1)
    class A:
        def tell(self):
            c = rt.get_runtime_context()
            return c.get_actor_id(), c.get_actor_name(), c.get_assigned_resources(), c.current_actor

        async def later(self):
            c = rt.get_runtime_context()
            try:
                c.is_canceled()
            except RuntimeError:
                return c.get_actor_id()

    a = A.options(name="me").remote()
    actor_id, name, resources, mine = rt.get(a.tell.remote(), timeout=20)
    assert (actor_id, name, resources, mine) == (a._actorrt_actor_id.hex(), "me", {"CPU": 1.0}, a)
    assert rt.get(a.later.remote(), timeout=20) == actor_id


def test_of_nothing(alone):
    with pytest.raises(RuntimeError, match="not connected"):
        alone.get_runtime_context()
