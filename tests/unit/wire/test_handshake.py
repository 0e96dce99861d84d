"""Transcripts of openings, and whatever an adversary may make of them."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.kernel.errors import AuthenticationError, ProtocolMismatchError
from actorrt.kernel.limits import HELLO_BYTES_MAX
from actorrt.wire.handshake import (
    MAGIC,
    NONCE_BYTES,
    PROCESS_CHARACTERS_MAX,
    Handshake,
    Hello,
    Identity,
    Proof,
    Refusal,
    Role,
    State,
)

CLUSTER = b"c" * 16
TOKEN = b"the cluster's token"
encode = msgspec.msgpack.encode
decode = msgspec.msgpack.Decoder(Hello | Proof | Refusal).decode


def identity(description="test", *, seed=0, **changes):
    fields = {
        "description": description,
        "cluster_id": CLUSTER,
        "token": TOKEN,
        "protocol_version": 1,
        "python_version": (3, 11),
        "random_bytes": random.Random(seed).randbytes,
    }
    return Identity(**{**fields, **changes})


def dialer(**changes):
    return Handshake(Role.DIALER, identity("driver 1", **{"seed": 1, **changes}), "unix:///dialer")


def accepter(**changes):
    return Handshake(Role.ACCEPTER, identity("node 2", **{"seed": 2, **changes}), "unix:///accepter")


def converse(one, other):
    """Carry messages both ways until nobody has more to say; return them with their author."""
    said = []
    waiting = [(one, data) for data in one.start()] + [(other, data) for data in other.start()]
    while waiting:
        author, data = waiting.pop(0)
        said.append((author.role.name.lower(), type(decode(data)).__name__.lower()))
        receiver = other if author is one else one
        waiting += [(receiver, answer) for answer in receiver.receive([data])]
    return said


def test_the_transcript_of_an_opening():
    one, other = dialer(), accepter()
    assert converse(one, other) == [
        ("dialer", "hello"),
        ("accepter", "hello"),
        ("accepter", "proof"),
        ("dialer", "proof"),
    ]
    assert one.peer.process == "unix:///accepter"
    assert one.peer.description == "node 2"
    assert other.peer.process == "unix:///dialer"
    assert one.peer.cluster_id == other.peer.cluster_id == CLUSTER
    assert one.error is None
    assert one.state is other.state is State.PROVED
    assert one.receive([b"more"]) == []
    assert repr(one) == "Handshake(DIALER, PROVED)"


def test_the_token_never_travels():
    one, other = dialer(), accepter()
    hello = one.start()[0]
    messages = [hello, *other.receive([hello])]
    for data in messages[1:]:
        messages += one.receive([data])
    assert len(messages) == 4
    assert not any(TOKEN in data for data in messages)
    assert max(map(len, messages)) < HELLO_BYTES_MAX
    assert TOKEN.decode() not in repr(identity())


@pytest.mark.parametrize(("mine", "theirs"), [(b"", CLUSTER), (CLUSTER, b""), (b"", b"")])
def test_the_cluster_is_learned(mine, theirs):
    one, other = dialer(cluster_id=mine), accepter(cluster_id=theirs)
    converse(one, other)
    assert one.peer.cluster_id == other.peer.cluster_id == (mine or theirs)


MISMATCHES = [
    (
        {"protocol_version": 2},
        "peer (node 2) speaks protocol 1, this process 2",
        "peer (driver 1) speaks protocol 2, this process 1",
    ),
    (
        {"python_version": (3, 12)},
        "peer (node 2) runs Python 3.11, this process 3.12",
        "peer (driver 1) runs Python 3.12, this process 3.11",
    ),
    (
        {"cluster_id": b"d" * 16},
        "peer (node 2) belongs to another cluster",
        "peer (driver 1) belongs to another cluster",
    ),
]


@pytest.mark.parametrize(("changes", "at_dialer", "at_accepter"), MISMATCHES)
def test_both_sides_say_what_does_not_match(changes, at_dialer, at_accepter):
    one, other = dialer(**changes), accepter()
    assert converse(one, other)[:3] == [("dialer", "hello"), ("accepter", "hello"), ("accepter", "refusal")]
    for side, text in ((one, at_dialer), (other, at_accepter)):
        assert isinstance(side.error, ProtocolMismatchError)
        assert str(side.error).startswith(text)
        assert side.peer is None
        assert side.state is State.FAILED


def test_a_wrong_token():
    one, other = dialer(token=b"guessed"), accepter()
    said = converse(one, other)
    assert said[-1] == ("dialer", "refusal")
    assert isinstance(one.error, AuthenticationError)
    assert str(one.error) == "peer (node 2) could not prove the cluster's token"
    assert isinstance(other.error, AuthenticationError)
    assert str(other.error).startswith("peer (driver 1) refused this process: ")
    assert one.peer is other.peer is None


def test_a_dialer_that_cannot_prove_it_but_goes_on():
    one, other = dialer(token=b"guessed"), accepter()
    hello = one.start()[0]
    answers = other.receive([hello])
    one.receive([answers[0]])
    one.state = State.PROVED  # it does not care what the accepter proves
    (refusal,) = other.receive([encode(Proof(one._mac(Role.DIALER)))])
    assert isinstance(other.error, AuthenticationError)
    assert decode(refusal).kind == "AuthenticationError"


def test_a_reflected_proof():
    """An accepter without the token sends the dialer's own words back to it."""
    one = dialer()
    hello = one.start()[0]
    one.receive([hello])
    assert "own address" in str(one.error)
    # With its own process address, but the dialer's nonce.
    one = dialer()
    said = decode(one.start()[0])
    one.receive([encode(msgspec.structs.replace(said, process="unix:///mirror"))])
    assert "no nonce of its own" in str(one.error)


def test_a_proof_of_the_other_role_or_another_connection():
    victim = accepter()
    # Somebody opens a connection to a real dialer elsewhere and passes its proof on: other process, other nonces.
    real, relay = dialer(), accepter(seed=3)
    relay_answers = relay.receive([real.start()[0]])
    for data in relay_answers:
        proofs = real.receive([data])
    mine = dialer()
    victim.receive([mine.start()[0]])
    victim.receive([proofs[0]])
    assert isinstance(victim.error, AuthenticationError)
    # And the accepter's own proof sent back to it.
    victim = accepter()
    own_proof = victim.receive([dialer().start()[0]])[1]
    victim.receive([own_proof])
    assert isinstance(victim.error, AuthenticationError)


@pytest.mark.parametrize("field", ["process", "description", "nonce", "cluster_id"])
def test_every_field_is_covered_by_the_proof(field):
    """Somebody in the middle changes one field of the dialer's hello."""
    changed = {"process": "unix:///evil", "description": "evil", "nonce": b"e" * NONCE_BYTES, "cluster_id": b""}
    one, other = dialer(), accepter()
    hello = msgspec.structs.replace(decode(one.start()[0]), **{field: changed[field]})
    answers = other.receive([encode(hello)])
    for data in answers:
        one.receive([data])
    assert isinstance(one.error, AuthenticationError)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"magic": b"x"}, "something else"),
        ({"process": ""}, "no usable process address"),
        ({"process": "x" * (PROCESS_CHARACTERS_MAX + 1)}, "no usable process address"),
        ({"nonce": b"short"}, "no nonce"),
        ({"cluster_id": b"short"}, "malformed cluster id"),
    ],
)
def test_odd_hellos(changes, text):
    hello = msgspec.structs.replace(decode(dialer().start()[0]), **changes)
    other = accepter()
    answers = other.receive([encode(hello)])
    assert text in str(other.error)
    if "magic" in changes:
        assert answers == []  # a stranger learns nothing


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"GET / HTTP/1.1\r\n"],
        [b"x" * (HELLO_BYTES_MAX + 1)],
        [b"a", b"b"],
        [encode(Proof(b"x" * 32))],
        [encode(["hello"])],
        [b"\x95" + b"\x91" * 4000],
        [memoryview(b"\xc1")],
        [bytearray(b"\x00")],
    ],
)
def test_noise_gets_no_answer(frames):
    for side in (accepter(), dialer()):
        side.start()
        assert side.receive(frames) == []
        assert isinstance(side.error, ProtocolMismatchError)
        assert side.receive([dialer().start()[0]]) == []  # it is over


def test_a_second_hello_is_out_of_turn():
    other = accepter()
    hello = dialer().start()[0]
    other.receive([hello])
    other.receive([hello])
    assert "hello out of turn" in str(other.error)


def test_what_a_peer_says_is_made_printable():
    other = accepter()
    other.receive([encode(Refusal("NoSuchError", "a\x1b[31m\n" + "x" * 10_000))])
    assert isinstance(other.error, ProtocolMismatchError)
    assert "\x1b" not in str(other.error)
    assert len(str(other.error)) < 1000


def test_a_newer_peer_may_say_more():
    """Fields are appended: our version must still be told apart, not called garbage."""
    hello = decode(dialer().start()[0])
    longer = ["hello", *msgspec.structs.astuple(hello), "new field", 7]
    longer[2] = 99
    other = accepter()
    other.receive([encode(longer)])
    assert "speaks protocol 99, this process 1" in str(other.error)


def test_bad_identities():
    with pytest.raises(ValueError, match="token is empty"):
        identity(token=b"")
    with pytest.raises(ValueError, match="16 bytes"):
        identity(cluster_id=b"x")
    with pytest.raises(ValueError, match="needs an address"):
        Handshake(Role.DIALER, identity(), "")
    with pytest.raises(ValueError, match="at most"):
        Handshake(Role.DIALER, identity(), "x" * (PROCESS_CHARACTERS_MAX + 1))
    assert MAGIC in dialer().start()[0]


# ---- fuzz: nothing raises, nothing but the true messages passes
@given(st.lists(st.lists(st.binary(max_size=200), max_size=3), max_size=6), st.sampled_from(Role))
def test_random_frames(messages, role):
    side = accepter() if role is Role.ACCEPTER else dialer()
    side.start()
    for frames in messages:
        side.receive(frames)
    assert side.peer is None


@given(
    position=st.integers(0, 3),
    change=st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 10_000)),
        st.tuples(st.just("cut"), st.integers(0, 10_000)),
        st.tuples(st.just("add"), st.binary(min_size=1, max_size=20)),
    ),
)
def test_changed_messages_never_pass(position, change):
    """One of the four messages is damaged: whoever depends on it does not reach the end."""
    one, other = dialer(), accepter()
    waiting = [(one, data) for data in one.start()]
    number = 0
    while waiting:
        author, data = waiting.pop(0)
        if number == position:
            data = damage(data, change)
        number += 1
        receiver = other if author is one else one
        waiting += [(receiver, answer) for answer in receiver.receive([data])]
    # The last message is for the accepter alone; the dialer has its proof by then.
    assert other.peer is None
    if position < 3:
        assert one.peer is None


def damage(data, change):
    what, how = change
    if what == "flip":
        index = how % (8 * len(data))
        flipped = bytearray(data)
        flipped[index // 8] ^= 1 << index % 8
        return bytes(flipped)
    if what == "cut":
        return data[: how % len(data)]
    return data + how
