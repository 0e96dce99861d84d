import inspect

import pytest

from actorrt.kernel.mailbox import Mailbox
from actorrt.kernel.message import LANE_NORMAL
from actorrt.owner import requests
from actorrt.owner.requests import LocalRequest, Release
from actorrt.owner.state import local
from tests.unit.owner.harness import Driver


def kinds():
    return [k for k in vars(requests).values() if inspect.isclass(k) and issubclass(k, LocalRequest)]


@pytest.mark.parametrize("kind", kinds(), ids=lambda k: k.__name__)
def test_every_request_has_the_normal_lane_and_a_handler(kind):
    """The normal lane: requests of one process must not overtake each other (a release its submit)."""
    assert kind.LANE == LANE_NORMAL
    assert kind is LocalRequest or kind in Driver().machine._handlers


def test_requests_are_frozen_and_hold_live_objects():
    ids = [b"x"]
    request = Release(ids)
    assert request.object_ids is ids
    with pytest.raises(AttributeError):
        request.object_ids = []
    mailbox = Mailbox()
    mailbox.append(local(request))
    assert mailbox.pop().body is request
