import random

from actorrt.kernel import ids


def test_task_ids_count_upwards_behind_a_random_prefix():
    source = ids.TaskIdSource(random.Random(1).randbytes)
    made = [source.next() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert made == sorted(made)
    assert {len(task_id) for task_id in made} == {ids.TASK_ID_BYTES}
    assert {task_id[: ids.PREFIX_BYTES] for task_id in made} == {source.prefix}
    assert ids.TaskIdSource(random.Random(2).randbytes).prefix != source.prefix


def test_object_ids_name_their_task_and_index():
    task_id = ids.TaskIdSource(random.Random(1).randbytes).next()
    for index in (0, 1, 255, 2**32 - 1):
        oid = ids.object_id(task_id, index)
        assert len(oid) == ids.OBJECT_ID_BYTES
        assert ids.task_id_of(oid) == task_id
        assert ids.return_index_of(oid) == index
