"""What this machine offers, as far as its kernel and container let us use it."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping
from pathlib import Path

from actorrt.cluster.config import SHARED_MEMORY
from actorrt.scheduling.resources import UNIT, ResourceSet, parse

OBJECT_STORE_FRACTION = 0.3
MOUNT_FRACTION_MAX = 0.95
"""Of what is free there: as ``store.segment``."""
OBJECT_STORE_BYTES_MIN = 1 << 20
"""Below, a store has no room for its own header lines and a slab."""
HEAD_RESOURCE = "node:__internal_head__"
RESERVED = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory", "object_store_memory": "object_store_memory"}
"""Resource names that have an argument of their own."""

NODE_ID_LABEL = "actorrt.io/node-id"


def cpu_count(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs this process may use: affinity, then the container's quota (rounded up)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(cgroup)
    return max(1, min(count, math.ceil(quota)) if quota is not None else count)


def _cpu_quota(cgroup: Path) -> float | None:
    fields = _read(cgroup / "cpu.max").split()  # version 2: "<quota or max> <period>"
    if not fields:
        fields = [_read(cgroup / "cpu" / "cpu.cfs_quota_us"), _read(cgroup / "cpu" / "cpu.cfs_period_us")]
    try:
        quota, period = int(fields[0]), int(fields[1])
    except (ValueError, IndexError):
        return None
    return quota / period if quota > 0 and period > 0 else None


def memory_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory of the machine, or of the container when that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(cgroup / name)
        if text.isdigit():
            return min(total, int(text))
    return total


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def gpu_count() -> int:
    """NVIDIA devices, or as many of them as ``CUDA_VISIBLE_DEVICES`` leaves."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        present = len(list(Path("/proc/driver/nvidia/gpus").iterdir()))
    except OSError:
        return 0
    if visible is None:
        return present
    return min(present, len([device for device in visible.split(",") if device.strip() not in {"", "-1"}]))


def device_ids(resources: Mapping[str, int]) -> dict[str, tuple[str, ...]] | None:
    """Return the names ``CUDA_VISIBLE_DEVICES`` gives this node's GPUs; None: they are numbered from 0."""
    visible = tuple(filter(None, (device.strip() for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(","))))
    count = math.ceil(resources.get("GPU", 0) / UNIT)
    return {"GPU": visible[:count]} if count and len(visible) >= count else None


def object_store_bytes(directory: str = SHARED_MEMORY) -> int:
    """Share of memory the object store may take, and no more than its mount has."""
    wanted = int(memory_bytes() * OBJECT_STORE_FRACTION)
    if not Path(directory).is_dir():
        return wanted
    mount = os.statvfs(directory)
    return min(wanted, int(mount.f_bavail * mount.f_frsize * MOUNT_FRACTION_MAX))


def store_capacity(wanted_bytes: float | None, directory: str = SHARED_MEMORY) -> int:
    """Return the capacity of a node's object store; None means "look".

    Raises TypeError or ValueError for one that is no size, or that this machine or container could not fill.
    """
    if wanted_bytes is None:
        return object_store_bytes(directory)
    if isinstance(wanted_bytes, bool) or not isinstance(wanted_bytes, int | float):
        raise TypeError(f"object_store_memory must be a number of bytes, got {wanted_bytes!r}")
    if not OBJECT_STORE_BYTES_MIN <= wanted_bytes < math.inf:
        raise ValueError(f"object_store_memory must be at least {OBJECT_STORE_BYTES_MIN} bytes, got {wanted_bytes}")
    segment = importlib.import_module("actorrt.store.segment")  # only who asks for a size pays 8 ms for the check
    try:
        segment.check_capacity(int(wanted_bytes), directory)
    except ValueError as error:
        raise ValueError(f"object_store_memory={int(wanted_bytes)}: {error}") from None
    return int(wanted_bytes)


def default_labels(node_id: bytes, labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return a node's labels: those given, and its own id, so that a label selector can name it."""
    return {**(labels or {}), NODE_ID_LABEL: node_id.hex()}


def node_resources(
    *,
    host: str,
    is_head: bool,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    object_store_memory: float | None = None,
    resources: Mapping[str, object] | None = None,
) -> ResourceSet:
    """Return what a node offers, in fixed point; None means "look". Raises TypeError or ValueError for nonsense."""
    custom = dict(resources or {})
    for name, argument in RESERVED.items():
        if name in custom:
            raise ValueError(f"give {name!r} as {argument}=..., not inside resources")
    store = object_store_bytes() if object_store_memory is None else object_store_memory
    offered = parse(
        {
            "CPU": cpu_count() if num_cpus is None else num_cpus,
            "GPU": gpu_count() if num_gpus is None else num_gpus,
            "object_store_memory": store,
            "memory": max(0, memory_bytes() - int(store)) if memory is None else memory,
            **custom,
            f"node:{host}": 1,
        }
    )
    return {**offered, **parse({HEAD_RESOURCE: 1})} if is_head else offered
