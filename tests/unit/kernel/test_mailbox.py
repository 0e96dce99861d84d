import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.kernel.errors import Overloaded
from actorrt.kernel.mailbox import Mailbox, Overflow
from actorrt.kernel.message import LANE_CONTROL, LANE_SUPERVISION, NOWHERE, Done, Envelope, Message, PeerGone


class Normal(Message):
    number: int = 0


class Control(Message):
    LANE = LANE_CONTROL
    number: int = 0


class Supervision(Message):
    LANE = LANE_SUPERVISION
    number: int = 0


def envelope(body):
    return Envelope(NOWHERE, body)


def drain(mailbox):
    found = []
    while (taken := mailbox.pop()) is not None:
        found.append(taken.body)
    return found


def test_lanes():
    mailbox = Mailbox()
    assert not mailbox
    for body in (Normal(1), Supervision(1), Control(1), Normal(2), Control(2), Supervision(2)):
        mailbox.append(envelope(body))
    assert mailbox
    assert len(mailbox) == 6
    assert repr(mailbox) == "Mailbox(control=2, supervision=2, normal=2, messages_max=1000000)"
    assert drain(mailbox) == [Control(1), Control(2), Supervision(1), Supervision(2), Normal(1), Normal(2)]
    assert not mailbox


def test_peer_gone_does_not_overtake_what_the_peer_said():
    mailbox = Mailbox()
    for body in (Normal(1), PeerGone("p", "died"), Normal(2), Supervision(1)):
        mailbox.append(envelope(body))
    assert drain(mailbox) == [Supervision(1), Normal(1), PeerGone("p", "died"), Normal(2)]


def test_every_lane_has_its_own_bound():
    mailbox = Mailbox(messages_max=2)
    for number in range(2):
        mailbox.append(envelope(Normal(number)))
    with pytest.raises(Overflow, match="at most 2"):
        mailbox.append(envelope(Normal(2)))
    with pytest.raises(Overloaded):  # what a peer is told
        mailbox.append(envelope(Normal(2)))
    mailbox.append(envelope(Control()))
    mailbox.append(envelope(Supervision()))
    assert len(mailbox) == 4
    for _ in range(3):
        mailbox.pop()
    mailbox.append(envelope(Done()))
    mailbox.append(envelope(PeerGone("p", "died")))  # never refused
    assert len(mailbox) == 3
    with pytest.raises(ValueError, match="at least 1"):
        Mailbox(messages_max=0)


@given(st.lists(st.sampled_from([Normal, Control, Supervision])))
def test_order_within_a_lane(kinds):
    mailbox = Mailbox()
    bodies = [kind(number) for number, kind in enumerate(kinds)]
    for body in bodies:
        mailbox.append(envelope(body))
    assert drain(mailbox) == sorted(bodies, key=lambda body: type(body).LANE)
