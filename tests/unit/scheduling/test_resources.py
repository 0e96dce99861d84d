import decimal
import fractions
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.scheduling.resources import (
    QUANTITY_MAX,
    UNIT,
    Available,
    Taken,
    add,
    describe,
    fits,
    maximum,
    parse,
    scale,
    subtract,
    to_fixed,
    to_float,
    to_floats,
)

sets = st.dictionaries(st.sampled_from(["CPU", "memory", "slot", "GPU"]), st.integers(1, 10 * UNIT), max_size=4)


@pytest.mark.parametrize(
    ("given_quantity", "fixed"),
    [
        (1, UNIT),
        (0, 0),
        (0.5, 5000),
        (0.57, 5700),  # 0.57 * 10000 is 5699.99...
        (0.0003, 3),
        (0.0001, 1),
        (1 / 3, 3333),
        (True, UNIT),
        (fractions.Fraction(1, 4), 2500),
        (np.float32(0.25), 2500),
        (np.int64(3), 3 * UNIT),
        (400 << 20, (400 << 20) * UNIT),
        (float(1 << 40), (1 << 40) * UNIT),
    ],
)
def test_to_fixed(given_quantity, fixed):
    assert to_fixed(given_quantity) == fixed


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (-1, ValueError),
        (-0.5, ValueError),
        (-1e-9, ValueError),
        (0.00001, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (-math.inf, ValueError),
        (QUANTITY_MAX // UNIT + 1, ValueError),
        ("1", TypeError),
        (None, TypeError),
        (1j, TypeError),
        ([1], TypeError),
        (decimal.Decimal(1), TypeError),
    ],
)
def test_bad_quantities_are_named(bad, error):
    with pytest.raises(error, match="num_cpus") as raised:
        to_fixed(bad, "num_cpus")
    assert repr(bad) in str(raised.value)


@given(st.integers(0, QUANTITY_MAX // UNIT // 1000).map(lambda n: n / 10))
def test_tenths_are_exact(quantity):
    assert to_fixed(quantity) == round(quantity * UNIT)
    assert to_float(to_fixed(quantity)) == pytest.approx(quantity)


@given(st.integers(1, 9999))
def test_parts_of_one_never_exceed_it(count):
    assert to_fixed(1 / count) * count <= UNIT


def test_parse_leaves_zeros_out_and_checks_names_and_devices():
    assert parse({"CPU": 2, "GPU": 0, "slot": 0.5}) == {"CPU": 2 * UNIT, "slot": UNIT // 2}
    assert parse({"GPU": 2.0}) == {"GPU": 2 * UNIT}
    assert parse({"CPU": 1.5}) == {"CPU": 15_000}
    with pytest.raises(ValueError, match=r"GPU.*whole numbers.*1\.5"):
        parse({"GPU": 1.5})
    with pytest.raises(TypeError, match="names"):
        parse({1: 1})
    with pytest.raises(ValueError, match="empty"):
        parse({"": 1})
    with pytest.raises(ValueError, match=r"slot.*-1"):
        parse({"slot": -1})


def test_for_people():
    assert to_floats({"CPU": 15_000}) == {"CPU": 1.5}
    assert describe({"b": UNIT, "a": 2500}) == "{a: 0.25, b: 1}"


@given(sets, sets)
def test_arithmetic(left, right):
    assert subtract(add(left, right), right) == left
    assert add(left, right) == add(right, left)
    assert subtract(left, left) == {}
    assert fits(left, add(left, right))
    most = maximum(left, right)
    assert fits(left, most)
    assert fits(right, most)
    assert all(fixed in (left.get(name), right.get(name)) for name, fixed in most.items())


@given(sets, st.integers(0, 5))
def test_scale_is_repeated_addition(resources, count):
    total = {}
    for _ in range(count):
        total = add(total, resources)
    assert scale(resources, count) == total


def test_fits():
    assert fits({}, {})
    assert fits({"CPU": 0}, {"CPU": -UNIT})
    assert not fits({"CPU": 1}, {})
    assert fits({"CPU": UNIT}, {"CPU": UNIT})
    assert not fits({"CPU": UNIT + 1}, {"CPU": UNIT})


# ---- ledger
def test_take_and_put_back():
    ledger = Available({"CPU": 2 * UNIT, "slot": UNIT})
    taken = ledger.take({"CPU": UNIT, "slot": UNIT})
    assert taken == Taken({"CPU": UNIT, "slot": UNIT})
    assert ledger.free() == {"CPU": UNIT}
    assert ledger.take({"slot": 1}) is None
    assert ledger.free() == {"CPU": UNIT}
    ledger.put_back(taken)
    assert ledger.free() == ledger.total() == {"CPU": 2 * UNIT, "slot": UNIT}


def test_giving_back_twice_is_a_bug():
    ledger = Available({"CPU": UNIT})
    taken = ledger.take({"CPU": UNIT})
    ledger.put_back(taken)
    with pytest.raises(AssertionError, match="more CPU"):
        ledger.put_back(taken)


def test_a_forced_take_oversubscribes():
    ledger = Available({"CPU": UNIT})
    first = ledger.take({"CPU": UNIT})
    assert ledger.take({"CPU": UNIT}) is None
    second = ledger.take({"CPU": UNIT}, force=True)
    assert ledger.free() == {"CPU": -UNIT}
    assert ledger.oversubscribed()
    assert ledger.take({}) == Taken()
    ledger.put_back(first)
    assert not ledger.fits({"CPU": 1})
    ledger.put_back(second)
    assert ledger.fits({"CPU": UNIT})
    assert not ledger.oversubscribed()


def test_feasible_looks_at_the_total():
    ledger = Available({"CPU": UNIT})
    ledger.take({"CPU": UNIT})
    assert ledger.feasible({"CPU": UNIT})
    assert not ledger.feasible({"CPU": UNIT + 1})
    assert not ledger.feasible({"GPU": 1})


def test_fractions_pack_one_device_before_the_next():
    ledger = Available({"GPU": 3 * UNIT})
    ids = [ledger.take({"GPU": 4000}).accelerator_ids()["GPU"] for _ in range(4)]
    assert ids == [("0",), ("0",), ("1",), ("1",)]
    assert ledger.take({"GPU": 2000}).devices == {"GPU": (("0", 2000),)}
    # 0.2 + 1.0 are free, but two whole devices are not, and 1.2 on one device is not either.
    assert not ledger.fits({"GPU": 2 * UNIT})
    assert ledger.take({"GPU": UNIT}).accelerator_ids() == {"GPU": ("2",)}
    assert ledger.take({"GPU": UNIT}) is None
    ledger.check()


def test_named_devices():
    ledger = Available({"GPU": 2 * UNIT}, {"GPU": ("5", "uuid-7")})
    assert ledger.take({"GPU": 2 * UNIT}).accelerator_ids() == {"GPU": ("5", "uuid-7")}
    with pytest.raises(ValueError, match="2 distinct device ids"):
        Available({"GPU": 2 * UNIT}, {"GPU": ("5",)})
    with pytest.raises(ValueError, match="distinct"):
        Available({"GPU": 2 * UNIT}, {"GPU": ("5", "5")})


def test_a_blocked_worker_gives_only_its_cpu_back():
    ledger = Available({"CPU": UNIT, "GPU": UNIT})
    taken = ledger.take({"CPU": UNIT, "GPU": 5000})
    cpu, rest = taken.split(["CPU"])
    ledger.put_back(cpu)
    assert ledger.free() == {"CPU": UNIT, "GPU": 5000}
    other = ledger.take({"CPU": UNIT})
    again = rest.joined(ledger.take(cpu.resources, force=True))
    assert again == taken
    ledger.put_back(other)
    ledger.put_back(again)
    assert ledger.free() == ledger.total()


def test_forced_devices():
    ledger = Available({"GPU": 2 * UNIT})
    taken = [ledger.take({"GPU": 3 * UNIT}, force=True), ledger.take({"GPU": 5000}, force=True)]
    ledger.check()
    assert ledger.oversubscribed()
    for part in taken:
        ledger.put_back(part)
    assert ledger.free() == ledger.total()


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from(["CPU", "GPU", "slot"]), st.sampled_from([2500, 3000, 5000, UNIT, 2 * UNIT])
            ),
            st.booleans(),
            st.booleans(),
        )
    )
)
def test_a_ledger_adds_up_whatever_happens(steps):
    total = {"CPU": 4 * UNIT, "GPU": 2 * UNIT, "slot": 2 * UNIT}
    ledger = Available(total)
    held = []
    for demand, force, give in steps:
        before = ledger.free()
        taken = ledger.take(demand, force=force)
        if taken is None:
            assert not force
            assert ledger.free() == before
        else:
            held.append(taken)
        if give and held:
            ledger.put_back(held.pop(0))
        ledger.check()
        out = {}
        for item in held:
            out = add(out, item.resources)
        assert ledger.free() == subtract(total, out)
        for item in held:
            for name, parts in item.devices.items():
                assert sum(part for _, part in parts) == item.resources[name]
    if not any(force for _, force, _ in steps):
        assert not ledger.oversubscribed()
    for item in held:
        ledger.put_back(item)
    assert ledger.free() == total
