"""Where objects go when memory is short, as users say it."""

import json
import os
from pathlib import Path

import pytest

from actorrt.cluster.config import SpillTarget
from actorrt.cluster.spilling import DIRECTORIES_MAX, Spilling, prepare, read_spilling


def config(kind="filesystem", **params):
    return {"object_spilling_config": json.dumps({"type": kind, "params": params})}


def uris(spilling):
    return [target.uri for target in spilling.targets]


def test_nothing_given():
    assert read_spilling() == read_spilling("", {}) == read_spilling(None, {"other": 1}) == Spilling()


def test_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert uris(read_spilling("spill")) == [str(tmp_path / "spill")]
    assert uris(read_spilling([tmp_path / "a", "b", "s3://bucket/c"])) == [
        str(tmp_path / "a"),
        str(tmp_path / "b"),
        "s3://bucket/c",
    ]
    assert uris(read_spilling(f"file://{tmp_path}/a")) == [str(tmp_path / "a")]
    assert uris(read_spilling("~/spill")) == [str(Path("~/spill").expanduser())]


def test_as_ray_spells_it():
    given = config(directory_path=["/a", "/b"], buffer_size=1000, spill_quota_bytes=[5, None])
    assert read_spilling(None, given).targets == (SpillTarget("/a", 5), SpillTarget("/b"))
    assert read_spilling(None, config(directory_path="/a", spill_quota_bytes=7)).targets == (SpillTarget("/a", 7),)
    assert uris(read_spilling(None, config("smart_open", uri="s3://b/c"))) == ["s3://b/c"]
    parsed = {"object_spilling_config": {"type": "filesystem", "params": {"directory_path": "/a"}}}
    assert uris(read_spilling(None, parsed)) == ["/a"]
    more = read_spilling(None, {"object_spilling_threshold": 1, "min_spilling_size": 0})
    assert (more.threshold, more.fuse_bytes) == (1.0, 0)


@pytest.mark.parametrize(
    ("directory", "system_config", "error", "text"),
    [
        ("/a", config(directory_path="/b"), ValueError, "not both"),
        (5, None, TypeError, "object_spilling_directory must be a directory or a list"),
        (["/a", ""], None, TypeError, "object_spilling_directory"),
        (["/a", "/a/"], None, ValueError, "twice"),
        ([f"/a{number}" for number in range(DIRECTORIES_MAX + 1)], None, ValueError, f"at most {DIRECTORIES_MAX}"),
        ("5://x", None, ValueError, "neither a path nor a URI"),
        (__file__, None, ValueError, "is not a directory"),
        (None, {"object_spilling_config": "{"}, ValueError, "is not JSON"),
        (None, {"object_spilling_config": "[]"}, TypeError, "'type' and 'params'"),
        (None, {"object_spilling_config": '{"type": "x", "params": 5}'}, TypeError, "'type' and 'params'"),
        (None, config("mock"), ValueError, "filesystem, smart_open, got 'mock'"),
        (None, config(), TypeError, "directory_path must be"),
        (None, config(directory_path=[]), TypeError, "directory_path must be"),
        (None, config(directory_path="/a", color=1), ValueError, "has no color; it takes directory_path"),
        (None, config(directory_path="/a", spill_quota_bytes=[1, 2]), ValueError, "2 entries for 1"),
        (None, config(directory_path="/a", spill_quota_bytes=0), ValueError, "at least 1"),
        (None, config(directory_path="/a", spill_quota_bytes="1"), TypeError, "number of bytes"),
        (None, {"object_spilling_threshold": 0}, ValueError, "above 0"),
        (None, {"object_spilling_threshold": "0.5"}, TypeError, "must be a number"),
        (None, {"min_spilling_size": -1}, ValueError, "at least 0"),
        (None, {"min_spilling_size": True}, TypeError, "number of bytes"),
    ],
    ids=str,
)
def test_mistakes(directory, system_config, error, text):
    with pytest.raises(error) as raised:
        read_spilling(directory, system_config)
    assert text in str(raised.value)


def test_directories_are_made(tmp_path):
    prepare(read_spilling([tmp_path / "a" / "b", "s3://bucket/x"]))
    assert (tmp_path / "a" / "b").is_dir()


def test_directories_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be spilled to"):
        prepare(read_spilling(tmp_path / "file" / "below"))
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(ValueError, match="may not be written to"):
        prepare(read_spilling(tmp_path))
