"""Messages to and from other processes: the address book, and the only file that knows messages *and* transports.

Theory of operation
-------------------
**Addresses.** A process is named by the comma-joined list of the addresses it listens at, best first. ``send`` finds
the peer by that name; an unknown one is dialled on the loop, at the first of its addresses that is usable from here
(then at the next, should that fail), while its messages wait in a bounded queue. A process that listens nowhere has
an undialable name and can still talk to those it dials. ``""`` and every address of our own mean this process:
encoded and decoded like all else, then handed over in the calling thread.

**Channels.** Every channel begins with the handshake (``wire.handshake``); until it is over, messages are limited to
``HELLO_BYTES_MAX``. An accepted channel serves for sending too, so answers go back the way the request came. Two
processes that dial each other at once end up with two channels: each side goes on sending on the one it knew first,
so order per (sender, receiver) holds, and listens on both.

**Order and threads.** ``send`` encodes and writes in the calling thread, without a lock of ours: a sending shell is
run by one thread at a time, so its messages to one receiver enter the channel in the order of its effects. Before the
channel stands they enter the peer's queue under the lock; the loop empties the queue into the channel and publishes
it under the same lock, so nothing overtakes. What arrives is decoded and posted on the loop's thread.

**Loss.** The end of any established channel of a peer ends the peer: the others are closed too, requests to it fail,
and every attached actor gets one ``PeerGone`` per name we used for it, after the last message received from it. (A
dying process closes its channels one by one, so the remaining ones get ``DRAIN_TIMEOUT_S`` to deliver what is on its
way.) A failed dial is told the same way. A later ``send`` dials anew. A message that cannot be sent (queue full) or
taken in (mailbox full) is never dropped silently: unless it is a request or an answer, where failure can be told, it
costs the connection, and with that both sides know.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import msgspec

from actorrt.kernel.clock import Clock, MonotonicClock, call_soon
from actorrt.kernel.errors import ActorrtError, InternalError, Overloaded
from actorrt.kernel.limits import (
    CONNECT_ATTEMPT_TIMEOUT_S,
    HANDSHAKE_TIMEOUT_S,
    PEERS_MAX,
    SEND_QUEUE_MESSAGES_MAX,
)
from actorrt.kernel.message import Address, Envelope, Message, PeerGone, RequestFailed
from actorrt.transports.base import Channel, Frame, Listener, Transport
from actorrt.transports.errors import BadAddress, Closed, TooLarge, TransportError
from actorrt.wire.codec import BadMessage, Codec
from actorrt.wire.handshake import Handshake, Identity, ProvedPeer, Role
from actorrt.wire.peers import Link, Peer, PeerInfo
from actorrt.wire.requests import REQUESTS_MAX, Requests

logger = logging.getLogger("actorrt.wire")

DRAIN_TIMEOUT_S: Final = 0.5
"""How long the remaining channels of a lost peer may still deliver."""
REQUESTER: Final = "request"
"""The actor name requests come from; answers find their future by number."""

Post = Callable[[Envelope], None]


class RouterLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound a router enforces."""

    peers_max: int = PEERS_MAX
    send_queue_messages_max: int = SEND_QUEUE_MESSAGES_MAX
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S
    connect_timeout_s: float = CONNECT_ATTEMPT_TIMEOUT_S
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    message_bytes_max: int = 8 << 30
    requests_max: int = REQUESTS_MAX


class RouterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A router's figures at one moment. Counts of messages may miss some when several threads send to one peer."""

    process: str
    peers: int
    channels: int
    queued: int
    requests: int
    sent: int
    received: int


class _Connections:
    """The address book: which peers there are, and how they come and go. The office of all links.

    Runs on the loop's thread, except ``enqueue``. ``lock`` guards ``peers`` and everything in a ``Peer`` that both
    sides touch (``waiting``, ``links``); ``channels`` is written under it and read without.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transports: Sequence[Transport],
        identity: Identity,
        limits: RouterLimits,
        received: Callable[[Link, list[list[Frame]]], None],
        gone: Callable[[tuple[str, ...], Exception], None],
    ) -> None:
        self.loop = loop
        self.received = received
        self.identity = identity
        self.listeners: list[Listener] = []
        # Until it listens somewhere, a process has a name that nobody can dial.
        self.process = f"none://{identity.random_bytes(16).hex()}"
        self.is_told = False  # others know our name
        self.lock = threading.Lock()
        self.peers: dict[str, Peer] = {}  # by every name in use
        self.channels: dict[str, Link] = {}  # by every name: where to send
        self.closed = False
        self.sent_count = 0  # over links that ended
        self.received_count = 0
        self._transports = {scheme: transport for transport in transports for scheme in transport.schemes}
        self._all_transports = tuple(transports)
        self._limits = limits
        self._gone = gone
        self._unproved: dict[Link, None] = {}

    # ---- our side
    def listen(self, address: str) -> str:
        scheme = address.partition("://")[0]
        if scheme not in self._transports:
            raise BadAddress(f"no transport for {address!r}, only for {', '.join(sorted(self._transports))}")
        if self.is_told:
            raise RuntimeError("others know this process's address already; listen first, connect afterwards")
        listener = self._transports[scheme].listen(address, self._accept)
        self.listeners.append(listener)
        self.process = ",".join(each.address for each in self.listeners)
        return listener.address

    def abandon(self) -> None:
        self.closed = True
        for transport in self._all_transports:
            transport.abandon()

    def close(self) -> None:
        with self.lock:
            self.closed = True
            peers = list(self.peers.values())
            self.peers.clear()
            self.channels.clear()
        for peer in peers:
            peer.lost = True
            peer.waiting.clear()
            if peer.dying is not None:
                peer.dying.cancel()
        for link in [*self._unproved, *(link for peer in peers for link in peer.links)]:
            link.end()
        self._unproved.clear()
        for listener in self.listeners:
            listener.close()
        for transport in self._all_transports:
            transport.close()

    # ---- sending, any thread, under the lock
    def enqueue(self, process: str, frames: list[Frame]) -> None:
        """Let a message wait for its channel, and have the peer dialled if it is the first."""
        peer = self.peers.get(process)
        start: Callable[[Peer], None] | None = None
        if peer is None:
            start = self._dial if len(self.peers) < self._limits.peers_max else self._too_many_peers
            peer = self.peers[process] = Peer(process)
        if len(peer.waiting) < self._limits.send_queue_messages_max:
            peer.waiting.append(frames)
        else:
            start = self._too_many_waiting
        if start is not None:
            call_soon(self.loop, functools.partial(start, peer))

    def _too_many_peers(self, peer: Peer) -> None:
        self.lose(peer, Overloaded(f"this process has {self._limits.peers_max} peers already"))

    def _too_many_waiting(self, peer: Peer) -> None:
        self.lose(peer, Overloaded(f"{len(peer.waiting)} messages wait already for the connection"))

    # ---- connecting
    def _handshake(self, role: Role) -> Handshake:
        self.is_told = True
        return Handshake(role, self.identity, self.process)

    def _dial(self, peer: Peer) -> None:
        for endpoint in peer.names[0].split(","):
            scheme, _, path = endpoint.partition("://")
            if scheme not in self._transports:
                continue
            if scheme in {"unix", "ipc"} and not path.startswith("@") and not Path(path).exists():
                continue  # a socket of another machine, or of a process that is gone
            peer.candidates.append(endpoint)
        self._dial_next(peer, InternalError(f"no address of {peer.names[0]!r} can be reached from here"))

    def _dial_next(self, peer: Peer, reason: Exception) -> None:
        while peer.candidates and not peer.lost and not peer.links:
            endpoint = peer.candidates.popleft()
            link = Link(self, self._handshake(Role.DIALER), peer)
            peer.dialling = link
            self._unproved[link] = None
            try:
                channel = self._transports[endpoint.partition("://")[0]].connect(endpoint, link)
            except TransportError as error:
                del self._unproved[link]
                reason = error
                continue
            if not link.ended:
                link.begin(channel, self._limits.connect_timeout_s + self._limits.handshake_timeout_s)
            return
        peer.dialling = None
        if not peer.links:
            self.lose(peer, reason)

    def _accept(self, channel: Channel) -> Link:
        link = Link(self, self._handshake(Role.ACCEPTER), None)
        if self.closed or len(self._unproved) + len(self.channels) >= self._limits.peers_max:
            logger.warning("%s refused: there are %d peers already", channel.peer, len(self.channels))
            link.pipe = channel
            link.end()
        else:
            self._unproved[link] = None
            link.begin(channel, self._limits.handshake_timeout_s)
        return link

    # ---- what links report
    def say(self, link: Link, messages: list[bytes]) -> None:
        try:
            for message in messages:
                link.pipe.send([message])
        except TransportError as error:
            logger.debug("handshake with %s: %s", link.name, error)  # its end follows, and says why

    def not_proved(self, link: Link, reason: Exception) -> None:
        self._unproved.pop(link, None)
        link.end()
        peer = link.dialled
        if peer is None:
            logger.warning("%s dropped before it proved itself: %s", link.name, reason)
        elif not peer.lost and peer.dialling is link:
            logger.info("could not connect to %s: %s", peer.names[0], reason)
            if not isinstance(reason, TransportError):
                peer.candidates.clear()  # somebody is there, and will not be nicer at another door
            # In a later turn: a transport may have told us from inside connect().
            self.loop.call_soon(self._dial_next, peer, reason)

    def proved(self, link: Link, proved: ProvedPeer) -> None:
        self._unproved.pop(link, None)
        link.pipe.set_message_bytes_max(self._limits.message_bytes_max)
        if proved.cluster_id and not self.identity.cluster_id:
            self.identity = msgspec.structs.replace(self.identity, cluster_id=proved.cluster_id)
        dialled = link.dialled
        if dialled is not None and dialled.dialling is link:
            dialled.dialling = None
        is_other = dialled is not None and not _is_same(dialled.names[0], proved.process)
        with self.lock:
            peer = self.peers.get(proved.process)
            if peer is None:
                peer = self.peers[proved.process] = Peer(proved.process)
            if dialled is not None and dialled is not peer and not dialled.lost and not is_other:
                self._merge(dialled, peer)
            peer.description = proved.description
            peer.links.append(link)
            link.peer = peer
            error = self._publish(peer)
        logger.debug("connected to %s (%s)", proved.process, proved.description)
        if dialled is not None and is_other:
            text = f"another process ({proved.description}) answers at {dialled.names[0]}"
            self.lose(dialled, InternalError(text))
        if error is not None:
            self.lose(peer, error)

    def link_closed(self, link: Link, reason: Exception) -> None:
        peer = link.peer
        assert peer is not None
        if peer.lost:
            return
        if len(peer.links) == 1:
            self.lose(peer, reason)
            return
        with self.lock:
            peer.links.remove(link)
            self._count(link)
        if peer.dying is None:
            peer.dying = self.loop.call_later(self._limits.drain_timeout_s, self.lose, peer, reason)

    def _merge(self, dialled: Peer, peer: Peer) -> None:
        """One peer was dialled by another name (one of its addresses, a host name); from now on it is known by both."""
        for name in dialled.names:
            self.peers[name] = peer
            peer.names.append(name)
        peer.waiting.extend(dialled.waiting)
        dialled.waiting.clear()
        dialled.lost = True

    def _publish(self, peer: Peer) -> TransportError | None:
        """Empty the queue into the peer's first channel and let ``send`` use it (under the lock)."""
        link = peer.links[0]
        try:
            while peer.waiting:
                link.pipe.send(peer.waiting[0])
                peer.waiting.popleft()
                link.sent_count += 1
        except TransportError as error:
            return error
        for name in peer.names:
            self.channels[name] = link
        return None

    # ---- losing
    def lose(self, peer: Peer, reason: Exception) -> None:
        """The peer is gone, or counts as gone (idempotent)."""
        with self.lock:
            if peer.lost:
                return
            peer.lost = True
            peer.waiting.clear()
            for name in peer.names:
                self.peers.pop(name, None)
                self.channels.pop(name, None)
            links, peer.links = peer.links, []
            for link in links:
                self._count(link)
        if peer.dying is not None:
            peer.dying.cancel()
        if peer.dialling is not None:
            self._unproved.pop(peer.dialling, None)
            peer.dialling.end()
        for link in links:
            link.end()
        logger.info("lost %s: %s", peer.names[0], reason)
        self._gone(tuple(dict.fromkeys(peer.names)), reason)

    def _count(self, link: Link) -> None:
        self.sent_count += link.sent_count
        self.received_count += link.received_count


class Router:
    """See the module's theory of operation."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transports: Sequence[Transport],
        make_codec: Callable[[], Codec],
        identity: Identity,
        limits: RouterLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        limits = limits or RouterLimits()
        codec = make_codec()
        self._encode = codec.encode
        self._decode = codec.decode
        self._actors: dict[str, Post] = {}
        self._requests = Requests(loop, clock or MonotonicClock(), limits.requests_max)
        self._connections = _Connections(loop, transports, identity, limits, self._received, self._gone)
        self._channels = self._connections.channels
        self._loop = loop
        self._own: dict[str, None] = {}  # names that mean this process
        self._own_sources: dict[str, Address] = {}
        self.process = ""
        self._renamed()

    def __repr__(self) -> str:
        return f"Router({self.process!r}, {len(self._channels)} peers)"

    # ---- configuration, on the loop's thread
    def listen(self, address: str) -> str:
        """Listen at one more address and return it as bound. To be done before the first peer is met."""
        bound = self._connections.listen(address)
        self._own[bound] = None
        self._renamed()
        return bound

    def attach(self, actor: str, post: Post) -> None:
        """From now on messages for ``actor`` go to ``post``."""
        if actor in self._actors:
            raise ValueError(f"an actor {actor!r} is attached already")
        self._actors[actor] = post

    def detach(self, actor: str) -> None:
        """Messages for ``actor`` are refused from now on; an unknown one is fine."""
        self._actors.pop(actor, None)

    @property
    def cluster_id(self) -> bytes:
        """Our cluster: as given, or as learned from the first peer; empty before."""
        return self._connections.identity.cluster_id

    @property
    def identity(self) -> Identity:
        """Who we are to others."""
        return self._connections.identity

    def close(self) -> None:
        """Close all channels, listeners and the transports; fail what waits (idempotent). Nobody is told PeerGone."""
        if not self._connections.closed:
            self._connections.close()
            self._requests.close()

    def abandon(self) -> None:
        """In a forked child, and nowhere else: let go of the parent's connections (see ``Transport.abandon``)."""
        self._connections.abandon()

    def _renamed(self) -> None:
        self.process = self._connections.process
        self._own.update({"": None, self.process: None})
        self._own_sources.clear()

    # ---- sending, any thread
    def send(self, dst: Address, src_actor: str, body: Message, request_id: int = 0, reply_to: int = 0) -> None:
        """Send ``body`` to ``dst``. Never raises for what a peer can cause; a lost peer is told as ``PeerGone``."""
        link = self._channels.get(dst.process)
        if link is not None:
            frames = self._encode(dst.actor, src_actor, body, request_id, reply_to)
            try:
                link.pipe.send(frames)
            except TransportError as error:
                self._not_sent(link, error, dst, src_actor, request_id, reply_to)
                return
            link.sent_count += 1
        elif dst.process in self._own:
            self._send_here(dst, src_actor, body, request_id, reply_to)
        else:
            self._send_to_new(dst, src_actor, body, request_id, reply_to)

    def request(self, dst: Address, body: Message, timeout_s: float | None) -> Future[Message]:
        """Send a request and return the future of its answer (any thread).

        It fails with the error class named by ``RequestFailed``, with ``RequestTimedOut``, with ``InternalError`` when
        the peer is lost, with ``ProtocolMismatchError`` or ``AuthenticationError`` when the peer is none of ours.
        """
        number, future = self._requests.open(dst, body, timeout_s)
        if number:
            try:
                self.send(dst, REQUESTER, body, request_id=number)
            except Exception as error:
                self._requests.fail(number, error)
                raise
        return future

    def peers(self) -> tuple[PeerInfo, ...]:
        """The peers of this moment (any thread)."""
        with self._connections.lock:
            items = self._connections.peers.items()
            return tuple(peer.information() for name, peer in items if name == peer.names[0])

    def statistics(self) -> RouterStatistics:
        """Figures of this router (any thread)."""
        connections = self._connections
        with connections.lock:
            peers = [peer for name, peer in connections.peers.items() if name == peer.names[0]]
            links = [link for peer in peers for link in peer.links]
            return RouterStatistics(
                process=self.process,
                peers=len(peers),
                channels=len(links),
                queued=sum(len(peer.waiting) for peer in peers),
                requests=len(self._requests),
                sent=connections.sent_count + sum(link.sent_count for link in links),
                received=connections.received_count + sum(link.received_count for link in links),
            )

    def _send_here(self, dst: Address, src_actor: str, body: Message, request_id: int, reply_to: int) -> None:
        # Through the codec, so that nothing works only until it is remote.
        wire = self._decode(self._encode(dst.actor, src_actor, body, request_id, reply_to))
        if reply_to:
            self._requests.answer(reply_to, wire.body)
            return
        src = self._own_sources.get(src_actor)
        if src is None:
            src = self._own_sources[src_actor] = Address(self.process, src_actor)
        post = self._actors.get(dst.actor)
        if post is None:
            self._refuse_unknown(src, dst.actor, wire.body, request_id)
            return
        try:
            post(Envelope(src, wire.body, request_id))
        except Overloaded as error:
            if not request_id:
                raise
            self._requests.fail(request_id, error)

    def _send_to_new(self, dst: Address, src_actor: str, body: Message, request_id: int, reply_to: int) -> None:
        frames = self._encode(dst.actor, src_actor, body, request_id, reply_to)
        with self._connections.lock:
            is_known = dst.process in self._channels  # just now
            if not is_known:
                if self._connections.closed:
                    logger.debug("%s to %s dropped: this process is shutting down", type(body).__name__, dst)
                    return
                self._connections.enqueue(dst.process, frames)
        if is_known:
            self.send(dst, src_actor, body, request_id, reply_to)

    def _not_sent(
        self, link: Link, error: TransportError, dst: Address, src_actor: str, request_id: int, reply_to: int
    ) -> None:
        if isinstance(error, Closed):
            return  # the channel ended, of which the loop is about to tell everyone
        if isinstance(error, TooLarge) and request_id:
            self._requests.fail(request_id, ValueError(f"request to {dst}: {error}"))
        elif isinstance(error, TooLarge) and reply_to:
            text = f"the answer is too large: {error}"
            self.send(dst, src_actor, RequestFailed("InternalError", text), reply_to=reply_to)
        else:
            self._drop_soon(link, error)

    # ---- receiving, on the loop's thread
    def _received(self, link: Link, messages: list[list[Frame]]) -> None:
        link.received_count += len(messages)
        actors = self._actors
        sources = link.sources
        for frames in messages:
            try:
                wire = self._decode(frames)
            except BadMessage as error:
                logger.warning("%s sent something that is not a message: %s", link.name, error)
                self._drop(link, InternalError(f"it sent something that is not a message: {error}"))
                return
            if wire.reply_to:
                self._requests.answer(wire.reply_to, wire.body)
                continue
            src = sources.get(wire.src) or link.source(wire.src)
            post = actors.get(wire.dst)
            if post is None:
                self._refuse_unknown(src, wire.dst, wire.body, wire.request_id)
                continue
            try:
                post(Envelope(src, wire.body, wire.request_id))
            except Overloaded as error:
                if not wire.request_id:
                    logger.warning("%s is overloaded: %s; dropping %s", wire.dst, error, link.name)
                    self._drop(link, error)
                    return
                self.send(src, wire.dst, RequestFailed("Overloaded", str(error)), reply_to=wire.request_id)

    def _refuse_unknown(self, src: Address, actor: str, body: Message, request_id: int) -> None:
        name = type(body).__name__
        if request_id:
            text = f"{name}: there is no actor {actor!r} at {self.process}"
            self.send(src, actor, RequestFailed("InternalError", text), reply_to=request_id)
        else:
            logger.debug("%s from %s dropped: there is no actor %r here", name, src, actor)

    # ---- losing
    def _drop(self, link: Link, reason: Exception) -> None:
        assert link.peer is not None
        self._connections.lose(link.peer, reason)

    def _drop_soon(self, link: Link, reason: Exception) -> None:
        call_soon(self._loop, functools.partial(self._drop, link, reason))

    def _gone(self, names: tuple[str, ...], reason: Exception) -> None:
        error = reason if isinstance(reason, ActorrtError) else InternalError(f"the peer is gone: {reason}")
        self._requests.fail_all_of(names, error)
        for name in names:
            envelope = Envelope(Address(name, ""), PeerGone(name, str(reason)))
            for actor, post in list(self._actors.items()):
                try:
                    post(envelope)
                except Overloaded:
                    logger.exception("%s could not be told that %s is gone", actor, name)


def _is_same(dialled: str, process: str) -> bool:
    """Whether the process that answered can be the one that was dialled.

    Addresses are reused: a port, or a socket path, may belong to somebody else by now. One tcp address may be another
    way to spell one of the process's own (a host name, an address behind a gateway), so it is believed.
    """
    known = process.split(",")
    endpoints = dialled.split(",")
    if all(endpoint in known for endpoint in endpoints):
        return True
    return len(endpoints) == 1 and endpoints[0].startswith("tcp://")
