"""The driver's part: signal handlers, where it listens, how it joins and leaves."""

import signal
import threading

import pytest

from actorrt.api import driver
from actorrt.testing import Cluster


def test_the_import_path_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", "lib", str(tmp_path / "x")])
    assert driver._import_path() == [str(tmp_path), str(tmp_path / "lib"), str(tmp_path / "x")]


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_come_and_go(handlers):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    driver.install_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is driver._on_sigterm
    assert signal.getsignal(signal.SIGINT) is driver._on_sigint
    with pytest.raises(SystemExit) as caught:
        driver._on_sigterm(signal.SIGTERM, None)
    assert caught.value.code == 143
    driver.restore_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_the_user_stay(handlers):
    mine = lambda *_: None
    signal.signal(signal.SIGTERM, mine)
    driver.install_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is mine
    driver.restore_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is mine


def test_only_the_main_thread_touches_handlers(handlers):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    thread = threading.Thread(target=driver.install_signal_handlers)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_two_drivers_of_one_process_are_two_jobs():
    with Cluster(initialize_head=True, in_process=True) as cluster:
        one, two = cluster._embedded.driver("a"), cluster._embedded.driver("b")
        assert one.runtime.job.job_id != two.runtime.job.job_id
        assert [each.runtime.job.namespace for each in (one, two)] == ["a", "b"]
        one.leave()
        one.leave()
        assert one.runtime.closed
        assert not two.runtime.closed
        two.leave()
