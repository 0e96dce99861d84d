import os
import resource
import subprocess
import sys

import pytest

from actorrt.cluster import interpreter


def run(code: str, *arguments: str) -> subprocess.CompletedProcess:
    code = f"from actorrt.cluster import interpreter\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=interpreter.PACKAGE_PARENT,
    )


def test_commands_run_this_very_code_from_anywhere(tmp_path):
    (tmp_path / "types.py").write_text("raise RuntimeError('the working directory was searched')")
    command = interpreter.python_command("actorrt.cluster.worker_process", "title", "base", "1")
    assert command[-3:] == ["base", "1", "title"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        command, input=b"\xc1", capture_output=True, check=False, timeout=30, cwd=tmp_path, env=environment
    )
    assert ended.returncode == 1
    assert "Error" not in ended.stderr.decode()
    assert (tmp_path / "base").exists() is False


def test_embedded_python(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match="embeds Python"):
        interpreter.python_command("x", "y")


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_NAME")
def test_process_name():
    named = run(
        "interpreter.set_process_name('actorrt:a name that is too long'); print(open('/proc/self/comm').read())"
    )
    assert named.stdout.strip() == "actorrt:a name"


def test_die_with_parent():
    parent = "print(interpreter.die_with_parent(int(sys.argv[1])))"
    assert run(f"import sys; {parent}", str(os.getpid())).stdout.strip() == "True"
    assert run(f"import sys; {parent}", "1").stdout.strip() == "False"


def test_open_files_limit():
    soft = min(256, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    code = f"""
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, hard))
limit = interpreter.raise_open_files_limit()
assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0], limit
assert limit > {soft} or hard == {soft}, limit
"""
    run(code)
