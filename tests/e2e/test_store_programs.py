"""The acceptance programs of the object store (bench/macro), short: they check their work and what is left behind."""

import sys
from pathlib import Path

import pytest

MACRO = Path(__file__).resolve().parents[2] / "bench" / "macro"
SMALL_STORE = ("--store-mb", "79")  # about the least that init() accepts

SHORT = {
    "basics": ("store_basics", "--mb", "40", "--rounds", "2", "--small", "5000", "--large", "800"),
    "spill": ("store_spill", *SMALL_STORE, "--total-mb", "256", "--object-mb", "2"),
    "spill, smaller objects": ("store_spill", *SMALL_STORE, "--total-mb", "200", "--object-mb", "1", "--seed", "2"),
    "spill, processes killed": ("store_spill", "--kill", *SMALL_STORE, "--total-mb", "200", "--object-mb", "2"),
    "spill, disk full": ("store_spill", "--quota", *SMALL_STORE, "--quota-mb", "100", "--object-mb", "2"),
    "soak": ("store_soak", *SMALL_STORE, "--minutes", "0.15", "--kill-every", "2", "--seed", "3"),
    "transfer": ("store_transfer", "--only", "throughput", "--mb", "50", "--rounds", "1"),
    "transfer, holder killed": ("store_transfer", "--only", "killed", "--killed-mb", "200"),
}


@pytest.mark.parametrize("name", SHORT)
def test_short(drivers, name):
    script, *arguments = SHORT[name]
    command = [sys.executable, str(MACRO / f"{script}.py"), *arguments, "--limit", "90"]
    done = drivers.run("", command=command, timeout=120, check=False)
    assert done.code == 0, done.out + done.err[-4000:]
    assert "all checks passed" in done.out, done.out
