"""The house rules as data. To change a rule, edit this file; the checks only read it."""

# ---------------------------------------------------------------------------------------------------------- layering
# Higher imports lower, never the other way. Equal rank: not at all, except as EQUAL_RANK says.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"kernel"}),
    frozenset({"scheduling", "wire"}),
    frozenset({"gcs", "raylet", "owner", "worker", "objects"}),
    frozenset({"protocol"}),
    frozenset({"cluster"}),
    frozenset({"api", "actor", "exceptions", "runtime_context", "testing", "util"}),
)
COMPONENTS = LAYERS[2]
PUBLIC = LAYERS[-1]  # public modules may use each other
LEAVES = {"transports": {"zmq"}, "store": {"pyarrow"}}  # besides the standard library and themselves
SIM_MAY_NOT = frozenset({"cluster"}) | PUBLIC

# Who may import which module of a leaf; everything else in a leaf is a concrete adapter, named only in ADAPTER_ROOMS.
ADAPTER_ROOMS = frozenset({"cluster", "sim"})
LEAF_PORTS = {
    "actorrt.transports.base": ("actorrt.wire.router",),
    "actorrt.transports.errors": ("actorrt.wire.router",),
    "actorrt.store.base": tuple(f"actorrt.{component}.actor" for component in sorted(COMPONENTS)),
    "actorrt.store.errors": tuple(f"actorrt.{component}.actor" for component in sorted(COMPONENTS)),
}

# ------------------------------------------------------------------------------------------------------------ purity
PURE_GLOBS = (
    "actorrt/gcs/*.py",
    "actorrt/raylet/*.py",
    "actorrt/owner/*.py",
    "actorrt/worker/*.py",
    "actorrt/objects/*.py",
    "actorrt/scheduling/*.py",
    "actorrt/kernel/message.py",
    "actorrt/kernel/effects.py",
    "actorrt/kernel/machine.py",
    "actorrt/kernel/supervise.py",
    "actorrt/kernel/ids.py",
    "store/layout.py",
    "store/allocator.py",
    "store/table.py",
    "store/eviction.py",
    "store/spill.py",
    "store/ledger.py",
    "store/room.py",
    "store/slabs.py",
    "store/effects.py",
    "actorrt/wire/handshake.py",
    "transports/fabric.py",
)
# Files inside those globs that touch the world by design.
IMPURE = {
    "actorrt/gcs/actor.py": "wiring",
    "actorrt/raylet/actor.py": "wiring",
    "actorrt/owner/actor.py": "wiring",
    "actorrt/worker/actor.py": "wiring",
    "actorrt/objects/actor.py": "wiring",
    "actorrt/worker/executor.py": "runs user code",
    "actorrt/worker/host.py": "what the executor asks of its process, a coroutine among it",
    "actorrt/worker/streaming.py": "the executor's: batches what user code yields, by the clock, between two threads",
    "actorrt/worker/main.py": "process entry",
}
# Banned in pure files, with what to use instead.
BANNED_IN_PURE = {
    "asyncio": "return effects; kernel/shell.py does the waiting",
    "anyio": "return effects; kernel/shell.py does the waiting",
    "uvloop": "return effects; kernel/shell.py does the waiting",
    "time": "take `now` as an argument",
    "datetime": "take `now` as an argument",
    "random": "take `rng` as an argument (import random under TYPE_CHECKING to annotate it)",
    "secrets": "take `rng` as an argument",
    "uuid": "use kernel.ids with an injected rng",
    "os": "return Do(...); the port touches the operating system",
    "pathlib": "return Do(...); the port touches the file system",
    "tempfile": "return Do(...); the port touches the file system",
    "shutil": "return Do(...); the port touches the file system",
    "mmap": "return Do(...); store/segment.py maps",
    "signal": "return Do(...)",
    "subprocess": "return Do(...); cluster/process.py starts processes",
    "multiprocessing": "return Do(...); cluster/process.py starts processes",
    "threading": "handlers run to completion; there is nothing to lock",
    "concurrent": "return Do(...) and handle its completion message",
    "queue": "use collections.deque; handlers run to completion",
    "socket": "return Send(...); transports move frames",
    "selectors": "return Send(...); transports move frames",
    "zmq": "return Send(...); transports move frames",
    "psutil": "take the figure as a message",
}

# -------------------------------------------------------------------------------------------------------------- size
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
CLASS_LINES_MAX = 350

# ----------------------------------------------------------------------------------------------------- sleeping tests
SLEEPS = frozenset({"time.sleep", "asyncio.sleep", "anyio.sleep", "trio.sleep"})
SLEEP_ALLOWED_BELOW = ("tests/e2e/",)

# -------------------------------------------------------------------------------------------------------------- texts
# tests/tidy is exempt because it has to spell out what it looks for.
TEXT_BANNED = {
    r"(?<![\w.:/}~*-])/(?:home|root|Users|work|tmp)/[\w.{-]": "a path of one machine: use a relative path or tempfile",
    r"(?:pypi|pythonhosted)\.(?:org|io)\b": "a registry's host: name the package, let pip find it",
    r"(?:--index|--extra-index)-url|\bindex-url\s*=": "a registry setting: it belongs to the machine",
}
TEXT_EXEMPT = ("LICENSE", "tests/tidy/")
