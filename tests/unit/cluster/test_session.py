import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from actorrt.cluster import session
from actorrt.store.segment import Segment


def record(sockets_dir: Path, **changes) -> session.NodeRecord:
    fields = {
        "pid": os.getpid(),
        "start_mark": session.start_mark(os.getpid()),
        "node_id": "ab",
        "cluster_id": "cd",
        "address": f"unix://{sockets_dir}/node.sock",
        "gcs": f"unix://{sockets_dir}/node.sock",
        "session_dir": "",
        "sockets_dir": str(sockets_dir),
        "is_head": True,
        "public": True,
    }
    return session.NodeRecord(**{**fields, **changes})


# -------------------------------------------------------------------------------------------------------------- folders
def test_root_is_private(root):
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert root.name == f"actorrt-{os.getuid()}"


def test_root_comes_from_the_environment(short_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(short_path / "general"))
    assert session.root_folder().parent == short_path / "general"
    monkeypatch.setenv(session.TEMP_VARIABLE, str(short_path / "ours"))
    assert session.root_folder().parent == short_path / "ours"


def test_open_root_is_refused(root):
    root.chmod(0o755)
    with pytest.raises(PermissionError, match="open to others"):
        session.root_folder(str(root.parent))


def test_root_of_another_user_is_refused(root, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="belongs to user"):
        session.check_private(root)


def test_planted_link_is_refused(short_path):
    elsewhere = short_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (short_path / f"actorrt-{os.getuid()}").symlink_to(elsewhere)
    with pytest.raises(PermissionError, match="not a directory"):
        session.root_folder(str(short_path))


def test_too_long_for_sockets(tmp_path):
    with pytest.raises(ValueError, match=session.TEMP_VARIABLE):
        session.root_folder(str(tmp_path / ("x" * 100)))
    assert list(tmp_path.iterdir()) == []


def test_deep_tmpdir_is_passed_over(short_path, tmp_path, monkeypatch):
    monkeypatch.delenv(session.TEMP_VARIABLE, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * 100)))
    monkeypatch.setattr(session, "SYSTEM_TEMP", str(short_path))
    assert session.root_folder().parent == short_path


def test_session_layout(root):
    folder, fd = session.create_session(root)
    assert (folder / "logs").is_dir()
    assert (root / "session_latest").resolve() == folder.resolve()
    assert session.is_held(folder)
    os.close(fd)
    assert not session.is_held(folder)


def test_latest_follows_the_newest(root):
    for _ in range(2):
        folder, fd = session.create_session(root)
        os.close(fd)
    assert (root / "session_latest").resolve() == folder.resolve()


def test_private_files(tmp_path):
    path = tmp_path / "secret"
    session.write_private(path, b"one")
    session.write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


# ---------------------------------------------------------------------------------------------------------------- locks
def test_a_swept_folder_cannot_be_held(tmp_path, monkeypatch):
    """The lock was taken on a file that a sweeper has unlinked meanwhile."""
    folder = tmp_path / "f"
    folder.mkdir()
    real = session.fcntl.flock

    def slow(fd, kind):
        (folder / "lock").unlink()
        real(fd, kind)

    monkeypatch.setattr(session.fcntl, "flock", slow)
    assert session.hold(folder) is None


def test_a_missing_folder_cannot_be_held(tmp_path):
    assert session.hold(tmp_path / "no") is None


def test_the_lock_dies_with_its_process(root):
    folder, fd = session.create_sockets_folder(root)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(fd,))
    os.close(fd)
    assert session.is_held(folder), "the child inherited it"
    child.kill()
    child.communicate()
    assert not session.is_held(folder)


# ---------------------------------------------------------------------------------------------------------------- sweep
def test_sweep_spares_what_is_held(root):
    alive, fd = session.create_sockets_folder(root)
    dead, dead_fd = session.create_sockets_folder(root)
    (dead / "node.sock").touch()
    os.close(dead_fd)
    assert session.sweep(root) == [dead]
    assert alive.exists()
    assert not dead.exists()
    os.close(fd)


def test_sweep_keeps_the_newest_sessions(root):
    folders = []
    for _ in range(5):
        folder, fd = session.create_session(root)
        (folder / "logs" / "worker.out").write_text("x")
        os.close(fd)
        folders.append(folder)
    held, held_fd = folders[0], session.hold(folders[0])
    session.sweep(root, kept_max=2)
    left = sorted(entry for entry in root.iterdir() if entry.name.startswith("session_2"))
    # A set: sessions of one millisecond are ordered by chance, so the held one may be among the newest.
    assert left == sorted({held, *sorted(folders)[-2:]})
    assert held_fd is not None
    os.close(held_fd)


def test_sweep_bounds_the_bytes(root):
    folders = []
    for _ in range(3):
        folder, fd = session.create_session(root)
        (folder / "logs" / "worker.out").write_bytes(bytes(100_000))
        os.close(fd)
        folders.append(folder)
    newest = max(folders)
    assert sorted(session.sweep(root, bytes_max=150_000)) == sorted(folder for folder in folders if folder != newest)
    assert newest.exists()


def test_only_sockets_folders_are_removed(tmp_path):
    with pytest.raises(ValueError, match="not a sockets folder"):
        session.remove_sockets_folder(tmp_path)
    assert tmp_path.exists()


def test_removing_does_not_follow_links(root, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    folder, fd = session.create_sockets_folder(root)
    (folder / "link").symlink_to(precious)
    session.remove_sockets_folder(folder)
    session.remove_sockets_folder(folder)
    assert not folder.exists()
    assert (precious / "file").exists()
    os.close(fd)


# -------------------------------------------------------------------------------------------------------------- records
def test_record_of_a_running_node(root):
    folder, fd = session.create_sockets_folder(root)
    session.write_record(record(folder))
    assert session.read_record(folder) == record(folder)
    assert session.list_records(root) == [record(folder)]
    os.close(fd)
    assert session.read_record(folder) is None, "nobody holds the folder"


@pytest.mark.parametrize("changes", [{"start_mark": "another boot:1"}, {"pid": 2**22 + 1}])
def test_record_of_another_process(root, changes):
    folder, fd = session.create_sockets_folder(root)
    session.write_record(record(folder, **changes))
    assert session.read_record(folder) is None
    os.close(fd)


def test_broken_record(root):
    folder, fd = session.create_sockets_folder(root)
    (folder / "node.json").write_text("{")
    assert session.read_record(folder) is None
    os.close(fd)


def test_current_cluster(root):
    folder, fd = session.create_sockets_folder(root)
    assert session.current_cluster(root) is None
    session.write_record(record(folder))
    session.set_current_cluster(root, record(folder))
    assert session.current_cluster(root) == record(folder)
    session.clear_current_cluster(root, root / "s" / "other")
    assert session.current_cluster(root) is not None
    os.close(fd)
    assert session.current_cluster(root) is None, "stale"
    session.clear_current_cluster(root, folder)
    session.clear_current_cluster(root, folder)
    assert not (root / "current_cluster").exists()


def test_current_cluster_stays_inside(root, tmp_path):
    (root / "current_cluster").write_text(str(tmp_path))
    assert session.current_cluster(root) is None


def test_start_marks():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = session.start_mark(child.pid)
    assert mark
    assert mark == session.start_mark(child.pid) != session.start_mark(os.getpid())
    child.communicate(b"\n")
    assert session.start_mark(child.pid) == ""


# -------------------------------------------------------------------------------------------------------------- objects
DYING = """
import os, sys
from actorrt.store.segment import Segment
made = Segment(sys.argv[1], sys.argv[2], 0, 1 << 20)
os._exit(0)
"""


@pytest.fixture
def dead_store(root, tmp_path):
    """What a node leaves that is killed: a sockets folder, a segment, spill files. (folder, segments, spill)."""
    folder, fd = session.create_sockets_folder(root)
    os.close(fd)
    segments, spill = tmp_path / "segments", tmp_path / "spill"
    segments.mkdir()
    spill.mkdir()
    subprocess.run([sys.executable, "-c", DYING, str(segments), "actorrt-aa"], check=True)
    for name in ("actorrt-aa-00000001.spill", "actorrt-bb-00000001.spill"):
        (spill / name).touch()
    record = session.StoreRecord(directory=str(segments), prefix="actorrt-aa", spill=(str(spill), "/no/such/folder"))
    session.write_store_record(folder, record)
    return folder, segments, spill


@pytest.mark.parametrize("by_sweep", [False, True])
def test_objects_of_a_dead_node_go_with_its_folder(root, dead_store, by_sweep):
    folder, segments, spill = dead_store
    assert len(list(segments.iterdir())) == 1
    if by_sweep:
        assert folder in session.sweep(root)
    else:
        session.remove_sockets_folder(folder)
    assert not folder.exists()
    assert list(segments.iterdir()) == []
    assert [path.name for path in spill.iterdir()] == ["actorrt-bb-00000001.spill"]


def test_objects_of_a_living_node_stay(root, dead_store):
    folder, segments, spill = dead_store
    living = Segment(str(segments), "actorrt-aa", 1, 1 << 20)
    session.remove_sockets_folder(folder)
    assert folder not in session.sweep(root)
    assert folder.exists()
    assert [path.name for path in segments.iterdir()] == ["actorrt-aa-0001"]
    assert len(list(spill.iterdir())) == 2
    living.close()
    session.remove_sockets_folder(folder)
    assert not folder.exists()


def test_a_record_that_cannot_be_read_keeps_nothing(root, dead_store, caplog):
    folder, segments, _ = dead_store
    (folder / "store.json").write_text("{")
    session.remove_sockets_folder(folder)
    assert "cannot be read" in caplog.text
    assert not folder.exists()
    assert len(list(segments.iterdir())) == 1


def test_a_record_that_names_files_of_others(root, dead_store, caplog):
    folder, segments, spill = dead_store
    session.write_store_record(folder, session.StoreRecord(directory=str(segments), prefix="", spill=(str(spill),)))
    session.remove_sockets_folder(folder)
    assert "cannot be ours" in caplog.text
    assert not folder.exists()
    assert len(list(spill.iterdir())) == 2


def test_files_that_cannot_be_removed(root, dead_store, monkeypatch, caplog):
    folder, _, spill = dead_store
    unlink = Path.unlink

    def refuse(path, missing_ok=False):
        if path.parent == spill:
            raise PermissionError("not yours")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    session.remove_sockets_folder(folder)
    assert "not yours" in caplog.text
    assert not folder.exists()


def test_segments_without_a_folder_are_found(root, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "SHARED_MEMORY", str(tmp_path))
    subprocess.run([sys.executable, "-c", DYING, str(tmp_path), "actorrt-cc"], check=True)
    (tmp_path / "unrelated-0000").touch()
    assert session.sweep(root) == [tmp_path / "actorrt-cc-0000"]
    assert [path.name for path in tmp_path.iterdir()] == ["unrelated-0000"]
    monkeypatch.setattr(session, "SHARED_MEMORY", str(tmp_path / "missing"))
    assert session.sweep(root) == []


def test_spilled_objects_of_dead_sessions_go_at_once(root):
    folder, fd = session.create_session(root)
    (folder / session.SPILL).mkdir()
    (folder / session.SPILL / "x.spill").write_bytes(bytes(1000))
    (folder / "logs" / "log").write_bytes(bytes(10))
    assert session._size_bytes(folder) == 10
    assert session.sweep(root) == []
    os.close(fd)
    assert session.sweep(root) == [folder / session.SPILL]
    assert (folder / "logs" / "log").exists()
