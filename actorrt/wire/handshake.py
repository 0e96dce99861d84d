"""The opening of a connection, as a pure machine: bytes in, bytes and a verdict out.

Theory of operation
-------------------
Three messages, then the channel belongs to the router::

    dialer   -> accepter   hello (magic, versions, cluster, nonce, process address, description)
    accepter -> dialer     hello, proof
    dialer   -> accepter   proof                      or, from either side, a refusal that says why

Until the proof nothing is decoded but these three small structs; a message may have one frame of at most
``HELLO_BYTES_MAX`` bytes. The accepter says nothing before it has seen a hello with our magic, so a stranger learns
nothing from a connection.

*Checks*, in this order, each with a text for people on both sides: magic, protocol version, exact Python minor
version (values are pickled by one process and unpickled by another), cluster id. A driver that does not know the
cluster yet says an empty id and learns it from the other side.

*Proof*: HMAC-SHA256 under the cluster's token over the prover's role, the agreed cluster id, and both hellos exactly
as they travelled. The hellos contain both nonces and both process addresses, so a proof holds for this connection,
this direction and these two processes only; a reflected or replayed one does not verify. The token never travels, and
proofs are compared in constant time. An eavesdropper may test guesses of the token against a proof, so tokens are to
be random, not memorable. After the opening the connection is neither encrypted nor signed: that is the transport's
business (CurveZMQ, TLS).

No clock: the router closes a channel whose handshake lasts too long. Whatever arrives that is not the next expected
message ends the handshake; no input makes this module raise.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from actorrt.kernel.errors import ActorrtError, AuthenticationError, ProtocolMismatchError
from actorrt.kernel.ids import CLUSTER_ID_BYTES, RandomBytes
from actorrt.kernel.limits import HELLO_BYTES_MAX

MAGIC: Final = b"actorrt\n"
NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
PROOF_CONTEXT: Final = b"actorrt handshake 1"
PROCESS_CHARACTERS_MAX: Final = 1024
DESCRIPTION_CHARACTERS_MAX: Final = 200
REFUSAL_CHARACTERS_MAX: Final = 500

Frame = bytes | bytearray | memoryview


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who this process is to others. The token is a secret: it is left out of the ``repr``."""

    description: str
    """Role and pid, for logs and error texts."""
    cluster_id: bytes
    """Empty: not known yet."""
    token: bytes
    protocol_version: int
    python_version: tuple[int, int]
    random_bytes: RandomBytes

    def __post_init__(self) -> None:
        if not self.token:
            raise ValueError("the cluster's token is empty: anyone could prove it")
        if len(self.cluster_id) not in {0, CLUSTER_ID_BYTES}:
            raise ValueError(f"a cluster id has {CLUSTER_ID_BYTES} bytes, got {len(self.cluster_id)}")

    def __repr__(self) -> str:
        return f"Identity({self.description!r}, cluster_id={self.cluster_id.hex()})"


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """The first message of each side. New fields are appended with defaults: an older peer must be able to read our
    version.
    """

    magic: bytes
    protocol_version: int
    python_version: tuple[int, int]
    cluster_id: bytes
    nonce: bytes
    process: str
    description: str


class Proof(msgspec.Struct, frozen=True, array_like=True, tag="proof"):
    """Shows that the sender knows the token."""

    mac: bytes


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal"):
    """Tells the other side why the connection ends. ``kind`` is a class name of ``kernel.errors``."""

    kind: str
    text: str


class Role(enum.Enum):
    """Which side of the connection; part of the proof, so that a proof cannot be sent back to its author."""

    DIALER = b"dialer"
    ACCEPTER = b"accepter"

    @property
    def other(self) -> Role:
        return Role.ACCEPTER if self is Role.DIALER else Role.DIALER


class ProvedPeer(msgspec.Struct, frozen=True):
    """A peer that proved itself."""

    process: str
    description: str
    cluster_id: bytes
    """The cluster both belong to (learned, if ours was empty)."""


class State(enum.Enum):
    """What the handshake waits for."""

    HELLO = "hello"
    PROOF = "proof"
    PROVED = "proved"
    FAILED = "failed"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Hello | Proof | Refusal).decode


class Handshake:
    """One side of one opening.

    Send what ``start`` and ``receive`` return, each item as a message of one frame. Then look at ``peer`` (proved)
    and ``error`` (failed: close the channel once the rest is sent).
    """

    __slots__ = (
        "_accepter_hello",
        "_dialer_hello",
        "_own_hello",
        "_peer_hello",
        "_token",
        "error",
        "peer",
        "role",
        "state",
    )

    def __init__(self, role: Role, identity: Identity, process: str) -> None:
        if not process:
            raise ValueError("a process needs an address before it can meet others")
        if len(process) > PROCESS_CHARACTERS_MAX:
            raise ValueError(f"process address of {len(process)} characters, at most {PROCESS_CHARACTERS_MAX}")
        self.role = role
        self.state = State.HELLO
        self.peer: ProvedPeer | None = None
        self.error: ActorrtError | None = None
        self._token = identity.token
        self._own_hello = Hello(
            magic=MAGIC,
            protocol_version=identity.protocol_version,
            python_version=identity.python_version,
            cluster_id=identity.cluster_id,
            nonce=identity.random_bytes(NONCE_BYTES),
            process=process,
            description=identity.description[:DESCRIPTION_CHARACTERS_MAX],
        )
        self._peer_hello: Hello | None = None
        # As they travel: what is proved is what was said, not what we made of it.
        self._dialer_hello = b""
        self._accepter_hello = b""

    def __repr__(self) -> str:
        return f"Handshake({self.role.name}, {self.state.name})"

    def start(self) -> list[bytes]:
        """First messages of this side."""
        if self.role is Role.ACCEPTER:
            return []
        self._dialer_hello = _encode(self._own_hello)
        return [self._dialer_hello]

    def receive(self, frames: Sequence[Frame]) -> list[bytes]:
        """Take one message and return what to send. Never raises for what a peer sends."""
        if self.state not in {State.HELLO, State.PROOF}:
            return []
        if len(frames) != 1:
            return self._broken(f"sent {len(frames)} frames")
        data = bytes(frames[0][: HELLO_BYTES_MAX + 1])
        if len(data) > HELLO_BYTES_MAX:
            return self._broken(f"sent more than {HELLO_BYTES_MAX} bytes")
        try:
            said = _decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return self._broken("sent something else than a handshake")
        if type(said) is Refusal:
            return self._refused(said)
        if type(said) is Hello and self.state is State.HELLO:
            return self._hello(said, data)
        if type(said) is Proof and self.state is State.PROOF:
            return self._proof(said)
        return self._broken(f"sent a {type(said).__name__.lower()} out of turn")

    # ---- the three messages
    def _hello(self, hello: Hello, data: bytes) -> list[bytes]:
        if hello.magic != MAGIC:
            return self._broken("sent something else than a handshake")
        self._peer_hello = hello
        replies: list[bytes] = []
        if self.role is Role.DIALER:
            self._accepter_hello = data
        else:
            self._dialer_hello = data
            self._accepter_hello = _encode(self._own_hello)
            # Also before a refusal: the peer compares versions for itself, and says what it thinks in its own words.
            replies.append(self._accepter_hello)
        text = self._objection(hello)
        if text:
            return [*replies, *self._refuse(ProtocolMismatchError(text))]
        self.state = State.PROOF
        if self.role is Role.ACCEPTER:
            replies.append(_encode(Proof(self._mac(self.role))))
        return replies

    def _proof(self, proof: Proof) -> list[bytes]:
        if not hmac.compare_digest(proof.mac, self._mac(self.role.other)):
            # The dialer proves second and would otherwise leave the accepter guessing; a refusal tells it.
            return self._refuse(AuthenticationError(f"{self._peer_name()} could not prove the cluster's token"))
        hello = self._peer_hello
        assert hello is not None
        self.state = State.PROVED
        self.peer = ProvedPeer(hello.process, hello.description, self._cluster_id())
        return [_encode(Proof(self._mac(self.role)))] if self.role is Role.DIALER else []

    def _refused(self, refusal: Refusal) -> list[bytes]:
        text = "".join(c if c.isprintable() else "?" for c in refusal.text[:REFUSAL_CHARACTERS_MAX])
        kind = AuthenticationError if refusal.kind == AuthenticationError.__name__ else ProtocolMismatchError
        self._end(kind(f"{self._peer_name()} refused this process: {text}"))
        return []

    # ---- judgement
    def _objection(self, hello: Hello) -> str:
        own = self._own_hello
        peer = self._peer_name()
        if hello.protocol_version != own.protocol_version:
            return f"{peer} speaks protocol {hello.protocol_version}, this process {own.protocol_version}"
        if hello.python_version != own.python_version:
            return f"{peer} runs Python {_dotted(hello.python_version)}, this process {_dotted(own.python_version)}"
        if len(hello.cluster_id) not in {0, CLUSTER_ID_BYTES}:
            return f"{peer} sent a malformed cluster id"
        if hello.cluster_id and own.cluster_id and hello.cluster_id != own.cluster_id:
            return f"{peer} belongs to another cluster ({hello.cluster_id.hex()}, this process {own.cluster_id.hex()})"
        if not 0 < len(hello.process) <= PROCESS_CHARACTERS_MAX:
            return f"{peer} sent no usable process address"
        if hello.process == own.process:
            return f"{peer} uses this process's own address {own.process}"
        if len(hello.nonce) != NONCE_BYTES or hello.nonce == own.nonce:
            return f"{peer} sent no nonce of its own"
        return ""

    def _cluster_id(self) -> bytes:
        hello = self._peer_hello
        assert hello is not None
        return self._own_hello.cluster_id or hello.cluster_id

    def _mac(self, prover: Role) -> bytes:
        mac = hmac.new(self._token, digestmod=hashlib.sha256)
        parts = (PROOF_CONTEXT, prover.value, self._cluster_id(), self._dialer_hello, self._accepter_hello)
        for part in parts:  # with lengths, so that no two lists of parts read the same
            mac.update(len(part).to_bytes(4, "big"))
            mac.update(part)
        return mac.digest()

    def _peer_name(self) -> str:
        hello = self._peer_hello
        if hello is None or not hello.description:
            return "peer"
        description = hello.description[:DESCRIPTION_CHARACTERS_MAX]
        return f"peer ({''.join(c if c.isprintable() else '?' for c in description)})"

    def _broken(self, what: str) -> list[bytes]:
        """The peer does not follow the protocol at all: no answer, so that nothing is learned from us."""
        self._end(ProtocolMismatchError(f"{self._peer_name()} {what}"))
        return []

    def _refuse(self, error: ActorrtError) -> list[bytes]:
        self._end(error)
        return [_encode(Refusal(type(error).__name__, str(error)[:REFUSAL_CHARACTERS_MAX]))]

    def _end(self, error: ActorrtError) -> None:
        self.state = State.FAILED
        self.error = error


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
