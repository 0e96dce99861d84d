"""Resource sets in fixed point, and the ledger of what one node has free.

A set is a plain ``dict[str, int]`` (it travels in messages as it is); a missing name means zero. One unit is ``UNIT``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

ResourceSet: TypeAlias = dict[str, int]

UNIT: Final = 10_000
"""One whole CPU, GPU, byte ... of a resource."""
QUANTITY_MAX: Final = 2**63 - 1
"""What the wire carries (about 9.2e14 whole units)."""
UNIT_INSTANCES: Final = ("GPU", "TPU", "neuron_cores", "HPU", "NPU")
"""Resources that are devices: a demand above one must be whole, a demand below one stays on a single device."""

# 0.57 * 10000 is a hair below 5700; this much (of 1/10000) is forgiven before flooring.
_ROUNDING = 1e-6


# ------------------------------------------------------------------------------------------------- between user and us
def to_fixed(quantity: object, name: str = "resource") -> int:
    """Return a user's number in fixed point. ``name`` is what error texts call it (``num_cpus``).

    Finer fractions are rounded down, so that three times a third never exceeds one; a number that would vanish entirely
    is refused.
    """
    if not isinstance(quantity, numbers.Real):
        raise TypeError(f"{name} must be a number, got {quantity!r} of type {type(quantity).__name__}")
    if isinstance(quantity, numbers.Integral):
        fixed = int(quantity) * UNIT
    else:
        number = float(quantity)
        if not math.isfinite(number):
            raise ValueError(f"{name} must be a finite number, got {quantity!r}")
        fixed = math.floor(number * UNIT + _ROUNDING)
        if fixed == 0 and number > 0:
            raise ValueError(f"{name} must be 0 or at least {1 / UNIT} (the finest granularity), got {quantity!r}")
    if quantity < 0:
        raise ValueError(f"{name} must not be negative, got {quantity!r}")
    if fixed > QUANTITY_MAX:
        raise ValueError(f"{name} must be at most {QUANTITY_MAX // UNIT}, got {quantity!r}")
    return fixed


def to_float(fixed: int) -> float:
    """Return a fixed-point quantity as users know it."""
    return fixed / UNIT


def parse(quantities: Mapping[str, object]) -> ResourceSet:
    """Return a user's resources as a set; zeros are left out. Raises TypeError or ValueError that names the culprit."""
    parsed: ResourceSet = {}
    for name, quantity in quantities.items():
        if not isinstance(name, str):
            raise TypeError(f"resource names must be strings, got {name!r}")
        if not name:
            raise ValueError("resource names must not be empty")
        fixed = to_fixed(quantity, name)
        if name in UNIT_INSTANCES and fixed > UNIT and fixed % UNIT:
            raise ValueError(f"{name} quantities above 1 must be whole numbers, got {quantity!r}")
        if fixed:
            parsed[name] = fixed
    return parsed


def to_floats(resources: Mapping[str, int]) -> dict[str, float]:
    """Return a set as users know it."""
    return {name: to_float(fixed) for name, fixed in resources.items()}


def describe(resources: Mapping[str, int]) -> str:
    """Return a set for people: ``{CPU: 1, GPU: 0.5}``, sorted."""
    return "{" + ", ".join(f"{name}: {to_float(resources[name]):g}" for name in sorted(resources)) + "}"


# ---------------------------------------------------------------------------------------------------------- arithmetic
def add(left: Mapping[str, int], right: Mapping[str, int]) -> ResourceSet:
    """Sum, without zeros."""
    total = dict(left)
    for name, fixed in right.items():
        total[name] = total.get(name, 0) + fixed
    return {name: fixed for name, fixed in total.items() if fixed}


def subtract(left: Mapping[str, int], right: Mapping[str, int]) -> ResourceSet:
    """Difference, without zeros; quantities may be negative."""
    return add(left, {name: -fixed for name, fixed in right.items()})


def scale(resources: Mapping[str, int], count: int) -> ResourceSet:
    """``count`` times the set, without zeros."""
    return {name: fixed * count for name, fixed in resources.items() if fixed * count}


def maximum(left: Mapping[str, int], right: Mapping[str, int]) -> ResourceSet:
    """The smallest set that both fit into."""
    return {name: max(left.get(name, 0), right.get(name, 0)) for name in [*left, *(n for n in right if n not in left)]}


def fits(demand: Mapping[str, int], offer: Mapping[str, int]) -> bool:
    """Whether ``offer`` has at least ``demand``. A demand for nothing fits anywhere, even into an overdrawn offer."""
    for name, fixed in demand.items():  # noqa: SIM110 - a loop is a third faster than all() and this is the hot place
        if fixed > 0 and offer.get(name, 0) < fixed:
            return False
    return True


# -------------------------------------------------------------------------------------------------------------- ledger
class Taken(msgspec.Struct, frozen=True):
    """What somebody holds of a node: the quantities, and for unit instances which devices and how much of each."""

    resources: dict[str, int] = {}
    devices: dict[str, tuple[tuple[str, int], ...]] = {}

    def accelerator_ids(self) -> dict[str, tuple[str, ...]]:
        """Device ids by resource, for ``LeaseGranted``."""
        return {name: tuple(device for device, _ in parts) for name, parts in self.devices.items()}

    def split(self, names: Iterable[str]) -> tuple[Taken, Taken]:
        """Return the part of these resources, and the rest (a blocked worker gives back its CPU and keeps its GPU)."""
        wanted = list(names)
        part = Taken(
            {name: fixed for name, fixed in self.resources.items() if name in wanted},
            {name: devices for name, devices in self.devices.items() if name in wanted},
        )
        rest = Taken(
            {name: fixed for name, fixed in self.resources.items() if name not in wanted},
            {name: devices for name, devices in self.devices.items() if name not in wanted},
        )
        return part, rest

    def joined(self, other: Taken) -> Taken:
        """Return both together; they share no resource."""
        assert not [name for name in other.resources if name in self.resources], (self, other)
        return Taken({**self.resources, **other.resources}, {**self.devices, **other.devices})


class Available:
    """What one node has free. ``take`` and ``put_back`` are the only ways it changes.

    ``device_ids`` names the devices of unit instances (``{"GPU": ("0", "1")}``); without it they are numbered from 0.
    """

    __slots__ = ("_capacity", "_devices", "_free", "_total")

    def __init__(self, total: Mapping[str, int], device_ids: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._total: ResourceSet = dict(total)
        self._free: ResourceSet = dict(total)
        self._capacity: dict[str, dict[str, int]] = {}
        for name in UNIT_INSTANCES:
            if name in total:
                self._capacity[name] = _device_capacities(total[name], (device_ids or {}).get(name), name)
        self._devices: dict[str, dict[str, int]] = {name: dict(parts) for name, parts in self._capacity.items()}

    def __repr__(self) -> str:
        return f"Available({describe(self._free)} of {describe(self._total)})"

    def total(self) -> ResourceSet:
        """What the node has."""
        return dict(self._total)

    def free(self) -> ResourceSet:
        """What is free, without zeros; negative where more is taken than there is."""
        return {name: fixed for name, fixed in self._free.items() if fixed}

    def feasible(self, demand: Mapping[str, int]) -> bool:
        """Whether the whole node could ever meet the demand."""
        return fits(demand, self._total)

    def fits(self, demand: Mapping[str, int]) -> bool:
        """Whether the demand can be met now, devices included."""
        if not fits(demand, self._free):
            return False
        return all(
            self._pick(name, fixed) is not None for name, fixed in demand.items() if fixed and name in self._devices
        )

    def take(self, demand: Mapping[str, int], *, force: bool = False) -> Taken | None:
        """Take the demand, or return None (and take nothing) when it does not fit.

        ``force`` takes it regardless: quantities may then go negative until others give theirs back.
        """
        if not force and not self.fits(demand):
            return None
        devices: dict[str, tuple[tuple[str, int], ...]] = {}
        for name, fixed in demand.items():
            if fixed <= 0:
                continue
            self._free[name] = self._free.get(name, 0) - fixed
            table = self._devices.get(name)
            if table is None:
                continue
            parts = self._pick(name, fixed) or self._pick_forced(name, fixed)
            for device, part in parts:
                table[device] -= part
            devices[name] = parts
        return Taken({name: fixed for name, fixed in demand.items() if fixed > 0}, devices)

    def put_back(self, taken: Taken) -> None:
        """Give back what ``take`` handed out, once."""
        for name, fixed in taken.resources.items():
            self._free[name] = self._free.get(name, 0) + fixed
            assert self._free[name] <= self._total.get(name, 0), f"more {name} given back than there is: {self!r}"
        for name, parts in taken.devices.items():
            for device, part in parts:
                self._devices[name][device] += part
                assert self._devices[name][device] <= self._capacity[name][device], f"{name} {device} given back twice"

    def oversubscribed(self) -> bool:
        """Whether more is taken than there is (only after a forced take)."""
        return any(fixed < 0 for fixed in self._free.values())

    def check(self) -> None:
        """Assert that quantities and devices agree."""
        for name, table in self._devices.items():
            assert sum(table.values()) == self._free[name], f"{name}: devices {table} against {self._free[name]}"
            assert all(free <= self._capacity[name][device] for device, free in table.items()), (name, table)
        assert all(fixed <= self._total.get(name, 0) for name, fixed in self._free.items()), repr(self)

    def _pick(self, name: str, fixed: int) -> tuple[tuple[str, int], ...] | None:
        """Devices for a demand: whole free ones, or one with room for the fraction (the fullest that has: packing)."""
        table = self._devices[name]
        if fixed >= UNIT:
            whole = [device for device, free in table.items() if free == UNIT]
            count = fixed // UNIT
            if len(whole) < count or fixed % UNIT:
                return None
            return tuple((device, UNIT) for device in whole[:count])
        fitting = [device for device, free in table.items() if free >= fixed]
        return ((min(fitting, key=table.__getitem__), fixed),) if fitting else None

    def _pick_forced(self, name: str, fixed: int) -> tuple[tuple[str, int], ...]:
        """Devices for a demand that does not fit: the emptiest first, one unit each, and again from the start."""
        table = self._devices[name]
        order = sorted(table, key=lambda device: -table[device])
        parts: dict[str, int] = {}
        left, index = fixed, 0
        while left:
            part = min(left, UNIT)
            device = order[index % len(order)]
            parts[device] = parts.get(device, 0) + part
            left -= part
            index += 1
        return tuple(parts.items())


def _device_capacities(total: int, ids: tuple[str, ...] | None, name: str) -> dict[str, int]:
    count = -(-total // UNIT)
    names = ids if ids is not None else tuple(str(index) for index in range(count))
    if len(names) != count or len(dict.fromkeys(names)) != count:
        raise ValueError(f"{count} distinct device ids are needed for {to_float(total):g} {name}, got {names!r}")
    return {device: min(UNIT, total - index * UNIT) for index, device in enumerate(names)}
