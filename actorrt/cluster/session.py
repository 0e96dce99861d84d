"""Where a cluster keeps its files, who may touch them, and how leftovers of a power cut are found.

::

    <temp>/actorrt-<uid>/                      0700, ours or refused
        session_<utc>_<pid>_<id>/              one per cluster and machine; stays (bounded) for its logs
            lock  token  logs/
            spill/                             objects that did not fit into memory; goes with the cluster
        session_latest -> session_...
        current_cluster                        which running head ``"auto"`` means
        s/<8 hex>/                             one per node process, short because a socket path has 107 bytes at most
            lock  node.json  *.sock
            store.json                         where the node's objects are, once it has some

A folder is *held* by whoever has a shared ``flock`` on its ``lock`` file: the kernel drops it with the process, so it
can be neither stale nor forgotten, and no pid needs to be believed. A sweeper takes the exclusive lock before it
removes anything. Both sides check that the file they locked is still the file of that name, which closes the race
between them.

Objects of a node are in segments in shared memory and in spill files, all named after the node. The node removes them;
after a sudden death whoever removes its sockets folder does (the zygote, the driver that started it, or a later sweep).
Segments are locked by their creator as well, so those whose folder is gone are found too.
"""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import stat
import sys
import time
from pathlib import Path

import msgspec

from actorrt.cluster.config import SEGMENT_PREFIX, SHARED_MEMORY, StoreConfig
from actorrt.kernel.limits import SESSIONS_KEPT_MAX

logger = logging.getLogger("actorrt.cluster")

TEMP_VARIABLE = "ACTORRT_TMPDIR"
SYSTEM_TEMP = "/tmp"  # noqa: S108 - shared with everyone, hence root_folder's checks
"""What ``tempfile`` would find; importing that, with ``shutil``, costs a starting driver ten milliseconds."""
SOCKET_PATH_BYTES_MAX = 103 if sys.platform == "darwin" else 107
SOCKET_NAME_BYTES_MAX = 28
"""Room for ``/w-<12 hex>.sock`` and ``/driver-<pid>-<6 hex>.sock``."""
FOLDER_ATTEMPTS_MAX = 16
SESSIONS_BYTES_MAX = 4 << 30
"""Logs of ended clusters, all together."""
RECORD_BYTES_MAX = 64 * 1024

_LOCK = "lock"
_RECORD = "node.json"
_CURRENT = "current_cluster"
_LATEST = "session_latest"
_STORE = "store.json"
SPILL = "spill"
"""Folder of a session."""


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a running node tells other processes of its user and machine (``node.json`` in its sockets folder)."""

    pid: int
    start_mark: str
    """Boot id and start time of ``pid``: a later process of the same number has another one."""
    node_id: str
    cluster_id: str
    address: str
    """Process address of the node (all endpoints)."""
    gcs: str
    session_dir: str
    sockets_dir: str
    is_head: bool
    public: bool
    """Started by ``actorrt start``: ``actorrt stop`` ends it."""
    host: str = ""
    name: str = ""


class StoreRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where the objects of a node are (``store.json`` in its sockets folder): for whoever cleans up after it."""

    directory: str
    """Of the segments."""
    prefix: str
    spill: tuple[str, ...]
    """Local directories only; what lies elsewhere is its owner's to clean."""

    @classmethod
    def of(cls, store: StoreConfig, prefix: str) -> StoreRecord:
        """The record of a store that is about to be opened."""
        local = tuple(target.uri for target in store.spill if "://" not in target.uri)
        return cls(directory=store.directory, prefix=prefix, spill=local)


# ---------------------------------------------------------------------------------------------------------- processes
def boot_id() -> str:
    """Tell this boot of the machine from every other; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_mark(pid: int) -> str:
    """Tell the process ``pid`` from earlier and later ones of that number; empty when there is none (or it is dead).

    Without ``/proc`` only the pid's existence can be told.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        if Path("/proc/self").is_dir():
            return ""
        return "exists" if _exists(pid) else ""
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return ""
    return f"{boot_id()}:{fields[19]}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# ------------------------------------------------------------------------------------------------------------ folders
def root_folder(temp_dir: str | None = None) -> Path:
    """Return this user's folder below the temporary directory, made if need be.

    Raises PermissionError when somebody else owns it or may write there: the temporary directory is shared, and whoever
    made the folder first would otherwise read our tokens and answer at our sockets.
    """
    chosen = temp_dir or os.environ.get(TEMP_VARIABLE)
    root = _root_below(chosen or os.environ.get("TMPDIR") or SYSTEM_TEMP)
    longest = _longest_socket_path(root)
    if longest > SOCKET_PATH_BYTES_MAX:
        if chosen:
            raise ValueError(
                f"{root} is too long for socket paths ({longest} bytes, at most {SOCKET_PATH_BYTES_MAX}): "
                f"set {TEMP_VARIABLE} to a shorter directory"
            )
        root = _root_below(SYSTEM_TEMP)  # TMPDIR was not set for our sake
    root.parent.mkdir(parents=True, exist_ok=True)
    _make_private(root)
    return root


def _root_below(base: str) -> Path:
    return Path(base).absolute() / f"actorrt-{os.getuid()}"


def _longest_socket_path(root: Path) -> int:
    return len(os.fsencode(root)) + len("/s/00000000") + SOCKET_NAME_BYTES_MAX


def check_private(folder: Path) -> None:
    """Raise PermissionError unless ``folder`` is a real directory of ours that nobody else can enter."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{folder} is not a directory")
    if status.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to user {status.st_uid}, not to us ({os.getuid()})")
    if status.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to others (mode {stat.S_IMODE(status.st_mode):o}, wanted 700)")


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    check_private(folder)


def write_private(path: Path, data: bytes) -> None:
    """Write a file only we can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


# -------------------------------------------------------------------------------------------------------------- locks
def hold(folder: Path) -> int | None:
    """Lock an existing folder against sweeping; return the open lock file (inheritable by ``pass_fds``).

    None when a sweeper has it, or had it a moment ago.
    """
    path = folder / _LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    if _take(fd, path, fcntl.LOCK_SH):
        return fd
    os.close(fd)
    return None


def _take(fd: int, path: Path, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def is_held(folder: Path) -> bool:
    """Say whether some process holds the folder."""
    try:
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _remove_unheld(folder: Path, part: str = "") -> bool:
    """Remove the folder, or one in it, unless somebody holds it."""
    path = folder / _LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return False
    try:
        if not _take(fd, path, fcntl.LOCK_EX) or not _clear_store(folder):
            return False
        _remove_tree(folder / part)
        return True
    finally:
        os.close(fd)


def _create_held(parent: Path, make_name: object) -> tuple[Path, int]:
    assert callable(make_name)
    for _ in range(FOLDER_ATTEMPTS_MAX):
        folder = parent / make_name()
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        fd = hold(folder)
        if fd is not None:
            return folder, fd
    raise OSError(f"cannot create a folder in {parent}: {FOLDER_ATTEMPTS_MAX} names were taken")


# ----------------------------------------------------------------------------------------------------------- sessions
def create_session(root: Path) -> tuple[Path, int]:
    """Make a session folder and hold it. Returns the folder and its lock."""

    def name() -> str:
        now = time.time()
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f"{int(now * 1000) % 1000:03}"
        return f"session_{moment}_{os.getpid()}_{os.urandom(4).hex()}"

    folder, fd = _create_held(root, name)
    (folder / "logs").mkdir(mode=0o700)
    link = root / f".{_LATEST}.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(root / _LATEST)
    return folder, fd


def create_sockets_folder(root: Path) -> tuple[Path, int]:
    """Make a sockets folder for one node process and hold it. Returns the folder and its lock."""
    parent = root / "s"
    _make_private(parent)
    return _create_held(parent, lambda: os.urandom(4).hex())


def remove_sockets_folder(folder: Path) -> None:
    """Remove the folder of a node that ended (by itself, or by its zygote), and its objects; missing is fine.

    Nothing is removed while the node still holds its objects: it is about to do it itself.
    """
    if folder.parent.name != "s":
        raise ValueError(f"{folder} is not a sockets folder")
    if _clear_store(folder):
        _remove_tree(folder)


def sweep(root: Path, kept_max: int = SESSIONS_KEPT_MAX, bytes_max: int = SESSIONS_BYTES_MAX) -> list[Path]:
    """Remove what dead clusters left: every unheld sockets folder, objects, and the oldest unheld sessions.

    Of those the newest ``kept_max`` stay, as far as all that stay have no more than ``bytes_max`` together.
    """
    removed = [folder for folder in _folders(root / "s") if _remove_unheld(folder)]
    removed += [Path(SHARED_MEMORY, name) for name in _sweep_segments(SHARED_MEMORY, SEGMENT_PREFIX)]
    sessions = [folder for folder in _folders(root) if folder.name.startswith("session_")]
    size_bytes = 0
    for position, folder in enumerate(sorted(sessions, key=lambda folder: folder.name, reverse=True)):
        if (folder / SPILL).is_dir() and _remove_unheld(folder, SPILL):
            removed.append(folder / SPILL)
        size_bytes += _size_bytes(folder)
        if (position >= kept_max or size_bytes > bytes_max) and _remove_unheld(folder):
            removed.append(folder)
    return removed


def _size_bytes(folder: Path) -> int:
    """Of what a session keeps; its objects come and go while we look."""
    size_bytes = 0
    for base, folders, files in os.walk(folder):
        if SPILL in folders and base == str(folder):
            folders.remove(SPILL)
        for name in files:
            try:
                size_bytes += Path(base, name).lstat().st_size
            except FileNotFoundError:  # somebody else sweeps as well
                continue
    return size_bytes


def _remove_tree(folder: Path) -> None:
    """Remove a folder of ours and what is in it. Somebody else removing the same one at the same time is fine."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(Path(entry.path))
            else:
                Path(entry.path).unlink()
        except FileNotFoundError:
            continue
    try:
        folder.rmdir()
    except FileNotFoundError:
        return


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.is_symlink())
    except FileNotFoundError:
        return []


# ------------------------------------------------------------------------------------------------------------ objects
def write_store_record(sockets_dir: Path, record: StoreRecord) -> None:
    """Note where the objects of a node will be, before there are any."""
    write_private(sockets_dir / _STORE, msgspec.json.encode(record))


def _clear_store(sockets_dir: Path) -> bool:
    """Remove the objects of a dead node; False while it lives and has some."""
    try:
        with (sockets_dir / _STORE).open("rb") as file:
            record = msgspec.json.decode(file.read(RECORD_BYTES_MAX), type=StoreRecord)
    except FileNotFoundError:
        return True
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("%s cannot be read: %s", sockets_dir / _STORE, error)
        return True
    if not record.prefix.startswith(SEGMENT_PREFIX):
        logger.warning("%s names %r, which cannot be ours", sockets_dir / _STORE, record.prefix)
        return True
    _sweep_segments(record.directory, record.prefix)
    if _names(record.directory, record.prefix):
        return False
    for directory in record.spill:
        for name in _names(directory, record.prefix):
            _remove_file(Path(directory, name))
    return True


def _remove_file(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # a directory of the user's: its rights may have changed
        logger.warning("%s of a dead node cannot be removed: %s", path, error)


def _sweep_segments(directory: str, prefix: str) -> list[str]:
    if not _names(directory, prefix):
        return []
    segment = importlib.import_module("actorrt.store.segment")  # 8 ms: only when there is something to do
    names: list[str] = segment.sweep(directory, prefix)
    return names


def _names(directory: str, prefix: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(directory) if entry.name.startswith(prefix))
    except OSError:  # not there, or not ours
        return []


# ------------------------------------------------------------------------------------------------------- node records
def write_record(record: NodeRecord) -> None:
    """Let other processes of this user find the node."""
    write_private(Path(record.sockets_dir) / _RECORD, msgspec.json.encode(record))


def read_record(sockets_dir: Path) -> NodeRecord | None:
    """Return the record of a node that runs now; None for any other folder."""
    if not is_held(sockets_dir):
        return None
    try:
        with (sockets_dir / _RECORD).open("rb") as file:
            record = msgspec.json.decode(file.read(RECORD_BYTES_MAX), type=NodeRecord)
    except (OSError, msgspec.DecodeError):
        return None
    return record if start_mark(record.pid) == record.start_mark else None


def list_records(root: Path) -> list[NodeRecord]:
    """Return the running nodes of this user on this machine."""
    return [record for folder in _folders(root / "s") if (record := read_record(folder)) is not None]


def set_current_cluster(root: Path, record: NodeRecord) -> None:
    """Make this head the cluster that ``"auto"`` means."""
    write_private(root / _CURRENT, os.fsencode(record.sockets_dir))


def current_cluster(root: Path) -> NodeRecord | None:
    """Return the head that ``"auto"`` means, if it still runs."""
    try:
        with (root / _CURRENT).open("rb") as file:
            folder = Path(os.fsdecode(file.read(RECORD_BYTES_MAX).strip()))
    except FileNotFoundError:
        return None
    if folder.parent != root / "s":
        return None
    return read_record(folder)


def clear_current_cluster(root: Path, sockets_dir: Path) -> None:
    """Forget the current cluster if it is the one of this sockets folder."""
    path = root / _CURRENT
    try:
        if path.read_bytes().strip() == os.fsencode(sockets_dir):
            path.unlink()
    except FileNotFoundError:
        pass
