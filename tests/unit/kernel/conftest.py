"""Event loops of both kinds."""

import asyncio

import pytest
import uvloop


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def loop(request):
    made = request.param()
    yield made
    made.close()
