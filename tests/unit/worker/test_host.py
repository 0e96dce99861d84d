import inspect

from actorrt.api.worker_host import WorkerHost
from actorrt.worker.host import Host
from tests.unit.worker import host


def test_the_real_host_and_the_tests_fake_offer_what_is_asked_for():
    asked = {name: function for name, function in vars(Host).items() if inspect.isfunction(function) and name[0] != "_"}
    assert len(asked) > 10
    for name, function in asked.items():
        wanted = list(inspect.signature(function).parameters)
        for offered in (WorkerHost, host.Host):
            assert list(inspect.signature(getattr(offered, name)).parameters) == wanted, (offered, name)
            assert inspect.iscoroutinefunction(getattr(offered, name)) == inspect.iscoroutinefunction(function)
