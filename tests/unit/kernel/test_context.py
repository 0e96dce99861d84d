import threading

from actorrt.kernel.context import TaskContext, current_runtime, current_task


def test_nothing_runs_by_default_and_threads_do_not_inherit():
    assert current_task.get() is None
    assert current_runtime.get() is None
    token = current_task.set(TaskContext(b"t", "n", "f", {"CPU": 1}, 2))
    try:
        seen = []
        thread = threading.Thread(target=lambda: seen.append(current_task.get()))
        thread.start()
        thread.join(20)
        assert seen == [None]
        context = current_task.get()
        assert (context.task_id, context.attempt, context.is_async, context.cancelled) == (b"t", 2, False, False)
    finally:
        current_task.reset(token)
