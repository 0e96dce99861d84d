"""The runtime: submitting, waiting, and its end."""

import asyncio
import gc
import threading

import pytest

from actorrt import exceptions
from actorrt.api.runtime import SUBMIT_BATCH_MAX
from actorrt.kernel.context import find_runtime
from actorrt.owner.requests import Submit


def test_batches_of_every_size(rt):
    inc = rt.remote(lambda x: x + 1)
    for count in (1, 2, SUBMIT_BATCH_MAX - 1, SUBMIT_BATCH_MAX, SUBMIT_BATCH_MAX + 1, 3 * SUBMIT_BATCH_MAX):
        assert rt.get([inc.remote(i) for i in range(count)], timeout=20) == list(range(1, count + 1))


def test_work_starts_without_a_get(rt):
    ran = threading.Event()
    rt.get_runtime_context()
    hit = rt.remote(lambda box: box)
    future = [hit.remote(i) for i in range(5)][-1].future()
    future.add_done_callback(lambda _: ran.set())
    assert ran.wait(10)


def test_records_go_with_their_refs(rt):
    runtime = find_runtime()
    refs = [rt.put(i) for i in range(50)] + [rt.remote(lambda: 1).remote() for _ in range(50)]
    rt.get(refs, timeout=20)
    known = runtime.machine.objects.records
    assert len(known) >= 100
    del refs
    gc.collect()
    runtime.flush()
    for _ in range(1000):
        if len(known) < 5:
            break
        rt.get(rt.remote(lambda: 1).remote(), timeout=20)
    assert len(known) < 5


def test_a_timeout_names_what_is_missing(rt):
    gate = rt.remote(num_cpus=64)(lambda: 1)
    with pytest.raises(exceptions.GetTimeoutError, match=r"1 of 2 objects.*CPU: 64"):
        rt.get([rt.put(1), gate.remote()], timeout=0.01)


def test_whoever_waits_hears_of_the_end(rt):
    never = rt.remote(num_cpus=64)(lambda: 1).remote()
    future = never.future()
    errors = []
    waiting = threading.Event()

    def in_thread():
        waiting.set()
        try:
            rt.get(never)
        except exceptions.ActorrtError as error:
            errors.append(error)

    async def in_loop():
        await never

    def in_loop_thread():
        try:
            asyncio.run(in_loop())
        except exceptions.ActorrtError as error:
            errors.append(error)

    threads = [threading.Thread(target=in_thread), threading.Thread(target=in_loop_thread)]
    for thread in threads:
        thread.start()
    waiting.wait(10)
    rt.shutdown()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 2
    with pytest.raises(exceptions.ActorrtError):
        future.result(10)
    with pytest.raises(exceptions.ActorrtError):
        never.future().result(10)


def test_submitting_to_a_closed_runtime(rt):
    runtime = find_runtime()
    task = rt.remote(lambda: 1)
    task.remote()
    template = task._template
    rt.shutdown()
    from actorrt.owner.tasks import Task

    with pytest.raises(exceptions.InternalError):
        runtime.submit(Task(b"t" * 16, template, b"", (), (), (), b"", b""))


def test_equal_templates_are_made_once(rt):
    def f():
        return 1

    one, two = rt.remote(num_cpus=0.5)(f), rt.remote(num_cpus=0.5)(f)
    three = rt.remote(num_cpus=0.25)(f)
    rt.get([each.remote() for each in (one, two, three)], timeout=20)
    assert one._template is two._template
    assert one._template is not three._template


def test_a_flush_waits_for_the_one_under_way(rt, monkeypatch):
    """What another thread has gathered, but not handed over yet, may be what the next message is about."""
    runtime = find_runtime()
    posting, go_on, flushed = threading.Event(), threading.Event(), threading.Event()
    post = runtime.shell.post

    def slow_post(envelope):
        if isinstance(envelope.body, Submit) and threading.current_thread() is first:
            posting.set()
            assert go_on.wait(20)
        post(envelope)

    f = rt.remote(num_cpus=0)(lambda: 7)
    rt.get(f.remote())
    monkeypatch.setattr(runtime.shell, "post", slow_post)
    refs = []
    first = threading.Thread(target=lambda: refs.append(f.remote()))
    first.start()
    assert posting.wait(20)
    second = threading.Thread(target=lambda: (runtime.flush(), flushed.set()))
    second.start()
    assert not flushed.wait(0.05)
    go_on.set()
    assert flushed.wait(20)
    first.join(20)
    second.join(20)
    assert rt.get(refs) == [7]
