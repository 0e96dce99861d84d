"""Results as they come. Workers are threads of this process: see conftest.py."""

import pytest

from actorrt.util import as_completed, map_unordered


@pytest.fixture
def after(rt, gates):
    """after(gate, value): a ref of value, ready once the gate is open (None: at once)."""

    @rt.remote
    def wait_for(gate, value):
        if gate is not None:
            gates.wait(gate)
        return value

    return wait_for.remote


@pytest.fixture
def double(rt):
    return rt.remote(lambda x: 2 * x)


def test_each_value_comes_as_soon_as_it_is_there(after, gates):
    values = as_completed([after("late", 0), after(None, 1)], chunk_size=1)
    assert next(values) == 1
    gates.open("late")
    assert list(values) == [0]


def test_a_chunk_waits_for_all_of_it(after, gates):
    values = as_completed([after("late", 0), after(None, 1), after(None, 2)], chunk_size=2)
    assert [next(values), next(values)] == [1, 2]
    gates.open("late")
    assert list(values) == [0]


def test_all_in_one_chunk_keep_their_order(rt, double):
    assert list(as_completed([double.remote(i) for i in range(5)], chunk_size=100)) == [0, 2, 4, 6, 8]


def test_refs_instead_of_values(rt, double):
    refs = [double.remote(i) for i in range(3)]
    assert set(as_completed(tuple(refs), yield_obj_refs=True)) == set(refs)


def test_options_of_wait_are_passed_on(after, gates):
    refs = [after("late", 0), after(None, 1)]
    values = as_completed(refs, chunk_size=2, timeout=0.05, fetch_local=False)
    assert next(values) == 1
    gates.open("late")
    assert next(values) == 0


def test_nothing_yields_nothing(rt):
    assert list(as_completed([])) == []


def test_a_failure_ends_it(rt, double):
    values = as_completed([rt.remote(lambda: 1 / 0).remote()], chunk_size=1)
    with pytest.raises(ZeroDivisionError):
        next(values)
    assert list(values) == []


@pytest.mark.parametrize("options", [{"chunk_size": 0}, {"chunk_size": -1}, {"num_returns": 2}])
def test_bad_sizes_are_refused_at_once(rt, double, options):
    with pytest.raises(ValueError):
        as_completed([], **options)
    with pytest.raises(ValueError):
        map_unordered(double, [], **options)


# ------------------------------------------------------------------ map_unordered
def test_it_maps(rt, double):
    assert sorted(map_unordered(double, range(25), chunk_size=4)) == [2 * i for i in range(25)]
    assert sorted(map_unordered(double, iter(range(250)), backpressure_size=None)) == [2 * i for i in range(250)]


def test_it_maps_to_refs(rt, double):
    assert sorted(rt.get(list(map_unordered(double, range(3), yield_obj_refs=True)))) == [0, 2, 4]


def test_it_maps_with_a_method(rt):
    @rt.remote
    class Adder:
        def add(self, x):
            return x + 1

    assert sorted(map_unordered(Adder.remote().add, range(5))) == [1, 2, 3, 4, 5]


def test_items_are_taken_as_results_come(rt, double):
    taken = []

    def items():
        for i in range(10):
            taken.append(i)
            yield i

    values = map_unordered(double, items(), backpressure_size=3, chunk_size=1)
    assert taken == []
    next(values)
    assert taken == [0, 1, 2]
    next(values)
    assert taken == [0, 1, 2, 3]
    assert len(list(values)) == 8


def test_bad_arguments_are_refused(rt, double):
    with pytest.raises(ValueError, match="backpressure_size"):
        map_unordered(double, [], backpressure_size=0)
    with pytest.raises(TypeError, match="remote function"):
        map_unordered(abs, [1])
