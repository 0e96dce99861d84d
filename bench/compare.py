"""Two commits side by side: programs of bench/micro take turns on both, in one run.

    .venv/bin/python bench/compare.py --base <commit> [--head <commit>] [--rounds 3] [--quick] [program ...]

Without ``--head`` the working tree is compared as it is. Programs: core startup memory shell transports store (default:
core startup memory). The benchmark files are those of this checkout, for both sides; only ``actorrt`` itself is another
one. Where a base cannot run them, it gets its own.

The two take turns, and the one that begins changes with every round (base head, head base, ...), so a machine that
speeds up or slows down for a minute hits both. ``ratio`` is the median over the rounds of head against base, always so
that more than 1 is better; rows below 0.9 are marked. The references ("ppe", "pool") run the same code on both sides:
theirs is what the machine did meanwhile. The exit status is 1 if a program failed, never because something was slow.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
DEFAULT = ("core", "startup", "memory")
# Arguments of a normal run, and of a quick look.
PROGRAMS = {
    "core": ((), ("--rounds", "1")),
    "startup": (("--rounds", "3"), ("--rounds", "1")),
    "memory": ((), ("--tasks", "5000")),
    "shell": ((), ()),
    "transports": ((), ("--scale", "0.02")),
    "store": ((), ("--mb", "50", "--rounds", "1")),
}
REFERENCES = ("core: ppe", "core: pool", "startup: python itself")
MARKED_BELOW = 0.9
PROGRAM_TIMEOUT_S = 600
LOWER_IS_BETTER = (" us", " ms", " s", " bytes")
SKIPPED = ("tasks", "wrong_results")


class Side:
    """One of the two: where its package is."""

    def __init__(self, label, folder):
        self.label = label
        self.folder = folder
        self.own_files = set()  # programs that had to be its own

    def run(self, program, arguments, scratch):
        """Rows of one run: name with unit -> figure. RuntimeError if it cannot be run."""
        own = self.folder / "bench" / "micro" / f"{program}.py"
        if program not in self.own_files:
            try:
                return self._run(REPO / "bench" / "micro" / f"{program}.py", program, arguments, scratch)
            except RuntimeError:
                if self.folder == REPO or not own.exists():
                    raise
                self.own_files.add(program)
        return self._run(own, program, arguments, scratch)

    def _run(self, path, program, arguments, scratch):
        target = scratch / f"{program}.json"
        target.unlink(missing_ok=True)
        # First in the path, so it is found before the installed one; processes of a cluster inherit it.
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "ACTORRT_TMPDIR": str(scratch)}
        environment.pop("ACTORRT_ADDRESS", None)
        command = [sys.executable, str(path), *arguments, "--json", str(target)]
        try:
            answer = subprocess.run(
                command,
                cwd=scratch,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PROGRAM_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{program} on {self.label} took more than {PROGRAM_TIMEOUT_S} s") from error
        if answer.returncode or not target.exists():
            tail = "\n    ".join(answer.stdout.strip().splitlines()[-12:])
            raise RuntimeError(f"{program} on {self.label} ended with status {answer.returncode}:\n    {tail}")
        return dict(rows_of(program, json.loads(target.read_text("utf-8"))))

    def check_package(self, scratch):
        """A comparison of the installed package with itself would look fine."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        command = [sys.executable, "-c", "import actorrt; print(actorrt.__file__)"]
        answer = subprocess.run(command, cwd=scratch, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found = Path(answer.stdout.strip()).resolve()
        if found.parent.parent != self.folder.resolve():
            raise SystemExit(f"{self.label}: actorrt is found at {found}, not in {self.folder}")


def rows_of(program, found):
    """(name with unit, figure) of what a program wrote."""
    results = found.get("results", found)
    for name, row in results.items():
        if program == "core":
            yield f"{name} /s", row["median_per_s"]
        elif program == "startup":
            yield f"{name.strip()} s", row["median_s"]
        elif program == "memory":
            for figure, value in row.items():
                if figure not in SKIPPED:
                    yield f"{name}: {memory_unit(figure)}", value
        elif program == "shell":
            yield f"{name} us", row
        elif program == "transports":
            yield name, row
        else:
            yield f"{name} {store_unit(name)}", statistics.median(row)


def store_unit(name):
    if name.startswith("puts of"):
        return "/s"
    return {"get": "ms", "put / copy into touched memory": "x"}.get(name, "GB/s")


def memory_unit(figure):
    words = figure.replace("_", " ")
    if figure.startswith("bytes_"):
        return f"{words.removeprefix('bytes ')} bytes"
    return words.replace(" per s", " /s")


def ratio_of(name, base, head):
    """Above 1: the head is better."""
    if name.endswith(LOWER_IS_BETTER):
        base, head = head, base
    if base == head:
        return 1.0
    return head / base if base else float("inf")


def compare(sides, programs, rounds, quick, scratch):
    """(name -> [(figure of the base, of the head) per round], texts of failures)."""
    pairs, failures = {}, []
    for program in programs:
        arguments = PROGRAMS[program][1 if quick else 0]
        for number in range(rounds):
            found = {}
            try:
                for side in sides if number % 2 == 0 else reversed(sides):
                    start_s = time.monotonic()
                    found[side] = side.run(program, arguments, scratch)
                    print(f"  {program} on {side.label}: {time.monotonic() - start_s:.0f} s", file=sys.stderr)
            except RuntimeError as error:
                failures.append(str(error))
                print(f"  FAILED: {error}", file=sys.stderr)
                break
            base, head = (found[side] for side in sides)
            for name in head:
                if name in base:
                    pairs.setdefault(f"{program}: {name}", []).append((base[name], head[name]))
    return pairs, failures


def show(pairs):
    print(f"{'':<66}{'base':>12}{'head':>12}{'ratio':>8}   of the rounds")
    for name, found in pairs.items():
        ratios = sorted(ratio_of(name, base, head) for base, head in found)
        ratio = statistics.median(ratios)
        line = f"{name:<66}" + "".join(f"{statistics.median(column):>12,.6g}" for column in zip(*found, strict=True))
        line += f"{ratio:>8.2f}   {ratios[0]:.2f} to {ratios[-1]:.2f}"
        if name.startswith(REFERENCES):
            line += "   reference"
        elif ratio < MARKED_BELOW:
            line += f"   BELOW {MARKED_BELOW}"
        print(line)


def unpack(commit, folder):
    """The files of a commit. An archive, and not a work tree: nothing to clean up in the repository."""
    packed = subprocess.run(["git", "archive", commit], cwd=REPO, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def name_of(commit):
    command = ["git", "rev-parse", "--short=12", "--verify", f"{commit}^{{commit}}"]
    answer = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{commit!r} is no commit of this repository")
    return answer.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description="Benchmarks of two commits side by side, taking turns.")
    parser.add_argument("programs", nargs="*", metavar="program", help=f"of {', '.join(PROGRAMS)}")
    parser.add_argument("--base", required=True, help="the commit to compare with")
    parser.add_argument("--head", help="the commit that is compared; without it the working tree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="shorter runs, to see whether everything works")
    options = parser.parse_args()
    programs = options.programs or DEFAULT
    for program in programs:
        if program not in PROGRAMS:
            parser.error(f"there is no program {program!r}; there are: {', '.join(PROGRAMS)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    with contextlib.ExitStack() as stack:
        # A short path: sockets of the clusters lie below it.
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cmp-")))
        run_in = scratch / "run"
        run_in.mkdir()
        base = Side(f"base {name_of(options.base)}", unpack(options.base, scratch / "base"))
        if options.head:
            head = Side(f"head {name_of(options.head)}", unpack(options.head, scratch / "head"))
        else:
            head = Side(f"the working tree on {name_of('HEAD')}", REPO)
        for side in (base, head):
            side.check_package(run_in)
        print(f"{base.label} against {head.label}, {options.rounds} rounds, load {os.getloadavg()[0]:.2f} at the start")
        pairs, failures = compare((base, head), programs, options.rounds, options.quick, run_in)
        show(pairs)
        for side in (base, head):
            for program in sorted(side.own_files):
                print(f"{program}: {side.label} ran its own file")
        for failure in failures:
            print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
