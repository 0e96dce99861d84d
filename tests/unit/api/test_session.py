"""``session(...)``: both faces hand their arguments to ``init`` and always shut down."""

import asyncio
import threading

import pytest

from actorrt.api import session as module


@pytest.fixture
def calls(monkeypatch):
    made = []
    monkeypatch.setattr(
        module, "init", lambda *a, **k: made.append(("init", a, k, threading.current_thread())) or "ctx"
    )
    monkeypatch.setattr(module, "shutdown", lambda: made.append(("shutdown",)))
    return made


def test_with(calls):
    with module.session("here", num_cpus=2) as context:
        assert context == "ctx"
        assert len(calls) == 1
    assert calls[0][:3] == ("init", ("here",), {"num_cpus": 2})
    assert calls[1] == ("shutdown",)


def test_async_with_leaves_the_loop_alone(calls):
    async def main():
        async with module.session(num_cpus=2) as context:
            assert context == "ctx"

    asyncio.run(main())
    assert calls[0][:3] == ("init", (None,), {"num_cpus": 2})
    assert calls[0][3] is not threading.main_thread()
    assert calls[-1] == ("shutdown",)


def test_an_error_inside_shuts_down_too(calls):
    with pytest.raises(KeyError), module.session():
        raise KeyError
    assert calls[-1] == ("shutdown",)

    async def main():
        async with module.session():
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(main())
    assert calls[-1] == ("shutdown",)
